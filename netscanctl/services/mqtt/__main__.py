"""Entry point of netscand-mqtt."""

import sys

from netscanctl.services.mqtt.settings import Mqtt, faults
from netscanctl.services.program import EX_CONFIG, Context, Program, Service


def build(table: Mqtt, context: Context) -> Service:
    """Make the service; paho-mqtt is imported here, so that --check-config and --help work without it."""
    from netscanctl.services.mqtt.service import build as build_service

    return build_service(table, context)


PROGRAM = Program("mqtt", "Publish presence and events to an MQTT broker and Home Assistant.", Mqtt, build, faults)


def main() -> None:
    """Run the command line; exit with its exit code."""
    try:
        PROGRAM.main()
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "paho":
            raise
        sys.stderr.write(
            "netscand-mqtt: paho-mqtt 2.1 or newer is missing; to install it: apt install python3-paho-mqtt (Debian 13 "
            "or newer), or pip install 'netscand[mqtt]'\n"
        )
        sys.exit(EX_CONFIG)  # a restart does not install it


if __name__ == "__main__":
    main()
