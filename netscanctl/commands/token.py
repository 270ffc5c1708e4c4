"""`netscanctl token`: creates, lists and revokes tokens for other hosts and programs."""

import os
from pathlib import Path

import click
import msgspec

from netscanctl.cli import Session
from netscanctl.client import DEFAULT_SOCKET, Failure, Incompatible, NoDaemon, NotPermitted, Usage
from netscanctl.documentation import documentation
from netscanctl.page_links import links_with_token, ports_for_others
from netscanctl.render import NONE, table
from netscanctl.text import clean
from netscanctl.token_file import (
    ROLES,
    TokenFile,
    add_token,
    config_key,
    entries,
    read_lines,
    revoke_token,
    token_file_of_config,
)
from netscand.protocol import Access, DaemonStatus

PHONE = documentation("phone.md")
RELOAD = "fix that, then: netscanctl reload"

CONFIG_OPTION = click.option(
    "--config", metavar="FILE", envvar="NETSCANCTL_CONFIG",
    help="Configuration of the daemon, used if it is not running (default /etc/netscand/netscand.toml)."
)  # fmt: skip


@click.group("token", short_help="Create, list and revoke tokens for other hosts and programs.")
def command() -> None:
    """Create, list and revoke tokens for browsers and programs on other hosts.

    Run it on the host of netscand, as root or as the user of ./dev run. Changes are in force at once.
    """


@command.command("add", short_help="Create a token, and print it once.")
@click.argument("role", metavar="ROLE", type=click.Choice(ROLES))
@click.option("--name", metavar="NAME", help="Name for `token list` and `token revoke`, such as that of its user.")
@CONFIG_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print an object with name, role, token, and links to the page.")
@click.pass_obj
def add(session: Session, role: str, name: str | None, config: str | None, as_json: bool) -> None:
    """Create a token with ROLE: read (see everything), scan (also request scans), admin (also change devices).

    Prints a link that opens the page with the token, and the token itself. Neither is stored, so neither can be printed
    again.
    """
    file, running = locate(session, config)
    name, token = add_token(file, role, name)
    refused = _reload(session) if running else None
    access = None if refused or not running else read_access(session)
    links = links_with_token(access, token) if access else []
    terminal = session.terminal
    if as_json:
        terminal.json(msgspec.json.encode({"name": name, "role": role, "token": token, "links": links}))
    else:
        terminal.write("".join(f"link   {link}\n" for link in links) + f"token  {token}\n")
    terminal.notice(f'created the token "{name}" (role {role}) in {file.path}; it cannot be shown again')
    if refused:
        raise Failure(f"the token is not in force: {refused}", RELOAD)
    if access is None:
        terminal.notice("netscand is not running; the token is in force when it starts")
    elif not ports_for_others(access):
        terminal.notice(f"only this host can open the page; for a phone or another computer, see {PHONE}")


@command.command("list", short_help="List the tokens.")
@CONFIG_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
@click.pass_obj
def list_tokens(session: Session, config: str | None, as_json: bool) -> None:
    """List the tokens with their names, roles, dates and ids. The tokens themselves are not stored."""
    file, _ = locate(session, config)
    found = entries(read_lines(file.path))
    terminal = session.terminal
    if as_json:
        each = [{"name": one.name or None, "role": one.role, "added": one.added or None, "id": one.id} for one in found]
        terminal.json(msgspec.json.encode(each))
        return
    rows = [(clean(one.name) or NONE, one.role, one.added or NONE, one.id) for one in found]
    terminal.write(table(("NAME", "ROLE", "ADDED", "ID"), rows, columns=terminal.columns))
    if not found:
        terminal.notice(f"no token in {file.path}; to create one: netscanctl token add ROLE")


@command.command("revoke", short_help="Revoke a token.")
@click.argument("name")
@CONFIG_OPTION
@click.pass_obj
def revoke(session: Session, name: str, config: str | None) -> None:
    """Revoke the token with this NAME, or with this id, and close its connections."""
    file, running = locate(session, config)
    entry, left = revoke_token(file, name)
    if running and (refused := _reload(session)):
        raise Failure(f"removed from {file.path}, but still in force: {refused}", RELOAD)
    in_force = "it is no longer accepted" if running else "netscand is not running"
    session.terminal.notice(f'revoked the token "{entry.name or entry.id}" (role {entry.role}); {in_force}')
    if not left:
        session.terminal.notice("that was the last token: other hosts cannot use netscand")


def locate(session: Session, config: str | None) -> tuple[TokenFile, bool]:
    """Return the token file of the netscand with this configuration, and whether it is running. Raises Failure."""
    if session.url:
        raise Usage("tokens can be changed only on the host of netscand", "run netscanctl token there, without --url")
    session.socket = session.socket or socket_of(config)
    try:
        access = read_access(session)
    except NoDaemon:
        if os.path.realpath(session.daemon.socket) != os.path.realpath(socket_of(config)):  # of another netscand
            raise
        return token_file_of_config(config), False
    if not access.token_file:
        hint = "edit the file of LoadCredential= (see systemctl cat netscand), then: systemctl restart netscand"
        raise Failure("systemd passes the tokens of this netscand as a credential", hint)
    return TokenFile(Path(access.token_file), access.uid, access.gid), True


def socket_of(config: str | None) -> str:
    """Return the Unix socket of the netscand with this configuration. Raises Failure."""
    return (config_key(Path(config), "listen", "unix") if config else "") or DEFAULT_SOCKET


def read_access(session: Session) -> Access:
    """Return how clients reach netscand. Raises Failure."""
    status = session.client.read(session.client.get("/api/status"), DaemonStatus)
    if status.access is None:
        raise Incompatible(f"netscand {status.version} is too old for this command", "restart or upgrade netscand")
    return status.access


def _reload(session: Session) -> str | None:
    """Have netscand read the file; return why it did not."""
    try:
        session.client.post("/api/reload", b"")
    except NotPermitted as refused:
        return refused.cause
    except Failure as refused:
        return str(refused)
    return None
