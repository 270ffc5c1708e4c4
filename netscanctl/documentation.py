"""Where the documentation is on this host."""

import sys
from pathlib import Path

PACKAGE = "/usr"
"""Prefix of the Python of the Debian package."""


def documentation(page: str) -> str:
    """Return the path of a page as this installation has it; without one, its path in a checkout."""
    share = Path(sys.prefix, "share/doc", "netscand" if sys.prefix == PACKAGE else "")
    installed = share / "docs" / page
    return str(installed) if installed.exists() else f"docs/{page}"
