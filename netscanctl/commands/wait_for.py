"""`netscanctl wait-for DEVICE`: waits until a device is online or offline."""

import asyncio
from contextlib import aclosing

import click

from netscanctl.cli import Session
from netscanctl.client import TimedOut
from netscanctl.params import as_ip, as_mac, device_argument, duration, find_one, matching
from netscanctl.render import name_of
from netscanctl.state import ClientState
from netscanctl.stream import follow


@click.command("wait-for", short_help="Wait until a device is online or offline.")
@device_argument
@click.option("--offline", is_flag=True, help="Wait until the device is offline.")
@click.option("--timeout", metavar="SECONDS", callback=duration(0), help="Fail with exit code 6 after this time.")
@click.pass_obj
def command(session: Session, device: str, offline: bool, timeout: float | None) -> None:
    """Wait until a DEVICE (its MAC, address, name or label) is online.

    A device that was never seen can be given by MAC or address.
    """
    wanted = "offline" if offline else "online"

    async def run() -> str:
        async with asyncio.timeout(timeout):
            return await _until(session, device, wanted)

    try:
        session.terminal.notice(f"{asyncio.run(run())} is {wanted}")
    except TimeoutError:
        raise TimedOut(f'"{device}" is not {wanted} after {timeout:g} s') from None


async def _until(session: Session, text: str, wanted: str) -> str:
    """Wait for the status; return the name of the device. Raises Failure."""
    picture = ClientState()
    target = as_mac(text) or as_ip(text)
    query = {"q": target} if target else None
    async with aclosing(follow(session.daemon, session.terminal.notice, query=query)) as stream:
        async for received in stream:
            picture.on_message(received.message)
            if not picture.complete:
                continue
            if target is None:
                target = find_one(picture.devices.values(), text).mac  # once only: a name may change
            found = matching(picture.devices.values(), target)
            if any(device.status == wanted for device in found) and (
                wanted == "online" or all(device.status == wanted for device in found)
            ):
                return name_of(found[0]) if name_of(found[0]) != "-" else text
    raise AssertionError("the stream never ends")
