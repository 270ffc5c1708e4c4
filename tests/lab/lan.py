"""A LAN in namespaces: a switch, a watcher where the daemon lives, kernel hosts, and a crowd.

    with Lab() as lab:
        printer = lab.host("10.77.0.20")
        crowd = lab.crowd()
        crowd.populate(f"10.77.0.{n}" for n in range(100, 134))
        lab.watcher.run(["arp-scan", "-I", "eth0", "10.77.0.0/24"])
        printer.unplug()

Every link is made inside our namespaces, so that nothing of it can reach an interface of this machine; all is gone at
the end of the block, whatever happened in it, SIGTERM included.
"""

import itertools
import os
import shutil
import signal
import socket
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Interface
from types import FrameType, TracebackType
from typing import Any, Self

from tests.lab.capture import Capture
from tests.lab.crowd import Crowd
from tests.lab.crowd_device import Device
from tests.lab.daemon import Daemon
from tests.lab.macs import pack_mac
from tests.lab.spaces import Space, temporary_folder

_count = itertools.count(1)


class Host:
    """One machine of the LAN: a namespace with one interface, its cable in a port of the switch."""

    def __init__(self, lab: "Lab", space: Space, port: str, interface: str, mac: str) -> None:
        self.space = space
        self.run = space.run
        self.popen = space.popen
        self.interface = interface
        self.port = port
        self.mac = mac
        self.address: IPv4Interface | None = None
        self._lab = lab

    @property
    def ip(self) -> str:
        """Its address, without the prefix."""
        assert self.address is not None, "this host has no address"
        return str(self.address.ip)

    def set_address(self, address: str | None) -> None:
        """Hold `address` (`10.77.0.9`, with the LAN's prefix, or `10.77.0.9/25`) and nothing else; None: none."""
        self.space.ip(f"addr flush dev {self.interface} scope global")
        self.address = None
        if address is not None:
            self.add_address(address)

    def add_address(self, address: str) -> None:
        """Hold this one too."""
        self.address = IPv4Interface(address if "/" in address else f"{address}/{self._lab.prefixlen}")
        self.space.ip(f"addr add {self.address} broadcast + dev {self.interface}")

    def announce(self) -> None:
        """Say by gratuitous ARP (RFC 5227) that it is here, as most devices do when they come."""
        me = Device(pack_mac(self.mac))
        own = IPv4Address(self.ip).packed
        with self.space.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((self.interface, 0))
            raw.send(me.request(own, own))

    def unplug(self) -> None:
        """Pull the cable: no carrier."""
        self._lab.switch.ip(f"link set {self.port} down")

    def replug(self) -> None:
        """Put it back; returns when frames pass."""
        self._lab.switch.ip(f"link set {self.port} up")
        self._lab._until_up(self.space, self.port, self.interface)

    def down(self) -> None:
        """Take its interface down."""
        self.space.ip(f"link set {self.interface} down")

    def up(self) -> None:
        """Bring its interface up."""
        self.space.ip(f"link set {self.interface} up")

    def remove_interface(self) -> None:
        """Delete the interface, as when a USB adapter is pulled; `plug` makes it again."""
        self.space.ip(f"link delete {self.interface}")

    def plug(self) -> None:
        """Make the interface again, with the same MAC and address."""
        self._lab._connect(self.space, self.port, self.interface, self.mac)
        if self.address:
            self.set_address(str(self.address))

    def delete(self) -> None:
        """The machine with everything that runs in it."""
        self.space.delete()
        self._lab._spaces.remove(self.space)
        self._lab.hosts.remove(self)


class Lab:
    """The LAN `network` (a prefix), with the watcher at `watcher_ip` (by default the second address).

    `snooping` turns the switch's multicast snooping on; `ipv6` gives every interface IPv6.
    """

    def __init__(
        self,
        network: str = "10.77.0.0/24",
        watcher_ip: str | None = None,
        *,
        snooping: bool = False,
        ipv6: bool = False,
    ) -> None:
        if os.geteuid():
            raise PermissionError("the lab makes network namespaces: it needs root")
        first = IPv4Interface(network).network
        self.network = first
        self.prefixlen = first.prefixlen
        self.hosts: list[Host] = []
        self.crowds: list[Crowd] = []
        self.daemons: list[Daemon] = []
        self._ipv6 = ipv6
        self._snooping = snooping
        self._watcher_ip = watcher_ip or str(first[2])
        self._spaces: list[Space] = []
        self._prefix = f"nsd-{os.getpid()}-{next(_count)}"
        self._ports = itertools.count(1)
        self._daemons = itertools.count(1)
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self.close)
            self._end_on_sigterm()
            self.folder = temporary_folder("lab")
            self.folder.chmod(0o755)
            self._exit.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.switch = self._space("switch", ipv6=False)  # a switch has no address of its own
            self.switch.ip(
                f"link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping {int(self._snooping)}",
                "link set br0 up",
            )
            self.watcher = self.host(self._watcher_ip, name="watcher")
            if self._ipv6:
                self.watcher.space.until_usable(self.watcher.interface)
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End and remove everything; once is enough, twice does no harm."""
        for space in reversed(self._spaces):
            self._exit.callback(space.delete)
        for crowd in self.crowds:
            self._exit.callback(crowd.close)
        for daemon in self.daemons:
            self._exit.callback(daemon.close)
        self._spaces.clear()
        self.crowds.clear()
        self.daemons.clear()
        self.hosts.clear()
        self._exit.close()

    def host(self, ip: str | None = None, mac: str | None = None, name: str | None = None) -> Host:
        """A kernel host with `ip` (None: no address), plugged in."""
        number = next(self._ports)
        space = self._space(name or f"host{number}")
        mac = mac or f"52:54:00:77:{number >> 8:02x}:{number & 255:02x}"
        host = Host(self, space, f"port{number}", "eth0", mac)
        self.hosts.append(host)
        self._connect(space, host.port, host.interface, mac)
        host.set_address(ip)
        return host

    def gateway(self, ip: str | None = None) -> Host:
        """A kernel host at `ip` (by default the LAN's first address) that the watcher's default route leads to."""
        host = self.host(ip or str(self.network[1]), name="gateway")
        self.watcher.space.ip(f"route add default via {host.ip}")
        return host

    def crowd(self, seed: int = 1) -> Crowd:
        """An empty crowd at its own port of the switch."""
        number = next(self._ports)
        space = self._space(f"crowd{number}")
        self._connect(space, f"port{number}", "crowd0", f"52:54:00:77:{number >> 8:02x}:{number & 255:02x}")
        crowd = Crowd(space, "crowd0", seed)
        self.crowds.append(crowd)
        return crowd

    def dismiss(self, crowd: Crowd) -> None:
        """End a crowd, with its namespace."""
        crowd.close()
        crowd.space.delete()
        self.crowds.remove(crowd)
        self._spaces.remove(crowd.space)

    def daemon(
        self,
        config: str | Mapping[str, Any] = "",
        *,
        as_user: bool = False,
        start: bool = True,
        env: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> Daemon:
        """A netscand with this configuration at the watcher, ready. See Daemon."""
        folder = self.folder / f"daemon{next(self._daemons)}"
        daemon = Daemon(self.watcher.space, folder, config, as_user=as_user, env=env, files=files)
        self.daemons.append(daemon)
        if start:
            daemon.start()
        return daemon

    def capture(self, host: Host | None = None, *, slots: int = 65_536, size: int = 256) -> Capture:
        """Every frame of `host`'s interface (by default the watcher's), both ways, from now on, with kernel stamps."""
        host = host or self.watcher
        return Capture(host.space, host.interface, slots=slots, size=size)

    def addresses(self, count: int, *, start: int = 10) -> list[str]:
        """`count` addresses of the LAN from its `start`th on; none of them the watcher's."""
        own = IPv4Address(self._watcher_ip)
        free = (self.network[n] for n in itertools.count(start))
        return [str(ip) for ip in itertools.islice((ip for ip in free if ip != own), count)]

    def _space(self, word: str, *, ipv6: bool = True) -> Space:
        space = Space(f"{self._prefix}-{word}", ipv6=self._ipv6 and ipv6)
        self._spaces.append(space)
        return space

    def _connect(self, space: Space, port: str, interface: str, mac: str) -> None:
        """A cable between the switch and a namespace, that frames pass when this returns.

        Both of its ends are ours from their first moment.
        """
        pack_mac(mac)
        self.switch.ip(
            f"link add {port} type veth peer name {interface} address {mac} netns {space.name}",
            f"link set {port} master br0 up",
        )
        space.ip(f"link set {interface} up")
        self._until_up(space, port, interface)

    def _until_up(self, space: Space, port: str, interface: str) -> None:
        space.until_up(interface)
        self.switch.until_up(port)

    def _end_on_sigterm(self) -> None:
        """Let SIGTERM unwind the stack like Ctrl-C does, unless it has a handler already."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _unwind)
            self._exit.callback(signal.signal, signal.SIGTERM, signal.SIG_DFL)


def _unwind(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
