"""Commands of netscand-hub that set up the server, its sites and their keys: init, add-site, remove-site."""

import argparse
import asyncio
import base64
import errno
import re
import shutil
import socket
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from msgspec import structs

from netscand import nats_settings, protocol, sites
from netscand.config import ConfigError
from netscand.hub import settings
from netscand.hub.log_server import (
    START,
    LogServer,
    ServerError,
    booted,
    is_enabled,
    make_streams,
    process,
    reload,
    systemctl,
    with_server,
)  # fmt: skip
from netscand.hub.places import (
    SERVICE,
    SOON,
    Places,
    ends_within,
    has_host,
    make_authority,
    make_certificate,
    new_key,
    public_key,
    write,
)  # fmt: skip
from netscand.hub.server_config import KEY, Keys, server_text
from netscand.protocol import Site, SiteList

GIB = 2**30
WRONG_LAST_SEQUENCE = 10071
"""Error code of JetStream: the subject has a message."""
DEBIANS_OWN = {"host: 127.0.0.1", "port: 4222"}
"""Lines of /etc/nats-server.conf as shipped by Debian: a server that is not in use yet."""
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*")


def places_of(arguments: argparse.Namespace) -> Places:
    """Return the files that belong to --config."""
    return Places(Path(arguments.config or settings.DEFAULT).absolute())


def print_line(line: str) -> None:
    """Print a line for people."""
    sys.stdout.write(f"{line}\n")


# ---- init


def init(arguments: argparse.Namespace) -> int:
    """Set up the server, or what is missing of it. Raises ConfigError or ServerError."""
    places = places_of(arguments)
    before = settings.load(places.config, required=False).hub
    if (arguments.certificate is None) != (arguments.key is None):
        raise ConfigError("--certificate and --key: set both, or none")
    address = _address(arguments, before)
    host, port = nats_settings.host_and_port(address)
    changed = _make_files(places, arguments, host, port)
    table = _write_hub_toml(places, before, address, own_authority=places.file("ca.pem").exists())
    _start(places, port, changed=changed)
    if process(places) is None:
        print_line(
            f"next, start the server, and run netscand-hub init again: nats-server -c {places.file('server.conf')}"
        )
        return 0
    size = _size(places)
    for name, done in with_server(places, table, lambda server: make_streams(server, size), patience=START).items():
        print_line(f"stream {name}: {done}")
    with_server(places, table, lambda server: add_entries(server, *places.read_keys().sites))
    if places.has_units and booted():
        systemctl("enable", "--now", "netscand-hub.service")
        _until_hub_answers(settings.load(places.config).listen.unix)
        print_line("netscand-hub.service: running")
    print_line("next, for each site: run netscand-hub add-site NAME; it prints the command to run at the site")
    return 0


def _address(arguments: argparse.Namespace, before: settings.Hub) -> str:
    if arguments.host is None:
        if before.address is None:
            raise ConfigError("HOST is missing: the name or address of this host, as the sites reach it")
        if arguments.port is not None:
            raise ConfigError("--port needs HOST")
        return before.address
    if not HOST.fullmatch(arguments.host):
        raise ConfigError(f"HOST {arguments.host!r}: expected a name or an address, such as hub.example.org")
    port = arguments.port if arguments.port is not None else nats_settings.PORT
    if not 0 < port < 65536:
        raise ConfigError(f"--port {port}: expected a number from 1 to 65535")
    return f"tls://{f'[{arguments.host}]' if ':' in arguments.host else arguments.host}:{port}"


def _make_files(places: Places, arguments: argparse.Namespace, host: str, port: int) -> bool:
    """Make keys, certificates and configuration where they are missing; return whether a restart is needed."""
    path = places.file("server.conf")
    if path.exists() and not re.search(rf'(?m)^listen: ".*:{port}"$', path.read_text()):
        raise ConfigError(f"{path} does not listen on port {port}: correct it, or delete it and run this again")
    if path.exists() and arguments.size is not None:
        raise ConfigError(
            f"--size: {path} has max_file_store already: correct it, or delete the file and run this again"
        )
    size = 0 if path.exists() else _log_size(places, arguments.size)
    seeds = [_seed(places.file("admin.key")), _seed(places.hub_key)]
    public = [public_key(seed) for seed in seeds]
    try:
        keys = places.read_keys()
    except ConfigError:
        if places.file("keys.json").exists():
            raise
        keys = Keys(admin="", hub="")
    places.write_keys(structs.replace(keys, admin=public[0], hub=public[1], commands=not arguments.no_commands))
    changed = _certificates(places, arguments, host)
    if not path.exists():
        host_part = "[::]" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104 - sites connect from anywhere
        write(path, server_text(
            listen=f"{host_part}:{port}", name=host, certificate=places.file("server.pem"), key=places.certificate_key,
            store=places.store, pid=places.pid, size=2 * size,
        ).encode())  # fmt: skip
        print_line(f"{path}: written")
        changed = True
    return changed


def _seed(path: Path) -> str:
    """Return the private key in a file, which is made if there is none. Raises ConfigError."""
    if not path.exists():
        write(path, f"{new_key()[0]}\n".encode(), 0o600)
        print_line(f"{path}: new key, readable only by root")
    text = Places(path).seed(path)
    if not nats_settings.SEED.fullmatch(text):
        raise ConfigError(f"{path}: not a private key; delete it, and run netscand-hub init again")
    return text


def _certificates(places: Places, arguments: argparse.Namespace, host: str) -> bool:
    """Make the server's certificate, or take the user's; return whether it is another one."""
    pem = places.file("server.pem")
    if arguments.certificate is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(arguments.certificate, arguments.key)
            chain, key = arguments.certificate.read_bytes(), arguments.key.read_bytes()
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"--certificate {str(arguments.certificate)!r}: {error.strerror or error}") from None
        write(places.file("server.key"), key, 0o600)
        write(pem, chain)
        places.file("ca.pem").unlink(missing_ok=True)
        return True
    if pem.exists() and not places.file("ca.pem").exists():  # the user's own, of an earlier init
        return False
    if not places.file("ca.key").exists() or ends_within(places.file("ca.pem"), 0):
        make_authority(places)
        pem.unlink(missing_ok=True)
        print_line(f"{places.file('ca.pem')}: the authority that the sites trust")
    if pem.exists() and not ends_within(pem, SOON) and has_host(pem, host):
        return False
    make_certificate(places, host)
    print_line(f"{pem}: the server's certificate, for {host}")
    return True


def _log_size(places: Places, wanted: int | None) -> int:
    """Return the bytes of the log. Raises ConfigError."""
    folder = next(path for path in (places.store, *places.store.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if wanted is None:
        return min(10 * GIB, free // 3)
    if wanted < 1 or 2 * wanted * GIB > free:
        raise ConfigError(
            f"--size {wanted}: the streams need {2 * wanted} GiB in {folder}, which has {free // GIB} free"
        )
    return wanted * GIB


def _size(places: Places) -> int:
    """Return the bytes of the log, of the server's configuration."""
    found = re.search(r"max_file_store: (\d+)", places.file("server.conf").read_text())
    return int(found[1]) // 2 if found else 10 * GIB


def _write_hub_toml(places: Places, before: settings.Hub, address: str, *, own_authority: bool) -> settings.Hub:
    """Write hub.toml if it is missing, else check that it fits; return its table."""
    _, port = nats_settings.host_and_port(address)
    table = settings.Hub(
        server=f"tls://localhost:{port}" if own_authority else address, address=address,
        ca_file=str(places.file("ca.pem")) if own_authority else None,
        key_file=None if places.has_units else str(places.hub_key),
    )  # fmt: skip
    if not places.config.exists():
        given = ((key, getattr(table, key)) for key in ("server", "address", "ca_file", "key_file"))
        lines = [f"{key} = {msgspec.json.encode(value).decode()}" for key, value in given if value is not None]
        write(places.config, "\n".join(["# Configuration of netscand-hub(8).", "[hub]", *lines, ""]).encode())
        print_line(f"{places.config}: written")
        return table
    if (before.server, before.ca_file, before.address) != (table.server, table.ca_file, table.address):
        raise ConfigError(
            f"{places.config}: [hub] has server {before.server!r}, ca_file {before.ca_file!r} and address "
            f"{before.address!r}; expected {table.server!r}, {table.ca_file!r} and {table.address!r}: correct it"
        )
    return before


def _start(places: Places, port: int, *, changed: bool) -> None:
    """Start the server, if systemd does that here. Raises ConfigError or ServerError."""
    running = process(places)
    if running is None:
        _free_port(places, port)
    if not (places.has_units and booted()):
        if running is not None:
            reload_keys(places)
        return
    systemctl("enable", f"{SERVICE}.service")
    if running is not None and not changed:
        reload_keys(places)
    else:
        systemctl("restart", f"{SERVICE}.service")
    until = time.monotonic() + START
    while process(places) is None:
        if time.monotonic() > until:
            raise ServerError(f"{SERVICE}.service does not start; see journalctl -u {SERVICE}")
        time.sleep(0.1)
    print_line(f"{SERVICE}.service: running")


NO_ANSWER = (OSError, TimeoutError, aiohttp.ClientError, msgspec.DecodeError)
"""What `sites_of_hub` raises if no hub answers."""


def sites_of_hub(path: str) -> list[Site]:
    """Return what the hub that runs here knows of its sites. Raises one of NO_ANSWER."""

    async def get() -> list[Site]:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(path), raise_for_status=True) as session,
            session.get("http://localhost/api/sites", timeout=aiohttp.ClientTimeout(START)) as answer,
        ):
            return msgspec.json.decode(await answer.read(), type=SiteList).sites

    return asyncio.run(get())


def _until_hub_answers(path: str) -> None:
    """Wait until the hub serves clients, which is later than its unit's start. Raises ServerError."""
    until = time.monotonic() + START
    while True:
        try:
            sites_of_hub(path)
        except NO_ANSWER:
            if time.monotonic() > until:
                raise ServerError("netscand-hub.service does not answer; see journalctl -u netscand-hub") from None
            time.sleep(0.2)
        else:
            return


def _free_port(places: Places, port: int) -> None:
    """Stop Debian's server if it was only installed. Raises ConfigError if another program uses the port."""
    conf = Path("/etc/nats-server.conf")
    as_shipped = conf.exists() and set(conf.read_text().splitlines()) - {""} <= DEBIANS_OWN
    if places.has_units and booted() and as_shipped and is_enabled("nats-server.service"):
        systemctl("disable", "--now", "nats-server.service")
        print_line(f"nats-server.service: stopped and disabled; {SERVICE}.service runs the server instead")
    with socket.socket() as test:
        test.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            test.bind(("", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return
            raise ConfigError(
                f"port {port} is in use by another program (ss -ltnp 'sport = :{port}' shows it): stop it, or delete "
                f"{places.file('server.conf')} and {places.config}, and use another --port"
            ) from None


# ---- sites


def reload_keys(places: Places, change: Callable[[Keys], Keys] = lambda keys: keys) -> None:
    """Change the keys, and reload them in the server; if it refuses, restore the old ones. Raises ServerError."""
    before = places.read_keys()
    after = change(before)
    new = {name for name, key in after.sites.items() if before.sites.get(name) != key}
    try:
        # Twice: after the first, nats-server 2.10 to 2.15 lets a new account import from the log's former account. So a
        # new key is in the second only: a site that connects before would find no stream.
        for closed in (new, ()):
            seed, probe = new_key()
            is_running = process(places) is not None
            places.write_keys(structs.replace(after, probe=probe), closed if is_running else ())
            if not is_running:
                print_line(
                    f"no NATS server runs here with {places.file('server.conf')}: the change takes effect at its start"
                )
                return
            reload(places, settings.load(places.config).hub, seed)
    except ServerError:
        places.write_keys(before)
        raise


def _name(name: str) -> str:
    if not sites.NAME.fullmatch(name):
        raise ConfigError(f"NAME {name!r}: expected 1 to 32 letters, digits, - or _")
    return name


def add_site(arguments: argparse.Namespace) -> int:
    """Let a site publish; without its key, print what the site runs. Raises ConfigError or ServerError."""
    places, name, key = places_of(arguments), _name(arguments.name), arguments.key
    keys = places.read_keys()
    if key is None:
        if name in keys.sites:
            hint = f"to replace it: netscand-hub add-site {name} --key KEY --replace"
            sys.stderr.write(f"netscand-hub: site {name} already has a key; {hint}\n")
        print_line(join_command(places, name))
        return 0
    if not KEY.fullmatch(key):
        hint = (
            "; that is a private key, which must stay at the site: make another one there"
            if key.startswith("SU")
            else ""
        )
        raise ConfigError(
            f"--key {'(hidden)' if hint else repr(key)}: expected a public key, U and 55 characters{hint}"
        )
    owner = next((site for site, one in keys.sites.items() if one == key), None)
    if owner == name:
        print_line(f"site {name} already has this key")
        return 0
    if owner is not None or key in (keys.admin, keys.hub):
        raise ConfigError(f"--key {key}: already the key of {owner or 'this hub'}; make another one for {name}")
    if name in keys.sites and not arguments.replace:
        raise ConfigError(
            f"NAME {name}: taken by the key {keys.sites[name]}; choose another name, or replace the key: --replace"
        )
    reload_keys(places, lambda keys: structs.replace(keys, sites=keys.sites | {name: key}))
    if process(places) is not None:
        with_server(places, settings.load(places.config).hub, lambda server: add_entries(server, name))
    print_line(f"site {name} may publish with its key")
    return 0


async def add_entries(server: LogServer, *names: str) -> None:
    """Add an empty owner entry of each site that has none, by which a hub knows it before it publishes.

    Raises ServerError.
    """
    for name in names:
        only = {"Nats-Expected-Last-Subject-Sequence": "0"}
        answer = msgspec.json.decode((await server.raw(sites.owner_subject(name), b"", only)).data)
        if (error := answer.get("error")) and error.get("err_code") != WRONG_LAST_SEQUENCE:
            raise ServerError(f"site {name}: {error.get('description')}; run netscand-hub init, then this again")


def join_command(places: Places, name: str) -> str:
    """Return the command that a site runs."""
    table = settings.load(places.config).hub
    words = ["sudo netscand-uplink join", str(table.address), name]
    if table.ca_file:
        try:
            pem = Path(table.ca_file).read_text()
        except OSError as error:
            raise ConfigError(f"[hub] ca_file {table.ca_file!r}: {error.strerror}; run netscand-hub init") from None
        words.append(f"--ca {base64.b64encode(ssl.PEM_cert_to_DER_cert(pem)).decode()}")
    return " ".join(words)


def remove_site(arguments: argparse.Namespace) -> int:
    """Revoke the key of a site, end its connection, and remove it from the hubs. Raises ConfigError or ServerError."""
    places, name = places_of(arguments), _name(arguments.name)
    keys, table = places.read_keys(), settings.load(places.config).hub
    if name in keys.sites:
        reload_keys(
            places, lambda keys: structs.replace(keys, sites={k: v for k, v in keys.sites.items() if k != name})
        )
        print_line(f"site {name}: its key is revoked, and its connections have ended")
    elif process(places) is None or not with_server(places, table, lambda server: is_known(server, name)):
        known = ", ".join(sorted(keys.sites)[:20]) or "none"
        raise ConfigError(f"NAME {name}: no such site; known: {known}")
    if process(places) is None:
        again = f"netscand-hub remove-site {name}{' --purge' if arguments.purge else ''}"
        print_line(f"site {name}: hubs still list it; to remove it from them, start the server, then: {again}")
        return 0
    number = with_server(places, table, lambda server: publish_removal(server, name))
    print_line(f"site {name}: removed from the hubs")
    if arguments.purge:
        deleted = with_server(places, table, lambda server: purge(server, name, number))
        print_line(f"site {name}: {deleted} messages deleted")
    return 0


async def is_known(server: LogServer, site: str) -> bool:
    """Return whether the streams have anything of a site but that it was removed. Raises ServerError."""
    found: set[str] = set()
    for stream in (sites.LOG, sites.STATE, f"KV_{sites.OWNER}"):
        found |= set(await subjects_of(server, stream, site))
    about = sites.site_subject(site)
    if found != {about}:
        return bool(found)
    last = await server.raw(f"$JS.API.DIRECT.GET.{sites.LOG}.{about}", b"")
    return bool(last.data != protocol.encode(sites.SiteRemoved()))


def checked(stream: str, answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer of the server about a stream. Raises ServerError if it is a refusal."""
    if error := answer.get("error"):
        raise ServerError(f"stream {stream}: {error.get('description')}; netscand-hub doctor finds the cause")
    return answer


async def subjects_of(server: LogServer, stream: str, site: str) -> dict[str, int]:
    """Return how many messages a stream has of a site, by subject. Raises ServerError."""
    wanted = sites.owner_subject(site) if stream.startswith("KV_") else f"{sites.PREFIX}.{site}.>"
    answer = checked(stream, await server.request(f"STREAM.INFO.{stream}", {"subjects_filter": wanted}))
    return dict(answer["state"].get("subjects") or {})


async def publish_removal(server: LogServer, site: str) -> int:
    """Let every hub remove a site; return the number of that message in the log. Raises ServerError."""
    found = await server.raw(sites.site_subject(site), protocol.encode(sites.SiteRemoved()))
    answer = checked(sites.LOG, msgspec.json.decode(found.data))
    await delete(server, f"KV_{sites.OWNER}", {"filter": sites.owner_subject(site)})
    return int(answer["seq"])


async def delete(server: LogServer, stream: str, which: dict[str, object]) -> int:
    """Delete messages of a stream; return how many. Raises ServerError."""
    return int(checked(stream, await server.request(f"STREAM.PURGE.{stream}", which)).get("purged", 0))


async def purge(server: LogServer, site: str, number: int) -> int:
    """Delete what the streams have of a site before its removal; return how many messages the log had.

    `number`: of its removal in the log. A derived stream that has copied it copies nothing earlier afterwards.
    Raises ServerError.
    """
    own, last = f"{sites.PREFIX}.{site}.>", sites.site_subject(site)
    copied = await until_copied(server, sites.STATE, last, number)
    await until_copied(server, sites.CURSOR, sites.cursor_subject(site), number)
    deleted = await delete(server, sites.LOG, {"filter": own, "seq": number})
    await delete(server, sites.STATE, {"filter": own, "seq": copied})
    for stream in (sites.LOG, sites.STATE):
        if left := sum((await subjects_of(server, stream, site)).values()) - 1:
            raise ServerError(f"stream {stream} still has {left} messages of site {site}: run this again")
    return deleted


async def until_copied(server: LogServer, stream: str, subject: str, number: int) -> int:
    """Wait, at most START, until a derived stream has a message of the log; return its number there.

    Raises ServerError.
    """
    until = time.monotonic() + START
    while True:
        headers = (await server.raw(f"$JS.API.DIRECT.GET.{stream}.{subject}", b"")).headers or {}
        if headers.get(sites.SOURCE, "").split(" ")[1:2] == [str(number)]:
            return int(headers[sites.SEQUENCE])
        if time.monotonic() > until:
            raise ServerError(
                f"stream {stream} does not copy the log, so nothing was deleted: netscand-hub doctor --repair, then "
                "run this again"
            )
        await asyncio.sleep(0.05)
