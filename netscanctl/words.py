"""What the user knows of a device, told to the daemon."""

from collections.abc import Callable
from typing import TypeVar

import click

from netscanctl.argument import mac_of
from netscanctl.cli import Session
from netscanctl.client import device_path
from netscanctl.render import title
from netscand.protocol import Device, DeviceWords, encode

F = TypeVar("F", bound=Callable[..., object])


def json_option(command: F) -> F:
    """Give a command `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the device as it is now, as it came.")(command)


def change(session: Session, device: str, words: DeviceWords, as_json: bool, told: Callable[[Device], str]) -> None:
    """Change the device that `device` names, and say what `told` says of it. Raises Failure."""
    client = session.client
    answer = client.patch(device_path(mac_of(client, device)), encode(words))
    now = client.read(answer, Device)
    if as_json:
        session.terminal.json(answer)
    session.terminal.talk(f"{title(now)} {told(now)}")
