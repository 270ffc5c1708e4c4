"""Run the trial: `python -m tests.bench.simulation --seeds 101-104 --days 17`."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from math import isnan, sqrt
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

from tests.bench.simulation import life, varied
from tests.bench.simulation.figures import Figures, best_fixed, judge, quantile
from tests.bench.simulation.life import Kind, Parameters, Site, Trace
from tests.bench.simulation.rules import OTHERS, Rule, ours

Results = dict[str, dict[str, Figures]]
"""By class and rule."""

GENERATORS = ("life", *varied.VARIANTS)


def classes(parameters: Parameters, generator: str) -> list[str]:
    """Return the names of the classes that a generator knows."""
    return [name for name in parameters.kinds if generator == "life" or name in varied.ranges()["class"]]


def lives(generator: str) -> Callable[[Kind, Site, int, int, float], Trace]:
    """Return the function that makes the traces of a generator."""
    return life.live if generator == "life" else partial(varied.live, generator)


def trial(
    parameters: Parameters, kind: str, seed: int, days: float, others: bool, generator: str = "life"
) -> dict[str, Figures]:
    """All devices of a class at one site, under each rule."""
    live = lives(generator)
    rules: dict[str, Rule] = {"netscand": ours, **(OTHERS if others else {})}
    out = {name: Figures() for name in rules}
    for number in range(parameters.kinds[kind].devices):
        trace = live(parameters.kinds[kind], parameters.site, seed, number, days)
        for name, rule in rules.items():
            out[name] += judge(trace, rule(trace, parameters.site, Random(f"{seed} {kind} {number} {name}")))
    return out


def summary(figures: Figures) -> dict[str, float]:
    """The figures as they are reported. Rates a day are of device-days present, delays in seconds."""
    days = figures.days or float("nan")
    hours = figures.hours or float("nan")
    return {
        "device_days": figures.days,
        "false": figures.false,
        "false_a_day": figures.false / days,
        "false_a_day_95": poisson_95(figures.false) / days,
        "false_first_day": figures.false_first_day / (figures.devices or float("nan")),
        "cut_off_a_day": figures.cut_off / days,
        "shown_offline": figures.shown_offline / life.DAY / days,
        "delay_p50": quantile(figures.delays, 0.5),
        "delay_p90": quantile(figures.delays, 0.9),
        "delay_p99": quantile(figures.delays, 0.99),
        "leaves": len(figures.delays),
        "unnoticed": figures.unnoticed,
        "short_noticed": figures.short_noticed / figures.short if figures.short else float("nan"),
        "missed_visits": figures.missed / figures.visits if figures.visits else 0.0,
        "unicast_an_hour": figures.unicast / hours,
        "broadcast_an_hour": figures.broadcast / hours,
        "unicast_worst_hour": figures.unicast_worst,
        "broadcast_worst_hour": figures.broadcast_worst,
        "patient_worst_hour": figures.patient_worst,
    }


def poisson_95(count: int) -> float:
    """What the true mean of `count` exceeds with 5 % chance at most (Wilson and Hilferty's approximation)."""
    many = count + 1
    root: float = 1 - 1 / (9 * many) + 1.645 / (3 * sqrt(many))
    return many * root**3


def checks(parameters: Parameters, results: Results) -> Iterator[tuple[str, str, float, float]]:
    """Each bound: class, what, the figure, the bound."""
    every = parameters.bounds["every"]
    for kind, by_rule in results.items():
        mine = summary(by_rule["netscand"])
        own = parameters.bounds.get(kind, {})
        for what in ("false_a_day", "shown_offline", "delay_p50", "delay_p99", "false_first_day"):
            if what in own:
                yield kind, what, mine[what], own[what]
        patience, delays = best_fixed(by_rule["netscand"])
        for what, share in (("fixed_p50", 0.5), ("fixed_p99", 0.99)):
            least = quantile(delays, share)
            yield kind, f"{what} of {patience:.1f} s", mine[f"delay_{what[-3:]}"] / least, own.get(what, every[what])
        yield kind, "missed_visits", mine["missed_visits"], every["missed_visits"]
        yield kind, "unicast_an_hour", mine["unicast_worst_hour"], every["unicast_an_hour"]
        if parameters.kinds[kind].answers_unicast:
            yield kind, "broadcast_an_hour", mine["broadcast_an_hour"], every["broadcast_an_hour"]
        else:
            yield kind, "broadcast_an_hour", mine["broadcast_worst_hour"], every["broadcast_an_hour_deaf"]
        yield kind, "unicast, patient", mine["patient_worst_hour"], every["unicast_an_hour_patient"]
        for name, figures in by_rule.items():
            theirs = summary(figures)
            compared = name != "netscand" and parameters.kinds[kind].bounded
            if compared and theirs["false"] and theirs["shown_offline"] <= 0.1:
                bound = theirs["false_a_day"] * every["others_false"]
                yield kind, f"false beside {name}", mine["false_a_day"], bound
                yield kind, f"p50 beside {name}", mine["delay_p50"], theirs["delay_p50"]


def table(results: Results) -> str:
    """The figures as lines."""
    lines = [
        f"{'':9}{'':15}{'days':>7}{'false/d':>9}{'≤ 95 %':>9}{'1st day':>8}{'shown off':>10}{'p50':>7}{'p90':>7}"
        f"{'p99':>7}{'leaves':>7}{'short':>7}{'missed':>8}{'uni/h':>7}{'bro/h':>7}{'cut/d':>7}"
    ]
    for kind, by_rule in results.items():
        for name, figures in by_rule.items():
            row = summary(figures)
            lines.append(
                f"{kind:9}{name:15}{row['device_days']:7.0f}{row['false_a_day']:9.4f}{row['false_a_day_95']:9.4f}"
                f"{row['false_first_day']:8.2f}{row['shown_offline']:10.3%}{row['delay_p50']:7.1f}{row['delay_p90']:7.1f}"
                f"{row['delay_p99']:7.1f}{row['leaves']:7.0f}{row['short_noticed']:7.0%}{row['missed_visits']:8.2%}"
                f"{row['unicast_an_hour']:7.1f}{row['broadcast_an_hour']:7.2f}{row['cut_off_a_day']:7.3f}"
            )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run, print the table and each bound; 1 if one is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.simulation", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seeds", default="501-502", help="one, or FIRST-LAST; tuned on 1-40, so report on others")
    parser.add_argument("--days", type=float, default=17.0)
    parser.add_argument("--classes", default="", help="comma-separated; all by default")
    parser.add_argument("--generator", choices=GENERATORS, default="life", help="of the traces")
    parser.add_argument("--woken", type=float, help="chance that a probe wakes a sleeper")
    parser.add_argument("--alone", action="store_true", help="without the rules of others")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write everything there")
    wish = parser.parse_args(argv)
    first, _, last = wish.seeds.partition("-")
    parameters = life.read(**({} if wish.woken is None else {"woken": wish.woken}))
    kinds = wish.classes.split(",") if wish.classes else classes(parameters, wish.generator)
    began = perf_counter()
    results: Results = {kind: {} for kind in kinds}
    work = [(kind, seed) for seed in range(int(first), int(last or first) + 1) for kind in kinds]
    with ProcessPoolExecutor(wish.jobs) as pool:
        waiting = [
            pool.submit(trial, parameters, kind, seed, wish.days, not wish.alone, wish.generator) for kind, seed in work
        ]
        for (kind, _), future in zip(work, waiting, strict=True):
            for name, figures in future.result().items():
                results[kind][name] = results[kind].get(name, Figures()) + figures
    print(table(results))
    failed = 0
    told: list[dict[str, Any]] = []
    for kind, what, figure, bound in checks(parameters, results):
        good = isnan(figure) or figure <= bound
        failed += not good
        print(f"{'pass' if good else 'FAIL'}  {kind:9}{what:32}{figure:10.4g} ≤ {bound:.4g}")
        told.append({"class": kind, "bound": what, "figure": figure, "most": bound, "met": good})
    print(f"{len(told) - failed} of {len(told)} bounds met, in {perf_counter() - began:.0f} s")
    if wish.json:
        sums = {kind: {name: summary(one) for name, one in by.items()} for kind, by in results.items()}
        wish.json.write_text(json.dumps({"seeds": wish.seeds, "days": wish.days, "classes": sums, "bounds": told}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
