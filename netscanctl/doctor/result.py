"""Results of the checks of `netscanctl doctor`."""

from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from netscanctl.render import Paint
from netscanctl.text import SENTENCE_LIMIT, clean

Verdict = Literal["ok", "warning", "failed", "unknown"]

COLOUR_KEYS = {"ok": "ok", "warning": "degraded", "failed": "-", "unknown": "unknown"}
"""Verdict → key of render.COLOURS."""


class Finding(Struct, kw_only=True, rename={"hint": "mend"}):
    """Result of one check; `unknown` if the check was not possible. `hint` says what to do."""

    check: str
    verdict: Verdict
    found: str
    hint: str | None = None


class Findings(Struct, kw_only=True):
    """Output of `doctor --json`; `ok` unless a check failed."""

    ok: bool
    checks: list[Finding]


def ok(check: str, found: str, hint: str | None = None) -> Finding:
    """Return the result of a check that passed."""
    return Finding(check=check, verdict="ok", found=found, hint=hint)


def warning(check: str, found: str, hint: str | None = None) -> Finding:
    """Return the result for a daemon that works, with restrictions."""
    return Finding(check=check, verdict="warning", found=found, hint=hint)


def failed(check: str, found: str, hint: str) -> Finding:
    """Return the result for a daemon that cannot work."""
    return Finding(check=check, verdict="failed", found=found, hint=hint)


def unknown(check: str, found: str, hint: str | None = None) -> Finding:
    """Return the result of a check that was not possible."""
    return Finding(check=check, verdict="unknown", found=found, hint=hint)


def collect(found: Iterable[Finding]) -> Findings:
    """Run the checks; return all results."""
    checks = list(found)
    return Findings(ok=all(one.verdict != "failed" for one in checks), checks=checks)


def format_findings(checks: Sequence[Finding], paint: Paint) -> str:
    """Return one line per result, and a second one for its hint."""
    widest = max(len(one.check) for one in checks)
    lines = []
    for one in checks:
        verdict = paint(f"{one.verdict:<7}", COLOUR_KEYS[one.verdict])
        lines.append(f"{verdict}  {one.check:<{widest}}  {clean(one.found, SENTENCE_LIMIT)}")
        if one.hint:
            lines.append(f"{'':<7}  {'':<{widest}}  → {clean(one.hint, SENTENCE_LIMIT)}")
    return "\n".join(lines) + "\n"
