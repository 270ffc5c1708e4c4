"""What may stand in a configuration, and was hardly meant so: told by `--check-config`, and refused by nobody."""

import grp
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import PurePath

from netscand.config import Access, History, Listen, NetworkRule, Reading, Scan, Written
from netscand.serve.listen import BadAddress, TcpAddress, tcp_addresses


def oddities(reading: Reading) -> Iterator[str]:
    """Each a line that names the place and the remedy. What is wrong in itself is no oddity, and hides no other."""
    rules = [table for table in reading.tables if table.kind is NetworkRule]
    yield from _rates(reading, rules)
    yield from _rules_twice(rules)
    for table in reading.tables:
        match table.keys:
            case {"tcp": tuple(tcp)} if table.kind is Listen:
                yield from _addresses_twice(tcp)
            case {"group": str(group)} if table.kind is Access:
                yield from _group(group)
        yield from _relative(table)


def _rates(reading: Reading, rules: list[Written]) -> Iterator[str]:
    """`rate` is never exceeded, so what `background_rate` has beyond it never leaves. 0 is no bound."""
    scan = next((table for table in reading.tables if table.kind is Scan), Written("[scan]", Scan, {}, True))
    shared = scan.keys.get("rate", Scan().rate)
    for table in (scan, *rules):
        match {"rate": shared, **table.keys}:
            case {"rate": float(rate), "background_rate": float(background)} if 0 < rate < background:
                whose = "rate" if "rate" in table.keys or table is scan else "[scan] rate"
                yield (
                    f"{table.place} background_rate {background:g}: is above {whose} {rate:g}, which is never exceeded"
                    ": lower the one, or raise the other"
                )


def _rules_twice(rules: list[Written]) -> Iterator[str]:
    """Of two for the same network the first is taken."""
    first: dict[tuple[str, str], str] = {}
    for rule in rules:
        match {"interface": "", **rule.keys}:
            case {"cidr": str(cidr), "interface": str(interface)}:
                taken = first.setdefault((cidr, interface), rule.place)
                if taken != rule.place:
                    where = f" on {interface}" if interface else ""
                    yield f"{rule.place} cidr {cidr!r}{where}: stands in {taken}, which is taken: make one of the two"


def _addresses_twice(tcp: tuple[str, ...]) -> Iterator[str]:
    """The second cannot be bound, and the daemon would be degraded."""
    taken: dict[TcpAddress, str] = {}
    for text in tcp:
        try:
            addresses = tcp_addresses(text)
        except BadAddress:
            continue  # an error, which is told
        for address in addresses:
            other = next((of for there, of in taken.items() if _same(there, address)), None)
            if other is not None:
                yield f"[listen] tcp {text!r}: is listened on by {other!r} already: take one of the two away"
                break
        taken |= dict.fromkeys(addresses, text)


def _same(one: TcpAddress, other: TcpAddress) -> bool:
    """Whether only one of the two can be listened on: 0.0.0.0 is all of its family, port 0 any that is free."""
    if (one.port, one.family) != (other.port, other.family) or not one.port:
        return False
    return one.host == other.host or any(ip_address(each.host).is_unspecified for each in (one, other))


def _group(group: str) -> Iterator[str]:
    try:
        grp.getgrnam(group)
    except KeyError:
        yield (
            f"[access] group {group!r}: there is none here, so only root has the role admin: "
            "make it (groupadd --system), or name another"
        )


def _relative(table: Written) -> Iterator[str]:
    """A path counts from the folder in which the daemon is started, and that is hardly known."""
    paths = {History: ("path",), Listen: ("unix", "tls_certificate", "tls_key"), Access: ("token_file",)}
    for key in paths.get(table.kind, ()):
        match table.keys.get(key):
            case str(path) if path and not PurePath(path).is_absolute():
                yield (
                    f"{table.place} {key} {path!r}: counts from the folder in which netscand is started, "
                    "as a service from /: write it from / on"
                )
