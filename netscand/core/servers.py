"""DHCP servers that were reported already."""

from netscand.core.budgets import DHCP_IMPOSTORS, DHCP_SERVERS, Budgets
from netscand.core.model import Ip, Mac

MOST = 64
"""Servers remembered a network; the newest goes first, so that made-up ones push no known one out."""


class Servers:
    """DHCP servers, by network: each address with the MAC that serves there."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._known: dict[str, dict[tuple[Ip, Mac | None], None]] = {}

    def another(self, network: str, server: Ip, mac: Mac | None) -> Mac | None:
        """Return another MAC that was heard to serve with that address."""
        macs = (by for ip, by in self._known.get(network, ()) if ip == server and by not in (None, mac))
        return next(macs, None)

    def is_new(self, network: str, server: Ip, mac: Mac | None, at: float) -> bool:
        """Note that a server was heard, or (`mac` None) only named by a client; return whether that is to be reported.

        An address proves nothing: a second station that serves with a known one's is as new as any.
        """
        known = self._known.setdefault(network, {})
        if mac is not None and (server, None) in known:  # a client named it before
            del known[server, None]
            known[server, mac] = None
            return False
        if any(each == (server, mac) or (mac is None and each[0] == server) for each in known):
            return False
        is_impostor = self.another(network, server, mac) is not None
        row, spender = (DHCP_IMPOSTORS, (network, server)) if is_impostor else (DHCP_SERVERS, network)
        if not self._budgets.take(row, spender, at):
            return False
        if len(known) >= MOST:
            known.popitem()
        known[server, mac] = None
        return True
