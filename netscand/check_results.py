"""Results of checks, for `netscand --check`, `netscanctl doctor` and `netscand-hub doctor`."""

import errno
import os
from collections.abc import Iterable, Mapping

from netscand.protocol import CheckReport, CheckResult

CANNOT_LISTEN = "cannot listen on "
"""Beginning of a problem of the daemon."""
HOW_TO_LISTEN: Mapping[str, str] = {
    os.strerror(errno.EADDRINUSE): "stop the process that listens there (to find it: ss -ltnp), or change [listen] tcp",
    os.strerror(errno.EACCES): "use a port from 1024 on in [listen] tcp; docs/service.md says how to use a lower one",
    os.strerror(
        errno.EADDRNOTAVAIL
    ): "use an address of this host in [listen] tcp (see `ip address`), or 0.0.0.0, [::]",
}
"""Reason why an address cannot be used → what to do."""


def how_to_listen(problem: str) -> str:
    """Return what to do about a text that ends in the reason why an address cannot be used."""
    return HOW_TO_LISTEN.get(problem.rpartition(": ")[2], "change [listen] tcp")


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
