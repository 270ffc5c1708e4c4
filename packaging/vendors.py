"""Write the vendor table of the Debian package to the file named on the command line, from the package `ieee-data`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from netscand.lan import vendors


def main() -> None:
    """Write a line for each block: the digits of the prefix, a tab, the vendor's name."""
    blocks = sorted({digits: name for digits, _, name in vendors.ieee_blocks()}.items())
    Path(sys.argv[1]).write_text("".join(f"{digits}\t{name}\n" for digits, name in blocks))


if __name__ == "__main__":
    main()
