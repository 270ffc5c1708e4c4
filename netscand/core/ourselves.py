"""Ourselves: this host is a device of its own kind, online while its interface is up, and never asked."""

from collections.abc import Iterable
from math import inf

from netscand.core.addresses import Addresses
from netscand.core.model import Address, Device, Evidence, Mac, Network, Status
from netscand.core.places import SCANNED
from netscand.core.presence import Presence, Rules


def mark(
    devices: dict[Mac, Device], networks: Iterable[Network], addresses: Addresses, rules: Rules, now: float
) -> None:
    """Let `devices` hold this host, at its own addresses, as the networks that are up have it now."""
    ours: dict[Mac, list[Network]] = {}
    for network in networks:
        if network.state in SCANNED:
            ours.setdefault(network.mac, []).append(network)
    for device in devices.values():
        if device.is_self and device.mac not in ours and device.status is Status.ONLINE:
            device.status, device.status_since, device.reason = Status.UNKNOWN, now, "the interface is down"
    for mac, held_in in ours.items():
        device = devices.get(mac) or devices.setdefault(mac, Device(mac, now, now, Presence(now, rules)))
        if device.status is not Status.ONLINE or not device.is_self:
            device.status, device.status_since, device.reason = Status.ONLINE, now, "this host"
        device.is_self, device.interface, device.last_seen, device.agenda = True, held_in[0].index, now, inf
        held = {(address.network, address.ip): address for address in device.addresses}
        for address in tuple(device.addresses):
            addresses.drop(device, address)
        for network in held_in:
            kept = held.get((network.id, network.own))
            new = Address(network.own, network.id, network.interface, Evidence.NEIGHBOUR, now, now)
            addresses.put(device, kept or new)
