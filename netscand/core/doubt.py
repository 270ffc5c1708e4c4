"""Whether it is they who fell silent, or us (law 8).

Before somebody is called offline, the others are asked too. Where hardly anyone answers, it is the network that fell
silent: its devices are `unknown` until the first answer, or for ten minutes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from random import Random

from netscand.core.model import Device, Mac, Network, NetworkState, Status

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
"""Devices looked at for witnesses at most."""

ANSWER_WITHIN = 1.5
"""Seconds that the witnesses have."""

ASKED_ANEW = 10.0
"""Seconds after which an inquiry says nothing any more."""

LONGEST = 600.0
"""Seconds of doubt, after which silence is taken for what it is."""


def blindness(networks: Iterable[Network]) -> list[str]:
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
class _Silence:
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

    def asked(self) -> list[Device]:
        """Whose silence says something: anybody can speak once by 80 made-up names, and never again."""
        asked = self.witnesses if self.sampled else self.witnesses | self.suspects
        return [each for each in asked.values() if each.confirmed]


class Doubt:
    """Inquiries, and the networks that are silent."""

    def __init__(self, rng: Random) -> None:
        self.deaf_at = -inf, -inf
        """When last so much of what was heard was lost that answers may have been: of ARP, and of all else."""
        self.heard_again = -inf
        """When we last ceased to be blind: asleep, or cut off."""
        self._silent: dict[str, _Silence] = {}
        self._recovered: dict[str, float] = {}
        """When a network was last heard again."""
        self._inquiries: dict[str, _Inquiry] = {}
        self._rng = rng

    def silent(self, network: str) -> bool:
        """Whether a network is silent."""
        return network in self._silent

    def ends_by(self, network: str, mac: Mac, now: float) -> bool:
        """Whether what a device just said ends the doubt; when that is over, anybody's word does."""
        silence = self._silent[network]
        return mac in silence.devices or now >= silence.ends

    def end(self, network: str, now: float) -> None:
        """A network is heard again, or is gone."""
        if self._silent.pop(network, None) is not None:
            self._recovered[network] = now

    def suspect(self, network: str, device: Device, devices: Iterable[Device], now: float) -> list[Device]:
        """Somebody is about to be called offline: whom to ask, so that we learn whether it is only them."""
        inquiry = self._inquiries.get(network)
        if inquiry is not None and now - inquiry.at < ASKED_ANEW:
            inquiry.suspects[device.mac] = device
            return []
        devices = list(devices)
        if len(devices) > SAMPLED:  # a large LAN is judged by some of it, or the looking itself would hold everyone up
            devices = self._rng.sample(devices, SAMPLED)
        there = [
            each
            for each in devices
            if each.status is not Status.OFFLINE and each.confirmed and not each.is_self and each is not device
        ]
        able = [each for each in there if each.presence.patience <= WITNESS_PATIENCE]
        if sampled := len(able) > WITNESSES:
            able = self._rng.sample(able, WITNESSES) + [each for each in able if each.is_gateway]
        witnesses = {each.mac: each for each in able}
        self._inquiries[network] = _Inquiry(now, witnesses, {device.mac: device}, sampled)
        return list(witnesses.values())

    def asks(self, network: str, mac: Mac) -> bool:
        """Whether a device is asked as a witness, and has not answered yet."""
        inquiry = self._inquiries.get(network)
        witness = inquiry.witnesses.get(mac) if inquiry else None
        return inquiry is not None and witness is not None and witness.last_seen < inquiry.at

    def verdict(self, network: str, device: Device, now: float) -> tuple[Verdict, float, str]:
        """What to make of a device that is due; for WAIT, until when; for NETWORK_SILENT, the reason."""
        silence = self._silent.get(network)
        if silence is not None:
            return (Verdict.WAIT, silence.ends, "") if now < silence.ends else (Verdict.GONE, now, "")
        presence, deaf_at = device.presence, self.deaf_at[device.ip is not None and len(device.ip) == 16]
        if presence.since < deaf_at and now < max(device.last_seen, self.heard_again) + LONGEST + presence.patience:
            presence.excuse(deaf_at)
            return Verdict.WAIT, max(presence.next_at, now + 0.1), ""
        recovered = self._recovered.get(network, -LONGEST)
        if device.status is Status.UNKNOWN and device.status_since < recovered and now - recovered < LONGEST:
            return Verdict.GONE, now, ""  # it was doubted, the network is heard again: this is its own verdict
        inquiry = self._inquiries.get(network)
        if inquiry is None or now - inquiry.at >= ASKED_ANEW:
            return Verdict.WAIT, now, ""
        inquiry.suspects[device.mac] = device
        asked = inquiry.asked()
        total = len(asked)
        if now < inquiry.at + ANSWER_WITHIN and total >= AND_THE_GATEWAY:
            return Verdict.WAIT, inquiry.at + ANSWER_WITHIN, ""
        silent = [each for each in asked if each.last_seen < inquiry.at]
        count = len(silent)
        gateway = any(each.is_gateway for each in silent)
        all_silent = count >= LEAST_SILENT and count >= SILENT_SHARE * total
        if all_silent or (gateway and count >= AND_THE_GATEWAY and count >= WITH_THE_GATEWAY * total):
            del self._inquiries[network]
            self._silent[network] = _Silence(now + LONGEST, frozenset(each.mac for each in silent))
            also = ", the gateway among them" if gateway else ""
            return Verdict.NETWORK_SILENT, now, f"{count} of {total} devices asked fell silent at once{also}"
        return Verdict.GONE, now, ""
