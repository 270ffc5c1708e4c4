"""Checks of the way from a phone or another computer to the page, for `netscanctl doctor`."""

import http.client
import os
import ssl
import stat
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

from netscanctl.documentation import documentation
from netscanctl.page_links import origins, ports_for_others
from netscanctl.render import not_reloaded, pending_restart
from netscand.check_results import failed, ok, warning
from netscand.protocol import Access, CheckResult, DaemonStatus

PHONE = documentation("phone.md")
TIMEOUT = 5.0
"""Seconds for the page to answer."""
NOT_RELOADED = "the configuration was not reloaded"
"""Beginning of a problem of the daemon."""


def check_configuration(status: DaemonStatus) -> Iterator[CheckResult]:
    """Report a configuration, or a token file, that the daemon refused to read again."""
    for problem in status.problems:
        if problem.startswith(NOT_RELOADED):
            yield warning("configuration", problem, "correct it, then: netscanctl reload")
    if status.config_changed:
        found, _, fix = not_reloaded(status).partition("; ")
        yield warning("configuration", found, fix)
    if status.needs_restart:
        found, _, fix = pending_restart(status).partition("; ")
        yield warning("configuration", found, fix)


def check_access(access: Access | None, *, is_local: bool) -> Iterator[CheckResult]:
    """Check that other hosts can open the page, if they should; by requests, if this is the host of netscand."""
    if access is None:
        return
    ports = ports_for_others(access)
    if not ports:
        yield ok("access", "only this host can open the page", f"for a phone or another computer, see {PHONE}")
        return
    if not access.tokens:
        found = f"other hosts can connect on port {', '.join(map(str, ports))}, but there is no token"
        yield warning("access", found, "to create one: sudo netscanctl token add ROLE")
        return
    if is_local and (error := _file_error(access)):
        fix = f"chown root:{access.gid} {access.token_file} && chmod 0640 {access.token_file}"
        yield warning("access", f"netscand could not read its tokens again: {error}", fix)
        return
    links = origins(access)
    if is_local and (errors := list(_unreachable(access, links, ports))):
        yield failed("access", "; ".join(errors), f"check [listen] tcp and [access] allowed_hosts; see {PHONE}")
        return
    names = f", by the names {', '.join(access.hosts)}" if access.hosts else ""
    tokens = "1 token" if access.tokens == 1 else f"{access.tokens} tokens"
    found = f"other hosts can open {', '.join(links)}{names}, with {tokens}, unless a firewall blocks it"
    plain = f"tokens are sent unencrypted: set [listen] tls_certificate and tls_key; see {PHONE}"
    yield ok("access", found, None if access.tls else plain)


def _file_error(access: Access) -> str:
    """Return why netscand would refuse its token file at a restart, or "", also if we may not see the file."""
    try:
        found = os.stat(access.token_file) if access.token_file else None
    except FileNotFoundError:
        return f"no file {access.token_file}"
    except OSError:
        return ""
    if found is None:
        return ""
    mode, owner = stat.S_IMODE(found.st_mode), found.st_uid
    readable = mode & 0o400 if owner == access.uid else mode & 0o040 and found.st_gid == access.gid
    if mode & ~0o640 or owner not in (0, access.uid) or not (readable or access.uid == 0):
        return f"{access.token_file} has mode {mode:04o}, owner {owner} and group {found.st_gid}"
    return ""


def _unreachable(access: Access, links: list[str], ports: list[int]) -> Iterator[str]:
    """Yield the addresses and names under which the page does not open."""
    for origin in links:
        url = urlsplit(origin)
        hosts = [url.netloc, *(f"{name}:{url.port}" for name in access.hosts if ":" not in name and url.port in ports)]
        for host in hosts:
            try:
                status = _page_status(url.scheme, url.hostname or "", url.port or 0, host)
            except (OSError, http.client.HTTPException) as error:
                yield f"{origin}/ does not open: {getattr(error, 'strerror', None) or error}"
                break
            if status != http.client.OK:
                yield f"{url.scheme}://{host}/ is refused with {status}"


def _page_status(scheme: str, address: str, port: int, host: str) -> int:
    """Return the status of the page at an address, under a name. No token is sent, so no certificate is checked."""
    if scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            address, port, timeout=TIMEOUT, context=context
        )
    else:
        connection = http.client.HTTPConnection(address, port, timeout=TIMEOUT)
    with closing(connection):
        connection.request("GET", "/", headers={"Host": host})
        return connection.getresponse().status
