"""Entry point: run a command and exit with its code."""

import os
import sys


def main() -> None:
    """Run the command given in argv and exit with its exit code."""
    try:
        from netscanctl.cli import cli
        from netscand.checkout import CHECKOUT

        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed by the parent process
                setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # open until the process exits
        cli.main(prog_name="./dev ctl" if CHECKOUT in os.environ else "netscanctl")
    except KeyboardInterrupt:  # before a command started
        sys.exit(130)


if __name__ == "__main__":
    main()
