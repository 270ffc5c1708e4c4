"""An ordinary user with CAP_NET_RAW and nothing else: what the daemon is in its unit."""

import itertools
import os
import sys
from pathlib import Path

from tests.lab.spaces import ROOT, Argv

NOBODY = 65534
"""The uid and gid; on every system an account that owns nothing."""


def ordinary(argv: Argv, hold: Path) -> list[str]:
    """`argv` as the ordinary user, to be run by root where `visible` works."""
    drop = (
        f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --no-new-privs --pdeathsig KILL"
        " --inh-caps=-all,+net_raw --ambient-caps=-all,+net_raw --bounding-set=-all,+net_raw --"
    ).split()
    return visible([*drop, *argv], hold)


def visible(argv: Argv, hold: Path) -> list[str]:
    """`argv`, readable by ordinary users, to be run by root in a mount namespace of its own (as of `ip netns exec`).

    Where the checkout or its Python lies in somebody's closed folder (/root), that folder is covered by an empty one
    that holds just these two: in the eyes of this process alone. `hold` is a folder for it to work in.
    """
    steps = ["set -e", 'mount -t tmpfs -o mode=755 tmpfs "$1"', 'cd "$1"', "shift"]
    closed: dict[Path, list[Path]] = {}
    for need in (ROOT, Path(sys.prefix), Path(sys.base_prefix)):
        if place := _closed_above(need):
            closed.setdefault(place, []).append(need)
    numbers = itertools.count()
    for place, needs in closed.items():
        held = [(need, f"{next(numbers)}") for need in needs]
        for need, name in held:
            steps += [f"mkdir {name}", f"mount --bind '{need}' {name}"]
        steps.append(f"mount -t tmpfs -o mode=755 tmpfs '{place}'")
        for need, name in held:
            steps += [f"mkdir -p '{need}'", f"mount --bind {name} '{need}'"]
    steps += [f"cd '{ROOT}'", 'exec "$@"']
    return ["sh", "-c", "\n".join(steps), "visible", os.fspath(hold), *(os.fspath(word) for word in argv)]


def _closed_above(path: Path) -> Path | None:
    """The topmost folder on the way to `path` that an ordinary user cannot pass."""
    way = [*reversed(path.resolve().parents), path.resolve()]
    return next((folder for folder in way if not folder.stat().st_mode & 0o001), None)
