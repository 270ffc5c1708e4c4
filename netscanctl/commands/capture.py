"""`netscanctl capture FILE`: what netscand receives, as a capture file."""

import struct
import sys
from collections.abc import Callable

import click

from netscanctl.atomic_file import resolve_links
from netscanctl.cli import Session
from netscanctl.client import Failure, Usage
from netscanctl.commands.backup import save
from netscanctl.params import duration

MAGIC = b"\x0a\x0d\x0d\x0a"
"""First bytes of a pcapng file."""
PACKET, STATISTICS = 6, 5
"""Types of blocks (draft-ietf-opsawg-pcapng, 4)."""
LARGEST = 1 << 20
"""Maximum bytes of a block: the largest one that netscand writes has a frame of 2 kB."""
MARGIN = 60.0
"""Seconds that an answer may take longer than the capture."""
LONGEST = 3600


@click.command("capture", short_help="Save the frames that netscand receives.")
@click.argument("file", metavar="FILE", type=click.Path(allow_dash=True))
@click.option("--seconds", metavar="SECONDS", callback=duration(1, LONGEST), default="60", show_default=True,
              help=f"Length of the capture, at most {LONGEST}; Ctrl-C ends it earlier.")  # fmt: skip
@click.option("--anonymise", is_flag=True,
              help="Replace names and the lower half of MACs, consistently: a replay has the same events.")  # fmt: skip
@click.pass_obj
def command(session: Session, file: str, seconds: float, anonymise: bool) -> None:
    """Save the frames that netscand receives as FILE (-: stdout), as pcapng, to replay them: netscand --replay FILE.

    Only frames that show devices are received: ARP, neighbour discovery, DHCP, mDNS and NBNS; none that netscand sends.
    An existing FILE is replaced at the end, or at Ctrl-C. Only you can read the file.
    """
    path = f"/api/capture?seconds={seconds:.0f}" + ("&anonymise=true" if anonymise else "")

    def download(write: Callable[[bytes], object]) -> "BlockWriter":
        blocks = BlockWriter(write)

        def note(chunk: bytes) -> None:
            if not blocks.size:
                session.terminal.notice(f"capturing for {seconds:g} s; Ctrl-C ends it, and saves what was received")
            blocks.write(chunk)

        try:
            session.client.fetch(path, note, timeout=seconds + MARGIN)
        except KeyboardInterrupt:
            session.client.close()
        if not blocks.size:
            raise Failure("the daemon sent no capture")
        return blocks

    if file == "-":
        if session.terminal.is_terminal:
            raise Usage("refusing to write a binary file to the terminal; give a file name")
        saved = download(_write_at_once)
    else:
        try:
            saved = save(resolve_links(file), download)
        except OSError as error:
            raise Failure(f"cannot write {file}: {error.strerror or error}") from None
    dropped = f"; {saved.dropped} more frames were left out" if saved.dropped else ""
    session.terminal.notice(f"saved {file} ({saved.packets} frames{dropped})")


def _write_at_once(blocks: bytes) -> None:
    """Write to stdout, for a program that shows the frames as they come."""
    sys.stdout.buffer.write(blocks)
    sys.stdout.buffer.flush()


class BlockWriter:
    """Writer of whole blocks of pcapng, which counts packets; a capture may end at any byte."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.size = self.packets = self.dropped = 0
        self._write = write
        self._rest = b""

    def write(self, chunk: bytes) -> None:
        """Write the blocks that are complete. Raises Failure for anything but pcapng, and what the writer raises."""
        found, at = self._rest + chunk, 0
        while len(found) - at >= 8:
            kind, length = struct.unpack_from("<II", found, at)
            if not 12 <= length <= LARGEST or (not self.size and not at and not found.startswith(MAGIC)):
                raise Failure("the daemon sent invalid data: not pcapng")
            if len(found) - at < length:
                break
            self._count(kind, found[at : at + length])
            at += length
        self._write(found[:at])
        self.size += at
        self._rest = found[at:]

    def _count(self, kind: int, block: bytes) -> None:
        self.packets += kind == PACKET
        if kind == STATISTICS and len(block) >= 48:  # netscand writes two options: received, dropped
            self.dropped += int(struct.unpack_from("<Q", block, 36)[0])
