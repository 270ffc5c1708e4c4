"""The peers: how others scan a LAN. Each takes the host it runs at and gives seconds and the addresses it found.

The seconds are those that the peer itself reports, without its start: the start of netscanctl is not counted either.
"""

import json
import re
import sys
from collections.abc import Callable

from tests.lab.lan import Host

Scan = tuple[float, set[str]]
ADDRESS = re.compile(r"^\d+\.\d+\.\d+\.\d+$")


def arp_scan(host: Host, network: str, *how: str) -> Scan:
    """arp-scan as it comes (2 tries, 500 ms, 256 kbit/s), or as told."""
    said = host.run(["arp-scan", "-I", host.interface, *how, network]).stdout
    took = re.search(r"scanned in ([\d.]+) seconds", said)
    assert took, said
    found = {line.split("\t")[0] for line in said.splitlines() if "\t" in line}
    return float(took[1]), {ip for ip in found if ADDRESS.match(ip)}


def nmap(host: Host, network: str) -> Scan:
    """`nmap -sn -PR -n`; it counts its own address, which is left out here."""
    said = host.run(["nmap", "-sn", "-PR", "-n", "-e", host.interface, "-oG", "-", network]).stdout
    took = re.search(r"scanned in ([\d.]+) seconds", said)
    assert took, said
    return float(took[1]), set(re.findall(r"^Host: (\S+) .*Status: Up", said, re.MULTILINE)) - {host.ip}


SRP = """
import json, sys, time
from scapy.config import conf
from scapy.layers.l2 import ARP, Ether
from scapy.sendrecv import srp
interface, network = sys.argv[1:]
begun = time.monotonic()
answered, _ = srp(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst=network), iface=interface, timeout=3, retry=3, verbose=0)
print(json.dumps([time.monotonic() - begun, sorted({reply.psrc for _, reply in answered})]))
"""


def scapy_srp(host: Host, network: str) -> Scan:
    """The push document's way: srp with its time-out of 3 s and 3 retries."""
    seconds, found = json.loads(host.run([sys.executable, "-W", "ignore", "-c", SRP, host.interface, network]).stdout)
    return seconds, set(found)


PEERS: dict[str, tuple[Callable[[Host, str], Scan], float]] = {
    "arp-scan": (arp_scan, 1.0),
    "nmap": (nmap, 1.0),
    "scapy srp": (scapy_srp, 0.2),
}
"""Name → how, and in what share of the rounds: srp takes twelve seconds."""
