"""`netscand --replay FILE`: decode a capture file on its own clock; print the events and the devices.

The decoders and the inventory are those of the daemon. Nothing is sent, and nothing is stored.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path
from random import Random
from typing import BinaryIO

from netscand import protocol
from netscand.__main__ import EX_DATAERR, EX_IOERR, EX_NOINPUT, INTERRUPTED
from netscand.config import Config
from netscand.core.inventory import Inventory
from netscand.core.mac_ranges import is_virtual
from netscand.core.model import Event, Evidence, Ip, Mac, Network, NetworkState, Observation
from netscand.core.presence import Rules
from netscand.event_log import one_line, sentence
from netscand.lan import decode, dhcp, mdns
from netscand.lan.name_lookup import answered_name
from netscand.lan.pcap import CaptureError, CaptureFile, Interface, Packet
from netscand.lan.vendors import Vendors
from netscand.once import by_address
from netscand.serve.encode import Encoder, decoded, event_message, ip_text

GAP = 600.0
"""Seconds without any packet after which the capture paused, as when this host was suspended: silence in it proves no
absence."""

REORDERED = 1.0
"""Seconds that a packet may be earlier than the one before it, from another queue of the network card."""

PROGRAM = "netscand"
"""Begin of the name of the program that writes captures of the frames that netscand receives, between probes."""

TURN = 1e-5
"""Seconds of a turn of the loop: what is still due after one is due again after so long."""

NO_MAC, NO_IP = Mac(bytes(6)), Ip(bytes(4))


@dataclass(slots=True)
class _Evidence:
    """Evidence of the networks of one interface."""

    assigned: dict[IPv4Network, Ip | None]
    """Prefixes that DHCP servers assign, with the gateway."""
    senders: set[Ip]
    """IPv4 addresses that sent ARP frames, at most MOST_SENDERS."""


MOST_SENDERS = 65_536


def replay(path: Path, given: Sequence[IPv4Network], config: Config, *, as_json: bool) -> int:
    """Print the events of a capture, and then its devices; return the exit code. `given`: its networks, if named."""
    player: _Player | None = None
    code = 0
    try:
        try:
            if not given and path.exists() and not path.is_file():
                raise CaptureError("not a regular file, which can be read twice; name the network with --network")
            evidence = {} if given else _survey(path)
            player = _Player(given, evidence, config, as_json=as_json)
            with path.open("rb") as file:
                player.play(file)
        except CaptureError as wrong:
            code = _complain(path, str(wrong), EX_DATAERR)
        except KeyboardInterrupt:
            code = INTERRUPTED
        except OSError as wrong:
            if player is not None and player.cannot_write:
                raise
            code = _complain(path, wrong.strerror or str(wrong), EX_NOINPUT)
        if player is not None:
            player.finish()
        sys.stdout.flush()
    except OSError as wrong:  # a closed pipe is the reader's choice; a full disk is a fault
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0 if isinstance(wrong, BrokenPipeError) else _complain(path, f"cannot write: {wrong.strerror}", EX_IOERR)
    return code


def _complain(path: Path, what: str, code: int) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"netscand: {path}: {one_line(what)}\n")
    return code


# ---- networks ------------------------------------------------------------------------------------------------------
# A capture shows the networks of its interfaces only in part: netscand's own captures name them, DHCP servers assign
# addresses with a prefix. Else the user must name them: from addresses alone, no prefix can be concluded.


def _survey(path: Path) -> dict[str, _Evidence]:
    """Read a file up to its end, or the first damage; return the evidence of its networks by interface name.

    Nothing is read of a file that describes its interfaces with their addresses.
    """
    found: dict[str, _Evidence] = {}
    with path.open("rb") as file, suppress(CaptureError):
        for packet in CaptureFile(file):
            if packet.interface.addresses:
                return {}
            here = found.setdefault(_name(packet.interface), _Evidence({}, set()))
            for seen in decode.decode(packet.frame, packet.at, 1) if packet.frame[12:14] == decode.ARP else ():
                if seen.ip is not None and len(here.senders) < MOST_SENDERS:
                    here.senders.add(seen.ip)
            datagram = decode.datagram(packet.frame, packet.at, 1)
            lease = dhcp.subnet(datagram.content) if datagram and datagram.port in decode.DHCP_PORTS else None
            if lease is not None and (cidr := _cidr(lease[0], lease[1])) is not None:
                here.assigned[cidr] = lease[2] or here.assigned.get(cidr)
    return found


def _cidr(ip: Ip, mask: Ip) -> IPv4Network | None:
    try:
        return IPv4Network((ip, ip_text(mask)), strict=False)
    except ValueError:
        return None


def _name(interface: Interface) -> str:
    return one_line(interface.name) or "capture"


def _unknown(evidence: Iterable[_Evidence]) -> CaptureError:
    """Return the error for a capture without evidence of its networks; it names the most probable one."""
    senders = {ip for each in evidence for ip in each.senders}
    if not senders:
        return CaptureError(
            "no packet shows which network this is; name it with --network 192.168.1.0/24 "
            "(there is no ARP frame either: perhaps this is not a capture of a LAN)"
        )
    ((prefix, count),) = Counter(ip[:3] for ip in senders).most_common(1)
    likely = IPv4Network((prefix + b"\0", 24))
    return CaptureError(
        f"no packet shows which network this is; name it with --network, probably --network {likely} "
        f"({count} of {len(senders)} senders are in it)"
    )


# ---- player --------------------------------------------------------------------------------------------------------


class _Player:
    """Driver of the inventory by the packets of a file; printer of the events."""

    def __init__(
        self, given: Sequence[IPv4Network], evidence: dict[str, _Evidence], config: Config, *, as_json: bool
    ) -> None:
        rules = Rules(config.presence.probe_interval, *config.presence.patience)
        self.inventory = Inventory(rules, Random(0))  # noqa: S311 - a replay is the same each time
        self.inventory.claims.host_names.sources = tuple(config.names.sources)
        self.cannot_write = False
        self._given = given
        self._evidence = evidence
        self._as_json = as_json
        self._encoder = Encoder(offset=float, vendor=Vendors().of, clock=lambda: self._now)
        self._interfaces: dict[str, int] = {}
        """Name → index; 0: its networks are not known."""
        self._networks: list[Network] = []
        self._last: tuple[Interface | None, int] = None, 0
        self._now = self._shift = 0.0
        """The virtual time; what is added to the timestamps of the file."""
        self._packets = self._events = 0

    def play(self, file: BinaryIO) -> None:
        """Play an open file to its end. Raises CaptureError, and OSError of the file and of stdout."""
        capture = CaptureFile(file)
        for packet in capture:
            self._packets += 1
            at = self._time(packet)
            self._advance(at)
            if packet.interface is not self._last[0]:
                self._last = packet.interface, self._index(packet.interface, capture.program)
            if index := self._last[1]:
                self._observe(packet.frame, at, index)
        if not self._packets:
            raise CaptureError("the file has no packets")
        if not any(self._interfaces.values()):
            raise _unknown(self._evidence.values())

    def finish(self) -> None:
        """Print the devices."""
        devices = [device for device in self.inventory.devices.values() if device.mac != NO_MAC]
        shown = [self._encoder.device(device) for device in sorted(devices, key=by_address)]
        if self._as_json:
            self._write(protocol.encode(protocol.Devices(devices=shown, more=False)).decode())
            return
        if shown and self._events:
            self._write("")
        for device in shown:
            name = device.label or device.hostname or "-"
            self._write(f"{device.status:<7}  {device.ip or '-':<15}  {device.mac}  {name:<24}  {device.vendor or '-'}")

    # ---- time ------------------------------------------------------------------------------------------------------

    def _time(self, packet: Packet) -> float:
        """Return the virtual time of a packet: it never goes back, whatever the clock of the capture did."""
        at = packet.at + self._shift
        if self._packets == 1:
            self._now = at
        if at < self._now - REORDERED:
            self._notice(
                f"packet {packet.number}: the time goes back by {self._now - at:.1f} s (the clock was set, or captures "
                "were merged); the times of the following events are later than those in the file"
            )
            self._shift += self._now - at
        elif at > self._now + GAP:
            self._notice(f"packet {packet.number}: no packet for {at - self._now:.0f} s before it; the capture paused")
            self._now = at
            self.inventory.on_resume(at)
        return max(at, self._now)

    def _advance(self, until: float) -> None:
        """Do what is due until then."""
        inventory = self.inventory
        before = -1.0
        while (due := inventory.next_at) <= until:
            again = due == before > 0  # by a rounding error, it is not due yet; 0: deferred work, in parts
            self._now, before = max(self._now + again * TURN, due), due
            self._publish(inventory.tick(self._now))
            probes = [probe for lane in inventory.probe_queue.values() for probe in lane]
            inventory.probe_queue.clear()
            for probe in probes:  # those that netscand sent when it captured this
                if probe.network.probed and inventory.is_due(probe, self._now):
                    inventory.record_sent(probe, self._now)
        self._now = max(until, self._now)

    # ---- packets ---------------------------------------------------------------------------------------------------

    def _observe(self, frame: bytes, at: float, index: int) -> None:
        observed = decode.decode(frame, at, index)
        for seen in observed:
            network = self.inventory.network_table.lookup(index, seen.ip)
            if network is None:
                continue
            answers = network.probed and frame[:6] == network.mac and _is_answer(seen)
            events = self.inventory.observe(seen, network, 0.0 if answers else None)
            if answers and seen.mac in self.inventory.devices:
                self.inventory.devices[seen.mac].rtt = None  # the capture does not have the request
            self._publish(events)
        if not observed and (answer := decode.answer(frame, at, index)) is not None:
            self._name_by(answer, frame[:6])

    def _name_by(self, answer: decode.Answer, to: bytes) -> None:
        """Take a name from an answer to a query that netscand sent when it captured this."""
        sender, by = answer.sender, "mdns" if answer.from_port == mdns.PORT else "nbns"
        network = self.inventory.network_table.lookup(sender.interface, sender.ip)
        if network is None or not network.probed or to != network.mac:
            return
        name = answered_name(answer)
        if name and self.inventory.may_take_name(sender.mac, network.id, sender.ip, sender.at, by_dns=False):
            self._publish(self.inventory.rename(sender.mac, name, by, sender.at))

    def _index(self, interface: Interface, program: str) -> int:
        """Return the index of an interface; 0 if its networks are not known. Enters those of a new one."""
        name = _name(interface)
        if name not in self._interfaces:
            index = len(self._interfaces) + 1
            networks = self._networks_of(interface, name, index, probed=program.startswith(PROGRAM))
            self._interfaces[name] = index if networks else 0
            if networks:
                self._networks += networks
                self._publish(self.inventory.set_networks(self._networks, self._now))
            elif self._evidence.keys() - self._interfaces.keys():  # else the error says it
                self._notice(f"interface {name} is ignored: no packet shows its network; name it with --network")
        return self._interfaces[name]

    def _networks_of(self, interface: Interface, name: str, index: int, *, probed: bool) -> list[Network]:
        described = {cidr: own for own, cidr in interface.addresses}
        assigned = self._evidence[name].assigned if name in self._evidence else {}
        sources = (
            (tuple(self._given), "named by --network"),
            (tuple(described), "described in the capture"),
            (tuple(assigned), "assigned by DHCP in the capture"),
        )
        cidrs, why = next((source for source in sources if source[0]), ((), ""))
        networks = []
        for cidr in cidrs:
            probes = probed and cidr in described and interface.mac is not None
            own = described[cidr] if probes else NO_IP
            gateway = interface.gateway if interface.gateway else assigned.get(cidr)
            networks.append(Network(
                f"{cidr}@{name}", cidr, name, index, interface.mac if probes and interface.mac else NO_MAC, own,
                NetworkState.UP, why, gateway, own6=interface.own6 if probes else None, probed=probes,
            ))  # fmt: skip
        return [replace(each, not_foreign=tuple(sorted(network.cidr for network in networks))) for each in networks]

    # ---- output ----------------------------------------------------------------------------------------------------

    def _publish(self, events: Iterable[Event]) -> None:
        for event in events:
            self._events += 1
            body = self._encoder.event(event)
            if self._as_json:
                self._write(event_message(f"replay-{self._events}", body).decode())
                continue
            shown = decoded(body)
            device = shown.device
            names = (device.label or device.hostname, shown.address or device.ip, device.mac) if device else None
            vendor = device.vendor if device else None
            line = sentence(shown.kind, shown.reason, shown.network, names, vendor, shown.other)
            self._write(f"{shown.at}  {one_line(line)}")

    def _write(self, line: str) -> None:
        self.cannot_write = True
        sys.stdout.write(f"{line}\n")
        self.cannot_write = False

    def _notice(self, text: str) -> None:
        sys.stdout.flush()
        sys.stderr.write(f"netscand: {text}\n")


def _is_answer(seen: Observation) -> bool:
    """Return whether a frame answers a request; of virtual routers and clusters, any station may carry it."""
    if seen.evidence is Evidence.PROXIED and not (seen.solicited and is_virtual(seen.mac)):
        return False
    return seen.solicited or seen.evidence is Evidence.ARP_REPLY
