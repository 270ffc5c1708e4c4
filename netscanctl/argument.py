"""The DEVICE that a command is given: found, and completed by the shell."""

import re
from collections.abc import Callable
from typing import TypeVar

import click

from netscanctl.client import Client, Failure, chosen, device_path, find_daemon
from netscanctl.text import clean
from netscanctl.which import as_ip, as_mac, the_one
from netscand.protocol import Device, DeviceList, NetworkList

F = TypeVar("F", bound=Callable[..., object])

HARMLESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""What may stand on a command line as it is. A device chooses its name, and the shell obeys what it completes."""
HARMLESS_ID = re.compile(r"[0-9.]+/[0-9]+@[A-Za-z0-9][A-Za-z0-9._-]*")


def mac_of(client: Client, text: str) -> str:
    """The MAC of the device that `text` names. Raises Failure where it is none, or more than one."""
    return as_mac(text) or device_of(client, text).mac


def device_of(client: Client, text: str) -> Device:
    """The device that `text` names. Raises Failure where it is none, or more than one."""
    if mac := as_mac(text):
        return client.read(client.get(device_path(mac)), Device)
    devices = client.read(client.get("/api/devices", {"q": as_ip(text) or text}), DeviceList).devices
    return the_one(devices, text)


def networks_of(client: Client, text: str) -> list[str]:
    """The ids that `text` names: itself, where it is one, else those of a prefix, on whatever interface.

    Raises Failure where it is neither.
    """
    if "@" in text:
        return [text]
    networks = client.read(client.get("/api/networks"), NetworkList).networks
    found = [one.id for one in networks if one.cidr == text]
    if not found:
        raise no_network(text, ", ".join(clean(one.id) for one in networks) or "none")
    return found


def one_network(client: Client, text: str) -> str:
    """The id that `text` names. Raises Failure where it names none, or more than one."""
    first, *others = networks_of(client, text)
    if others:
        raise Failure(
            f"{1 + len(others)} networks are {clean(text)}: name one: {', '.join(map(clean, (first, *others)))}"
        )
    return first


def no_network(text: str, others: str) -> Failure:
    """That there is none of that name; `others`: those that are."""
    return Failure(f"no network is {clean(text)}; expected the id or the prefix of one: {others}")


def others_than(client: Client, network: str) -> str:
    """The ids of the networks that there are instead of this one; empty where it is there, or devices once were on it.

    Raises Failure.
    """
    ids = [one.id for one in client.read(client.get("/api/networks"), NetworkList).networks]
    query = {"network": network, "limit": "1"}
    if network in ids or client.read(client.get("/api/devices", query), DeviceList).devices:
        return ""
    return ", ".join(map(clean, ids)) or "none"


def device_argument(command: F) -> F:
    """Give a command its DEVICE."""
    return click.argument("device", shell_complete=complete_device)(command)


# ---- for the shell


def complete_device(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Names and addresses that begin so; nothing where no daemon answers."""
    answer = _ask(ctx, "/api/devices", DeviceList)
    listed = answer.devices if answer else []
    words = {word for device in listed for word in (device.label, device.hostname, device.ip) if word}
    return sorted(word for word in words if word.startswith(incomplete) and HARMLESS.fullmatch(word))


def complete_network(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Ids of scanned networks that begin so; nothing where no daemon answers."""
    answer = _ask(ctx, "/api/networks", NetworkList)
    ids = [network.id for network in answer.networks if network.state != "excluded"] if answer else []
    return sorted(id_ for id_ in ids if id_.startswith(incomplete) and HARMLESS_ID.fullmatch(id_))


Answer = TypeVar("Answer", DeviceList, NetworkList)


def _ask(ctx: click.Context, path: str, kind: type[Answer]) -> Answer | None:
    given = ctx.find_root().params  # while it completes, click does not run what would make a session of these
    try:
        client = Client(find_daemon(*chosen(given.get("socket"), given.get("url")), given.get("token_file")))
        return client.read(client.get(path), kind)
    except Failure:
        return None
