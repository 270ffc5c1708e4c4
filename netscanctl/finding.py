"""What `netscanctl doctor` finds: one thing that the daemon needs, how it is, and how it is mended."""

from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from netscanctl.render import Paint
from netscanctl.text import SENTENCE_LIMIT, clean

Verdict = Literal["ok", "warning", "failed", "unknown"]

MEANING = {"ok": "ok", "warning": "degraded", "failed": "-", "unknown": "unknown"}
"""Verdict → what render.COLOURS knows."""


class Finding(Struct, kw_only=True):
    """`unknown`: it could not be looked at; `mend` then says how it can."""

    check: str
    verdict: Verdict
    found: str
    mend: str | None = None


class Findings(Struct, kw_only=True):
    """All of them: `ok` where nothing failed."""

    ok: bool
    checks: list[Finding]


def good(check: str, found: str, mend: str | None = None) -> Finding:
    """It is as it should be."""
    return Finding(check=check, verdict="ok", found=found, mend=mend)


def odd(check: str, found: str, mend: str | None = None) -> Finding:
    """The daemon works, but not as well as it could."""
    return Finding(check=check, verdict="warning", found=found, mend=mend)


def bad(check: str, found: str, mend: str) -> Finding:
    """The daemon cannot work so."""
    return Finding(check=check, verdict="failed", found=found, mend=mend)


def unseen(check: str, found: str, mend: str | None = None) -> Finding:
    """It could not be looked at."""
    return Finding(check=check, verdict="unknown", found=found, mend=mend)


def collected(found: Iterable[Finding]) -> Findings:
    """All of them."""
    checks = list(found)
    return Findings(ok=all(one.verdict != "failed" for one in checks), checks=checks)


def written(checks: Sequence[Finding], paint: Paint) -> str:
    """One line a finding, and a second one for its mend."""
    wide = max(len(one.check) for one in checks)
    lines = []
    for one in checks:
        verdict = paint(f"{one.verdict:<7}", MEANING[one.verdict])
        lines.append(f"{verdict}  {one.check:<{wide}}  {clean(one.found, SENTENCE_LIMIT)}")
        if one.mend:
            lines.append(f"{'':<7}  {'':<{wide}}  → {clean(one.mend, SENTENCE_LIMIT)}")
    return "\n".join(lines) + "\n"
