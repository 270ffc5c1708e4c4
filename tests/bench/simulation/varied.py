"""A second generator of traces, written from the table of classes without `life`, so that no rule fits one generator.

It differs where the table leaves a choice. Each device draws its own parameters from ranges.toml. Bursts of loss are
those of the Gilbert-Elliott model: exponential in length, so that there is no longest one. Some wakes send no frame.
The first frame of a join is often not DHCP. Absences have no typical length.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from math import log
from pathlib import Path
from random import Random
from typing import Any

from tests.bench.simulation.life import DAY, Frame, Kind, Says, Site, Span, Trace, merged, within, without

RANGES = Path(__file__).with_name("ranges.toml")


@cache
def ranges() -> dict[str, dict[str, Any]]:
    """Return the table of ranges.toml."""
    return tomllib.loads(RANGES.read_text())


UNIFORM = ("awake", "gone", "restart", "screen")
"""Pairs in ranges.toml that are the parameter itself."""

VARIANTS: tuple[str, ...] = tuple(ranges()["variant"])


def live(variant: str, kind: Kind, site: Site, seed: int, number: int, days: float) -> Trace:
    """Return the life of device `number` of a class at the site of `seed`, with the figures of ranges.toml."""
    random = Random(f"{variant} {seed} {kind.name} {number}")
    return _Device(variant, kind, random, seed, days * DAY).trace()


def drawn(variant: str, random: Random, table: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a device or a site: each pair of numbers becomes one number."""
    least, most = ranges()["variant"][variant]
    return {
        name: value if name in (*UNIFORM, "sleeps") else value[0] + (value[1] - value[0]) * random.uniform(least, most)
        for name, value in table.items()
    }


class _Device:
    def __init__(self, variant: str, kind: Kind, random: Random, seed: int, end: float) -> None:
        self.random = random
        self.end = end
        self.own = drawn(variant, random, {**ranges()["default"], **ranges()["class"][kind.name]})
        self.kind = replace(
            kind, answer=(min(0.002, self.own["slowest"] / 5), self.own["slowest"]), loss=self.own["lost"],
            proxy=self.own["proxy"],
        )  # fmt: skip
        shared = Random(f"{variant} {seed} site")
        common = drawn(variant, shared, ranges()["site"])
        self.restarts = list(_some(shared, 1 / common["restarts_days"], common["restart"], end))
        self.frames: list[Frame] = []
        self.awake: list[Span] = []
        self.deaf: list[Span] = []

    def trace(self) -> Trace:
        own, random, end = self.own, self.random, self.end
        visits = list(self._visits())
        for start, left in visits:
            self._join(start)
            self._stay(start, left)
            if random.random() < own["goodbyes"]:
                self.frames.append(Frame(left - 0.1, Says.GOODBYE))
        for start, until in _some(random, own["false_goodbyes_a_day"], (0.1, 3.0), end):
            self.frames.append(Frame(start - 0.1, Says.GOODBYE))
            self.deaf.append((start, until))
            self._join(until)
        outages = merged([*self.restarts, *_some(random, own["outages_a_day"], (10.0, 60.0), end)])
        for _, until in outages:
            if random.random() < 0.5:
                self._join(until)
        self.deaf += _some(random, own["roams_a_day"], (0.05, 2.0), end)
        self.deaf += self._bad_states()
        reachable = without(visits, outages)
        could = without(reachable, merged(self.deaf))
        asleep = without([(0.0, 2 * end)], merged(self.awake))
        hears = without(could, asleep)
        heard = [one for one in sorted(self.frames) if random.random() >= own["lost"] and within(could, one.at)]
        return Trace(self.kind, end, visits, reachable, hears, could, heard, own["broadcast_lost"])

    def _visits(self) -> Iterator[Span]:
        """Yield when it is there."""
        shortest, longest = self.own["gone"]
        mean_gone = (longest - shortest) / log(longest / shortest)
        mean_stay = DAY / self.own["leaves_a_day"] - mean_gone
        at = 0.0
        while at < self.end:
            brief = self.random.random() < self.own["brief_visits"]
            left = at + (self.random.uniform(20, 120) if brief else self.random.expovariate(1 / mean_stay))
            yield at, left
            at = left + shortest * (longest / shortest) ** self.random.random()

    def _join(self, at: float) -> None:
        """Join at `at`: DHCP and an announcement, perhaps after other frames; awake meanwhile."""
        self.awake.append((at, at + 5))
        if self.random.random() < self.own["frames_first"]:
            self.frames.append(Frame(at + 0.05, Says.SPEECH))
            at += self.random.uniform(0.2, 3)
        # Without an announcement, it asks at least for its gateway.
        says = Says.SPEECH if self.random.random() < self.own["unannounced"] else Says.JOIN
        self.frames += [Frame(at + 0.1, says), Frame(at + 1.1, says)]

    def _stay(self, at: float, left: float) -> None:
        """Be awake and asleep in turn, and say something at times, until it leaves."""
        own, random = self.own, self.random
        if not own["sleeps"]:
            self.awake.append((at, left))
            self._speak(at, left)
            return
        often, rare = own["sleeps"][:-1] or own["sleeps"], own["sleeps"][-1]
        screen_at = at + random.expovariate(1 / own["screen"][1]) if own["screen"] else left
        while at < left:
            until = min(at + random.uniform(*own["awake"]), left)
            if random.random() >= own["wakes_silent"]:
                self.frames.append(Frame(at + random.uniform(0, min(1.0, until - at)), Says.SPEECH))
            if at >= screen_at:
                until = min(at + own["screen"][0], left)
                screen_at = until + random.expovariate(1 / own["screen"][1])
                self._speak(at, until)
            self.awake.append((at, until))
            long = random.random() < own["long_sleeps"]
            _, shortest, longest = rare if long else random.choices(often, [each[0] for each in often])[0]
            at = min(until + random.uniform(shortest, longest), max(screen_at, until + 1.0))

    def _speak(self, at: float, until: float) -> None:
        while self.own["speaks"] and (at := at + self.random.expovariate(1 / self.own["speaks"])) < until:
            self.frames.append(Frame(at, Says.SPEECH))

    def _bad_states(self) -> Iterator[Span]:
        """Yield when nothing passes."""
        share, mean = self.own["bad_share"], self.own["bad_mean"]
        if not share:
            return
        at = 0.0
        while (at := at + self.random.expovariate(share / mean / (1 - share))) < self.end:
            yield at, (at := at + self.random.expovariate(1 / mean))


def _some(random: Random, a_day: float, length: tuple[float, float], end: float) -> Iterator[Span]:
    """Yield disjoint spans that begin at random, `a_day` on average."""
    at = 0.0
    while a_day and (at := at + random.expovariate(a_day / DAY)) < end:
        yield at, (at := at + random.uniform(*length))
