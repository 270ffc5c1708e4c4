"""The rules of core/kinds.py on real devices (data/kinds.toml): right, wrong, silent.

`.venv/bin/python -m tests.core.trial_kinds` prints the figures.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from netscand.core.kind_rules import MORE_EXACT
from netscand.core.kinds import Clues, identify
from netscand.core.model import Kind, Mac, Service

DATA = Path(__file__).parent / "data" / "kinds.toml"

PARTS = ("rules", "held-out", "fresh")
"""What the rules were written with; what was read after them; what was collected last. No rule was changed for a row of
the last two."""


class Result(NamedTuple):
    """The result for one device."""

    part: str
    device: dict[str, Any]
    kind: Kind | None

    @property
    def verdict(self) -> str:
        """Return `right`, `wrong` or `silent`. A computer is right for a laptop; docs/kinds.md says so."""
        if self.kind is None:
            return "silent"
        truth = self.device["is"]
        return "right" if truth == self.kind.name or truth in MORE_EXACT.get(self.kind.name, ()) else "wrong"


def service(text: str) -> Service:
    """Return the service of such a text: a type, then entries of its TXT record."""
    kind, *entries = re.split(r" (?=[a-z]+=)", text)
    return Service(kind, tuple(entries))


def clues(device: dict[str, Any]) -> Clues:
    """Return what was received from a device."""
    parameters = device.get("dhcp_parameters")
    return Clues(
        Mac(bytes.fromhex(device.get("mac", "")).ljust(6, b"\0")), device.get("vendor"),
        (device["host_name"],) if "host_name" in device else (), device.get("dhcp_vendor_class"),
        bytes(map(int, parameters.split(","))) if parameters else None,
        tuple(map(service, device.get("services", ()))), device.get("gateway", False),
    )  # fmt: skip


def results() -> Iterator[Result]:
    """Yield the result for each device."""
    for device in tomllib.loads(DATA.read_text())["device"]:
        yield Result(device["part"], device, identify(clues(device)))


def counts(found: list[Result]) -> dict[str, int]:
    """Return the number of each verdict."""
    return {verdict: sum(each.verdict == verdict for each in found) for verdict in ("right", "wrong", "silent")}


def report() -> str:
    """Return the figures, and each wrong answer."""
    found = list(results())
    lines = [f"{len(found)} devices of {len({each.device['is'] for each in found})} kinds"]
    for part in PARTS:
        here = [each for each in found if each.part == part]
        shown = ", ".join(f"{number} {verdict}" for verdict, number in counts(here).items())
        lines.append(f"  {part}: {len(here)} devices, {shown}")
    lines += [
        f"  wrong: {each.device['what']} is {each.device['is']}, not {each.kind}"
        for each in found
        if each.verdict == "wrong"
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())
