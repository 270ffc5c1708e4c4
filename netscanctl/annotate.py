"""User annotations of a device: changed through the daemon."""

import sys
from collections.abc import Callable
from typing import TypeVar

import click

from netscanctl.cli import Session
from netscanctl.client import Client, Failure, device_path
from netscanctl.params import mac_of
from netscanctl.render import title
from netscand.protocol import NOT_STORED, Device, DeviceUpdate, encode

F = TypeVar("F", bound=Callable[..., object])


def json_option(command: F) -> F:
    """Add `--json` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print the changed device as JSON.")(command)


def confirm(question: str) -> bool:
    """Ask a question if a person can answer it on a terminal; return whether it was asked. Raises Failure for no."""
    is_interactive = sys.stdin.isatty() and sys.stderr.isatty()
    if is_interactive and not click.confirm(question, err=True):
        raise Failure("cancelled")
    return is_interactive


def update_device(client: Client, mac: str, update: DeviceUpdate, *, minimal: bool = False) -> tuple[bytes, Device]:
    """Update a device; return it, raw and decoded; `minimal`: without what other devices show. Raises Failure."""
    answer = client.patch(device_path(mac), encode(update), minimal=minimal)
    return answer, client.read(answer, Device)


def annotate(
    session: Session, device: str, update: DeviceUpdate, as_json: bool, message: Callable[[Device], str], name: str = ""
) -> None:
    """Update the device that matches `device`, and print `message` about it, as `name` if given. Raises Failure."""
    client = session.client
    answer, updated = update_device(client, mac_of(client, device), update)
    if as_json:
        session.terminal.json(answer)
    session.terminal.notice(f"{name or title(updated)}: {message(updated)}")
    for warning in warnings_of(updated):
        session.terminal.notice(f"warning: {warning}")


def warnings_of(device: Device) -> list[str]:
    """Return the warnings about a change of a device, without the one that the client has printed."""
    return [warning for warning in device.warnings or () if not warning.startswith(NOT_STORED)]
