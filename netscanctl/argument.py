"""DEVICE and network arguments: lookup and shell completion."""

import re
from collections.abc import Callable
from typing import TypeVar

import click

from netscanctl.client import Client, Failure, device_path, find_daemon, socket_or_url
from netscanctl.text import clean
from netscanctl.which import as_ip, as_mac, find_one
from netscand.protocol import Device, DeviceList, NetworkList

F = TypeVar("F", bound=Callable[..., object])

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Names that are safe to complete. Devices choose their own names, and a shell executes what it completes."""
SAFE_ID = re.compile(r"[0-9.]+/[0-9]+@[A-Za-z0-9][A-Za-z0-9._-]*")


def mac_of(client: Client, text: str) -> str:
    """Return the MAC of the device that matches `text`. Raises Failure unless exactly one does."""
    return as_mac(text) or device_of(client, text).mac


def device_of(client: Client, text: str) -> Device:
    """Return the device that matches `text`. Raises Failure unless exactly one does."""
    if mac := as_mac(text):
        return client.read(client.get(device_path(mac)), Device)
    devices = client.read(client.get("/api/devices", {"q": as_ip(text) or text}), DeviceList).devices
    return find_one(devices, text)


def networks_of(client: Client, text: str) -> list[str]:
    """Return the ids that match `text`: an id itself, or the networks with this prefix on any interface.

    Raises Failure if no network has this prefix.
    """
    if "@" in text:
        return [text]
    networks = client.read(client.get("/api/networks"), NetworkList).networks
    found = [network.id for network in networks if network.cidr == text]
    if not found:
        raise unknown_network(text, ", ".join(clean(network.id) for network in networks) or "none")
    return found


def one_network(client: Client, text: str) -> str:
    """Return the id that matches `text`. Raises Failure unless exactly one does."""
    ids = networks_of(client, text)
    if len(ids) > 1:
        raise Failure(f'"{clean(text)}" matches {len(ids)} networks; use one of {", ".join(map(clean, ids))}')
    return ids[0]


def unknown_network(text: str, existing: str) -> Failure:
    """Return the failure for a network that does not exist; `existing` lists the ids that do."""
    return Failure(f'unknown network "{clean(text)}"; expected an id or prefix: {existing}')


def networks_instead(client: Client, network: str) -> str:
    """Return the existing ids if this one is unknown; "" if it exists or devices were seen on it. Raises Failure."""
    ids = [existing.id for existing in client.read(client.get("/api/networks"), NetworkList).networks]
    query = {"network": network, "limit": "1"}
    if network in ids or client.read(client.get("/api/devices", query), DeviceList).devices:
        return ""
    return ", ".join(map(clean, ids)) or "none"


def device_argument(command: F) -> F:
    """Add the argument DEVICE to a command."""
    return click.argument("device", shell_complete=complete_device)(command)


# ---- shell completion


def complete_device(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return matching names and addresses; none if no daemon answers."""
    answer = _fetch(ctx, "/api/devices", DeviceList)
    devices = answer.devices if answer else []
    names = {name for device in devices for name in (device.label, device.hostname, device.ip) if name}
    return sorted(name for name in names if name.startswith(incomplete) and SAFE_NAME.fullmatch(name))


def complete_network(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return matching ids of scanned networks; none if no daemon answers."""
    answer = _fetch(ctx, "/api/networks", NetworkList)
    ids = [network.id for network in answer.networks if network.state != "excluded"] if answer else []
    return sorted(id_ for id_ in ids if id_.startswith(incomplete) and SAFE_ID.fullmatch(id_))


Answer = TypeVar("Answer", DeviceList, NetworkList)


def _fetch(ctx: click.Context, path: str, kind: type[Answer]) -> Answer | None:
    options = ctx.find_root().params  # click does not run the group's callback during completion: no Session exists
    try:
        target = socket_or_url(options.get("socket"), options.get("url"))
        client = Client(find_daemon(*target, options.get("token_file")))
        return client.read(client.get(path), kind)
    except Failure:
        return None
