"""On what the figures were made: machine, kernel, and the versions of everything that took part."""

import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

from tests.lab.spaces import ROOT

PACKAGES = ("aiohttp", "msgspec", "scapy", "pyroute2", "websockets")


def surroundings() -> dict[str, str]:
    """Name → version, or a word on what is missing."""
    found = {
        "commit": _first_line(
            "git", "-C", str(ROOT), "-c", f"safe.directory={ROOT}", "describe", "--always", "--dirty"
        ),
        "python": sys.version.split()[0],
        "kernel": platform.release(),
        "processor": f"{os.cpu_count()} × {_processor()}",
        "load": f"{os.getloadavg()[0]:.1f}",
        "arp-scan": _first_line("arp-scan", "--version").removeprefix("arp-scan "),
        "nmap": _first_line("nmap", "--version").removeprefix("Nmap version ").split(" ")[0],
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _first_line(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "not installed"
    return (done.stdout or done.stderr).strip().split("\n")[0]


def _processor() -> str:
    with open("/proc/cpuinfo") as file:
        found = re.search(r"^(?:model name|Processor)\s*: (.*)$", file.read(), re.MULTILINE)
    return found[1] if found else platform.machine()
