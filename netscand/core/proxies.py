"""Devices that answer for others (proxy ARP): at more IPv4 addresses than a host has.

Only answers to our own requests count: anybody can announce 64 addresses. And it ends when the answers do.
"""

from collections import OrderedDict

from netscand.core.model import Device, Ip, Mac

MOST_ADDRESSES = 64
"""Addresses that a host may have."""

WINDOW = 1800.0
"""Seconds within which it answers at so many; two scans of a quiet /16 take longer, but its proxies are asked more."""

MOST = 256
"""Devices remembered that answered where they hold nothing."""


class Proxies:
    """At which addresses devices answered us that they are not listed with."""

    def __init__(self) -> None:
        self._answered: OrderedDict[Mac, tuple[float, set[Ip]]] = OrderedDict()
        """Since when, and where."""

    def answered(self, device: Device, ip: Ip, now: float) -> None:
        """Take an answer at an IPv4 address that the device is not listed with."""
        since, where = self._answered.get(device.mac, (now, set()))
        if now - since > WINDOW:
            device.is_proxy = self._is_proxy(device, where)
            since, where = now, set()
        if len(where) <= MOST_ADDRESSES:
            where.add(ip)
        device.is_proxy = device.is_proxy or self._is_proxy(device, where)
        self._answered[device.mac] = since, where
        self._answered.move_to_end(device.mac)
        if len(self._answered) > MOST:
            self._answered.popitem(last=False)

    def look_again(self, device: Device, now: float) -> None:
        """Let a device be no proxy any more that has not answered like one."""
        since, _ = self._answered.get(device.mac, (now - 3 * WINDOW, None))
        if now - since > 2 * WINDOW:
            device.is_proxy = False
            self._answered.pop(device.mac, None)

    @staticmethod
    def _is_proxy(device: Device, where: set[Ip]) -> bool:
        return len(where) + sum(len(held.ip) == 4 for held in device.addresses) > MOST_ADDRESSES
