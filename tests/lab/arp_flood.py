"""A flood of ARP: made-up devices announce themselves, faster than the crowd can (FAULTS T10).

Run by `arp_flood` in the namespace of a host: says `ready`, waits for a line, sends for so many seconds, and prints a
JSON object: how many frames went, and in how many seconds. They are gratuitous replies, which cost the crowd nothing.
"""

import json
import socket
import sys
import time
from ipaddress import IPv4Network

from tests.lab.crowd_device import BROADCAST, PADDING, Device
from tests.lab.lan import Lab
from tests.lab.program import Program
from tests.lab.ring import BATCH, FRAME, Sender

ROUND = 1024 * BATCH
"""Frames that are made beforehand, and sent round and round: 60 MiB."""


def arp_flood(lab: Lab, rate: float, seconds: float, macs: int, prefix: str) -> Program:
    """A host of the lab that is ready to send `rate` frames a second (0: as fast as it can) for so many `seconds`.

    They come from `macs` MACs, and claim the addresses of `prefix` in turn.
    """
    return Program(lab.host().space, "tests.lab.arp_flood", rate, seconds, macs, prefix).ready()


def batches(macs: int, prefix: str) -> list[bytes]:
    """A round of frames, a batch together."""
    network = IPv4Network(prefix)
    first, hosts = int(network.network_address) + 1, network.num_addresses - 2
    made = bytearray()
    for number in range(ROUND):
        ip = (first + number % hosts).to_bytes(4)
        made += BROADCAST + Device(b"\x06\xfd" + (number % macs).to_bytes(4)).reply(ip) + BROADCAST + ip + PADDING
    return [bytes(made[start : start + BATCH * FRAME]) for start in range(0, len(made), BATCH * FRAME)]


def main() -> None:
    """RATE SECONDS MACS PREFIX."""
    rate, seconds = float(sys.argv[1]), float(sys.argv[2])
    made = batches(int(sys.argv[3]), sys.argv[4])
    out = Sender(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0), "eth0")
    print("ready", flush=True)
    sys.stdin.readline()
    sent, apart = 0, BATCH / rate if rate else 0.0
    begun = now = time.monotonic()
    while now < begun + seconds:
        out.send_joined(made[sent % len(made)])
        sent += 1
        now = time.monotonic()
        if (ahead := begun + sent * apart - now) > 0:
            time.sleep(ahead)
    print(json.dumps({"frames": sent * BATCH, "seconds": now - begun}))


if __name__ == "__main__":
    main()
