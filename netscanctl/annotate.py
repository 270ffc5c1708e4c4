"""User annotations of a device: changed through the daemon."""

from collections.abc import Callable
from typing import TypeVar

import click

from netscanctl.cli import Session
from netscanctl.client import device_path
from netscanctl.params import mac_of
from netscanctl.render import title
from netscand.protocol import Device, DeviceUpdate, encode

F = TypeVar("F", bound=Callable[..., object])


def json_option(command: F) -> F:
    """Add `--json` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print the changed device as JSON.")(command)


def annotate(
    session: Session, device: str, update: DeviceUpdate, as_json: bool, message: Callable[[Device], str]
) -> None:
    """Update the device that matches `device`, and print `message` about it. Raises Failure."""
    client = session.client
    answer = client.patch(device_path(mac_of(client, device)), encode(update))
    updated = client.read(answer, Device)
    if as_json:
        session.terminal.json(answer)
    session.terminal.notice(f"{title(updated)}: {message(updated)}")
    for warning in updated.warnings or ():
        session.terminal.notice(f"warning: {warning}")
