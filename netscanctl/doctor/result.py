"""Results of the checks of `netscanctl doctor`."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from netscanctl.render import Paint
from netscanctl.text import SENTENCE_LIMIT, clean
from netscand.check_results import report
from netscand.checkout import for_checkout
from netscand.protocol import CheckReport, CheckResult

COLOUR_KEYS = {"ok": "ok", "warning": "degraded", "failed": "-", "unknown": "unknown"}
"""Verdict → key of render.COLOURS."""


def collect(results: Iterable[CheckResult]) -> CheckReport:
    """Run the checks; return all results, with hints that work here."""
    return report(replace(one, hint=for_checkout(one.hint)) if one.hint else one for one in results)


def format_results(checks: Sequence[CheckResult], paint: Paint) -> str:
    """Return one line per result, and a second one for its hint."""
    widest = max(len(one.check) for one in checks)
    lines = []
    for one in checks:
        verdict = paint(f"{one.verdict:<7}", COLOUR_KEYS[one.verdict])
        lines.append(f"{verdict}  {one.check:<{widest}}  {clean(one.found, SENTENCE_LIMIT)}")
        if one.hint:
            lines.append(f"{'':<7}  {'':<{widest}}  → {clean(one.hint, SENTENCE_LIMIT)}")
    return "\n".join(lines) + "\n"
