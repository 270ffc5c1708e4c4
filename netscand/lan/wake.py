"""Wake-on-LAN: magic packets, which switch on a computer that is off or asleep. Pure.

Source: AMD, Magic Packet Technology (publication 20213): six bytes of ones, then the MAC sixteen times, anywhere in a
frame.
"""

from netscand.core.model import Ip, Mac, Network
from netscand.lan.arp import BROADCAST
from netscand.lan.name_lookup import datagram

ETHERTYPE = b"\x08\x42"
"""Wake-on-LAN."""

PORT = 9
"""UDP port (discard) that magic packets are usually sent to; proxies on other hosts listen on it, too."""

EVERYONE = Ip(b"\xff" * 4)


def magic_packets(network: Network, mac: Mac) -> tuple[bytes, bytes]:
    """Return the two frames that wake a device: of the EtherType of Wake-on-LAN, and UDP, both by broadcast.

    A network card looks for the bytes in any frame. But some access points and virtual switches drop unknown
    EtherTypes, and a proxy on another host listens for UDP.
    """
    content = b"\xff" * 6 + 16 * mac
    by_udp = datagram(network.mac, BROADCAST, network.own, EVERYONE, (PORT, PORT), content, hops=64)
    return BROADCAST + network.mac + ETHERTYPE + content, by_udp
