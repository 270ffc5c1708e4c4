"""What an audit by outsiders found, against a real daemon in its unit's rights: a hostile host, an ordinary account."""

import re
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.lab.crowd_device import Device
from tests.lab.daemon import Daemon
from tests.lab.lan import Host, Lab
from tests.lab.macs import pack_mac
from tests.lab.spaces import DEADLINE
from tests.lab.test_daemon import wait_for
from tests.serve.house import handshake
from tests.serve.test_auth import acting_as

QUICK = {"presence": {"probe_interval": 1, "patience": [3, 6]}, "names": {"sources": []}}
PRINTER = "a4:83:e7:00:00:50"


def raw(host: Host) -> socket.socket:
    """What sends any frame."""
    made = host.space.socket(socket.AF_PACKET, socket.SOCK_RAW)
    made.bind((host.interface, 0))
    return made


def claim(mac: str, ip: str, via: str | None = None) -> bytes:
    """A gratuitous ARP request; `via`: its Ethernet source."""
    speaker = Device(pack_mac(mac), via=pack_mac(via) if via else None)
    return speaker.request(socket.inet_aton(ip), socket.inet_aton(ip))


def status_of(daemon: Daemon, ip: str) -> Any:  # noqa: ANN401 JSON
    return daemon.devices()[ip]["status"]


def kinds_since(daemon: Daemon, cursor: str) -> list[str]:
    return [event["kind"] for event in daemon.get(f"/api/events?limit=5000&since={cursor}")["events"]]


def watching(lab: Lab, others: int) -> tuple[Daemon, str]:
    """A daemon that knows them, this host and the rest of the crowd; and its cursor."""
    daemon = lab.daemon(QUICK, as_user=True)
    wait_for("the others", lambda: len(daemon.devices()) >= others)
    return daemon, daemon.get("/api/status")["cursor"]


# ---- a hostile host -------------------------------------------------------------------------------------------------


def test_one_frame_of_a_stranger_makes_no_quiet_device_offline(lab: Lab) -> None:
    """It says that the printer is where it is not; asked there, the printer would not answer."""
    crowd, evil = lab.crowd(), lab.host()
    crowd.join("10.77.0.50", PRINTER)
    crowd.populate(f"10.77.0.{number}" for number in range(60, 66))
    daemon, cursor = watching(lab, 8)
    with raw(evil) as sender:
        for _ in range(15):
            sender.send(claim(PRINTER, "10.77.0.222", via=evil.mac))
            time.sleep(1)
    assert "offline" not in kinds_since(daemon, cursor)
    assert status_of(daemon, "10.77.0.50") == "online"


def test_frames_of_80_made_up_devices_hide_nobodys_leaving(lab: Lab) -> None:
    """Their silence had the network called silent: for ten minutes no device was reported offline."""
    crowd, evil = lab.crowd(), lab.host()
    crowd.populate(f"10.77.0.{number}" for number in range(60, 68))
    daemon, cursor = watching(lab, 9)
    with raw(evil) as sender:
        for number in range(80):
            sender.send(claim(f"02:ee:00:00:00:{number:02x}", f"10.77.0.{100 + number}"))
    wait_for("their end", lambda: kinds_since(daemon, cursor).count("offline") == 80)
    crowd.leave("10.77.0.60")
    wait_for("one who leaves", lambda: status_of(daemon, "10.77.0.60") == "offline")
    assert "network_silent" not in kinds_since(daemon, cursor)


# ---- an ordinary account --------------------------------------------------------------------------------------------


def memory(daemon: Daemon) -> float:
    """MiB that it holds."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{daemon.pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def came_by_unix(daemon: Daemon, count: int, said: bytes, uid: int) -> list[socket.socket]:
    """Connections of that user."""
    found = []
    with acting_as(uid, uid):
        for _ in range(count):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(0.1)
            sock.connect(str(daemon.socket))
            with suppress(ConnectionError):  # one too many, and cut already
                sock.sendall(said)
            found.append(sock)
    return found


def test_an_ordinary_account_fills_no_memory(lab: Lab) -> None:
    """FAULTS T16, by what never ends, what waits behind it, and answers that are not read."""
    daemon = lab.daemon({"names": {"sources": []}}, as_user=True)
    wish = b"POST /api/scan?wait=1 HTTP/1.1\r\nHost: x\r\n"
    chunked = wish + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    unknown = b'{"type":"none","request":"' + b"r" * 94 + b'"}'
    frame = bytes((0x81, 0x80 | len(unknown))) + bytes(4) + unknown  # masked with zeros
    before = memory(daemon)
    for begin, more in (
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"X-Y: z\r\n" * 4000),
        (chunked, b"X-Y: z\r\n" * 4000),
        (wish + b"Content-Length: 0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 1000),
        (handshake("/ws?updates=changes"), frame * 400),
    ):
        socks = came_by_unix(daemon, 50, begin, 1500)
        until = time.monotonic() + 3
        while socks and time.monotonic() < until:
            for sock in tuple(socks):
                try:
                    sock.sendall(more)
                except OSError:  # cut, or it is not read for a while: the rest would not fit
                    socks.remove(sock)
                    sock.close()
        for sock in socks:
            sock.close()
        assert memory(daemon) < before + 128


def test_an_ordinary_account_leaves_others_their_connections(lab: Lab) -> None:
    """FAULTS T16, from 24 addresses of loopback: each was a peer of its own."""
    daemon = lab.daemon({"listen": {"tcp": ["127.0.0.1:8000"]}, "names": {"sources": []}}, as_user=True)

    def come(uid: int, address: str, count: int) -> list[socket.socket]:
        found = []
        with acting_as(uid, uid):
            for _ in range(count):
                sock = socket.socket()
                sock.settimeout(DEADLINE)
                sock.bind((address, 0))
                with suppress(OSError):
                    sock.connect(("127.0.0.1", 8000))
                    sock.sendall(handshake("/ws?updates=changes", "localhost:8000"))
                    if sock.recv(64).startswith(b"HTTP/1.1 101"):
                        found.append(sock)
                        continue
                sock.close()
        return found

    def all_of_them() -> tuple[list[socket.socket], list[socket.socket]]:
        many = [sock for number in range(2, 26) for sock in come(1500, f"127.0.0.{number}", 16)]
        return many, come(1501, "127.0.0.1", 1)

    many, others = lab.watcher.space.within(all_of_them)
    assert (len(many), len(others)) == (64, 1)
    assert daemon.ctl("status").returncode == 0
    for sock in (*many, *others):
        sock.close()
