"""Detection of a network outage: devices that are silent because we no longer see them (law 8).

Before a device is reported offline, other devices (witnesses) are probed too. If hardly any answers, the network is
silent: its devices are `unknown` until the first answer, or for ten minutes.

Made-up devices can answer for a while and fall silent at will. So the devices known for longest must be silent, too;
and while the gateway answers, no network is silent. A device counts as silent only if it was probed and had time to
answer; a probe that is not yet sent proves nothing.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from math import inf
from random import Random

from netscand.core.limits import is_resident
from netscand.core.model import Device, Mac, Network, NetworkState, Status
from netscand.core.ratelimit import SILENCES, Budgets

LEAST_SILENT = 5
"""Minimum silent devices of a silent network; if the gateway is among them, AND_THE_GATEWAY are enough."""

AND_THE_GATEWAY = 3

SILENT_SHARE, WITH_THE_GATEWAY = 0.8, 0.5
"""Minimum part of a network that must be silent; half, if the gateway is among them."""

WITNESS_PATIENCE = 60.0
"""Maximum patience of a witness, in seconds: devices that may be silent for longer prove nothing."""

WITNESSES = 64
"""Maximum witnesses of an inquiry."""

SAMPLED = 256
"""Maximum devices examined as witnesses: half of them those known for longest, the others at random."""

FOUND_TOGETHER, LEAST_OLDEST = 5.0, 2
"""Seconds within which devices count as found by the same scan, so as known for equally long; and how many of the
oldest devices are needed, because a single one proves nothing."""

SILENCE_RETRY = 30.0
"""Seconds until a verdict is tried again, if the budget allows no further `network_silent` event."""

MOST_SUSPECTS = 256
"""Maximum devices about to be reported offline that an inquiry counts: it is judged repeatedly."""

ANSWER_WITHIN = 1.5
"""Seconds in which the witnesses may answer, after the last of them was probed."""

UNSENT_FOR = 1.0
"""Seconds until a verdict is tried again, if some witnesses were not probed yet."""

INQUIRY_LASTS = 10.0
"""Seconds after its last probe for which an inquiry is valid."""

MOST_REMEMBERED = 256
"""Maximum outages whose start is remembered."""

LONGEST_OUTAGE = 600.0
"""Maximum seconds of an outage; after that, silent devices are reported offline."""


def network_problems(networks: Iterable[Network]) -> list[str]:
    """Return the problems of the networks, one sentence each: a silent network, none that is up, or none scanned."""
    scanned = [network for network in networks if network.state is not NetworkState.EXCLUDED]
    problems = [
        f"{each.id} is silent: the status of its devices is unknown"
        for each in scanned
        if each.state is NetworkState.SILENT
    ]
    if not scanned:
        return ["no network is scanned: no device can be seen; to list the reasons: netscanctl networks"]
    if all(each.state is NetworkState.DOWN for each in scanned):
        return [f"no network is up ({', '.join(each.id for each in scanned)}): no device can be seen"]
    return problems


class Verdict(Enum):
    """Verdict about a device whose patience is over."""

    GONE = auto()
    WAIT = auto()
    NETWORK_SILENT = auto()


@dataclass(slots=True)
class _Outage:
    ends: float
    devices: frozenset[Mac]
    """The silent devices: an answer of one of them ends the outage."""


@dataclass(slots=True)
class _Inquiry:
    at: float
    witnesses: dict[Mac, Device]
    suspects: dict[Mac, Device]
    sampled: bool
    """The witnesses are a sample: the suspects do not count, since they would outnumber the others."""
    gateway: Device | None
    unsent: set[Mac]
    """Witnesses, and perhaps the gateway, whose probe was not sent yet."""
    sent_at: float
    """When the last of these probes was sent."""
    judged_at: float = -inf
    silent: list[Device] = field(default_factory=list)
    """The silent devices at that time, if they were enough for an outage; else none."""

    def probed(self, now: float) -> list[Device]:
        """Return the confirmed devices that were probed: made-up MACs may have been seen only once."""
        probed = dict(self.witnesses)
        if not self.sampled:
            probed |= {
                mac: each
                for mac, each in self.suspects.items()
                if self.answered(each) or each.presence.probed_since <= now - ANSWER_WITHIN
            }
        return [each for each in probed.values() if each.confirmed]

    def add(self, suspect: Device) -> None:
        """Count a device that is about to be reported offline."""
        if len(self.suspects) < MOST_SUSPECTS:
            self.suspects[suspect.mac] = suspect

    def is_over(self, now: float) -> bool:
        """Return whether the inquiry is no longer valid."""
        return now - self.sent_at >= INQUIRY_LASTS

    def answered(self, device: Device) -> bool:
        """Return whether a device was seen since the start of the inquiry."""
        return device.last_seen >= self.at

    def gateway_answered(self) -> bool:
        """Return whether the gateway answered a request since; its broadcasts alone do not prove that we reach it."""
        addresses = self.gateway.addresses if self.gateway is not None else ()
        return any(each.answered >= self.at for each in addresses)


class OutageDetector:
    """Inquiries, and the networks with an outage."""

    def __init__(self, rng: Random, budgets: Budgets) -> None:
        self.overflow_at = -inf, -inf
        """When frames were last lost, perhaps answers among them: of ARP, and of all else."""
        self.hearing_since = -inf
        """When this host last began to see the network again, after a suspend or an outage."""
        self._silent: dict[str, _Outage] = {}
        self._began: deque[float] = deque(maxlen=MOST_REMEMBERED)
        """Start times of outages."""
        self._recovered: dict[str, float] = {}
        """Network → end of its last outage."""
        self._inquiries: dict[str, _Inquiry] = {}
        self._rng = rng
        self._budgets = budgets

    def silent(self, network: str) -> bool:
        """Return whether a network has an outage."""
        return network in self._silent

    def outage_began_at(self, since: float) -> bool:
        """Return whether an outage began at exactly this time."""
        return since in self._began

    def ends_with(self, network: str, mac: Mac, now: float) -> bool:
        """Return whether a frame of a device ends the outage; after LONGEST_OUTAGE, that of any device does."""
        silence = self._silent[network]
        return mac in silence.devices or now >= silence.ends

    def end(self, network: str, now: float) -> None:
        """End the outage of a network that works again or went down."""
        if self._silent.pop(network, None) is not None:
            self._recovered[network] = now

    def start_inquiry(
        self, network: str, device: Device, devices: Iterable[Device], gateway: Device | None, now: float
    ) -> list[Device]:
        """Start an inquiry before a device is reported offline; return the devices to probe."""
        inquiry = self._inquiries.get(network)
        if inquiry is not None and not inquiry.is_over(now):
            inquiry.add(device)
            return []
        looked_at = list(devices)
        if len(looked_at) > SAMPLED:  # examining all of a large LAN would block the loop
            half = SAMPLED // 2
            looked_at = looked_at[:half] + self._rng.sample(looked_at[half:], half)
        eligible = [
            each
            for each in {each.mac: each for each in looked_at}.values()
            if each.status is not Status.OFFLINE and each.confirmed and not each.is_self and each is not device
            and each.presence.patience <= WITNESS_PATIENCE
        ]  # fmt: skip
        if sampled := len(eligible) > WITNESSES:
            eligible = self._chosen(eligible, now)
        if gateway is not None and gateway.is_self:
            gateway = None
        witnesses = {each.mac: each for each in eligible}
        to_probe = {each.mac: each for each in (*([gateway] if gateway else ()), *witnesses.values())}
        to_probe.pop(device.mac, None)
        self._inquiries[network] = _Inquiry(
            now, witnesses, {device.mac: device}, sampled, gateway, unsent=set(to_probe), sent_at=now
        )
        return list(to_probe.values())

    def _chosen(self, devices: list[Device], now: float) -> list[Device]:
        """Choose WITNESSES devices, first those known for longest."""
        oldest = _oldest(devices, now)
        macs = {each.mac for each in oldest}
        others = [each for each in devices if each.mac not in macs]
        chosen = self._rng.sample(oldest, min(len(oldest), WITNESSES))
        return chosen + self._rng.sample(others, min(len(others), WITNESSES - len(chosen)))

    def awaits_answer(self, network: str, mac: Mac) -> bool:
        """Return whether a device is a witness that has not answered yet."""
        inquiry = self._inquiries.get(network)
        if inquiry is None:
            return False
        gateway = inquiry.gateway
        witness = inquiry.witnesses.get(mac) or (gateway if gateway is not None and gateway.mac == mac else None)
        return witness is not None and not inquiry.answered(witness)

    def record_probe_sent(self, network: str, mac: Mac, now: float) -> None:
        """Note that a probe of a device was sent."""
        inquiry = self._inquiries.get(network) if self._inquiries else None
        if inquiry is not None and mac in inquiry.unsent:
            inquiry.unsent.remove(mac)
            inquiry.sent_at = now

    def exclude_witness(self, network: str, mac: Mac) -> None:
        """Remove a witness without an address to probe: its silence proves nothing."""
        if network in self._inquiries:
            self._inquiries[network].witnesses.pop(mac, None)
            self._inquiries[network].unsent.discard(mac)

    def verdict(self, network: str, device: Device, now: float) -> tuple[Verdict, float, str]:
        """Return the verdict about a silent device; with WAIT, until when; with NETWORK_SILENT, since when, and why."""
        silence = self._silent.get(network)
        if silence is not None:
            return (Verdict.WAIT, silence.ends, "") if now < silence.ends else (Verdict.GONE, now, "")
        presence, overflow_at = device.presence, self.overflow_at[device.ip is not None and len(device.ip) == 16]
        if (
            presence.since < overflow_at
            and now < max(device.last_seen, self.hearing_since) + LONGEST_OUTAGE + presence.patience
        ):
            presence.restart_silence(overflow_at)
            return Verdict.WAIT, max(presence.next_at, now + 0.1), ""
        recovered = self._recovered.get(network, -LONGEST_OUTAGE)
        unknown_since = max(device.status_since, device.last_seen)
        if device.status is Status.UNKNOWN and unknown_since < recovered and now - recovered < LONGEST_OUTAGE:
            return Verdict.GONE, now, ""  # `unknown` since the outage that is over: its own silence counts now
        inquiry = self._inquiries.get(network)
        if inquiry is None or inquiry.is_over(now):
            return Verdict.WAIT, now, ""
        inquiry.add(device)
        if inquiry.gateway_answered():
            return Verdict.GONE, now, ""
        if inquiry.judged_at < now:  # once for all verdicts of the same moment
            inquiry.judged_at, inquiry.silent = now, self._silent_of(inquiry, now)
        silent = inquiry.silent
        if not silent:
            return Verdict.GONE, now, ""
        if inquiry.unsent:
            return Verdict.WAIT, now + UNSENT_FOR, ""
        if now < inquiry.sent_at + ANSWER_WITHIN:
            return Verdict.WAIT, inquiry.sent_at + ANSWER_WITHIN, ""
        if not self._budgets.take(SILENCES, network, now):
            return Verdict.WAIT, now + SILENCE_RETRY, ""
        del self._inquiries[network]
        self._began.append(now)
        self._silent[network] = _Outage(now + LONGEST_OUTAGE, frozenset(each.mac for each in silent))
        also = ", the gateway among them" if any(each is inquiry.gateway for each in silent) else ""
        reason = f"{len(silent)} of {len(inquiry.probed(now))} probed devices fell silent at once{also}"
        return Verdict.NETWORK_SILENT, inquiry.at, reason

    @staticmethod
    def _silent_of(inquiry: _Inquiry, now: float) -> list[Device]:
        """Return the silent devices if they are enough for an outage; else none."""
        probed = inquiry.probed(now)
        silent = [each for each in probed if not inquiry.answered(each)]
        gateway = any(each is inquiry.gateway for each in silent)
        least, share = (AND_THE_GATEWAY, WITH_THE_GATEWAY) if gateway else (LEAST_SILENT, SILENT_SHARE)
        if len(silent) < least or len(silent) < share * len(probed):
            return []
        oldest = _oldest(probed, now)
        return silent if sum(not inquiry.answered(each) for each in oldest) >= share * len(oldest) else []


def _oldest(devices: list[Device], now: float) -> list[Device]:
    """Return the devices known for longest: residents at least half as old as the oldest; else the first found."""
    devices = sorted(devices, key=lambda device: device.first_seen)
    residents = [each for each in devices if is_resident(each, now)]
    if len(residents) >= LEAST_SILENT:
        half = (now + residents[LEAST_SILENT - 1].first_seen) / 2
        return [each for each in residents if each.first_seen <= half]
    oldest: list[Device] = []
    found = -inf
    for each in devices:
        if len(oldest) >= LEAST_OLDEST and each.first_seen > found + FOUND_TOGETHER:
            break
        if each.first_seen > found + FOUND_TOGETHER:
            found = each.first_seen
        oldest.append(each)
    return oldest
