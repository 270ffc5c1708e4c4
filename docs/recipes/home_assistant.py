#!/usr/bin/env python3
"""Publish presence to Home Assistant: `netscanctl watch --json` in, mosquitto_pub out (see home-assistant.md)."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable

Publish = Callable[[str, str], None]
"""(topic, payload): retained; an empty payload deletes the topic."""


class HomeAssistant:
    """Devices as entities of MQTT discovery; unchanged payloads are not sent again."""

    def __init__(self, publish: Publish, *, everyone: bool, state_topic: bool) -> None:
        self._publish = publish
        self._everyone = everyone
        self._state_topic = state_topic
        self._sent: dict[str, str] = {}
        self._entities: set[str] = set()

    def on_message(self, message: dict) -> None:
        """Process one message of the stream."""
        if message.get("kind") == "forgotten":
            self._remove(_id(message["device"]))
            return
        for device in [*message.get("devices", ()), *filter(None, [message.get("device")])]:
            if device["known"] or self._everyone:
                self._publish_device(device)
            else:
                self._remove(_id(device))

    def _publish_device(self, device: dict) -> None:
        id_ = _id(device)
        self._entities.add(id_)
        config = {
            "unique_id": f"netscand_{id_}",
            "name": None,  # the name of the device
            "device": {"connections": [["mac", device["mac"]]], "name": device["label"] or device["hostname"] or id_},
            "source_type": "router",
            "json_attributes_topic": f"netscand/{id_}",
        }
        if self._state_topic:
            config["state_topic"] = f"netscand/{id_}/state"
        self._send(f"homeassistant/device_tracker/netscand_{id_}/config", json.dumps(config))
        if device["status"] == "unknown":
            return  # keep the previous state
        home = device["status"] == "online"
        attributes = {key: device[key] for key in ("mac", "ip", "hostname", "vendor", "reason", "status_since")}
        self._send(f"netscand/{id_}", json.dumps({"in_zones": ["zone.home"] if home else [], **attributes}))
        if self._state_topic:
            self._send(f"netscand/{id_}/state", "home" if home else "not_home")

    def _remove(self, id_: str) -> None:
        if id_ in self._entities:
            self._entities.remove(id_)
            for topic in [topic for topic in self._sent if id_ in topic]:
                self._send(topic, "")
                del self._sent[topic]

    def _send(self, topic: str, payload: str) -> None:
        if self._sent.get(topic) != payload:
            self._publish(topic, payload)
            self._sent[topic] = payload


def _id(device: dict) -> str:
    return device["mac"].replace(":", "")


def main() -> int:
    """Read, publish, until the stream ends; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="Other options go to mosquitto_pub.", add_help=False)
    parser.add_argument("--help", action="help")
    parser.add_argument("--all", action="store_true", help="every device, not only the known")
    parser.add_argument("--state-topic", action="store_true", help="for Home Assistant before 2026.7")
    options, others = parser.parse_known_args()

    def publish(topic: str, payload: str) -> None:
        # The payload goes by stdin: names of devices have no business on a command line.
        command = ["mosquitto_pub", *others, "-q", "1", "-r", "-t", topic, "-s" if payload else "-n"]
        subprocess.run(command, input=payload.encode(), check=True)

    home = HomeAssistant(publish, everyone=options.all, state_topic=options.state_topic)
    try:
        for line in sys.stdin:
            home.on_message(json.loads(line))
    except subprocess.CalledProcessError as failed:
        print(f"home_assistant.py: mosquitto_pub ended with {failed.returncode}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
