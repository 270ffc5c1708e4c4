"""`netscand-hub doctor`: checks of the server, the streams, the keys and the sites; `--repair` corrects what it can."""

import argparse
import re
import shutil
import sys
from collections.abc import Collection, Iterator
from datetime import UTC, datetime

import msgspec

from netscand import sites
from netscand.check_results import failed, ok, report, warning
from netscand.config import ConfigError
from netscand.event_log import one_line
from netscand.hub import connection, settings
from netscand.hub.administration import NO_ANSWER, places_of, reload_keys, sites_of_hub
from netscand.hub.log import copies_of_log, is_other_log
from netscand.hub.log_server import FULL, LogServer, ServerError, differences, process, with_server
from netscand.hub.places import SOON, Places, ends_within, openssl
from netscand.hub.server_config import accounts_text
from netscand.protocol import CheckResult, Site

LEAST_FREE = 0.1
"""Part of the disk that must be free."""
OLDEST = (2, 10)
"""Oldest supported version of the server."""
REPAIR = "netscand-hub doctor --repair"
NAMED = 5
"""Maximum sites named in a line."""
HINTS = {
    "silent": "at the site: netscanctl status, and journalctl -u netscand-uplink",
    "never_published": "at the site: the command of netscand-hub add-site; then netscanctl status",
    "conflicting": "give one of the two another name, or stop its netscand-uplink",
    "wrong_clock": "set the clock there: timedatectl set-ntp true",
    "other_version": "upgrade netscand at the site, or here",
    "behind": "it catches up by itself; if not, raise [uplink] rate at the site",
    "no_key": "remove it again: netscand-hub remove-site NAME",
}
"""Problem of a site → hint; other problems need nothing, or a look into the journal."""


def doctor(arguments: argparse.Namespace) -> int:
    """Run all checks, and print their results; return 1 if one failed. Raises ConfigError."""
    found = report(examine(places_of(arguments), repair=arguments.repair))
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        widest = max(len(one.check) for one in found.checks)
        for one in found.checks:
            sys.stdout.write(f"{one.verdict:<7}  {one.check:<{widest}}  {one_line(one.found)}\n")
            if one.hint:
                sys.stdout.write(f"{'':<7}  {'':<{widest}}  → {one.hint}\n")
    return 0 if found.ok else 1


def examine(places: Places, *, repair: bool) -> Iterator[CheckResult]:
    """Check the files, then the server, then what it has."""
    try:
        config = settings.load(places.config)
        table = config.hub
    except ConfigError as wrong:
        yield failed("configuration", "; ".join(wrong.faults), "correct it; if it is missing: netscand-hub init HOST")
        return
    yield ok("configuration", f"{places.config}: good")
    try:
        yield from check_files(places)
        yield from check_rights(places, repair=repair)
        yield from check_certificate(places)
        yield check_disk(places)
        yield from with_server(places, table, lambda server: check_server(server, places, table, repair=repair))
    except ConfigError as wrong:
        yield failed("files", "; ".join(wrong.faults), "run this as root; if a file is missing: netscand-hub init")
    except ServerError as error:
        yield failed("server", str(error), "correct it, then run netscand-hub doctor again")
    yield from check_sites(config.listen.unix, places)


def check_files(places: Places) -> Iterator[CheckResult]:
    """Check that only root reads the private keys."""
    secret = [places.file("admin.key"), places.hub_key, places.file("server.key"), places.file("ca.key")]
    wrong = [str(path) for path in secret if path.exists() and path.stat().st_mode & 0o077]
    if wrong:
        yield failed(
            "keys",
            f"other users can read {', '.join(wrong)}",
            f"chmod 600 {' '.join(wrong)}; make new keys if it was read",
        )
    else:
        yield ok("keys", "only root reads the private keys")
    text = places.file("server.conf").read_text() if places.file("server.conf").exists() else ""
    if not re.search(r"(?m)^\s*sync_interval:\s*always\b", text):
        hint = f"add sync_interval: always to jetstream in {places.file('server.conf')}, then restart the server"
        yield warning("server.conf", "a power loss may lose events that were acknowledged", hint)


def check_rights(places: Places, *, repair: bool) -> Iterator[CheckResult]:
    """Check that the server's file has the rights that this version gives to each key."""
    keys = places.read_keys()
    path = places.file("accounts.conf")
    if (path.read_text() if path.exists() else "") == accounts_text(keys):
        yield ok("rights", f"{len(keys.sites)} sites, each with a key for its own subjects only")
    elif repair:
        reload_keys(places)
        yield ok("rights", f"{path}: written again, and loaded by the server")
    else:
        yield failed("rights", f"{path} does not match keys.json", REPAIR)


def check_certificate(places: Places) -> Iterator[CheckResult]:
    """Check how long the certificates are valid."""
    for name in ("server.pem", "ca.pem"):
        path = places.file(name)
        if not path.exists():
            continue
        end = openssl("x509", "-in", str(path), "-noout", "-enddate").partition("=")[2].strip()
        again = (
            "netscand-hub init" if places.file("ca.key").exists() else "netscand-hub init --certificate FILE --key FILE"
        )
        if ends_within(path, 0):
            yield failed("certificate", f"{path} ended on {end}", again)
        elif ends_within(path, SOON):
            yield warning("certificate", f"{path} ends on {end}", again)
        else:
            yield ok("certificate", f"{path} is valid until {end}")


def check_disk(places: Places) -> CheckResult:
    """Check the space where the log is."""
    folder = next(path for path in (places.store, *places.store.parents) if path.exists())
    usage = shutil.disk_usage(folder)
    found = f"{folder}: {usage.free / 2**30:.1f} of {usage.total / 2**30:.1f} GiB free"
    if usage.free < LEAST_FREE * usage.total:
        return warning("disk", found, f"sites wait while it is full: free space, or make the log smaller; {FULL}")
    return ok("disk", found)


async def check_server(server: LogServer, places: Places, table: settings.Hub, *, repair: bool) -> list[CheckResult]:
    """Check the server, its streams, and what is derived of the log. Raises ServerError."""
    results = []
    version = server.client.connected_server_version
    if (version.major, version.minor) < OLDEST:
        results.append(
            failed("server", f"nats-server {version.major}.{version.minor}", "nats-server 2.10 or newer is needed")
        )
    else:
        running = f"nats-server {version.major}.{version.minor}.{version.patch} answers"
        elsewhere = "" if process(places) else ", on another host, or not started by netscand-nats.service"
        results.append(ok("server", running + elsewhere))
    info = await server.request("INFO")
    if info.get("error"):
        return [
            *results,
            failed("server", f"no JetStream: {info['error'].get('description')}", f"{FULL}; else netscand-hub init"),
        ]
    size = (await server.request(f"STREAM.INFO.{sites.LOG}")).get("config", {}).get("max_bytes")
    wanted = {stream["name"]: stream for stream in sites.streams(size=size or 10 * 2**30)}
    for name, stream in wanted.items():
        results.append(await check_stream(server, stream, repair=repair))
        if results[-1].verdict == "failed" and name == sites.LOG:
            return results
    results.append(await check_derived(server, wanted, places, table, repair=repair))
    return results


async def check_stream(server: LogServer, stream: dict[str, object], *, repair: bool) -> CheckResult:
    """Check that a stream exists, with our configuration."""
    name = str(stream["name"])
    found = await server.request(f"STREAM.INFO.{name}")
    if repair:
        done = await server.make_stream(stream)
        if done != "ready":
            return ok(name, done)
    elif "error" in found:
        return failed(name, f"the stream is missing: {found['error'].get('description')}", REPAIR)
    elif wrong := differences(found["config"], stream):
        shown = ", ".join(f"{key} is {found['config'].get(key)!r}" for key in wrong)
        return warning(name, f"the configuration differs from that of netscand-hub: {shown}", REPAIR)
    state = found["state"]
    lag = sum(source.get("lag", 0) for source in found.get("sources") or ())
    behind = f", {lag} messages behind the log" if lag else ""
    return ok(name, f"{state['messages']} messages, {state['bytes'] / 2**20:.1f} MiB{behind}")


async def check_derived(
    server: LogServer, wanted: dict[str, dict[str, object]], places: Places, table: settings.Hub, *, repair: bool
) -> CheckResult:
    """Check that each derived stream has only messages of the log, and that no last value is missing."""
    log = (await server.request(f"STREAM.INFO.{sites.LOG}"))["state"]
    ahead = [
        name for name in (sites.STATE, sites.CURSOR) if await is_ahead(server, name, log["first_seq"], log["last_seq"])
    ]
    if sites.STATE not in ahead and await is_of_another(places, table):
        ahead.insert(0, sites.STATE)
    if not ahead:
        return ok("derived", f"{sites.STATE} and {sites.CURSOR} agree with the log")
    if not repair:
        return failed(
            "derived",
            f"{' and '.join(ahead)}: different from the log, as after a restore of only one of them",
            REPAIR,
        )
    for name in ahead:
        if error := (await server.request(f"STREAM.DELETE.{name}")).get("error"):
            raise ServerError(f"stream {name}: {error.get('description')}; run this again")
        await server.make_stream(wanted[name])
    return ok(
        "derived",
        f"{' and '.join(ahead)}: created again from the log",
        "a device that has no event in the log is missing until its next event",
    )


async def is_of_another(places: Places, table: settings.Hub) -> bool:
    """Return whether the last values are not those of the log as it is. Raises ServerError."""
    try:
        async with connection.connect(table, places.seed(places.hub_key)) as opened:
            copies = await copies_of_log(opened)
            return await is_other_log(opened, copies, max((copy.number for copy in copies.values()), default=0))
    except connection.ServerError as error:
        raise ServerError(str(error)) from None


async def is_ahead(server: LogServer, stream: str, first: int, last: int) -> bool:
    """Return whether the last message, or that of a site, in a derived stream is not in the log."""
    state = (await server.request(f"STREAM.INFO.{stream}"))["state"]
    if not state["messages"]:
        return False
    candidates = [{"seq": state["last_seq"]}]
    if stream == sites.CURSOR:
        names = (await server.request(f"STREAM.INFO.{stream}", {"subjects_filter": ">"}))["state"].get("subjects") or {}
        candidates = [{"last_by_subj": subject} for subject in names]
    for candidate in candidates:
        derived = await direct(server, stream, candidate)
        source = re.match(r"\S+ (\d+)", derived.get(sites.SOURCE, ""))
        if source is None or int(source[1]) < first:
            continue
        origin = await direct(server, sites.LOG, {"seq": int(source[1])})
        if int(source[1]) > last or origin.get(sites.MESSAGE_ID) != derived.get(sites.MESSAGE_ID):
            return True
    return False


async def direct(server: LogServer, stream: str, which: dict[str, object]) -> dict[str, str]:
    """Return the headers of a message in a stream; if there is no such message, only its status."""
    message = await server.raw(f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(which))
    return {str(key): value for key, value in (message.headers or {}).items()}


# ---- the sites, by the hub's own API


def check_sites(socket: str, places: Places) -> Iterator[CheckResult]:
    """Check what the running hub knows of each site: silence, clock, version, and other problems."""
    try:
        found = sites_of_hub(socket)
    except NO_ANSWER as error:
        reason = getattr(error, "strerror", None) or str(error) or "no answer"
        yield warning("hub", f"netscand-hub is not running: {socket}: {reason}", "systemctl start netscand-hub")
        return
    try:
        expected: Collection[str] | None = places.read_keys().sites
    except ConfigError:  # reported above
        expected = None
    troubles = dict(problems(found, expected))
    good = len({site.site for site in found} - {site for sites in troubles.values() for site in sites})
    yield ok("sites", f"{good} of {len(found)} are connected, have this version, and have no problem")
    for word, by_site in troubles.items():
        named = "; ".join(f"{site}: {why}" for site, why in list(by_site.items())[:NAMED])
        others = f"; and {len(by_site) - NAMED} others" if len(by_site) > NAMED else ""
        yield warning("sites", named + others, HINTS.get(word, "see journalctl -u netscand-hub"))


def problems(found: list[Site], expected: Collection[str] | None) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each problem with the sentences about it, by site. `expected`: the sites with a key; None: not known."""
    by_word: dict[str, dict[str, str]] = {}
    for site in found:
        if expected is not None and site.site not in expected:
            by_word.setdefault("no_key", {})[site.site] = "it has no key; a restore of the server's disk brings it back"
            continue
        if site.state != "connected" and "never_published" not in site.problems:
            since = f"since {_shown(site.since)}" if site.since else "since the hub started"
            by_word.setdefault("silent", {})[site.site] = f"silent {since}"
        for word, why in zip(site.problems, site.why, strict=True):
            by_word.setdefault(word, {})[site.site] = why
    for name in sorted(set(expected or ()) - {site.site for site in found}):  # from before add-site made an owner entry
        by_word.setdefault("never_published", {})[name] = "it was added, and the log has no event of it"
    yield from by_word.items()


def _shown(time: str) -> str:
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
