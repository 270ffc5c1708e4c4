"""Whether it is they who fell silent, or us (law 8).

Before somebody is called offline, the others are asked too. Where hardly anyone answers, it is the network that fell
silent: its devices are `unknown` until the first answer, or for ten minutes.

Made-up devices can answer for a while and fall silent at will. So the silence must be one of the devices that were
known for longest, too; and while the gateway answers, no network is silent. A device is silent only if it was asked and
had its time to answer: an ask that still waits to leave says nothing.
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
"""Devices that must be silent before a network is; with the gateway among them, AND_THE_GATEWAY are enough."""

AND_THE_GATEWAY = 3

SILENT_SHARE, WITH_THE_GATEWAY = 0.8, 0.5
"""The part of a network that must be silent; with the gateway among them, half."""

WITNESS_PATIENCE = 60.0
"""Seconds: who may be silent for longer proves nothing by it."""

WITNESSES = 64
"""Devices asked at most."""

SAMPLED = 256
"""Devices looked at for witnesses at most: half of them those that are in the book for longest, the others any."""

FOUND_TOGETHER, LEAST_OLDEST = 5.0, 2
"""Seconds: devices found by one scan were known for equally long. One of them alone says nothing."""

SILENCE_RETRY = 30.0
"""Seconds a verdict waits where a network fell silent too often."""

MOST_SUSPECTS = 256
"""Devices about to be called offline that an inquiry counts at most: it is judged again and again."""

ANSWER_WITHIN = 1.5
"""Seconds that the witnesses have, from when the last of them was asked."""

UNSENT_FOR = 1.0
"""Seconds a verdict waits where some of them were not asked yet."""

INQUIRY_LASTS = 10.0
"""Seconds after the last ask in which an inquiry says something."""

MOST_REMEMBERED = 256
"""Silences whose beginning is remembered."""

LONGEST_OUTAGE = 600.0
"""Seconds of doubt, after which silence is taken for what it is."""


def network_problems(networks: Iterable[Network]) -> list[str]:
    """Why we cannot tell who is there, a sentence each: a network that is silent, or none to hear."""
    scanned = [network for network in networks if network.state is not NetworkState.EXCLUDED]
    told = [
        f"{each.id} is silent: who is there cannot be told" for each in scanned if each.state is NetworkState.SILENT
    ]
    if not scanned:
        return ["no network is scanned: nobody can be heard"]
    if all(each.state is NetworkState.DOWN for each in scanned):
        return [f"no network is up ({', '.join(each.id for each in scanned)}): nobody can be heard"]
    return told


class Verdict(Enum):
    """What to make of a device whose patience is over."""

    GONE = auto()
    WAIT = auto()
    NETWORK_SILENT = auto()


@dataclass(slots=True)
class _Outage:
    ends: float
    devices: frozenset[Mac]
    """Who fell silent: an answer of one of them ends the doubt."""


@dataclass(slots=True)
class _Inquiry:
    at: float
    witnesses: dict[Mac, Device]
    suspects: dict[Mac, Device]
    sampled: bool
    """There are more than the witnesses: of many suspects beside a few of the others, too many would be silent."""
    gateway: Device | None
    unsent: set[Mac]
    """Witnesses, and perhaps the gateway, whose ask has not left yet."""
    sent_at: float
    """When the last of these asks left."""
    judged_at: float = -inf
    silent: list[Device] = field(default_factory=list)
    """Who was silent then, where so many were that the network is; else nobody."""

    def probed(self, now: float) -> list[Device]:
        """Whose silence says something: anybody can speak once by 80 made-up names, and never again."""
        probed = dict(self.witnesses)
        if not self.sampled:
            probed |= {
                mac: each
                for mac, each in self.suspects.items()
                if self.answered(each) or each.presence.probed_since <= now - ANSWER_WITHIN
            }
        return [each for each in probed.values() if each.confirmed]

    def add(self, suspect: Device) -> None:
        """Count one more that is about to be called offline."""
        if len(self.suspects) < MOST_SUSPECTS:
            self.suspects[suspect.mac] = suspect

    def is_over(self, now: float) -> bool:
        """Return whether it says nothing any more."""
        return now - self.sent_at >= INQUIRY_LASTS

    def answered(self, device: Device) -> bool:
        """Return whether a device was heard since."""
        return device.last_seen >= self.at

    def gateway_answered(self) -> bool:
        """Return whether the gateway answered an ask since: to hear its broadcasts does not say that we are heard."""
        addresses = self.gateway.addresses if self.gateway is not None else ()
        return any(held.answered >= self.at for held in addresses)


class OutageDetector:
    """Inquiries, and the networks that are silent."""

    def __init__(self, rng: Random, budgets: Budgets) -> None:
        self.overflow_at = -inf, -inf
        """When last so much of what was heard was lost that answers may have been: of ARP, and of all else."""
        self.hearing_since = -inf
        """When we last ceased to be blind: asleep, or cut off."""
        self._silent: dict[str, _Outage] = {}
        self._began: deque[float] = deque(maxlen=MOST_REMEMBERED)
        """When networks fell silent."""
        self._recovered: dict[str, float] = {}
        """When a network was last heard again."""
        self._inquiries: dict[str, _Inquiry] = {}
        self._rng = rng
        self._budgets = budgets

    def silent(self, network: str) -> bool:
        """Whether a network is silent."""
        return network in self._silent

    def outage_began_at(self, since: float) -> bool:
        """Return whether a network fell silent at that very moment."""
        return since in self._began

    def ends_with(self, network: str, mac: Mac, now: float) -> bool:
        """Whether what a device just said ends the doubt; when that is over, anybody's word does."""
        silence = self._silent[network]
        return mac in silence.devices or now >= silence.ends

    def end(self, network: str, now: float) -> None:
        """A network is heard again, or is gone."""
        if self._silent.pop(network, None) is not None:
            self._recovered[network] = now

    def start_inquiry(
        self, network: str, device: Device, devices: Iterable[Device], gateway: Device | None, now: float
    ) -> list[Device]:
        """Somebody is about to be called offline: whom to ask, so that we learn whether it is only them."""
        inquiry = self._inquiries.get(network)
        if inquiry is not None and not inquiry.is_over(now):
            inquiry.add(device)
            return []
        looked_at = list(devices)
        if len(looked_at) > SAMPLED:  # a large LAN is judged by some of it, or to look would hold everyone up
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
        to_ask = {each.mac: each for each in (*([gateway] if gateway else ()), *witnesses.values())}
        to_ask.pop(device.mac, None)
        self._inquiries[network] = _Inquiry(
            now, witnesses, {device.mac: device}, sampled, gateway, unsent=set(to_ask), sent_at=now
        )
        return list(to_ask.values())

    def _chosen(self, devices: list[Device], now: float) -> list[Device]:
        """Choose WITNESSES of them, those known for longest before others."""
        oldest = _oldest(devices, now)
        macs = {each.mac for each in oldest}
        others = [each for each in devices if each.mac not in macs]
        chosen = self._rng.sample(oldest, min(len(oldest), WITNESSES))
        return chosen + self._rng.sample(others, min(len(others), WITNESSES - len(chosen)))

    def awaits_answer(self, network: str, mac: Mac) -> bool:
        """Whether a device is asked as a witness, and has not answered yet."""
        inquiry = self._inquiries.get(network)
        if inquiry is None:
            return False
        gateway = inquiry.gateway
        witness = inquiry.witnesses.get(mac) or (gateway if gateway is not None and gateway.mac == mac else None)
        return witness is not None and not inquiry.answered(witness)

    def record_probe_sent(self, network: str, mac: Mac, now: float) -> None:
        """Take that an ask for a device left."""
        inquiry = self._inquiries.get(network)
        if inquiry is not None and mac in inquiry.unsent:
            inquiry.unsent.remove(mac)
            inquiry.sent_at = now

    def exclude_witness(self, network: str, mac: Mac) -> None:
        """Take that a device has no address to be asked at: its silence says nothing."""
        if network in self._inquiries:
            self._inquiries[network].witnesses.pop(mac, None)
            self._inquiries[network].unsent.discard(mac)

    def verdict(self, network: str, device: Device, now: float) -> tuple[Verdict, float, str]:
        """What to make of a device that is due; for WAIT, until when; for NETWORK_SILENT, since when, and why."""
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
        doubted_at = max(device.status_since, device.last_seen)
        if device.status is Status.UNKNOWN and doubted_at < recovered and now - recovered < LONGEST_OUTAGE:
            return Verdict.GONE, now, ""  # it was doubted, the network is heard again: this is its own verdict
        inquiry = self._inquiries.get(network)
        if inquiry is None or inquiry.is_over(now):
            return Verdict.WAIT, now, ""
        inquiry.add(device)
        if inquiry.gateway_answered():
            return Verdict.GONE, now, ""
        if inquiry.judged_at < now:  # once for all verdicts of a moment
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
        reason = f"{len(silent)} of {len(inquiry.probed(now))} devices asked fell silent at once{also}"
        return Verdict.NETWORK_SILENT, inquiry.at, reason

    @staticmethod
    def _silent_of(inquiry: _Inquiry, now: float) -> list[Device]:
        """Return the devices that are silent, if so many are that the network is; else none."""
        probed = inquiry.probed(now)
        silent = [each for each in probed if not inquiry.answered(each)]
        gateway = any(each is inquiry.gateway for each in silent)
        least, share = (AND_THE_GATEWAY, WITH_THE_GATEWAY) if gateway else (LEAST_SILENT, SILENT_SHARE)
        if len(silent) < least or len(silent) < share * len(probed):
            return []
        oldest = _oldest(probed, now)
        return silent if sum(not inquiry.answered(each) for each in oldest) >= share * len(oldest) else []


def _oldest(devices: list[Device], now: float) -> list[Device]:
    """Those that were known for longest: for a day, and half as long as others; or by the same scan as the first."""
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
