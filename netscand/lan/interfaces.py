"""Networks of this host, updated when netlink reports changes."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from time import monotonic

from netscand.config import NetworkRule, Scan
from netscand.core.model import Mac, Network
from netscand.lan import turns
from netscand.lan.netlink import Netlink, NetlinkError
from netscand.lan.networks import Kernel, decide, decide_in_turns, steps

log = logging.getLogger(__name__)

SETTLE = 0.02
"""Seconds to wait for further changes: one `ip` command or DHCP lease makes several."""

SHARE, LONGEST = 0.1, 0.5
"""Maximum part of the time for reading while changes are continuous (hundreds of containers start and stop); maximum
seconds to wait for that: reading takes long as well while the loop has much else to do, as during a flood."""

TICK = 1.0
"""Seconds between updates of `ticked_at`."""

CHILDREN_EVERY = 5.0
"""Seconds between looks at macvlan interfaces."""

BACK_OFF = (1.0, 30.0)
"""Seconds before a failed socket is opened again: the first time, and at most."""


class Interfaces:
    """Follower of the kernel's interfaces.

    `on_change` gets all networks, excluded ones too, when any has changed, or an interface has lost its MAC.
    """

    def __init__(
        self, on_change: Callable[[tuple[Network, ...]], None], scan: Scan, rules: tuple[NetworkRule, ...]
    ) -> None:
        self._on_change = on_change
        self._scan = scan
        self._rules = rules
        self._netlink: Netlink | None = None
        self._kernel = Kernel()
        self._networks: tuple[Network, ...] = ()
        self.macs: frozenset[Mac] = frozenset()
        """MACs of all interfaces of this host."""
        self._own: frozenset[Mac] = frozenset()
        """Those that a network has, or had."""
        self._children_at = 0.0
        self.ticked_at = monotonic()
        """When `run` last showed that it runs (monotonic; every second)."""

    def open(self) -> tuple[Network, ...]:
        """Open netlink; return all networks (blocks for a few ms). Raises NetlinkError."""
        self._netlink = Netlink()
        self._kernel = turns.run_now(self._netlink.read())
        self._networks = decide(self._kernel, self._scan, self._rules)
        self._update_macs(self._networks)
        return self._networks

    async def run(self) -> None:
        """Follow changes until cancelled; a failed socket is opened again. Exceptions of `on_change` end this."""
        wait = BACK_OFF[0]
        while True:
            began = monotonic()
            try:
                if self._netlink is None:
                    self._netlink = Netlink()
                    await self._read_state(self._netlink)
                await self._follow(self._netlink)
            except NetlinkError as broken:
                if monotonic() - began > BACK_OFF[1]:
                    wait = BACK_OFF[0]
                if wait == BACK_OFF[0]:
                    log.error("%s; trying again", broken)
            finally:
                self.close()
            await asyncio.sleep(wait)
            wait = min(2 * wait, BACK_OFF[1])

    async def _follow(self, netlink: Netlink) -> None:
        """Follow changes until netlink fails (NetlinkError)."""
        loop = asyncio.get_running_loop()
        changes = asyncio.Event()
        cost = 0.0
        broken: list[Exception] = []

        def on_readable() -> None:
            try:
                if netlink.changed():
                    changes.set()
            except Exception as wrong:
                loop.remove_reader(netlink)
                broken.append(wrong)
                changes.set()

        loop.add_reader(netlink, on_readable)
        try:
            while True:
                self.ticked_at = monotonic()
                try:
                    await asyncio.wait_for(changes.wait(), TICK)
                except TimeoutError:
                    if not await self._children_changed(netlink):
                        continue
                await asyncio.sleep(min(max(SETTLE, cost / SHARE), LONGEST))
                if broken:
                    raise broken[0]
                changes.clear()
                began = monotonic()
                await self._read_state(netlink)
                cost = monotonic() - began
        finally:
            loop.remove_reader(netlink)

    async def _children_changed(self, netlink: Netlink) -> bool:
        """Return, every few seconds, whether macvlan interfaces differ: the kernel does not report those changes."""
        if monotonic() < self._children_at:
            return False
        self._children_at = monotonic() + CHILDREN_EVERY
        return await turns.run_in_turns(netlink.read_children()) != netlink.children

    async def _read_state(self, netlink: Netlink) -> None:
        """Read the kernel's state; call `on_change` if the networks differ.

        It is called for a few of them in each turn of the loop, as if they changed one after the other. A configuration
        that is reloaded meanwhile has decided about all of them.
        """
        self._kernel = await turns.run_in_turns(netlink.read())
        rules = self._rules
        networks = await turns.run_in_turns(decide_in_turns(self._kernel, self._scan, rules, self._networks))
        if self._rules is not rules:
            return
        for step in self._follow_to(networks):
            await asyncio.sleep(0)
            if self._networks is not step:
                return

    def _decide(self) -> None:
        for _ in self._follow_to(decide(self._kernel, self._scan, self._rules, self._networks)):
            pass

    def _follow_to(self, networks: tuple[Network, ...]) -> Iterator[tuple[Network, ...]]:
        """Call `on_change` if networks differ, or a MAC is lost, and yield the networks after each call."""
        lost = self._update_macs(networks)
        if lost or networks != self._networks:
            for step in steps(self._networks, networks):
                self._networks = step
                self._on_change(step)
                yield step

    def _update_macs(self, networks: Iterable[Network]) -> bool:
        """Note the MACs of the interfaces; return whether one that a network had is gone."""
        self.macs = frozenset(link.mac for link in self._kernel.links if link.mac is not None)
        lost = not self.macs >= self._own
        self._own = (self._own | {network.mac for network in networks}) & self.macs
        return lost

    def reload(self, scan: Scan, rules: tuple[NetworkRule, ...]) -> None:
        """Apply a new configuration; call `on_change` before returning if the networks differ."""
        self._scan, self._rules = scan, rules
        self._decide()

    def close(self) -> None:
        """Close the sockets."""
        if self._netlink:
            self._netlink.close()
            self._netlink = None
