"""Checks of this host for `netscanctl doctor`: those of `netscand --check`, and the clock."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from netscand import protocol
from netscand.check_results import ok, unknown, warning
from netscand.protocol import CheckReport, CheckResult

INSTALLATION = Path(protocol.__file__).parents[1]
"""Folder that netscand is imported from. `-m` searches it first: not the user's folder, which may hold another one."""
TIMEOUT = 60.0
"""Seconds that the checks may take, on a slow card."""
TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""


def run_checks(config: str | None) -> Iterator[CheckResult]:
    """Run `netscand --check` of the installation that this netscanctl belongs to."""
    argv = [sys.executable, "-m", "netscand", "--check"]
    if config is not None:
        argv += ["--config", os.path.abspath(config)]
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and the file is one argument
            argv, cwd=INSTALLATION, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        yield from msgspec.json.decode(done.stdout, type=CheckReport).checks
    except (OSError, subprocess.TimeoutExpired) as error:
        yield _not_run(str(error))
    except msgspec.DecodeError:  # nothing was printed: it is not installed, or it failed
        (*_, last) = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        yield _not_run(last.removeprefix(f"{sys.executable}: "))


def _not_run(reason: str) -> CheckResult:
    found = f"cannot run netscand --check, so this host was not checked: {reason}"
    return unknown("versions", found, f"install netscand and netscanctl together (here: {INSTALLATION})")


def check_clock() -> CheckResult:
    """Check that the clock is synchronised. Presence does not depend on it, the displayed times do."""
    timex = ctypes.create_string_buffer(512)  # all zero: read only
    state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    if state == TIME_ERROR:
        return warning("clock", "not synchronised by NTP", "timedatectl set-ntp true; presence does not depend on it")
    if state < 0:
        return unknown("clock", f"cannot read the clock state: {os.strerror(ctypes.get_errno())}", "see `timedatectl`")
    return ok("clock", "synchronised by NTP")
