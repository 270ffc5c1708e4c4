"""A real mosquitto on loopback, and a subscriber beside it."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from netscand.protocol import Device
from tests.ctl.fake_daemon import DEADLINE
from tests.ctl.messages import device
from tests.lab.spaces import Space


def wait(what: str, condition: Callable[[], object], seconds: float = DEADLINE) -> None:
    """Wait until the condition is true."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"timeout: {what}"
        time.sleep(0.005)


def many(count: int) -> list[Device]:
    """So many devices, each with a MAC and an address of its own."""
    return [
        device(7, mac=f"a4:83:e7:00:{at // 256:02x}:{at % 256:02x}", ip=f"10.0.{at // 256}.{at % 256}")
        for at in range(count)
    ]


def inside(space: Space | None) -> list[str]:
    """Return what a command line begins with to run in a network namespace."""
    return ["ip", "netns", "exec", space.name] if space else []


class Mosquitto:
    """The broker, with its configuration and its database in `folder`; in a network namespace, or in ours."""

    def __init__(self, folder: Path, *lines: str, space: Space | None = None) -> None:
        if shutil.which("mosquitto") is None:
            pytest.skip("not installed: mosquitto; sudo ./dev setup --test fetches it, ./dev test finds it")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.folder, self.space = folder, space
        self.configuration = folder / "mosquitto.conf"
        anonymous = [] if any(line.startswith("allow_anonymous") for line in lines) else ["allow_anonymous true"]
        kept = ["user root", "persistence false", f"listener {self.port} 127.0.0.1", *anonymous, *lines]
        self.configuration.write_text("\n".join(kept) + "\n")
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with (self.folder / "mosquitto.log").open("ab") as log:
            argv = [*inside(self.space), "mosquitto", "-c", str(self.configuration)]
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)
        wait("mosquitto listens", self._listens)

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "mosquitto.log").read_text()
        kind = socket.AF_INET, socket.SOCK_STREAM
        with self.space.socket(*kind) if self.space else socket.socket(*kind) as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """SIGKILL: it loses what it has in memory."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    @property
    def url(self) -> str:
        """Its address."""
        return f"mqtt://127.0.0.1:{self.port}"


class Subscriber:
    """A client that has everything: `messages` in order, and `retained` as the broker has it now."""

    def __init__(self, broker: Mosquitto) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.at: list[float] = []
        """When each message arrived (monotonic seconds)."""
        self.retained: dict[str, bytes] = {}
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        self._client.on_message = self._on_message
        self._client.on_connect = lambda client, *_: self._subscribe(client)
        self._client.on_subscribe = lambda *_: self._count()
        self._subscriptions = 0
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()

    def _subscribe(self, client: Client) -> None:
        from paho.mqtt.subscribeoptions import SubscribeOptions

        self.retained.clear()
        client.subscribe("#", options=SubscribeOptions(qos=1, retainAsPublished=True))

    def _count(self) -> None:
        self._subscriptions += 1

    @contextmanager
    def reconnected(self) -> Iterator[None]:
        """Wait until it has subscribed to a broker that the body starts: what is published before, nobody gets."""
        before = self._subscriptions
        yield
        wait("the subscriber is back", lambda: self._subscriptions > before)

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self.at.append(time.monotonic())
        payload = bytes(message.payload)
        self.messages.append((message.topic, payload))
        if message.retain and payload:
            self.retained[message.topic] = payload
        elif message.retain:
            self.retained.pop(message.topic, None)

    def publish(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        """Publish as Home Assistant or the former recipe would."""
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(DEADLINE)

    def json(self, topic: str) -> Any:  # noqa: ANN401
        """A retained payload; None: there is none."""
        return json.loads(self.retained[topic]) if topic in self.retained else None

    def of(self, topic: str) -> list[bytes]:
        """Payloads of a topic, in order."""
        return [payload for there, payload in self.messages if there == topic]

    def until(self, topic: str, condition: Callable[[Any], object] = bool) -> Any:  # noqa: ANN401
        """Wait until the retained payload of a topic is so; the payload."""
        wait(f"{topic}: {self.retained.get(topic)!r}", lambda: condition(self.value(topic)))
        return self.value(topic)

    def value(self, topic: str) -> Any:  # noqa: ANN401
        """A retained payload, as JSON if it is; None: there is none."""
        try:
            return self.json(topic)
        except ValueError:
            return self.retained[topic].decode()

    def close(self) -> None:
        """End it."""
        self._client.disconnect()
        self._client.loop_stop()
