"""Configuration of the NATS server: an account for each site, and one for the log.

A site has an account of its own because permissions do not limit the subject of an answer: in one account for all, a
site could make the server send an answer, with content of its own, to the subjects of another site, or to
`$JS.API.STREAM.DELETE` (docs/adr/0079). What a site may do in the account of the log is defined by its imports.
"""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from netscand import sites

LOG_ACCOUNT = "NETSCAN"
KEY = re.compile(r"U[A-Z2-7]{55}")
"""Public half of an NKey of a user."""
SITE_CONNECTIONS = 4
"""Maximum connections of a site: one in use, and former ones that the server has not closed yet."""
PAYLOAD = 2 * sites.LARGEST
"""Maximum bytes of a message."""


class Keys(msgspec.Struct, kw_only=True):
    """Public keys that the server accepts; `accounts` is made of them alone."""

    admin: str
    """For the administrator's commands: streams, and that a site is removed."""
    hub: str
    probe: str = ""
    """Made at each change, and used once: a server that accepts it has this configuration."""
    commands: bool = True
    sites: dict[str, str] = {}


def admin_rights() -> dict[str, Any]:
    """Return the permissions of the administrator's key: JetStream's API, owner entries, and that a site is removed."""
    return {"publish": ["$JS.API.>", sites.owner_subject("*"), sites.site_subject("*")], "subscribe": ["_INBOX.>"]}


def accounts(keys: Keys, closed: Collection[str] = ()) -> dict[str, Any]:
    """Return the accounts with their users, exports and imports; `closed`: sites whose account takes no user yet."""
    users: list[dict[str, Any]] = [
        {"nkey": keys.admin, "permissions": admin_rights()},
        {"nkey": keys.hub, "permissions": sites.hub_rights()},
    ]
    if keys.probe:
        users.append({"nkey": keys.probe, "permissions": {"publish": {"deny": ">"}, "subscribe": {"deny": ">"}}})
    exports = [f"{sites.PREFIX}.>", "$JS.API.DIRECT.GET.>", sites.owner_subject("*")]
    log = {
        "jetstream": True,
        "users": users,
        "exports": [{"service": subject} for subject in exports],
        "imports": [
            {"service": {"account": account_name(site), "subject": sites.command_subject(site)}}
            for site in keys.sites
            if keys.commands
        ],
    }
    return {LOG_ACCOUNT: log} | {
        account_name(site): site_account(site, "" if site in closed else key) for site, key in keys.sites.items()
    }


def account_name(site: str) -> str:
    """Return the name of a site's account."""
    return f"site-{site}"


def site_account(site: str, key: str) -> dict[str, Any]:
    """Return the account of a site, which reaches only what it imports."""
    own = f"{sites.PREFIX}.{site}"
    rights = sites.rights(site)
    reads = [subject for subject in rights["publish"] if subject.startswith("$JS.API.DIRECT.GET.")]
    imports = [f"{own}.device.*", f"{own}.network.*", f"{own}.site", f"{own}.alive", sites.owner_subject(site), *reads]
    return {
        "users": [{"nkey": key, "permissions": rights}] if key else [],
        "limits": {"max_connections": SITE_CONNECTIONS},
        "exports": [{"service": sites.command_subject(site)}],
        "imports": [{"service": {"account": LOG_ACCOUNT, "subject": subject}} for subject in imports],
    }


def accounts_text(keys: Keys, closed: Collection[str] = ()) -> str:
    """Return the file that the server's configuration includes: JSON, a line for each account."""
    found = ",\n".join(
        f"{msgspec.json.encode(name).decode()}: {msgspec.json.encode(account).decode()}"
        for name, account in accounts(keys, closed).items()
    )
    return f'# Made by netscand-hub of keys.json: add-site and remove-site change it.\n"accounts": {{\n{found}\n}}\n'


def server_text(*, listen: str, name: str, certificate: Path, key: Path, store: Path, pid: Path, size: int) -> str:
    """Return the server's configuration; `size`: bytes that its streams have on the disk, at most."""
    return f"""\
# Made by netscand-hub init, which does not change it again: delete it, and run init, to have a new one.
server_name: {_quoted(name)}
listen: {_quoted(listen)}
pid_file: {_quoted(str(pid))}
max_payload: {PAYLOAD}
max_connections: 25000
tls {{
  cert_file: {_quoted(str(certificate))}
  key_file: {_quoted(str(key))}
  min_version: "1.2"
  timeout: 10
}}
jetstream {{
  store_dir: {_quoted(str(store))}
  max_file_store: {size}
  max_memory_store: 64MB
  sync_interval: always  # else an acknowledged event may be lost with the power
}}
include "accounts.conf"
"""


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
