"""The domain as the wire contract tells it: bytes become text, monotonic seconds become RFC 3339 in UTC (law 7).

A snapshot may hold 65,533 devices, so texts that repeat (a second's prefix, one stamp in several fields, the address
of a network) are made once.
"""

from collections.abc import Callable, Mapping
from copy import copy
from socket import AF_INET6, inet_ntoa, inet_ntop
from time import gmtime, monotonic, strftime
from typing import cast

from netscand import protocol
from netscand.core.model import Address, Coverage, Device, Event, Ip, Mac, Network

REMEMBERED = 8192
"""Texts of stamps that are kept, at most; then all are forgotten at once."""

STEADY = 0.0005
"""Seconds the clocks may drift apart before stamps are told by the new offset: else one `first_seen` would flicker
between two milliseconds from telling to telling."""

REDUNDANCY = (b"\x00\x00\x5e\x00\x01", b"\x00\x00\x5e\x00\x02", b"\x00\x00\x0c\x07\xac", b"\x00\x00\x0c\x9f")
"""MAC prefixes of virtual routers: VRRP and CARP (RFC 9568, section 7.3), HSRP, HSRP version 2."""

MACHINES = (b"\x52\x54\x00", b"\x02\x42")
"""MAC prefixes that are locally administered and yet no phone's disguise: QEMU and KVM guests, Docker containers."""

TIMES = frozenset(("status_since", "first_seen", "last_seen"))


def mac_text(mac: Mac) -> str:
    """Write it as `aa:bb:cc:dd:ee:ff`."""
    return mac.hex(":")


def ip_text(ip: Ip) -> str:
    """Write it dotted, or as RFC 5952 has it."""
    return inet_ntoa(ip) if len(ip) == 4 else inet_ntop(AF_INET6, ip)


class Encoder:
    """Turns what the core holds into protocol structs.

    `offset` gives unix seconds minus monotonic seconds at this moment, `vendor` the vendor of a MAC.
    """

    def __init__(
        self,
        offset: Callable[[], float],
        vendor: Callable[[Mac], str | None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._clock = clock
        self._offset = offset
        self._vendor = vendor
        self._fresh = self._steady = offset()
        self._seconds: dict[int, str] = {}
        self._texts: dict[float, str] = {}

    def of_unix_time(self) -> "Encoder":
        """One for what the history tells: stamps that are unix seconds already."""
        return Encoder(lambda: 0.0, self._vendor, lambda: monotonic() + self._offset())

    # ---- times ----------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Notice a clock that was set. To be called once before a run of translations."""
        self._fresh = offset = self._offset()
        if abs(offset - self._steady) > STEADY:
            self._steady = offset
            self._texts.clear()

    def milliseconds(self, at: float) -> int:
        """A monotonic stamp as unix time."""
        return int((at + self._steady) * 1000)

    def microseconds(self, at: float) -> int:
        """A monotonic stamp as unix time, by the offset of the last `sync`."""
        return int((at + self._fresh) * 1_000_000)

    def time(self, at: float) -> str:
        """A monotonic stamp, to the millisecond."""
        text = self._texts.get(at)
        if text is None:
            second, rest = divmod(self.milliseconds(at), 1000)
            text = f"{self._second(second)}.{rest:03d}Z"
            if len(self._texts) >= REMEMBERED:
                self._texts.clear()
            self._texts[at] = text
        return text

    def stamp(self, at: float) -> str:
        """A monotonic stamp, to the microsecond, by the offset of the last `sync`."""
        second, rest = divmod(int((at + self._fresh) * 1_000_000), 1_000_000)
        return f"{self._second(second)}.{rest:06d}Z"

    def now(self) -> str:
        """Tell this moment, to the microsecond."""
        return self.stamp(self._clock())

    def _second(self, second: int) -> str:
        text = self._seconds.get(second)
        if text is None:
            if len(self._seconds) >= REMEMBERED:
                self._seconds.clear()
            text = self._seconds[second] = strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
        return text

    def _maybe(self, at: float | None) -> str | None:
        return None if at is None else self.time(at)

    # ---- what is told of ------------------------------------------------------------------------------------------

    def address(self, held: Address) -> protocol.Address:
        """One address of a device."""
        return protocol.Address(
            ip=ip_text(held.ip),
            network=held.network,
            interface=held.interface,
            evidence=held.evidence,
            first_seen=self.time(held.first_seen),
            last_seen=self.time(held.last_seen),
        )

    def device(self, device: Device) -> protocol.Device:
        """A device as it is now."""
        mac, ip, rtt = device.mac, device.ip, device.rtt
        return protocol.Device(
            mac=mac.hex(":"),
            ip=ip_text(ip) if ip else None,
            hostname=device.hostname,
            hostname_source=device.hostname_source,
            label=device.label,
            known=device.known,
            notes=device.notes,
            vendor=self._vendor(mac),
            randomized_mac=bool(mac[0] & 2) and not mac.startswith(MACHINES),  # the locally administered bit
            kinds=kinds(device),
            status=device.status,
            reason=device.reason,
            patience=device.presence.patience,
            status_since=self.time(device.status_since),
            first_seen=self.time(device.first_seen),
            last_seen=self.time(device.last_seen),
            rtt_ms=round(rtt * 1000, 3) if rtt is not None else None,
            addresses=[self.address(held) for held in device.addresses],
        )

    def wholly(self, device: Device) -> protocol.Device:
        """The same for an answer about this one alone: with what lists and events do without."""
        told = self.device(device)
        told.dhcp_vendor_class = device.dhcp_vendor_class
        return told

    def device_before(self, event: Event) -> protocol.Device | None:
        """The device of an event as it was before it; None where the event is about none."""
        if event.device is None:
            return None
        previous = event.previous or {}
        was = copy(event.device)
        for name, value in previous.items():
            if name not in ("ip", "patience", "kinds") and hasattr(was, name):
                setattr(was, name, value)
        told = self.device(was)
        for name in ("patience", "kinds"):
            if name in previous:
                setattr(told, name, previous[name])
        return told

    def network(self, network: Network, coverage: Coverage, online: int, last_scan: float | None) -> protocol.Network:
        """A network, with what the planner and the inventory say of it."""
        return protocol.Network(
            id=network.id,
            cidr=str(network.cidr),
            interface=network.interface,
            state=network.state,
            why=network.why,
            gateway=ip_text(network.gateway) if network.gateway else None,
            interval=network.interval,
            addresses=len(network.offsets),
            coverage=protocol.Coverage(fraction=coverage.fraction, seconds=coverage.seconds),
            online=online,
            last_scan=self._maybe(last_scan),
        )

    def event(self, cursor: str, event: Event) -> protocol.Event:
        """An event. Whoever sends it says when it leaves: `sent_at`."""
        self.sync()
        return protocol.Event(
            cursor=cursor,
            kind=event.kind,
            at=self.time(event.at),
            network=event.network,
            address=ip_text(event.address) if event.address else None,
            other=mac_text(event.other) if event.other else None,
            evidence=event.evidence,
            reason=event.reason,
            device=self.device(event.device) if event.device else None,
            previous=self._previous(event.previous) if event.previous else None,
            seen_at=self.stamp(event.seen_at) if event.seen_at is not None else None,
        )

    def _previous(self, fields: Mapping[str, object]) -> dict[str, object]:
        """Wire names with domain values, as wire names with wire values."""
        told: dict[str, object] = {}
        for name, value in fields.items():
            if name in TIMES and value is not None:
                told[name] = self.time(cast(float, value))
            elif name == "addresses":
                told[name] = [self.address(held) for held in cast("list[Address]", value)]
            elif isinstance(value, bytes):
                told[name] = mac_text(Mac(value)) if len(value) == 6 else ip_text(Ip(value))
            else:
                told[name] = value
        return told


def kinds(device: Device) -> list[str]:
    """What a device is besides a device."""
    found = []
    if device.is_self:
        found.append("self")
    if device.is_gateway or device.is_router:
        found.append("gateway")
    if device.mac.startswith(REDUNDANCY):
        found.append("router_redundancy")
    if device.is_proxy:
        found.append("proxy_arp")
    return found
