"""DHCP servers that were reported already, and who pays for a report."""

from collections.abc import Hashable

from netscand.core.budgets import (
    DHCP_IMPOSTORS,
    DHCP_SERVERS,
    DHCP_SERVERS_OF_A_DEVICE,
    DHCP_SERVERS_OF_A_SOURCE,
    Budget,
    Budgets,
)
from netscand.core.model import Device, Ip, Mac

MOST, MOST_OF_STRANGERS = 1_024, 64
"""Servers remembered a network: those that devices reported which answered an ask of ours, and all others; of each, the
newest goes first, so that made-up ones push no known one out."""


class _Reported:
    """Servers that were reported, and are remembered."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.named: dict[Ip, Mac | None] = {}
        """Each address, with the first MAC that served with it; None while it was only named by clients."""
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


class Servers:
    """DHCP servers, by network: each address with the MACs that serve with it.

    Anybody can make up servers, and MACs that name them. A device that answered us has an allowance of its own, and a
    place in a table of its own; all other sources share the network's budget, and that of further MACs at a known
    server's address, of which each may take little.
    """

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._known: dict[str, tuple[_Reported, _Reported]] = {}
        """Reported by devices that answered us, and by all others."""

    def another(self, network: str, server: Ip, mac: Mac) -> Mac | None:
        """Return another MAC that was heard to serve with that address."""
        macs = (known.named.get(server) for known in self._known.get(network, ()))
        return next((each for each in macs if each not in (None, mac)), None)

    def is_new(
        self, network: str, server: Ip, source: Mac, device: Device | None, holder: Device | None, at: float,
        *, serves: bool,
    ) -> bool:  # fmt: skip
        """Note that `source` serves with an address, or only names it; return whether that is to be reported.

        An address proves nothing: a second station that serves with a known one's is as new as any, and so is one that
        serves with an address that was only named, where another holds it. `device`: the one with that MAC; `holder`:
        who was last heard at the address.
        """
        tables = self._known.setdefault(network, (_Reported(MOST), _Reported(MOST_OF_STRANGERS)))
        serving = source if serves else None
        if any(known.has(server, serving) for known in tables):
            return False
        for known in tables if serves and (holder is None or holder.mac == source) else ():
            if server in known.named and known.named[server] is None:  # a client named it before
                known.add(server, serving)
                return False
        impostor = serves and self.another(network, server, source) is not None
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
        """Return whether a source that never answered may report one more; if so, it is spent."""
        budgets = self._budgets
        if not budgets.has(*shared, at):
            budgets.refuse(shared[0], at)
            return False
        return budgets.take(DHCP_SERVERS_OF_A_SOURCE, source, at) and budgets.take(*shared, at)
