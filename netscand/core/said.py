"""What devices say besides that they are there: names, DHCP clients and servers, that they are routers."""

from netscand.core.budgets import Budgets
from netscand.core.model import Device, Event, EventKind, Evidence, Network, Observation
from netscand.core.names import Disputes, Naming
from netscand.core.servers import Servers


class Said:
    """Names and servers."""

    def __init__(self, budgets: Budgets) -> None:
        self.naming = Naming(budgets)
        self.disputes = Disputes()
        self._servers = Servers(budgets)

    def hear(
        self, seen: Observation, network: Network, device: Device | None, server: Device | None
    ) -> tuple[Event, ...]:
        """Take what an observation says of its `device`, and of the `server` that is known to hold that address."""
        named = None
        if device is not None and seen.evidence is not Evidence.PROXIED:
            named = self.naming.hear(device, seen, network.id)
            if seen.router is not None:
                device.is_router = seen.router
            device.dhcp_vendor_class = seen.vendor_class or device.dhcp_vendor_class
        served = self._server(seen, network, device, server)
        return tuple(event for event in (named, served) if event is not None)

    def _server(
        self, seen: Observation, network: Network, device: Device | None, server: Device | None
    ) -> Event | None:
        ip = seen.dhcp_server
        if ip is None or seen.evidence is Evidence.PROXIED:  # another station speaks, and not the one it speaks of
            return None
        other = self._servers.another(network.id, ip, seen.mac)
        serves = not seen.joining  # a client only names one, as it takes its offer
        if not self._servers.is_new(network.id, ip, seen.mac, device, server, seen.at, serves=serves):
            return None
        if ip != seen.ip:
            device, other, reason = server, seen.mac, f"named as a DHCP server by {seen.mac.hex(':')}"
        else:
            reason = f"serves DHCP with the address of {other.hex(':')}" if other else "serves DHCP"
        return Event(
            EventKind.DHCP_SERVER_SEEN, seen.at, network.id, device, ip, other, seen.evidence, reason, None, seen.at,
        )  # fmt: skip
