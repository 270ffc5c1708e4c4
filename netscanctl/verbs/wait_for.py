"""`netscanctl wait-for DEVICE`: until it is online, or offline."""

import asyncio
from contextlib import aclosing

import click

from netscanctl.argument import device_argument
from netscanctl.cli import Session
from netscanctl.client import TimedOut
from netscanctl.duration import duration
from netscanctl.picture import Picture
from netscanctl.render import name_of
from netscanctl.stream import follow
from netscanctl.which import as_ip, as_mac, matching, the_one


@click.command("wait-for", short_help="Wait until a device is online, or offline.")
@device_argument
@click.option("--offline", is_flag=True, help="Wait until it is offline.")
@click.option("--timeout", metavar="SECONDS", callback=duration(0), help="Give up after so long (exit code 6).")
@click.pass_obj
def command(session: Session, device: str, offline: bool, timeout: float | None) -> None:
    """Wait until a DEVICE (its MAC, address, name or label) is online.

    One that was never seen is waited for by MAC or address.
    """
    wanted = "offline" if offline else "online"

    async def run() -> str:
        async with asyncio.timeout(timeout):
            return await _until(session, device, wanted)

    try:
        session.terminal.talk(f"{asyncio.run(run())} is {wanted}")
    except TimeoutError:
        raise TimedOut(f"{device} is not {wanted} after {timeout:g} s") from None


async def _until(session: Session, text: str, wanted: str) -> str:
    """The name of the device, when it is so. Raises Failure."""
    picture = Picture()
    fixed = as_mac(text) or as_ip(text)
    query = {"q": fixed} if fixed else None
    async with aclosing(follow(session.daemon, session.terminal.talk, query=query)) as stream:
        async for heard in stream:
            picture.hear(heard.message)
            if not picture.whole:
                continue
            if fixed is None:
                fixed = the_one(picture.devices.values(), text).mac  # looked up once: a name may change
            found = matching(picture.devices.values(), fixed)
            if any(device.status == wanted for device in found) and (
                wanted == "online" or all(device.status == wanted for device in found)
            ):
                return name_of(found[0]) if name_of(found[0]) != "-" else text
    raise AssertionError("the stream never ends")
