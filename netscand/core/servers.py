"""Which DHCP servers were told already."""

from collections import OrderedDict

from netscand.core.model import Ip

MOST = 64
"""Servers remembered a network; the one not heard for longest goes first."""

FEW = 8
APART = 60.0
"""More than a few on one network are made up: those beyond are told so many seconds apart."""


class Servers:
    """DHCP servers, by network."""

    def __init__(self) -> None:
        self._known: dict[str, OrderedDict[Ip, None]] = {}
        self._told_at: dict[str, float] = {}

    def is_new(self, network: str, server: Ip, at: float) -> bool:
        """Note that a server was heard; whether that is worth telling."""
        known = self._known.setdefault(network, OrderedDict())
        if server in known:
            known.move_to_end(server)
            return False
        if len(known) >= FEW and at < self._told_at[network] + APART:
            return False
        if len(known) >= MOST:
            known.popitem(last=False)
        known[server] = None
        self._told_at[network] = at
        return True
