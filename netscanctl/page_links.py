"""URLs under which browsers open the page of netscand."""

from ipaddress import IPv4Address, IPv6Address, ip_address

from netscand.protocol import Access


def _host(listener: str) -> IPv4Address | IPv6Address:
    return ip_address(listener.rpartition(":")[0].strip("[]"))


def ports_for_others(access: Access) -> list[int]:
    """Return the ports on which other hosts can connect."""
    listeners = [listener for listener in access.listening if not _host(listener).is_loopback]
    return sorted({int(listener.rpartition(":")[2]) for listener in listeners})


def origins(access: Access) -> list[str]:
    """Return the URLs, without a path, by addresses that other hosts reach; if there is none, the one for this host."""
    scheme = "https" if access.tls else "http"
    found: dict[str, None] = {}
    for listener in access.listening:
        host, port = _host(listener), listener.rpartition(":")[2]
        if host.is_unspecified:
            own = [address for address in access.addresses if (":" in address) == (host.version == 6)]
        else:
            own = [] if host.is_loopback else [str(host)]
        for address in own:
            found[f"{scheme}://{f'[{address}]' if ':' in address else address}:{port}"] = None
    if not found and access.listening:
        found[f"{scheme}://localhost:{access.listening[0].rpartition(':')[2]}"] = None
    return list(found)


def origins_here(access: Access) -> list[str]:
    """Return the URLs for a browser on the host of netscand: first that by `localhost`, which no certificate has."""
    ports = [
        listener.rpartition(":")[2]
        for listener in access.listening
        if (host := _host(listener)).is_unspecified or str(host) in ("127.0.0.1", "::1")
    ]
    local = [f"http://localhost:{ports[0]}"] if ports and not access.tls else []
    return list(dict.fromkeys([*local, *origins(access)]))


def links_with_token(access: Access, token: str) -> list[str]:
    """Return links that open the page with a token: in the fragment, which browsers send to no server."""
    return [f"{origin}/#token={token}" for origin in origins(access)]
