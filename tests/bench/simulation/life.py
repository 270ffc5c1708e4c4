"""What a device does in its days: when it is there, awake, cut off, and what it says. One trace serves every rule."""

import tomllib
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from enum import IntEnum
from math import exp, log
from pathlib import Path
from random import Random
from typing import NamedTuple

HOUR = 3600.0
DAY = 24 * HOUR

Span = tuple[float, float]


class Says(IntEnum):
    """What a frame of its own is to us."""

    SPEECH = 0
    JOIN = 1
    GOODBYE = 2


class Frame(NamedTuple):
    """One of its own frames that reached us."""

    at: float
    says: Says


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A class of devices, as parameters.toml describes it."""

    name: str
    bounded: bool
    devices: int
    answer: tuple[float, float]
    loss: float
    broadcast_loss: tuple[float, float]
    burst: tuple[float, float]
    burst_share: float
    answers_unicast: bool
    proxy: float
    speaks: float
    arp: float
    sleeps: list[tuple[float, float, float]]
    awake: tuple[float, float]
    says: float
    screen: tuple[float, float]
    leaves_a_day: float
    absence: tuple[float, float]
    visit_brief: float
    announced: float
    roams_a_day: float
    roam: tuple[float, float]
    outages_a_day: float
    outage: tuple[float, float]
    outage_announced: float
    goodbye: float
    false_goodbyes_a_day: float
    false_goodbye: tuple[float, float]
    wake_announces: float
    woken: float
    access_point: bool


@dataclass(frozen=True, kw_only=True)
class Site:
    """What all devices of one seed share."""

    access_point_restarts_days: float
    access_point_restart: tuple[float, float]
    turn: tuple[float, float]
    scan: float
    quiet_after: float
    quiet_scan: float


@dataclass(frozen=True)
class Parameters:
    """The file."""

    site: Site
    kinds: dict[str, Kind]
    bounds: dict[str, dict[str, float]]


PARAMETERS = Path(__file__).with_name("parameters.toml")


def read(path: Path = PARAMETERS, **changed: float) -> Parameters:
    """The parameters in `path`; `changed` replaces one of every class (`woken=0.3`)."""
    table = tomllib.loads(path.read_text())
    known = {each.name for each in fields(Kind)}
    kinds = {}
    for name, own in table["class"].items():
        if unknown := own.keys() - known:
            raise ValueError(f"class {name}: unknown {sorted(unknown)}")
        kinds[name] = Kind(name=name, **{**table["default"], **own, **changed})
    return Parameters(Site(**table["site"]), kinds, table["bounds"])


@dataclass
class Trace:
    """One device's life, from second 0 to `end`."""

    kind: Kind
    end: float
    visits: list[Span] = field(default_factory=list)
    """When it is there."""
    reachable: list[Span] = field(default_factory=list)
    """When it is there and its link works: an `offline` said now is false."""
    hears: list[Span] = field(default_factory=list)
    """When an ask reaches it, and its answer us."""
    could: list[Span] = field(default_factory=list)
    """The same, were it awake."""
    frames: list[Frame] = field(default_factory=list)
    broadcast_loss: float = 0.0


def within(spans: list[Span], at: float) -> bool:
    """Whether `at` lies in one of the sorted, disjoint `spans`."""
    index = bisect_right(spans, (at, 1e18)) - 1
    return index >= 0 and at < spans[index][1]


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same times, sorted and disjoint."""
    out: list[Span] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def without(spans: list[Span], holes: list[Span]) -> list[Span]:
    """`spans` with the `holes` cut out; both sorted and disjoint."""
    out: list[Span] = []
    first = 0
    for begin, end in spans:
        start = begin
        while first < len(holes) and holes[first][1] <= start:
            first += 1
        index = first
        while index < len(holes) and holes[index][0] < end:
            if holes[index][0] > start:
                out.append((start, holes[index][0]))
            start = max(start, holes[index][1])
            index += 1
        if start < end:
            out.append((start, end))
    return out


def scattered(random: Random, a_day: float, length: Span, end: float) -> list[Span]:
    """Spans that begin by chance, so many a day."""
    out: list[Span] = []
    at = 0.0
    while a_day > 0 and (at := at + random.expovariate(a_day / DAY)) < end:
        out.append((at, at + random.uniform(*length)))
    return merged(out)


def restarts(site: Site, seed: int, end: float) -> list[Span]:
    """When the access point of this site is away."""
    return scattered(Random(f"{seed} site"), 1 / site.access_point_restarts_days, site.access_point_restart, end)


def live(kind: Kind, site: Site, seed: int, number: int, days: float) -> Trace:
    """The life of device `number` of its class at the site of `seed`."""
    random = Random(f"{seed} {kind.name} {number}")
    trace = Trace(kind, days * DAY)
    trace.broadcast_loss = random.uniform(*kind.broadcast_loss)
    trace.visits = _visits(kind, random, trace.end)
    outages = scattered(random, kind.outages_a_day, kind.outage, trace.end)
    if kind.access_point:
        outages = merged([*outages, *restarts(site, seed, trace.end)])
    trace.reachable = without(trace.visits, outages)

    said: list[Frame] = []
    awake = _awake(kind, random, trace.visits, said)
    for start, end in trace.visits:
        # Twice, 2 s apart: an announcement (RFC 5227 2.3), or at least its asking for the gateway.
        says, at = Says.JOIN if random.random() < kind.announced else Says.SPEECH, start + random.uniform(0.05, 0.5)
        said += [Frame(at, says), Frame(at + 2, says)]
        if random.random() < kind.goodbye:
            said.append(Frame(end - 0.05, Says.GOODBYE))
    for _, end in outages:
        if random.random() < kind.outage_announced:
            said.append(Frame(end + random.uniform(0.05, 2), Says.JOIN))
    deaf = scattered(random, kind.roams_a_day, kind.roam, trace.end)
    for start, end in scattered(random, kind.false_goodbyes_a_day, kind.false_goodbye, trace.end):
        said.append(Frame(start - 0.01, Says.GOODBYE))
        deaf.append((start, end))
        if random.random() < kind.announced:
            said.append(Frame(end + 0.05, Says.JOIN))
    if kind.burst_share:
        length = sum(kind.burst) / 2
        deaf += scattered(random, DAY * kind.burst_share / length / (1 - kind.burst_share), kind.burst, trace.end)
    trace.could = without(trace.reachable, merged(deaf))
    # A device that announces itself is awake.
    awake = merged([*awake, *((one.at - 0.1, one.at + 3) for one in said if one.says is Says.JOIN)])
    trace.hears = _common(trace.could, awake)
    trace.frames = [one for one in sorted(said) if random.random() >= kind.loss and within(trace.could, one.at)]
    return trace


def _visits(kind: Kind, random: Random, end: float) -> list[Span]:
    median, sigma = kind.absence
    stays = DAY / kind.leaves_a_day - median * exp(sigma**2 / 2)
    if stays <= 0:
        raise ValueError(f"class {kind.name}: its absences are longer than its days")
    at, out = 0.0, []
    while at < end:
        brief = random.random() < kind.visit_brief
        length = random.uniform(20, 120) if brief else random.expovariate(1 / stays)
        out.append((at, at + length))
        at += length + min(max(random.lognormvariate(log(median), sigma), 20.0), 3 * DAY)
    return out


def _awake(kind: Kind, random: Random, visits: list[Span], said: list[Frame]) -> list[Span]:
    """When it is awake while it is there; what it says by itself goes to `said`."""
    if not kind.sleeps:
        for visit in visits:
            _speak(kind.speaks, random, visit, said)
        return visits
    shares = [share for share, _, _ in kind.sleeps]
    out: list[Span] = []
    for start, end in visits:
        at = start
        while at < end:
            until = min(at + random.uniform(*kind.awake), end)
            out.append((at, until))
            if random.random() < kind.says:
                says = Says.JOIN if random.random() < kind.wake_announces else Says.SPEECH
                said.append(Frame(at + random.uniform(0, min(1.0, until - at)), says))
            _, least, most = random.choices(kind.sleeps, shares)[0]
            at = until + random.uniform(least, most)
        length, every = kind.screen
        at = start
        while length and (at := at + random.expovariate(1 / (every - length))) < end:
            on = (at, min(at + length, end))
            out.append(on)
            _speak(kind.speaks, random, on, said)
            at += length
    return merged(out)


def _speak(every: float, random: Random, span: Span, said: list[Frame]) -> None:
    at = span[0]
    while every and (at := at + random.expovariate(1 / every)) < span[1]:
        said.append(Frame(at, Says.SPEECH))


def _common(one: list[Span], other: list[Span]) -> list[Span]:
    """The times in both; each sorted and disjoint."""
    out: list[Span] = []
    left = right = 0
    while left < len(one) and right < len(other):
        start, end = max(one[left][0], other[right][0]), min(one[left][1], other[right][1])
        if start < end:
            out.append((start, end))
        if one[left][1] < other[right][1]:
            left += 1
        else:
            right += 1
    return out
