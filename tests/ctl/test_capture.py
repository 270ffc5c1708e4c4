"""`netscanctl capture`: whole blocks only, whatever ends the stream."""

import struct

import pytest

from netscanctl.client import Failure
from netscanctl.commands.capture import BlockWriter
from netscand.lan import pcap

CONTENT = (
    pcap.section("netscand") + pcap.interface("eth0", ()) + pcap.packet(0, 1.0, b"abc") + pcap.packet(0, 2.0, b"abcd")
    + pcap.statistics(0, 2.0, 5, 3)
)  # fmt: skip


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_blocks_are_written_whole_and_counted(size: int) -> None:
    written = bytearray()
    blocks = BlockWriter(written.extend)
    for at in range(0, len(CONTENT), size):
        blocks.write(CONTENT[at : at + size])
        lengths, position = [], 0
        while position < len(written):
            lengths.append(struct.unpack_from("<I", written, position + 4)[0])
            position += lengths[-1]
        assert position == len(written)  # a capture that ends here is a valid file
    assert bytes(written) == CONTENT
    assert (blocks.packets, blocks.dropped) == (2, 3)


@pytest.mark.parametrize("content", [b'{"error": "no"}', b"\x0a\x0d\x0d\x0a" + b"\xff" * 8])
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(Failure, match="invalid data: not pcapng"):
        BlockWriter(lambda chunk: None).write(content)
