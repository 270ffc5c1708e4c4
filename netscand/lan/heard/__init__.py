"""What devices say beside ARP: DHCP, mDNS, NBNS and neighbour discovery. Pure, and total over all bytes.

By `struct`, not by scapy, which a property test holds them equal to (tests/core/test_heard_*.py).
"""
