"""The simulation in short: some days of each class as a regression test. The bounds need more (`./dev bench`)."""

from functools import cache
from itertools import pairwise
from random import Random

import pytest

from tests.bench.simulation import life
from tests.bench.simulation.__main__ import GENERATORS, checks, classes, lives, main, summary, trial
from tests.bench.simulation.figures import Figures, best_fixed, judge, quantile
from tests.bench.simulation.life import DAY, Frame, Kind, Says, Trace, merged, within, without
from tests.bench.simulation.rules import OTHERS, ours

PARAMETERS = life.read()
BOUNDED = [name for name, kind in PARAMETERS.kinds.items() if kind.bounded]


@cache
def short(name: str, generator: str) -> Figures:
    """Two sites of a class, five days each, under our rule."""
    out = Figures()
    for seed in (301, 302):
        out += trial(PARAMETERS, name, seed, 5.0, others=False, generator=generator)["netscand"]
    return out


@pytest.mark.parametrize("name", BOUNDED)
@pytest.mark.parametrize("generator", ["life", "harsher"])
def test_the_owners_bounds_hold_in_short(name: str, generator: str) -> None:
    """The few that a few device-days can show: delays, frames, the first day, and no more than a false word or two."""
    figures, bounds, every = summary(short(name, generator)), PARAMETERS.bounds[name], PARAMETERS.bounds["every"]
    assert figures["device_days"] > 3
    assert figures["false"] <= max(1, 2 * bounds["false_a_day"] * figures["device_days"])
    assert figures["false_first_day"] <= bounds["false_first_day"]
    assert figures["unicast_worst_hour"] <= every["unicast_an_hour"]
    assert figures["patient_worst_hour"] <= every["unicast_an_hour_patient"]
    assert figures["broadcast_an_hour"] <= every["broadcast_an_hour"]
    assert figures["missed_visits"] <= every["missed_visits"]
    if figures["leaves"]:
        assert figures["delay_p50"] <= bounds["delay_p50"]
        assert figures["delay_p99"] <= bounds["delay_p99"]


def test_sleepers_with_silent_wakes_are_seldom_offline() -> None:
    """Issue 13, item 7: these phones send no frame at 15 to 30 % of their wakes. A margin of 1.4 was false 4 times."""
    figures = Figures()
    for seed in (13, 16):
        figures += trial(PARAMETERS, "phone", seed, 13.0, others=False, generator="harsher")["netscand"]
    assert figures.days > 50
    assert figures.false <= PARAMETERS.bounds["phone"]["false_a_day"] * figures.days


def test_a_seed_tells_the_same_story_again() -> None:
    """What is reported can be repeated."""
    kind = PARAMETERS.kinds["phone"]
    one, other = (life.live(kind, PARAMETERS.site, 7, 3, 1.0) for _ in range(2))
    assert one == other
    assert ours(one, PARAMETERS.site, Random(1)) == ours(other, PARAMETERS.site, Random(1))
    assert one != life.live(kind, PARAMETERS.site, 8, 3, 1.0)


@pytest.mark.parametrize(
    ("generator", "kind"),
    [(generator, PARAMETERS.kinds[name]) for generator in GENERATORS for name in classes(PARAMETERS, generator)],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_trace_keeps_its_own_laws(generator: str, kind: Kind) -> None:
    """Who is heard is there; who hears could; spans are sorted and disjoint."""
    trace = lives(generator)(kind, PARAMETERS.site, 5, 0, 3.0)
    for spans in (trace.visits, trace.reachable, trace.hears, trace.could):
        assert all(start < end for start, end in spans)
        assert all(before[1] < after[0] for before, after in pairwise(spans))
    assert without(trace.reachable, trace.visits) == without(trace.hears, trace.could) == []
    assert all(within(trace.could, frame.at) for frame in trace.frames)
    assert [frame.at for frame in trace.frames] == sorted(frame.at for frame in trace.frames)


def test_spans() -> None:
    assert merged([(5, 6), (1, 3), (2, 4)]) == [(1, 4), (5, 6)]
    assert without([(0, 10), (20, 30)], [(2, 3), (5, 22), (29, 40)]) == [(0, 2), (3, 5), (22, 29)]
    assert within([(0, 2), (3, 5)], 4) and not within([(0, 2), (3, 5)], 2)


def _wired(*visits: life.Span, days: float = 5.0) -> Trace:
    """A device that answers each ask, is there in `visits`, and says what it must."""
    kind = life.read(loss=0.0, false_goodbyes_a_day=0.0).kinds["wired"]
    frames = [Frame(start + 0.1, Says.JOIN) for start, _ in visits]
    spans = list(visits)
    return Trace(kind, days * DAY, spans, spans, spans, spans, frames)


def test_the_figures_are_those_of_the_story() -> None:
    """One leave of two hours, one absence of five minutes, one visit of half a minute: counted as such."""
    start = 3 * DAY + 3600
    trace = _wired(
        (0.0, start), (start + 7200, start + 7230), (start + 9000, start + 12_000), (start + 12_300, 6 * DAY)
    )
    figures = judge(trace, ours(trace, PARAMETERS.site, Random(3)))
    assert (figures.false, figures.false_first_day, figures.cut_off, figures.missed) == (0, 0, 0, 0)
    assert (len(figures.delays), figures.short, figures.short_noticed, figures.visits) == (1, 1, 1, 2)
    assert 0 < figures.delays[0] < 15
    assert figures.shown_offline < 2
    patience, delays = best_fixed(figures)
    assert patience < 15
    assert len(delays) == 1


def test_every_false_word_counts() -> None:
    """A device that cannot be heard for an hour, and is there: one false word, and an hour shown offline."""
    trace = _wired((0.0, 6 * DAY))
    hole = (4 * DAY, 4 * DAY + 3600)
    trace.hears = without(trace.hears, [hole])
    figures = judge(trace, ours(trace, PARAMETERS.site, Random(3)))
    assert figures.false == 1
    assert 3500 < figures.shown_offline < 3700
    trace.reachable = without(trace.reachable, [hole])
    figures = judge(trace, ours(trace, PARAMETERS.site, Random(3)))
    assert (figures.false, figures.cut_off) == (0, 1)


def test_an_absence_that_nobody_notices_is_no_short_delay() -> None:
    """A rule that never says *offline* is as late as can be."""
    trace = _wired((0.0, 3.5 * DAY), (4 * DAY, 5 * DAY))
    said = ours(trace, PARAMETERS.site, Random(3))
    said.changes = said.changes[:1]
    figures = judge(trace, said)
    assert figures.unnoticed == 1
    assert figures.delays == [DAY / 2]


@pytest.mark.parametrize(("name", "delay", "frames"), [
    ("NetAlertX", (0, 320), (0, 12)), ("WatchYourLAN", (0, 190), (0, 24)), ("Home Assistant", (240, 370), (0, 30)),
    ("houserat", (55, 85), (180, 0)), ("LanLens", (600, 905), (0, 12)),
])  # fmt: skip
def test_the_rules_of_others_take_their_time_and_frames(
    name: str, delay: tuple[float, float], frames: tuple[int, int]
) -> None:
    """PEERS has how each decides. The frames are the unicasts and broadcasts an hour to one that always answers."""
    told = []
    for seed in range(20):
        trace = _wired((0.0, 3.5 * DAY), days=4)
        figures = judge(trace, OTHERS[name](trace, PARAMETERS.site, Random(seed)))
        assert figures.false == 0
        hours = figures.hours
        assert (figures.unicast / hours, figures.broadcast / hours) == pytest.approx(frames, rel=0.03)
        told += figures.delays
    assert len(told) == 20
    assert delay[0] <= min(told)
    assert max(told) <= delay[1]
    assert max(told) - min(told) > (delay[1] - delay[0]) / 3


def test_each_bound_can_be_missed() -> None:
    """The checks are no ornament: figures that are bad all over fail all over."""
    bad = Figures(devices=1, days=1.0, false=9, false_first_day=99, shown_offline=9e4, delays=[9e3], last_heard=[0.0])
    bad += Figures(visits=9, missed=9, unicast_worst=999, broadcast=9999, hours=1.0, patient_worst=99)
    told = list(checks(PARAMETERS, {"wired": {"netscand": bad, "houserat": Figures(days=1.0, false=1, delays=[60.0])}}))
    assert {what.partition(" of ")[0] for _, what, _, _ in told} == {
        "false_a_day", "shown_offline", "delay_p50", "delay_p99", "false_first_day", "fixed_p50", "fixed_p99",
        "missed_visits", "unicast_an_hour", "broadcast_an_hour", "unicast, patient", "false beside houserat",
        "p50 beside houserat",
    }  # fmt: skip
    assert all(figure > bound for _, _, figure, bound in told)


def test_the_command_tells_and_judges(capsys: pytest.CaptureFixture[str]) -> None:
    """A table, a line for each bound, and an exit code."""
    assert main(["--seeds", "303", "--days", "4", "--classes", "proxied", "--alone"]) in (0, 1)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("proxied  netscand") for line in lines)
    assert any(line.startswith(("pass  proxied", "FAIL  proxied")) for line in lines)
    assert "bounds met" in lines[-1]


def test_quantiles() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([float(each) for each in range(100)], 0.99) == 99.0
