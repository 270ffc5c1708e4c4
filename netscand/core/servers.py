"""DHCP servers that were reported already."""

from collections import OrderedDict

from netscand.core.budgets import DHCP_SERVERS, Budgets
from netscand.core.model import Ip, Mac

MOST = 64
"""Servers remembered a network; the one not heard for longest goes first."""


class Servers:
    """DHCP servers, by network: each address with the MAC that serves there."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._known: dict[str, OrderedDict[tuple[Ip, Mac | None], None]] = {}

    def another(self, network: str, server: Ip, mac: Mac) -> Mac | None:
        """Return another MAC that was heard to serve with that address."""
        macs = (by for ip, by in self._known.get(network, ()) if ip == server and by not in (None, mac))
        return next(macs, None)

    def is_new(self, network: str, server: Ip, mac: Mac | None, at: float) -> bool:
        """Note that a server was heard, or (`mac` None) only named by a client; return whether that is to be reported.

        An address proves nothing: a second station that serves with a known one's is as new as any.
        """
        known = self._known.setdefault(network, OrderedDict())
        if mac is not None and (server, None) in known:  # a client named it before
            del known[server, None]
            known[server, mac] = None
            return False
        same = [each for each in known if each == (server, mac) or (mac is None and each[0] == server)]
        for each in same:
            known.move_to_end(each)
        if same:
            return False
        if not self._budgets.take(DHCP_SERVERS, network, at):
            return False
        if len(known) >= MOST:
            known.popitem(last=False)
        known[server, mac] = None
        return True
