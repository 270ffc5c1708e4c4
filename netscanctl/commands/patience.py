"""`netscanctl patience DEVICE S`: sets the patience of a device."""

import click

from netscanctl.annotate import annotate, json_option
from netscanctl.cli import Session
from netscanctl.params import device_argument, duration, site_option
from netscanctl.render import span
from netscand.protocol import Device, DeviceUpdate

LEARNED = "learned"
MINIMUM, MAXIMUM = 1, 86_400
"""Seconds that the daemon accepts (`DeviceUpdate` in netscand/protocol.py)."""
SOONEST = 13
"""Minimum seconds from the last frame to `offline`: three probes and a request, after the default probe_interval (10).
Clients do not know the probe_interval of their daemon."""


@click.command("patience", short_help="Set how long a device may be silent.")
@device_argument
@click.argument("seconds", callback=duration(MINIMUM, MAXIMUM, LEARNED), metavar="S")
@site_option
@json_option
@click.pass_obj
def command(session: Session, device: str, seconds: float | None, as_json: bool) -> None:
    """Set the patience of a DEVICE (its MAC, address, name or label): S seconds of silence before it is offline.

    S is 1 to 86400, optionally with a unit: 90s, 30m, 2h, 1d. With `learned` instead, netscand learns the patience
    from the device's own silences. netscand sends the first probe after a silence of [presence] probe_interval, and
    reports a device offline only after three probes and a request have failed: by default, after at least 13 s.
    """

    def message(now: Device) -> str:
        if seconds is None:
            return f"patience is learned automatically ({span(now.patience)} now)"
        text = f"patience set to {span(now.patience)}"
        if now.patience > SOONEST:
            return text
        return f"{text}; with the default probe_interval, unanswered probes take at least {SOONEST} s"

    annotate(session, device, DeviceUpdate(patience=seconds), as_json, message)
