"""`netscanctl patience DEVICE S`: how long it may be silent."""

import click

from netscanctl.argument import device_argument
from netscanctl.cli import Session
from netscanctl.duration import duration
from netscanctl.render import span
from netscanctl.words import change, json_option
from netscand.protocol import Device, DeviceWords

LEARNED = "learned"
LEAST, MOST = 1, 86_400
"""Seconds that the daemon takes (`DeviceWords` in netscand/protocol.py)."""
SOONEST = 14
"""Seconds from the last sign of life to `offline`, at the least: three probes and a request after the default
probe_interval (10); that of this daemon is not told to clients."""


@click.command("patience", short_help="Set how long a device may be silent.")
@device_argument
@click.argument("seconds", callback=duration(LEAST, MOST, LEARNED), metavar="S")
@json_option
@click.pass_obj
def command(session: Session, device: str, seconds: float | None, as_json: bool) -> None:
    """Let a DEVICE (its MAC, address, name or label) be silent for S seconds before it counts as gone.

    S is 1 to 86400, also with a unit: 90s, 30m, 2h, 1d. `learned` instead of a number: as long as its own silences
    have taught. Three probes and a request must have gone unanswered too, and the first is sent after a silence of
    [presence] probe_interval: by default a device is offline 14 s after it fell silent at the soonest, whatever S is.
    """

    def told(now: Device) -> str:
        if seconds is None:
            return f"may be silent as long as it is learned, {span(now.patience)} now"
        told = f"may be silent for {span(now.patience)}"
        if now.patience > SOONEST:
            return told
        return f"{told}; with the probes that must go unanswered too, some {SOONEST} s by the default probe_interval"

    change(session, device, DeviceWords(patience=seconds), as_json, told)
