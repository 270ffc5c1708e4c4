"""Runs a program of ours in which minutes are seconds: `python -m tests.engines.hasty [ALIVE_INTERVAL] MODULE ARGS`."""

import importlib
import runpy
import sys

from netscand import sites

ALIVE_INTERVAL = 2.0
"""Seconds, instead of 30: a site is silent after three of them."""
PATIENCE = 5.0
"""Seconds that a hub waits for missing events, instead of 20."""
LONGEST = 5.0
"""Seconds between two attempts of an uplink to connect, at most, instead of 300: on a busy machine, several fail."""
AHEAD = 60.0
"""Seconds that a client waits for the server, instead of 10: on a busy machine, it is away for longer."""


def main() -> None:
    """Run it."""
    sites.ALIVE_INTERVAL = float(sys.argv.pop(1)) if sys.argv[1][0].isdigit() else ALIVE_INTERVAL
    vars(importlib.import_module("netscand.hub.site"))["PATIENCE"] = PATIENCE
    vars(importlib.import_module("netscand.hub.log"))["AHEAD"] = AHEAD
    vars(importlib.import_module("netscanctl.services.uplink.service"))["LONGEST"] = LONGEST
    module, *sys.argv[1:] = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
