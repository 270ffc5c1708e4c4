"""Results of checks, for `netscand --check`, `netscanctl doctor` and `netscand-hub doctor`."""

from collections.abc import Iterable

from netscand.protocol import CheckReport, CheckResult


def ok(check: str, found: str, hint: str | None = None) -> CheckResult:
    """Return the result of a check that passed."""
    return CheckResult(check=check, verdict="ok", found=found, hint=hint)


def warning(check: str, found: str, hint: str | None = None) -> CheckResult:
    """Return the result if the daemon or the hub works, with restrictions."""
    return CheckResult(check=check, verdict="warning", found=found, hint=hint)


def failed(check: str, found: str, hint: str) -> CheckResult:
    """Return the result if the daemon or the hub cannot work."""
    return CheckResult(check=check, verdict="failed", found=found, hint=hint)


def unknown(check: str, found: str, hint: str) -> CheckResult:
    """Return the result of a check that was not possible, with a hint how to check it."""
    return CheckResult(check=check, verdict="unknown", found=found, hint=hint)


def report(results: Iterable[CheckResult]) -> CheckReport:
    """Run the checks; return all results, and whether none failed."""
    checks = list(results)
    return CheckReport(ok=all(one.verdict != "failed" for one in checks), checks=checks)
