"""`netscanctl wake DEVICE`: switches on a computer that is off or asleep (Wake-on-LAN)."""

import click

from netscanctl.cli import Session
from netscanctl.client import Usage, device_path
from netscanctl.commands.wait_for import wait
from netscanctl.params import device_argument, device_of, duration
from netscanctl.render import title
from netscanctl.text import clean
from netscand.protocol import WakeSent

DEFAULT = 120.0
"""Seconds of --wait: a computer that was off needs up to a minute to join the network."""


@click.command("wake", short_help="Switch on a computer that is off or asleep (Wake-on-LAN).")
@device_argument
@click.option("--wait", "waits", is_flag=True, help="Wait until it is online.")
@click.option("--timeout", metavar="SECONDS", callback=duration(0),
              help=f"With --wait: fail with exit code 6 after this time ({DEFAULT:g} s).")  # fmt: skip
@click.pass_obj
def command(session: Session, device: str, waits: bool, timeout: float | None) -> None:
    """Send a magic packet to a DEVICE (its MAC, address, name or label), on each network where it was seen.

    Its firmware and its network card must be set up for Wake-on-LAN.
    """
    if timeout is not None and not waits:
        raise Usage("--timeout requires --wait")
    found = device_of(session.client, device)
    answer = session.client.post(f"{device_path(found.mac)}/wake", b"{}")
    networks = ", ".join(map(clean, session.client.read(answer, WakeSent).networks))
    session.terminal.notice(f"{title(found)}: magic packet sent on {networks}")
    if waits:
        wait(session, (found.mac,), timeout=DEFAULT if timeout is None else timeout)
