"""argv → command → exit code."""

import os
import sys


def main() -> None:
    """Run the command that argv names; ends the process with its exit code."""
    try:
        from netscanctl.cli import cli

        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed by who started us
                setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # for as long as the process lives
        cli.main(prog_name="netscanctl")
    except KeyboardInterrupt:  # before any command began
        sys.exit(130)


if __name__ == "__main__":
    main()
