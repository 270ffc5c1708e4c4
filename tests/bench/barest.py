"""The least that Python can do for scan16: ask, receive, store and send, and decide nothing.

No presence, no rules, no rooms: a dict, one text with holes, two tables, one listener. What it takes is the part of the
bound that no better daemon in this language gives back. It uses our ring and our template, which cost what any would.

Run at a lab's host as `python -m tests.bench.barest INTERFACE OWN NETWORK FOLDER`: {"seconds", "found"}.
"""

import json
import queue
import random
import select
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from ipaddress import IPv4Network
from pathlib import Path

from netscand import protocol
from netscand.core.model import Ip, Mac
from netscand.lan import arp, bpf
from netscand.lan.capture import Ring

TRIES = 4
BURST = 32
"""Asks between two looks at the ring."""
WAIT = 0.05
"""Seconds without an answer after which a try is over."""

LISTENER = "import os\nwhile os.read(0, 1 << 20): pass"
TABLES = """
CREATE TABLE event (number INTEGER PRIMARY KEY, at REAL, kind INTEGER, mac BLOB, ip BLOB);
CREATE TABLE device (mac BLOB PRIMARY KEY, ip BLOB, first_seen REAL, last_seen REAL) WITHOUT ROWID;
"""

Found = list[tuple[int, float, Mac, Ip]]


def holed_text() -> bytes:
    """A `discovered` event as clients receive it, with holes for number, address, MAC, MAC, address, address."""
    at = "2026-01-01T00:00:00.000Z"
    address = protocol.Address(
        ip="ADDRESS", network="10.77.0.0/16@eth0", interface="eth0", evidence="arp_reply", first_seen=at, last_seen=at
    )
    device = protocol.Device(
        mac="MAC", ip="ADDRESS", hostname=None, hostname_source=None, label=None, known=False, notes=None,
        vendor="Raspberry Pi Trading Ltd", randomized_mac=False, kinds=[], status="online",
        reason="answered an ARP request", patience=60.0, status_since=at, first_seen=at, last_seen=at, rtt_ms=0.123,
        addresses=[address],
    )  # fmt: skip
    event = protocol.Event(
        cursor="abcdef-NUMBER", kind="discovered", at=at, network=address.network, address="ADDRESS",
        evidence="arp_reply", reason=device.reason, device=device, seen_at=at, sent_at=at,
    )  # fmt: skip
    text = protocol.encode(event)
    return text.replace(b"NUMBER", b"%d").replace(b"ADDRESS", b"%b").replace(b"MAC", b"%b")


def store_and_tell(found: "queue.SimpleQueue[Found]", path: Path, listener: socket.socket) -> None:
    """What comes, batch by batch: first stored, then sent. An empty batch ends it."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.executescript(TABLES)
    text = holed_text()
    while batch := found.get():
        database.execute("BEGIN")
        database.executemany("INSERT INTO event VALUES (?, ?, 1, ?, ?)", batch)
        rows = [(mac, ip, at, at) for _, at, mac, ip in batch]
        database.executemany("INSERT INTO device VALUES (?, ?, ?, ?)", rows)
        database.execute("COMMIT")
        told = []
        for number, _, mac, ip in batch:
            mac_text, ip_text = mac.hex(":").encode(), b"%d.%d.%d.%d" % tuple(ip)
            frame = text % (number, ip_text, mac_text, ip_text, ip_text)
            told.append(b"\x81\x7e" + len(frame).to_bytes(2) + frame)
        listener.sendall(b"".join(told))
    database.close()


def scan(interface: str, own: Ip, network: IPv4Network, found: "queue.SimpleQueue[Found]") -> int:
    """Ask everybody until everybody was heard, or TRIES times; how many were."""
    mac = Mac(bytes.fromhex(Path(f"/sys/class/net/{interface}/address").read_text().strip().replace(":", "")))
    template = arp.request(mac, own)
    ring = Ring(bpf.arp)
    outlet = bpf.packet_socket()
    bpf.bind(outlet, socket.if_nametoindex(interface))
    poll = select.poll()
    poll.register(ring.fileno(), select.POLLIN)
    waiting = [Ip(address.packed) for address in network.hosts() if address.packed != own]
    everybody = len(waiting)
    random.shuffle(waiting)
    heard: dict[Ip, Mac] = {}

    def hear() -> bool:
        batch: Found = []
        for frame, at, _ in ring.read(512):
            mac, ip = Mac(frame[22:28]), Ip(frame[28:32])
            if ip not in heard:
                heard[ip] = mac
                batch.append((len(heard), at, mac, ip))
        if batch:
            found.put(batch)
        return bool(batch)

    for _ in range(TRIES):
        for start in range(0, len(waiting), BURST):
            for ip in waiting[start : start + BURST]:
                outlet.send(template.to(ip, None))
            hear()
        until = time.monotonic() + WAIT
        while len(heard) < everybody and (left := until - time.monotonic()) > 0:
            if poll.poll(1000 * left) and hear():
                until = time.monotonic() + WAIT
        waiting = [ip for ip in waiting if ip not in heard]
        if not waiting:
            break
    return len(heard)


def main(interface: str, own: str, network: str, folder: str) -> None:
    """See above."""
    sys.setswitchinterval(0.0005)
    ours, theirs = socket.socketpair()
    found: queue.SimpleQueue[Found] = queue.SimpleQueue()
    with subprocess.Popen([sys.executable, "-c", LISTENER], stdin=theirs.fileno()) as listener:
        theirs.close()
        writer = threading.Thread(target=store_and_tell, args=(found, Path(folder) / "barest.db", ours))
        writer.start()
        begun = time.monotonic()
        count = scan(interface, Ip(socket.inet_aton(own)), IPv4Network(network), found)
        found.put([])
        writer.join()
        print(json.dumps({"seconds": time.monotonic() - begun, "found": count}))
        ours.close()
        listener.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
