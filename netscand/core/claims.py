"""Claims of devices other than addresses: host names, DHCP servers, IPv6 routers."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from netscand.core.annotations import is_annotated
from netscand.core.disputes import APART
from netscand.core.limits import is_resident, may_change
from netscand.core.model import NO_NAMES, Device, Event, EventKind, Evidence, Ip, Mac, Network, Observation, Status
from netscand.core.ratelimit import (
    DAY,
    DHCP_IMPOSTORS,
    DHCP_SERVERS,
    DHCP_SERVERS_OF_A_DEVICE,
    DHCP_SERVERS_OF_A_SOURCE,
    GATEWAY_CLAIMS,
    HOUR,
    RENAMES,
    Budget,
    Budgets,
)

# ---- names ---------------------------------------------------------------------------------------------------------
# The name of a device: sources by their order in `[names] sources`, and limits on how often a device may change it.

TRUST = ("dhcp", "mdns", "dns", "nbns")
"""Default sources of host names, most trusted first; the user's label is separate, and shown instead of any of them."""

MOST_FORMER, MOST_RETURNS, RETURN_AFTER = 4, 2, 6 * HOUR
"""Former names of a device that are remembered; times it may return to one of them at once; after that, seconds for
which the current name must not be seen. Two responders on one host announce two names in turn, day after day."""

MOST_ALTERNATING = 4_096
"""Maximum devices whose former names are remembered."""

SEPARATORS = str.maketrans("", "", ":-_")
"""Between the bytes of a MAC."""

DISPUTE_KINDS = frozenset([EventKind.ADDRESS_CONFLICT, EventKind.ADDRESS_MOVED, EventKind.GATEWAY_CHANGED])
DISPUTED_FOR, DISPUTED_FOR_DNS = APART, DAY
"""Seconds for which an address is disputed after such an event. A name server may still have the name of the previous
holder, and a stranger that takes the address of a sleeping device may keep it all night."""

MOST_DISPUTED = 16_384
"""Maximum disputed addresses remembered."""


class DisputedAddresses:
    """Addresses that changed their holder or are claimed by two devices, and their previous holders."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, Ip], tuple[Mac | None, float]] = OrderedDict()

    def note(self, event: Event) -> None:
        """Note an event about an address."""
        if event.kind in DISPUTE_KINDS and event.network is not None and event.address is not None:
            self.add(event.network, event.address, event.other, event.at)

    def add(self, network: str, ip: Ip, before: Mac | None, at: float) -> None:
        """Note a dispute about an address that `before` held (None: not known)."""
        known, since = self._known.pop((network, ip), (before, at))
        self._known[network, ip] = known if at - since < DISPUTED_FOR_DNS else before, at
        if len(self._known) > MOST_DISPUTED:
            self._known.popitem(last=False)

    def allow(self, device: Device, network: str, ip: Ip, now: float, *, by_dns: bool) -> bool:
        """Return whether a name found at an address may name a device.

        While the address is disputed, only the resident that held it before may get the name.
        """
        before, at = self._known.get((network, ip), (None, None))
        if at is None or now - at >= (DISPUTED_FOR_DNS if by_dns else DISPUTED_FOR):
            return True
        return device.mac == before and is_resident(device, now)


def urgency(device: Device | None) -> int:
    """Return the priority of a device's name lookup: 0 if a user annotated it, 1 if it answered us, else 2."""
    if device is None or not (device.confirmed or is_annotated(device)):
        return 2
    return 0 if is_annotated(device) else 1


def _is_mac(name: str, mac: Mac) -> bool:
    """Return whether a name is only the MAC of its device: it identifies nothing more, and would hide a better name."""
    return name.partition(".")[0].translate(SEPARATORS).lower() == mac.hex()


@dataclass(slots=True)
class _Former:
    """Former names of a device."""

    seen_at: float
    """When its current name was last seen."""
    names: tuple[str, ...] = ()
    returns: int = 0
    """Times it returned to one of them."""


class HostNames:
    """Assignment of host names, by `[names] sources`."""

    def __init__(self, budgets: Budgets, sources: Iterable[str] = TRUST) -> None:
        self.sources: Sequence[str] = tuple(sources)
        """Most trusted first."""
        self._budgets = budgets
        self._former: OrderedDict[Mac, _Former] = OrderedDict()

    def missing_sources(self, device: Device) -> tuple[str, ...]:
        """Return the sources in which to look up a device's name: those above its current one, and DNS again."""
        current = self._rank(device.hostname_source) + (device.hostname_source == "dns")
        return () if device.is_self else tuple(self.sources[:current])

    def observe(self, device: Device, seen: Observation, network: str) -> Event | None:
        """Apply the name that a device claims; return what changed."""
        if not seen.name or not seen.name_source:
            return None
        event = self.assign(device, seen.name, seen.name_source, seen.at)
        return event and event._replace(
            network=network, address=seen.ip, evidence=seen.evidence, seen_at=seen.at,
        )  # fmt: skip

    def assign(self, device: Device, name: str, source: str, at: float) -> Event | None:
        """Set a name; return what changed. The same name from a better source is no change.

        A name that the budget refuses is set when it is seen or looked up again.
        """
        if source not in self.sources or device.is_self or _is_mac(name, device.mac):
            return None
        was = device.hostname
        if was is not None and self._rank(source) > self._rank(device.hostname_source):
            if device.confirmed:
                device.other_names = {**device.other_names, source: name}
            return None
        if name != was and not (self._may_return(device, name, at) and may_change(self._budgets, RENAMES, device, at)):
            return None
        self._remember(device, name, at)
        return self._set(device, name, source, at)

    def reassign(self, device: Device, at: float) -> Event | None:
        """Set the best of the known names of a device, after a change of `sources`; return what changed."""
        best = min((device.hostname_source or "", *device.other_names), key=self._rank)
        name = device.other_names.get(best)
        return self._set(device, name, best, at) if name is not None and best != device.hostname_source else None

    def _set(self, device: Device, name: str, source: str, at: float) -> Event | None:
        was, was_source = device.hostname, device.hostname_source
        if was_source != source and device.confirmed:
            others = dict(device.other_names)
            others.pop(source, None)
            if was is not None and was_source is not None:
                others[was_source] = was
            device.other_names = others or NO_NAMES
        device.hostname, device.hostname_source = name, source
        if name == was:
            return None
        previous: Mapping[str, object] = {"hostname": was, "hostname_source": was_source}
        return Event(EventKind.RENAMED, at, None, device, reason=f"named by {source}", previous=previous)

    def _rank(self, source: str | None) -> int:
        return self.sources.index(source) if source in self.sources else len(self.sources)

    def _may_return(self, device: Device, name: str, at: float) -> bool:
        """Return whether a device may have a name; if it alternates between names, it keeps the current one."""
        former = self._former.get(device.mac)
        if former is None or name not in former.names or former.returns < MOST_RETURNS:
            return True
        return at - former.seen_at >= RETURN_AFTER

    def _remember(self, device: Device, name: str, at: float) -> None:
        """Note that a name was seen, and the one that it replaces."""
        former, was = self._former.get(device.mac), device.hostname
        if former is None:
            if was is None or name == was:
                return
            former = self._former[device.mac] = _Former(at)
            if len(self._former) > MOST_ALTERNATING:
                self._former.popitem(last=False)
        if name != was and was is not None:
            if at - former.seen_at >= DAY:
                former.names, former.returns = (), 0
            former.returns += name in former.names
            former.names = (was, *(each for each in former.names if each != was))[:MOST_FORMER]
            self._former.move_to_end(device.mac)
        former.seen_at = at


# ---- servers -------------------------------------------------------------------------------------------------------
# DHCP servers that were reported already, and the budgets of reports.

MOST, MOST_OF_STRANGERS = 1_024, 64
"""Servers remembered of a network: those reported by devices that answered us, and all others. In each table the newest
entry is evicted first, so that made-up servers evict no known one."""


class _Reported:
    """Table of servers that were reported."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.named: dict[Ip, Mac | None] = {}
        """Address → first MAC that served with it; None while only clients named it."""
        self.serving: dict[tuple[Ip, Mac], None] = {}

    def has(self, server: Ip, serving: Mac | None) -> bool:
        return (server, serving) in self.serving if serving is not None else server in self.named

    def add(self, server: Ip, serving: Mac | None) -> None:
        if server not in self.named and len(self.named) >= self._most:
            self.named.popitem()
        self.named[server] = self.named.get(server) or serving
        if serving is None:
            return
        if len(self.serving) >= self._most:
            self.serving.popitem()
        self.serving[server, serving] = None


class DhcpServers:
    """DHCP servers by network: addresses, and the MACs that serve with them.

    Any station can make up servers, and MACs that name them. A device that answered us has a budget and a table of its
    own. All other sources share the budget of the network, and that of further MACs at a known server's address; each
    may take only a small part.
    """

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._known: dict[str, tuple[_Reported, _Reported]] = {}
        """Network → servers reported by devices that answered us, and by all others."""

    def other_mac(self, network: str, server: Ip, mac: Mac) -> Mac | None:
        """Return another MAC that serves with this address."""
        macs = (known.named.get(server) for known in self._known.get(network, ()))
        return next((each for each in macs if each not in (None, mac)), None)

    def is_new(
        self, network: str, server: Ip, source: Mac, device: Device | None, holder: Device | None, at: float,
        *, serves: bool,
    ) -> bool:  # fmt: skip
        """Note that `source` serves with an address, or only names it; return whether to report it.

        An address proves nothing: a second MAC that serves with a known server's address is new. So is a MAC that
        serves with an address which clients only named and another device holds. `device`: the one with that MAC;
        `holder`: the device last seen at the address.
        """
        tables = self._known.setdefault(network, (_Reported(MOST), _Reported(MOST_OF_STRANGERS)))
        serving = source if serves else None
        if any(known.has(server, serving) for known in tables):
            return False
        for known in tables if serves and (holder is None or holder.mac == source) else ():
            if server in known.named and known.named[server] is None:  # a client named it before
                known.add(server, serving)
                return False
        impostor = serves and self.other_mac(network, server, source) is not None
        answered = device is not None and device.confirmed
        if answered:
            may = self._budgets.take(DHCP_SERVERS_OF_A_DEVICE, source, at)
        else:
            shared = (DHCP_IMPOSTORS, (network, server)) if impostor else (DHCP_SERVERS, network)
            may = self._share(shared, source, at)
        if may:
            tables[not answered].add(server, serving)
        return may

    def _share(self, shared: tuple[Budget, Hashable], source: Mac, at: float) -> bool:
        """Return whether a source that never answered may report one more server; if so, take it from the budgets."""
        budgets = self._budgets
        if not budgets.has(*shared, at):
            budgets.refuse(shared[0], at)
            return False
        return budgets.take(DHCP_SERVERS_OF_A_SOURCE, source, at) and budgets.take(*shared, at)


# ---- expectations --------------------------------------------------------------------------------------------------
# `expected_dhcp` and `expected_gateway` of a [[network]]: what else was seen.

UNEXPECTED_FOR, MOST_UNEXPECTED = HOUR, 16
"""Seconds for which something unexpected is a problem after it was last seen; maximum that are remembered."""


SERVES, IS_GATEWAY = "serves DHCP", "is the gateway"


class Unexpected:
    """DHCP servers and gateways that the configuration does not expect."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._seen: dict[tuple[str, str, Ip, Mac], float] = {}
        """Network, what it is there, address and MAC → when it was last seen."""
        self._gateways: dict[tuple[str, Ip, Mac], None] = {}
        """Network, address and MAC of those that were reported, at most MOST."""

    def note(self, network: str, what: str, ip: Ip, mac: Mac, at: float) -> None:
        """Note something unexpected."""
        if (network, what, ip, mac) in self._seen or len(self._seen) < MOST_UNEXPECTED:
            self._seen[network, what, ip, mac] = at

    def follow(
        self,
        before: Mapping[str, Network],
        networks: Mapping[str, Network],
        holder: Callable[[str, Ip], Device | None],
        now: float,
    ) -> list[Event]:
        """Follow this host's routes and the configuration: return the events about devices that are the gateway now.

        What is expected now, or is no gateway any more, is forgotten.
        """
        for key in tuple(self._seen):
            name, what, at, mac = key
            there = networks.get(name)
            if there is None:
                continue
            expected = there.expected_dhcp if what == SERVES else there.expected_gateway
            if not expected or expected & {at, mac} or (what == IS_GATEWAY and at != there.gateway):
                del self._seen[key]
                self._gateways.pop((name, at, mac), None)
        events: list[Event] = []
        for network in networks.values():
            ip, expected, old = network.gateway, network.expected_gateway, before.get(network.id)
            if not expected or ip is None or (old and (old.gateway, old.expected_gateway) == (ip, expected)):
                continue
            device = holder(network.id, ip)
            if device is not None and device.status is Status.ONLINE and (address := device.address_at(network.id, ip)):
                mac = device.mac_at(address)
                events += self.gateway(network, device, mac, address.evidence, now, is_new=False)
        return events

    def problems(self, now: float) -> list[str]:
        """Return a sentence for each unexpected server or gateway that was seen within the last hour."""
        self._seen = {key: at for key, at in self._seen.items() if now - at < UNEXPECTED_FOR}
        return [
            f"{network}: {ip_address(ip)} ({mac.hex(':')}) {what}, which is not expected there"
            for network, what, ip, mac in self._seen
        ]

    def gateway(
        self, network: Network, device: Device | None, mac: Mac, evidence: Evidence, at: float, *, is_new: bool = True
    ) -> tuple[Event, ...]:
        """Return the event about a device at the gateway's address that is not expected, once for each MAC.

        `is_new`: a frame shows it now; else the device was there when this host's default route changed.
        """
        ip = network.gateway
        if ip is None or device is None or device.is_self or evidence is Evidence.PROXIED:
            return ()
        if not network.expected_gateway or network.expected_gateway & {mac, ip}:
            return ()
        self.note(network.id, IS_GATEWAY, ip, mac, at)
        key = network.id, ip, mac
        if key in self._gateways or len(self._gateways) >= MOST:
            return ()
        if not self._budgets.take(GATEWAY_CLAIMS, network.id, at):
            return ()
        self._gateways[key] = None
        return (Event(
            EventKind.GATEWAY_CHANGED, at, network.id, device, ip, None, evidence,
            f"not in expected_gateway of {network.cidr}", None, at if is_new else None,
        ),)  # fmt: skip


# ---- tracker -------------------------------------------------------------------------------------------------------
# The claims of one observation.


class ClaimTracker:
    """Tracker of claimed names, DHCP servers and routers."""

    def __init__(self, budgets: Budgets) -> None:
        self.host_names = HostNames(budgets)
        self.disputes = DisputedAddresses()
        self._servers = DhcpServers(budgets)
        self.unexpected = Unexpected(budgets)

    def observe(
        self, seen: Observation, network: Network, device: Device | None, server: Device | None
    ) -> tuple[Event, ...]:
        """Apply the claims of an observation; return the events. `server`: the device that holds that address."""
        named = None
        if device is not None and seen.evidence is not Evidence.PROXIED:
            named = self.host_names.observe(device, seen, network.id)
            if seen.router is not None:
                device.is_router = seen.router
            device.dhcp_client_id = seen.client_id or device.dhcp_client_id
            device.lease = seen.lease or device.lease
        served = self._server(seen, network, device, server)
        return tuple(event for event in (named, served) if event is not None)

    def _server(
        self, seen: Observation, network: Network, device: Device | None, server: Device | None
    ) -> Event | None:
        ip = seen.dhcp_server
        if ip is None or seen.evidence is Evidence.PROXIED:  # another station speaks for the server
            return None
        other = self._servers.other_mac(network.id, ip, seen.mac)
        serves = not seen.joining  # a client that accepts an offer only names the server
        macs = {seen.mac, seen.merged_mac or seen.mac} if serves else {server.mac} if server is not None else set()
        expected, unexpected = network.expected_dhcp, ""
        if expected and not (expected & ({ip} | macs)):
            unexpected = f"; not in expected_dhcp of {network.cidr}"
            if serves:
                self.unexpected.note(network.id, SERVES, ip, seen.mac, seen.at)
        elif expected:
            return None
        if not self._servers.is_new(network.id, ip, seen.mac, device, server, seen.at, serves=serves):
            return None
        if ip != seen.ip:
            device, other, reason = server, seen.mac, f"named as a DHCP server by {seen.mac.hex(':')}"
        else:
            reason = f"serves DHCP with the address of {other.hex(':')}" if other else "serves DHCP"
        return Event(
            EventKind.DHCP_SERVER_SEEN, seen.at, network.id, device, ip, other, seen.evidence, f"{reason}{unexpected}",
            None, seen.at,
        )  # fmt: skip
