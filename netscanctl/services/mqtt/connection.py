"""One connection to the broker: paho-mqtt on asyncio's loop."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from netscanctl.services.mqtt.settings import PASSWORD_FILE, Mqtt

CONNECT = 10.0
"""Seconds to connect."""
KEEPALIVE = 30
"""Seconds without a message after which the broker is pinged."""
WINDOW = 20
"""Messages that are not acknowledged yet, at most; a broker may allow fewer (Receive Maximum)."""
QUALITY = 1
"""QoS of everything: the broker acknowledges it."""


NOT_AUTHORIZED = {134, 135}
"""Reason codes of MQTT 5 (3.2.2.2); paho-mqtt translates those of 3.1.1."""
LOST = "the connection ended"
"""Result of a publication that was not acknowledged."""


class BrokerError(Exception):
    """The broker cannot be reached, refuses the connection, or ended it."""


@dataclass(frozen=True)
class Credentials:
    """Who we are."""

    client_id: str
    password: str | None
    tls: ssl.SSLContext | None


Received = Callable[[str, bytes, bool], None]
"""Take a message: topic, payload, and whether the broker had retained it."""


class Connection:
    """An open connection. `closed` is done, with BrokerError, when it has ended."""

    def __init__(self, client: Client, received: Received, advice: str) -> None:
        self._client = client
        self._advice = advice
        """What to do if the broker does not authorize us."""
        self._loop = asyncio.get_running_loop()
        self._acknowledged: dict[int, asyncio.Future[str | None]] = {}
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.connected: asyncio.Future[None] = self._loop.create_future()
        self.window = WINDOW
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = lambda _client, _userdata, message: self._on_message(received, message)

    @property
    def free(self) -> int:
        """Return how many messages may be published before one is acknowledged."""
        return 0 if self.closed.done() else self.window - len(self._acknowledged)

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> "asyncio.Future[str | None]":
        """Publish; the future gets None, the broker's reason to refuse, or LOST."""
        acknowledged: asyncio.Future[str | None] = self._loop.create_future()
        sent = self._client.publish(topic, payload, qos=QUALITY, retain=retain)
        if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._end(f"cannot publish: {sent.rc.name}")
            acknowledged.set_result(LOST)
        else:
            self._acknowledged[sent.mid] = acknowledged
        return acknowledged

    def subscribe(self, topics: Iterable[str], *, quality: int = QUALITY) -> None:
        """Subscribe; retained messages follow."""
        self._client.subscribe([(topic, quality) for topic in topics])

    def unsubscribe(self, topics: Iterable[str]) -> None:
        """End subscriptions."""
        self._client.unsubscribe(list(topics))

    async def keep(self) -> None:
        """Send pings until the connection ends. Raises BrokerError."""
        while not self.closed.done():
            self._client.loop_misc()
            await asyncio.wait([self.closed], timeout=1.0)
        self.closed.result()

    # ---- the loop

    def _on_socket_open(self, _client: Client, _userdata: object, opened: Any) -> None:  # noqa: ANN401 - of paho
        if isinstance(opened, socket.socket):
            with suppress(OSError):
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop.call_soon_threadsafe(self._loop.add_reader, opened, self._read)

    def _read(self) -> None:
        self._client.loop_read()

    def _on_socket_close(self, _client: Client, _userdata: object, closed: Any) -> None:  # noqa: ANN401 - of paho
        if closed.fileno() >= 0:
            self._loop.remove_reader(closed)
            self._loop.remove_writer(closed)

    def _on_register_write(self, _client: Client, _userdata: object, opened: Any) -> None:  # noqa: ANN401 - of paho
        self._loop.call_soon_threadsafe(self._add_writer, opened)

    def _add_writer(self, opened: Any) -> None:  # noqa: ANN401 - of paho
        if opened.fileno() >= 0:
            self._loop.add_writer(opened, self._client.loop_write)

    def _on_unregister_write(self, _client: Client, _userdata: object, opened: Any) -> None:  # noqa: ANN401 - of paho
        self._loop.call_soon_threadsafe(self._remove_writer, opened)

    def _remove_writer(self, opened: Any) -> None:  # noqa: ANN401 - of paho
        if opened.fileno() >= 0 and not self._client.want_write():
            self._loop.remove_writer(opened)

    # ---- answers of the broker

    def _on_connect(
        self,
        _client: Client,
        _userdata: object,
        _flags: object,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            advice = f"; {self._advice}" if reason.value in NOT_AUTHORIZED else ""
            self._end(f"the broker refuses the connection: {reason}{advice}")
            return
        self.window = min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW))
        if not self.connected.done():
            self.connected.set_result(None)

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        _flags: object,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._end, f"the connection ended: {reason}")

    def _on_publish(
        self,
        _client: Client,
        _userdata: object,
        mid: int,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        acknowledged = self._acknowledged.pop(mid, None)
        if acknowledged is not None and not acknowledged.done():
            acknowledged.set_result(str(reason) if reason.is_failure else None)

    def _on_message(self, received: Received, message: MQTTMessage) -> None:
        received(message.topic, bytes(message.payload), message.retain)

    def _end(self, reason: str) -> None:
        if not self.closed.done():
            self.closed.set_exception(BrokerError(reason))
            self.closed.exception()  # seen, whether a task waits for it or not
        if not self.connected.done():
            self.connected.set_exception(BrokerError(reason))
            self.connected.exception()
        for acknowledged in self._acknowledged.values():
            if not acknowledged.done():
                acknowledged.set_result(LOST)
        self._acknowledged.clear()


@asynccontextmanager
async def connect(table: Mqtt, own: Credentials, will: str, received: Received) -> AsyncIterator[Connection]:
    """Connect; the will is `offline`, retained, on topic `will`. Raises BrokerError."""
    is_5 = table.protocol == "5"
    client = Client(
        CallbackAPIVersion.VERSION2,
        own.client_id,
        protocol=MQTTv5 if is_5 else MQTTv311,
        clean_session=None if is_5 else True,
        reconnect_on_failure=False,
    )
    client.connect_timeout = CONNECT
    client.max_inflight_messages_set(WINDOW)
    client.will_set(will, b"offline", qos=QUALITY, retain=True)
    if table.username is not None:
        client.username_pw_set(table.username, own.password)
    if own.tls is not None:
        client.tls_set_context(own.tls)
    connection = Connection(client, received, _advice(table, own))
    try:
        try:
            # Resolving, connecting and the TLS handshake block.
            await asyncio.to_thread(client.connect, table.host, table.port, KEEPALIVE)
            async with asyncio.timeout(CONNECT):
                await connection.connected
        except TimeoutError:
            raise BrokerError(f"{table.broker} does not answer") from None
        except ssl.SSLError as error:
            raise BrokerError(f"TLS with {table.broker} failed: {error.reason or error}") from None
        except (OSError, ValueError) as error:
            raise BrokerError(
                f"cannot connect to {table.broker}: {getattr(error, 'strerror', None) or error}"
            ) from None
        yield connection
    finally:
        client.disconnect()
        client.loop_write()
        connection._end("closed")
        if (opened := client.socket()) is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(opened)
            loop.remove_writer(opened)
            opened.close()


def _advice(table: Mqtt, own: Credentials) -> str:
    """Return what to do if the broker does not authorize us."""
    if table.username is None:
        return "set username, and give the service its password"
    if own.password is None:
        return f"the service has no password: write it into {PASSWORD_FILE}, or set password_file"
    return "check username and password"
