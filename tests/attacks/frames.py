"""A host of the LAN that sends frames round and round, at a rate or as fast as it can.

Run by `sender` in its namespace: prints `ready`, sends from the next line of stdin on, and prints a JSON object: how
many, in how many seconds.
"""

import contextlib
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.lab.lan import Host
from tests.lab.program import Program


def sender(host: Host, frames: Sequence[bytes], rate: float, seconds: float) -> Program:
    """A host that is ready to send these, `rate` a second (0: as fast as it can), for so many `seconds`."""
    with tempfile.NamedTemporaryFile("w", suffix=".frames") as file:
        file.write("\n".join(frame.hex() for frame in frames))
        file.flush()
        return Program(host.space, "tests.attacks.frames", file.name, rate, seconds).ready()


def main() -> None:
    """FILE RATE SECONDS."""
    frames = [bytes.fromhex(line) for line in Path(sys.argv[1]).read_text().split()]
    rate, seconds = float(sys.argv[2]), float(sys.argv[3])
    os.nice(5)
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    out.bind(("eth0", 0))
    print("ready", flush=True)
    sys.stdin.readline()
    sent = 0
    begun = now = time.monotonic()
    while now < begun + seconds:
        for _ in range(64):
            with contextlib.suppress(OSError):  # the queue is full
                out.send(frames[sent % len(frames)])
            sent += 1
        now = time.monotonic()
        if rate and (ahead := begun + sent / rate - now) > 0:
            time.sleep(ahead)
    print(json.dumps({"sent": sent, "seconds": now - begun}))


if __name__ == "__main__":
    main()
