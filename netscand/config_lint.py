"""Warnings about configuration values that are valid but probably a mistake; `--check-config` prints them."""

import grp
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from ipaddress import ip_address
from pathlib import PurePath
from socket import if_nameindex

from netscand.config import Access, History, Listen, Names, NetworkRule, ParsedTable, Reading, Scan
from netscand.serve.listen import BadAddress, TcpAddress, tcp_addresses


def config_warnings(reading: Reading) -> Iterator[str]:
    """Yield one line for each probable mistake: where it is, the value, and what to do.

    Invalid values are errors, not warnings (netscand/config.py); they hide no warning about another value.
    """
    rules = [table for table in reading.tables if table.kind is NetworkRule]
    yield from _rates(reading, rules)
    yield from _duplicate_rules(rules)
    for table in reading.tables:
        match table.keys:
            case {"tcp": tuple(tcp)} if table.kind is Listen:
                yield from _duplicate_addresses(tcp)
            case {"sources": tuple(sources)} if table.kind is Names:
                yield from _duplicate_sources(sources)
            case {"group": str(group)} if table.kind is Access:
                yield from _group(group)
            case {"interfaces": tuple(names)} if table.kind is Scan:
                yield from _missing_interfaces(f"{table.heading} interfaces", names)
            case {"interface": str(name)} if table.kind is NetworkRule:
                yield from _missing_interfaces(f"{table.heading} interface", [name])
        yield from _relative(table)


def _rates(reading: Reading, rules: list[ParsedTable]) -> Iterator[str]:
    """Warn about a `background_rate` above `rate`: the part above it is never used. 0 is unlimited."""
    scan = next((table for table in reading.tables if table.kind is Scan), ParsedTable("[scan]", Scan, {}, True))
    shared = scan.keys.get("rate", Scan().rate)
    for table in (scan, *rules):
        match {"rate": shared, **table.keys}:
            case {"rate": float(rate), "background_rate": float(background)} if 0 < rate < background:
                limit = "rate" if "rate" in table.keys or table is scan else "[scan] rate"
                yield (
                    f"{table.heading} background_rate {background:g}: above {limit} {rate:g}, the upper limit: "
                    f"lower background_rate or raise {limit}"
                )


def _duplicate_rules(rules: list[ParsedTable]) -> Iterator[str]:
    """Warn about a rule for a network that already has one: only the first one counts."""
    first: dict[tuple[str, str], str] = {}
    for rule in rules:
        match {"interface": "", **rule.keys}:
            case {"cidr": str(cidr), "interface": str(interface)}:
                used = first.setdefault((cidr, interface), rule.heading)
                if used != rule.heading:
                    where = f" on {interface}" if interface else ""
                    yield f"{rule.heading} cidr {cidr!r}{where}: duplicate of {used} and ignored; merge them"


def _duplicate_sources(sources: tuple[str, ...]) -> Iterator[str]:
    """Warn about a source of names that is listed twice: their order is that of trust, so only the first one counts."""
    for source in dict.fromkeys(sources):
        if sources.count(source) > 1:
            yield f"[names] sources {source!r}: listed twice, and only the first one counts: remove the other"


def _duplicate_addresses(tcp: tuple[str, ...]) -> Iterator[str]:
    """Warn about an address that cannot be bound because an earlier entry has it."""
    taken: dict[TcpAddress, str] = {}
    for text in tcp:
        try:
            addresses = tcp_addresses(text)
        except BadAddress:
            continue  # reported as an error
        for address in addresses:
            other = next((entry for bound, entry in taken.items() if _same(bound, address)), None)
            if other is not None:
                yield f"[listen] tcp {text!r}: {other!r} already listens on this address: remove one of them"
                break
        taken |= dict.fromkeys(addresses, text)


def _same(one: TcpAddress, other: TcpAddress) -> bool:
    """Return whether only one of two addresses can be bound: 0.0.0.0 is all of its family, port 0 any free port."""
    if (one.port, one.family) != (other.port, other.family) or not one.port:
        return False
    return one.host == other.host or any(ip_address(each.host).is_unspecified for each in (one, other))


def _group(group: str) -> Iterator[str]:
    try:
        grp.getgrnam(group)
    except KeyError:
        yield (
            f"[access] group {group!r}: no such group on this system, so only root has the role admin: "
            "create it (groupadd --system), or use another one"
        )


def _missing_interfaces(where: str, names: Iterable[str]) -> Iterator[str]:
    """Warn about an interface that this host does not have, such as a misspelt one. It may come later."""
    here = [name for _, name in if_nameindex()]
    for name in names:
        if not any(fnmatchcase(each, name) for each in here):
            yield f"{where} {name!r}: this host has no such interface now: check the name (ip link shows all)"


def _relative(table: ParsedTable) -> Iterator[str]:
    """Warn about a relative path: it depends on the folder that the daemon starts in."""
    paths = {History: ("path",), Listen: ("unix", "tls_certificate", "tls_key"), Access: ("token_file",)}
    for key in paths.get(table.kind, ()):
        match table.keys.get(key):
            case str(path) if path and not PurePath(path).is_absolute():
                yield f"{table.heading} {key} {path!r}: relative path: use an absolute one (a service starts in /)"
