"""Who holds which address of which network, and what is odd about that."""

from collections.abc import Collection, Iterable, Mapping
from math import inf

from netscand.core.model import Address, Device, Event, EventKind, Evidence, Ip, Network, Observation, Status
from netscand.core.tokens import Tokens

MOST_ADDRESSES = 64
"""Addresses a device may have; the one not heard for longest goes first. More is proxy ARP."""

MOST_UNCONFIRMED = 8
"""The same for one that never answered us: more are not taken, so that made-up ones cost little."""

CONFLICT_WITHIN = 60.0
"""Seconds in which two devices that claim one address are in conflict; later, the address has moved."""

CONFLICT_APART = 600.0
"""Seconds between two events of a conflict over one address."""

MOST_CONFLICTS = 256
"""Conflicts remembered a network."""

CLAIMS_AT_ONCE, CLAIMS_A_SECOND = 256.0, 4.0
"""Claims to addresses that others held that are told, and those of devices that never answered us to several addresses.
Made-up devices could make one with each frame. They use up a measure of their own, and hide no claim to an address of
somebody who answers us, nor to a gateway's."""

STALE = 1800.0
"""Seconds after which an address is dropped that its device was not heard at, while it was at another."""

STALE_V6 = 86_400.0
"""The same for IPv6, where a host has several addresses, and says for hours nothing by some of them."""

SPOKEN = {
    Evidence.ARP_REQUEST: "sent an ARP request",
    Evidence.ARP_REPLY: "answered an ARP request",
    Evidence.ARP_PROBE: "probed for an address",
    Evidence.ARP_ANNOUNCEMENT: "announced its address",
    Evidence.NDP: "sent neighbour discovery",
    Evidence.DHCP: "spoke DHCP",
    Evidence.MDNS: "spoke mDNS",
    Evidence.NBNS: "spoke NBNS",
    Evidence.NEIGHBOUR: "is a reachable neighbour of this host",
    Evidence.PROXIED: "another station answered for it",
}
"""Evidence as a reason."""


NO_ADDRESS: Mapping[str, object] = {"ip": None, "addresses": ()}


class Addresses:
    """The address book of every scanned network."""

    def __init__(self, networks: Mapping[str, Network]) -> None:
        self.networks = networks
        """All, by id: the inventory's."""
        self._holders: dict[str, dict[Ip, Device]] = {}
        self._told: dict[tuple[str, Ip], float] = {}
        """When a conflict was told."""
        self._claims = {known: Tokens(CLAIMS_AT_ONCE, CLAIMS_A_SECOND) for known in (False, True)}
        """By whether the one who held the address, or who claims another one, answered us."""

    def open(self, network: str) -> None:
        """Begin to keep a network's addresses."""
        self._holders.setdefault(network, {})

    def holder(self, network: str, ip: Ip | None) -> Device | None:
        """Who was last heard at an address."""
        holders = self._holders.get(network)
        return holders.get(ip) if holders is not None and ip is not None else None

    def devices(self, network: str) -> Collection[Device]:
        """Who holds an address there; a device with several stands there several times."""
        return self._holders.get(network, {}).values()

    def mark_gateways(self, devices: Iterable[Device]) -> None:
        """Let those be gateways, of all `devices`, that hold a gateway's address."""
        for device in devices:
            device.is_gateway = False
        for network in self.networks.values():
            holder = self.holder(network.id, network.gateway)
            if holder is not None:
                holder.is_gateway = True

    def put(self, device: Device, address: Address) -> None:
        """Enter an address that a device is known to hold, without a word."""
        device.addresses.append(address)
        self._holders.setdefault(address.network, {})[address.ip] = device

    def put_back(self, device: Device, address: Address) -> None:
        """The same, of the past: who was heard last holds it."""
        device.addresses.append(address)
        holders = self._holders.setdefault(address.network, {})
        if holders.setdefault(address.ip, device).last_seen <= device.last_seen:
            holders[address.ip] = device

    def drop(self, device: Device, address: Address) -> None:
        """Strike an address out."""
        device.addresses.remove(address)
        holders = self._holders.get(address.network, {})
        if holders.get(address.ip) is device:
            del holders[address.ip]

    def hear(self, device: Device, seen: Observation, network: Network, *, answers: bool = False) -> tuple[Event, ...]:
        """Note at which address a device was heard; what is new or odd about it. `answers`: it answered us."""
        odd = self._hear(device, seen, seen.ip, network) if seen.ip is not None else ()
        if answers:
            for address in device.addresses:
                if address.ip == seen.ip and address.network == network.id:
                    address.answered = seen.at
        return odd

    def _hear(self, device: Device, seen: Observation, ip: Ip, network: Network) -> tuple[Event, ...]:
        # Who speaks for itself needs no other to say where it is: it would be asked there, and called gone.
        hearsay = seen.evidence is Evidence.PROXIED and device.status is Status.ONLINE and bool(device.addresses)
        for address in device.addresses:
            if address.ip == ip and address.network == network.id:
                if seen.at > address.last_seen and (not hearsay or len(device.addresses) == 1):
                    address.evidence = seen.evidence
                    address.last_seen = seen.at
                if self._holders[network.id].get(ip) is device or seen.evidence is Evidence.PROXIED:
                    return ()
                return self._take_over(device, seen, network, ip)
        return () if hearsay else self._add(device, ip, seen, network)

    def where_to_ask(self, device: Device, network: Network, where: Address) -> Ip:
        """The address for the next ask into a silence, where it would be asked at `where`.

        Every second one goes to where it last answered us, in the same protocol: anybody may have said in its name
        that it is elsewhere now, but to answer he has to hear what we ask.
        """
        held = (
            each
            for each in device.addresses
            if each.network == network.id and len(each.ip) == len(where.ip) and not network.spares(each.ip)
        )
        best = max(held, key=lambda each: each.answered, default=where) if device.presence.asks % 2 else where
        return best.ip if best.answered > -inf else where.ip

    def _add(self, device: Device, ip: Ip, seen: Observation, network: Network) -> tuple[Event, ...]:
        if len(ip) == 4 and int.from_bytes(ip) & int(network.cidr.netmask) != int(network.cidr.network_address):
            return ()  # an address of another LAN says nothing about this one
        if device.addresses and not device.confirmed and ip != network.gateway:
            full = len(device.addresses) >= MOST_UNCONFIRMED
            old = self.holder(network.id, ip)
            bounded = old is not None and old.confirmed  # by `_may_tell`: who does not answer may be after its address
            if full or not (bounded or self._claims[False].take(seen.at)):  # taken when it is heard there again
                return ()
        before = {"ip": device.ip, "addresses": tuple(device.addresses)} if device.addresses else NO_ADDRESS
        renamed = [held for held in device.addresses if held.ip == ip and held.network not in self.networks]
        for held in renamed:  # the same address, on a network that has another name or interface now
            self.drop(device, held)
        if len(device.addresses) >= MOST_ADDRESSES:
            device.is_proxy = True
            self.drop(device, min(device.addresses, key=lambda held: held.last_seen))
        device.addresses.append(Address(ip, network.id, network.interface, seen.evidence, seen.at, seen.at))
        taken = self._take_over(device, seen, network, ip, before)
        if taken or renamed or device.is_proxy or (len(device.addresses) == 1 and device.first_seen == seen.at):
            return taken  # told already, nothing new, beyond telling, or told by `discovered`
        return (self._event(EventKind.ADDRESS_ADDED, device, seen, network, previous=before),)

    def _take_over(
        self, device: Device, seen: Observation, network: Network, ip: Ip, before: Mapping[str, object] | None = None
    ) -> tuple[Event, ...]:
        """Make `device` the holder; what to say where another one held the address."""
        holders = self._holders[network.id]
        old = holders.get(ip)
        if seen.evidence is Evidence.PROXIED and old is not None:
            return ()
        holders[ip] = device
        if ip == network.gateway:
            device.is_gateway = True
        if old is None or old is device or old.is_proxy or device.is_proxy:
            return ()
        claim = next((held for held in old.addresses if held.ip == ip and held.network == network.id), None)
        silent = seen.at - claim.last_seen if claim else CONFLICT_WITHIN + 1
        in_conflict = silent <= CONFLICT_WITHIN
        if not self._may_tell(network, ip, seen.at, old, in_conflict=in_conflict):
            if not in_conflict:
                holders[ip] = old  # it moves when it is heard there again
            return ()
        left: tuple[Event, ...] = ()
        if not in_conflict and claim is not None and not old.is_self:
            had = {"ip": old.ip, "addresses": tuple(old.addresses)}
            self.drop(old, claim)
            why = f"{device.mac.hex(':')} holds it now"
            removed = EventKind.ADDRESS_REMOVED
            left = (Event(removed, seen.at, network.id, old, ip, device.mac, reason=why, previous=had),)
        if ip == network.gateway:
            old.is_gateway = in_conflict
        kind = EventKind.ADDRESS_CONFLICT if in_conflict else EventKind.ADDRESS_MOVED
        if ip == network.gateway:
            kind = EventKind.GATEWAY_CHANGED
        reason = f"{SPOKEN[seen.evidence]}; {old.mac.hex(':')} was heard there {silent:.0f} s before"
        return (*left, self._event(kind, device, seen, network, previous=before, other=old, reason=reason))

    def _may_tell(self, network: Network, ip: Ip, now: float, old: Device, *, in_conflict: bool) -> bool:
        key = network.id, ip
        if in_conflict and key in self._told and now < self._told[key] + CONFLICT_APART:
            return False
        if ip != network.gateway and not self._claims[old.confirmed].take(now):
            return False
        if in_conflict:
            self._told.pop(key, None)
            if len(self._told) >= MOST_CONFLICTS:
                del self._told[next(iter(self._told))]
            self._told[key] = now
        return True

    def drop_stale(self, device: Device, now: float) -> tuple[Event, ...]:
        """Drop the addresses that a device seems to have given up: not heard at for long, while it was at another."""
        if len(device.addresses) < 2 or device.is_self or device.is_proxy:
            return ()
        events = []
        for old in tuple(device.addresses):
            stale = STALE if len(old.ip) == 4 else STALE_V6
            newer = (
                held.last_seen - old.last_seen > stale and len(held.ip) == len(old.ip) and held.network == old.network
                for held in device.addresses
            )
            if any(newer):
                before = {"ip": device.ip, "addresses": tuple(device.addresses)}
                self.drop(device, old)
                reason = f"not heard there for {now - old.last_seen:.0f} s, but at another address"
                events.append(
                    Event(EventKind.ADDRESS_REMOVED, now, old.network, device, old.ip, reason=reason, previous=before)
                )
        return tuple(events)

    @staticmethod
    def _event(
        kind: EventKind,
        device: Device,
        seen: Observation,
        network: Network,
        *,
        previous: Mapping[str, object] | None,
        other: Device | None = None,
        reason: str | None = None,
    ) -> Event:
        return Event(
            kind, seen.at, network.id, device, seen.ip, other.mac if other else None, seen.evidence,
            reason or SPOKEN[seen.evidence], previous, seen.at,
        )  # fmt: skip
