"""Writes the manual pages netscand(8), netscanctl(1) and netscand.toml(5) into the folder named on the command line.

What the code knows comes out of the code: options, commands, keys, defaults, bounds. What only a person knows stands
here and in packaging/netscand.toml. `tests/system/test_manuals.py` finds every one of them in the pages.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import click  # noqa: E402
import msgspec  # noqa: E402

from netscanctl.cli import cli  # noqa: E402
from netscand import __main__ as daemon  # noqa: E402
from netscand import __version__, config  # noqa: E402

CONFIGURATION = ROOT / "packaging" / "netscand.toml"

DAEMON_EXITS = {
    0: "It was told to end (SIGTERM, SIGINT), or did what an option asked for.",
    daemon.EX_CHECK_FAILED: "With --check: a check failed.",
    2: "The command line is wrong.",
    daemon.EX_UNAVAILABLE: "It lost a room: a part of it ended unexpectedly, and the log says which.",
    daemon.EX_TEMPFAIL: "Another netscand is running already, and is named.",
    daemon.EX_NOPERM: "Not permitted: it needs the capability CAP_NET_RAW and sockets of AF_PACKET.",
    daemon.EX_CONFIG: "The configuration cannot be used; the message names the file, the key and what was expected.",
}

CLIENT_EXITS = {
    0: "Success, also with an empty list.",
    1: "The daemon refused, DEVICE matched no device or several, no TARGET answered, or output could not be written.",
    2: "Usage error.",
    3: "No daemon answers; the message says how to start it.",
    4: "Not permitted; the message says what to do.",
    5: "Incompatible versions of netscanctl and the daemon.",
    6: "Timed out.",
}

JOURNAL = {
    "MESSAGE_ID": "the same for every event: b04d2d9ff5c54a2c8e5dd6bb0d0ac3f4",
    "NETSCAND_KIND": "the kind of the event: discovered, online, offline, address_conflict and so on",
    "NETSCAND_MAC": "the device",
    "NETSCAND_IP": "the address that the event is about",
    "NETSCAND_NAME": "the device's label or host name",
    "NETSCAND_STATUS": "what the device is now: online, offline or unknown",
    "NETSCAND_NETWORK": "the network, such as 192.168.1.0/24@eth0",
    "NETSCAND_OTHER": "a second MAC, of a conflict",
    "NETSCAND_REASON": "why it is so",
    "NETSCAND_CURSOR": "the cursor of the event",
    "NETSCAND_ROOM": "the part of netscand that speaks; every entry has it",
}


# ---- roff(7) ------------------------------------------------------------------------------------------------------


def text(words: str) -> str:
    """Words as they are, whatever they hold."""
    safe = words.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga")
    safe = "".join(char if char.isascii() else rf"\[u{ord(char):04X}]" for char in safe)
    return "\n".join(rf"\&{line}" if line.startswith((".", r"\(aq")) else line for line in safe.splitlines())


def head(name: str, section: int, what: str) -> list[str]:
    """The first lines of a page."""
    return [
        rf'.TH {name.upper()} {section} "" "netscand {__version__}"',
        ".SH NAME",
        rf"{text(name)} \- {text(what)}",
    ]


def tagged(tag: str, *said: str) -> list[str]:
    """A term in bold, and what is said of it."""
    return [".TP", rf"\fB{text(tag)}\fR", *[text(line) for line in said if line]]


def paragraphs(words: str) -> list[str]:
    """Paragraphs; click's backspace marks are its own business."""
    found = [" ".join(part.split()) for part in words.replace("\b", "").split("\n\n")]
    return [line for part in found if part for line in (".PP", text(part))]


def example(*lines: str) -> list[str]:
    """Lines as they are typed."""
    return [".PP", ".in +4n", ".EX", *[text(line) for line in lines], ".EE", ".in"]


# ---- the pages ------------------------------------------------------------------------------------------------------


def netscand() -> list[str]:
    """The page of the daemon."""
    asked = daemon.parser()
    page = head("netscand", 8, "know which devices are on the local networks")
    page += [".SH SYNOPSIS", r"\fBnetscand\fR [\fIOPTION\fR]..."]
    page += [".SH DESCRIPTION"]
    page += paragraphs(
        "netscand listens to the local networks, asks sparingly (ARP), and tells every client the instant that a "
        "device comes, goes, or changes its address. It follows interfaces as they come, go and change. Its clients "
        "are netscanctl(1), browsers and programs: a WebSocket at /ws, HTTP at /api, on a Unix socket and loopback.\n\n"
        "It runs as the service netscand.service, as the user netscan, with the capability CAP_NET_RAW and no other. "
        "The Unix socket belongs to netscand.socket, so that a restart refuses nobody."
    )
    page += [".SH OPTIONS"]
    for action in asked._actions:
        names = ", ".join(action.option_strings) + (f" {action.metavar}" if action.metavar else "")
        page += tagged(names, f"{str(action.help)[:1].upper()}{str(action.help)[1:]}.")
    page += [".SH SIGNALS"]
    page += tagged(
        "SIGHUP", "Read the configuration anew. A file that cannot be used is told in the log, and changes nothing."
    )
    page += tagged("SIGTERM, SIGINT", "End, within two seconds.")
    page += [".SH EXIT STATUS"]
    for code, meaning in DAEMON_EXITS.items():
        page += tagged(str(code), meaning)
    page += [".SH ACCESS"]
    page += paragraphs(
        "There are three roles: read (see everything), scan (and ask for scans), admin (and change what is kept of a "
        "device). On the Unix socket root and the members of the group netscan have the role admin, every other user "
        "that of [access] others in netscand.toml(5). To join the group:"
    )
    page += example("usermod -aG netscan USER")
    page += [".SH JOURNAL"]
    page += paragraphs("Every event is one entry in the journal, with these fields beside its message:")
    for name, what in JOURNAL.items():
        page += tagged(name, what)
    page += paragraphs("All that happened to one device, and every warning:")
    page += example("journalctl -u netscand NETSCAND_MAC=00:11:22:33:44:55", "journalctl -u netscand -p warning")
    page += [".SH FILES"]
    page += tagged("/etc/netscand/netscand.toml", "The configuration, see netscand.toml(5).")
    page += tagged("/run/netscand/netscand.sock", "The Unix socket.")
    page += tagged("/var/lib/netscand", "The history. It tells who is at home when: only netscand may read it.")
    page += tagged(
        "/usr/share/doc/netscand/examples/addresses.conf",
        "A drop-in that limits the addresses netscand may exchange packets with.",
    )
    page += [".SH SEE ALSO", r"\fBnetscanctl\fR(1), \fBnetscand.toml\fR(5), \fBjournalctl\fR(1)"]
    return page


def netscanctl() -> list[str]:
    """The page of the client."""
    context = click.Context(cli, info_name="netscanctl")
    page = head("netscanctl", 1, "list and watch the devices on the local networks, as seen by netscand")
    page += [".SH SYNOPSIS", r"\fBnetscanctl\fR [\fIOPTION\fR]... \fICOMMAND\fR [\fIARGUMENT\fR]..."]
    page += [".SH DESCRIPTION"]
    page += paragraphs(
        "netscanctl is the client of netscand(8) for the command line. Data goes to stdout: tables on a terminal, "
        "columns in a pipe, and with --json the daemon's answer as received. Notices and errors go to stderr. Times "
        "are local; in JSON they are UTC."
    )
    page += example(
        "netscanctl watch", "netscanctl scan-now 192.168.1.0/24", "netscanctl wait-for printer --timeout 60"
    )
    page += [".SH OPTIONS", *_options(cli, context)]
    page += [".SH COMMANDS"]
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        usage = " ".join(word for word in command.collect_usage_pieces(inner) if word != "[OPTIONS]")
        page += [f".SS {text(f'{name} {usage}'.strip())}", *paragraphs(command.help or "")[1:]]
        page += _options(command, inner)
    page += [".SH EXIT STATUS"]
    for code, meaning in CLIENT_EXITS.items():
        page += tagged(str(code), meaning)
    page += [".SH ENVIRONMENT"]
    page += tagged("NETSCANCTL_SOCKET", "The Unix socket, like --socket.")
    page += tagged("NETSCANCTL_URL", "The URL of the daemon, like --url.")
    page += tagged("NO_COLOR", "If set and not empty: no colours.")
    page += [".SH FILES"]
    page += tagged("/run/netscand/netscand.sock", "The Unix socket of the daemon on this host.")
    page += [".SH SEE ALSO", r"\fBnetscand\fR(8), \fBnetscand.toml\fR(5)"]
    return page


def _options(command: click.Command, context: click.Context) -> list[str]:
    page: list[str] = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):  # arguments stand in the headline
            page += tagged(" ".join(record[0].split()), " ".join(record[1].split()))
    return page


def netscand_toml() -> list[str]:
    """The page of the configuration."""
    page = head("netscand.toml", 5, "the configuration of netscand")
    page += [".SH SYNOPSIS", r"\fI/etc/netscand/netscand.toml\fR", ".SH DESCRIPTION"]
    page += paragraphs(
        "The file is TOML. Every key is optional, and a key that netscand does not know is an error. Times are in "
        "seconds. netscand(8) reads it when it starts and at systemctl reload netscand; [listen] and [history] path "
        "are taken at the next restart. To check a file:"
    )
    page += example("netscand --check-config /etc/netscand/netscand.toml")
    for table, said, keys in tables():
        page += [f'.SH "{text(table)}"', *paragraphs(" ".join(said))]
        for key, words, shown in keys:
            page += tagged(f"{key} = {shown}", words or "", bounds(table, key))
    page += [".SH SEE ALSO", r"\fBnetscand\fR(8), \fBnetscanctl\fR(1)"]
    return page


def tables() -> Iterator[tuple[str, list[str], list[tuple[str, str, str]]]]:
    """Each table of packaging/netscand.toml: its name, what is said of it, and its keys with what is said of them."""
    name, about, said = "", list[str](), list[str]()
    keys: list[tuple[str, str, str]] = []
    for line in [*CONFIGURATION.read_text().splitlines(), "[end]"]:
        if line.startswith("# "):
            said.append(line[2:].strip())
        elif line.startswith(("[", "#[")):
            if name:
                yield name, about, keys
            name, about, said, keys = line.lstrip("#"), said if line.startswith("#") else [], [], []
        elif line.startswith("#"):
            key, _, shown = line[1:].partition(" = ")
            keys.append((key, " ".join(said), shown))
            said = []
        elif not name:
            said = []


def bounds(table: str, key: str) -> str:
    """What a key of a number must lie between, out of the types in netscand/config.py."""
    name = table.strip("[]")
    struct = (
        config.NetworkRule
        if name == "network"
        else {f.name: f.type for f in msgspec.structs.fields(config.Config)}[name]
    )
    kind = {field.name: field.type for field in msgspec.structs.fields(struct)}[key]
    found: list[str] = []
    for variant in getattr(kind, "__args__", (kind,)):
        for meta in getattr(variant, "__metadata__", getattr(kind, "__metadata__", ())):
            least = (
                f"from {meta.ge:,}" if meta.ge is not None else f"more than {meta.gt:,}" if meta.gt is not None else ""
            )
            most = f"to {meta.le:,}" if meta.le is not None else ""
            found = [" ".join(part for part in (least, most) if part)]
    return f"({', '.join(found)})" if found and found[0] else ""


PAGES = {"netscand.8": netscand, "netscanctl.1": netscanctl, "netscand.toml.5": netscand_toml}


def main() -> None:
    """Write them."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text("\n".join(page()) + "\n")


if __name__ == "__main__":
    main()
