"""Results of the checks of `netscanctl doctor`."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from netscanctl.render import Paint
from netscanctl.text import SENTENCE_LIMIT, clean
from netscand.checkout import for_checkout
from netscand.protocol import CheckReport, CheckResult

COLOUR_KEYS = {"ok": "ok", "warning": "degraded", "failed": "-", "unknown": "unknown"}
"""Verdict → key of render.COLOURS."""


def ok(check: str, found: str, hint: str | None = None) -> CheckResult:
    """Return the result of a check that passed."""
    return CheckResult(check=check, verdict="ok", found=found, hint=hint)


def warning(check: str, found: str, hint: str | None = None) -> CheckResult:
    """Return the result for a daemon that works, with restrictions."""
    return CheckResult(check=check, verdict="warning", found=found, hint=hint)


def failed(check: str, found: str, hint: str) -> CheckResult:
    """Return the result for a daemon that cannot work."""
    return CheckResult(check=check, verdict="failed", found=found, hint=hint)


def unknown(check: str, found: str, hint: str) -> CheckResult:
    """Return the result of a check that was not possible, with a hint how to check it."""
    return CheckResult(check=check, verdict="unknown", found=found, hint=hint)


def collect(results: Iterable[CheckResult]) -> CheckReport:
    """Run the checks; return all results."""
    checks = [replace(one, hint=for_checkout(one.hint)) if one.hint else one for one in results]
    return CheckReport(ok=all(one.verdict != "failed" for one in checks), checks=checks)


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
