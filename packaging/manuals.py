"""Write the manual pages of the programs and their configuration into the folder named on the command line.

Options, commands, keys, defaults and bounds come from the code; descriptions are here and in packaging/*.toml.
`tests/system/test_manuals.py` checks that the pages have all of them.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import click  # noqa: E402
import msgspec  # noqa: E402

from netscanctl.cli import QUIET, cli  # noqa: E402
from netscanctl.exec_runner import environment  # noqa: E402
from netscanctl.services import program  # noqa: E402
from netscanctl.services.mqtt.__main__ import PROGRAM as MQTT  # noqa: E402
from netscanctl.services.notify.__main__ import PROGRAM as NOTIFY  # noqa: E402
from netscanctl.services.services_file import Settings  # noqa: E402
from netscanctl.services.uplink.__main__ import PROGRAM as UPLINK  # noqa: E402
from netscand import __main__ as daemon  # noqa: E402
from netscand import __version__, config  # noqa: E402
from netscand.hub import __main__ as hub  # noqa: E402
from netscand.protocol import Event  # noqa: E402

CONFIGURATION = ROOT / "packaging" / "netscand.toml"
SERVICES = ROOT / "packaging" / "services.toml"

DAEMON_EXITS = {
    0: "Ended by SIGTERM or SIGINT, or an option such as --once succeeded.",
    daemon.EX_CHECK_FAILED: "With --check: a check failed.",
    2: "Usage error.",
    daemon.EX_DATAERR: "With --replay: the file is damaged, foreign or empty, or its network is unknown.",
    daemon.EX_NOINPUT: "With --replay: the file cannot be opened or read.",
    daemon.EX_UNAVAILABLE: "A component failed; the log names it.",
    daemon.EX_IOERR: "With --replay: output could not be written.",
    daemon.EX_TEMPFAIL: "Another netscand is running; the message names it.",
    daemon.EX_NOPERM: "Not permitted: it needs the capability CAP_NET_RAW and AF_PACKET sockets.",
    daemon.EX_CONFIG: "The configuration is invalid; the message names the file, the key and what was expected.",
}

SERVICE_EXITS = {
    0: "Ended by SIGTERM or SIGINT, or an option such as --check-config succeeded.",
    2: "Usage error.",
    program.EX_UNAVAILABLE: "A component failed; the log names it.",
    program.EX_CONFIG: "The configuration is invalid, or a library is missing; the message says what to do.",
}

HUB_EXITS = {
    0: "Ended by SIGTERM or SIGINT, or a command succeeded.",
    1: "With doctor: a check failed.",
    2: "Usage error.",
    hub.EX_UNAVAILABLE: "The NATS server cannot be reached or refuses, or a component failed; the message says more.",
    hub.EX_TEMPFAIL: "Another netscand-hub is running.",
    hub.EX_CONFIG: "The configuration or an argument is invalid, or a library is missing; the message says what to do.",
}

CLIENT_EXITS = {
    0: "Success, also with an empty list.",
    1: "The daemon refused; DEVICE matched no device or several; no TARGET answered; a line of FILE was skipped; "
    "a check of doctor failed; or output could not be written.",
    2: "Usage error.",
    3: "No daemon answers; the message says how to start it, and netscanctl doctor finds out why.",
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
    "NETSCAND_VENDOR": "the vendor of the device's MAC",
    "NETSCAND_STATUS": "the status of the device after the event: online, offline or unknown",
    "NETSCAND_NETWORK": "the network, such as 192.168.1.0/24@eth0",
    "NETSCAND_OTHER": "a second MAC, for example in a conflict",
    "NETSCAND_REASON": "the reason of the event",
    "NETSCAND_CURSOR": "the cursor of the event",
    "NETSCAND_ROOM": "the component of netscand that wrote the entry; every entry has it",
}


# ---- roff(7) ------------------------------------------------------------------------------------------------------


def text(words: str) -> str:
    """Escape text for roff."""
    safe = words.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga")
    safe = "".join(char if char.isascii() else rf"\[u{ord(char):04X}]" for char in safe)
    return "\n".join(rf"\&{line}" if line.startswith((".", r"\(aq")) else line for line in safe.splitlines())


def head(name: str, section: int, what: str) -> list[str]:
    """Return the first lines of a page."""
    return [
        rf'.TH {name.upper()} {section} "" "netscand {__version__}"',
        ".SH NAME",
        rf"{text(name)} \- {text(what)}",
    ]


def tagged(tag: str, *description: str) -> list[str]:
    """Return a term in bold, and its description."""
    return [".TP", rf"\fB{text(tag)}\fR", *[text(line) for line in description if line]]


def paragraphs(words: str) -> list[str]:
    """Return paragraphs, without click's backspace marks."""
    found = [" ".join(part.split()) for part in words.replace("\b", "").split("\n\n")]
    return [line for part in found if part for line in (".PP", text(part))]


def example(*lines: str) -> list[str]:
    """Return an example of commands."""
    return [".PP", ".in +4n", ".EX", *[text(line) for line in lines], ".EE", ".in"]


# ---- the pages ------------------------------------------------------------------------------------------------------


def netscand() -> list[str]:
    """Return the page of the daemon."""
    parser = daemon.parser()
    page = head("netscand", 8, "monitor which devices are on the local networks")
    page += [".SH SYNOPSIS", r"\fBnetscand\fR [\fIOPTION\fR]..."]
    page += [".SH DESCRIPTION"]
    page += paragraphs(
        "netscand listens to the local networks, sends few ARP requests, and informs every client at once when a "
        "device joins, leaves, or changes its address. It follows changes of network interfaces. Its clients are "
        "netscanctl(1), browsers and programs: a WebSocket at /ws, HTTP at /api, on a Unix socket and on loopback.\n\n"
        "It runs as the service netscand.service, as the user netscan, with CAP_NET_RAW as its only capability. "
        "The Unix socket belongs to netscand.socket, so that clients wait during a restart instead of being refused."
    )
    page += [".SH OPTIONS", *_actions(parser)]
    page += [".SH SIGNALS"]
    page += tagged("SIGHUP", "Read the configuration again. If it is invalid, log the errors and keep the old one.")
    page += tagged("SIGTERM, SIGINT", "Exit within two seconds.")
    page += [".SH EXIT STATUS"]
    for code, meaning in DAEMON_EXITS.items():
        page += tagged(str(code), meaning)
    page += [".SH ACCESS"]
    page += paragraphs(
        "There are three roles: read (see everything), scan (also request scans), admin (also annotate and forget "
        "devices). On the Unix socket, root and the members of the group netscan have the role admin; all other users "
        "have that of [access] others in netscand.toml(5). To join the group:"
    )
    page += example("usermod -aG netscan USER")
    page += [".SH JOURNAL"]
    page += paragraphs("Every event is one entry in the journal, with these fields:")
    for name, what in JOURNAL.items():
        page += tagged(name, what)
    page += paragraphs("To list all events of one device, and all warnings:")
    page += example("journalctl -u netscand NETSCAND_MAC=00:11:22:33:44:55", "journalctl -u netscand -p warning")
    page += [".SH FILES"]
    page += tagged("/etc/netscand/netscand.toml", "The configuration, see netscand.toml(5).")
    page += tagged("/etc/netscand/tokens", "Tokens of other hosts and programs, see netscanctl token in netscanctl(1).")
    page += tagged("/run/netscand/netscand.sock", "The Unix socket.")
    page += tagged("/var/lib/netscand", "The history. It shows who is at home when, so only netscand may read it.")
    page += tagged("/usr/share/doc/netscand/docs", "The documentation; README.md is an index by task.")
    page += tagged(
        "/usr/share/doc/netscand/examples/addresses.conf",
        "A drop-in that limits the addresses netscand may exchange packets with.",
    )
    page += tagged(
        "/usr/share/doc/netscand/examples/container.conf",
        "A drop-in for a container in which the service ends with 226/NAMESPACE, such as LXC without nesting.",
    )
    page += [".SH SEE ALSO", r"\fBnetscanctl\fR(1), \fBnetscand.toml\fR(5), \fBjournalctl\fR(1)"]
    return page


def _actions(parser: argparse.ArgumentParser) -> list[str]:
    return _tagged(parser._actions)


def _tagged(actions: Iterable[argparse.Action]) -> list[str]:
    page: list[str] = []
    for action in actions:
        value = f"[{action.metavar}]" if action.nargs == "?" and action.option_strings else action.metavar
        names = ", ".join(action.option_strings) or " ".join(action.choices or ())
        page += tagged(f"{names} {value or ''}".strip(), f"{str(action.help)[:1].upper()}{str(action.help)[1:]}.")
    return page


def _service(
    name: str, what: str, parser: argparse.ArgumentParser, description: str, files: Mapping[str, str], also: str = ""
) -> list[str]:
    """Return the page of a service that follows the stream; `also`: a second line of the synopsis."""
    page = head(f"netscand-{name}", 8, what)
    page += [".SH SYNOPSIS", rf"\fBnetscand\-{name}\fR [\fIOPTION\fR]...", *((".br", also) if also else ())]
    page += [".SH DESCRIPTION", *paragraphs(description)]
    page += example(f"systemctl enable --now netscand-{name}", "netscanctl status")
    page += [".SH OPTIONS", *_actions(parser), ".SH EXIT STATUS"]
    for code, meaning in SERVICE_EXITS.items():
        page += tagged(str(code), meaning)
    page += [".SH FILES", *tagged("/etc/netscand/services.toml", "The configuration, see services.toml(5).")]
    for path, meaning in files.items():
        page += tagged(path, meaning)
    page += tagged(f"/run/netscand-{name}/status.json", "The status, for netscanctl(1).")
    return [*page, ".SH SEE ALSO", r"\fBnetscand\fR(8), \fBnetscanctl\fR(1), \fBservices.toml\fR(5)"]


def netscand_mqtt() -> list[str]:
    """Return the page of netscand-mqtt."""
    return _service(
        "mqtt",
        "publish presence and events to an MQTT broker and Home Assistant",
        MQTT.parser(),
        "netscand-mqtt follows netscand(8) and publishes each known device to an MQTT broker: its state, retained, and "
        "its discovery for Home Assistant. It publishes every event, and continues after the last one that the "
        "broker acknowledged.\n\n"
        "It runs as the service netscand-mqtt.service, as a user of its own without any capability. To enable it, "
        "after [mqtt] broker is set in /etc/netscand/services.toml:",
        {
            "/etc/credstore/netscand-mqtt.password": "The password at the broker, readable only by root.",
            "/var/lib/netscand-mqtt/cursor": "The cursor of the last event that the broker acknowledged.",
            "/var/lib/netscand-mqtt/topics.json": "The topics of the last run; what is left there is removed.",
        },
    )


def netscanctl() -> list[str]:
    """Return the page of the client."""
    context = click.Context(cli, info_name="netscanctl", **cli.context_settings)
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
        page += _command(name, command, click.Context(command, info_name=name, parent=context))
    page += [".SH EXIT STATUS"]
    for code, meaning in CLIENT_EXITS.items():
        page += tagged(str(code), meaning)
    page += [".SH ENVIRONMENT"]
    page += tagged("NETSCANCTL_SOCKET", "The Unix socket, like --socket.")
    page += tagged("NETSCANCTL_URL", "The URL of the daemon, like --url.")
    page += tagged("NO_COLOR", "If set and not empty: no colours.")
    names = ", ".join(name.decode() for name in environment(Event(cursor="", kind="", at="")))
    page += tagged(names, "Set by watch --exec for CMD: the fields of the event; a missing one is empty.")
    page += [".SH FILES"]
    page += tagged("/run/netscand/netscand.sock", "The Unix socket of the daemon on this host.")
    page += [".SH SEE ALSO", r"\fBnetscand\fR(8), \fBnetscand.toml\fR(5)"]
    return page


def _command(name: str, command: click.Command, context: click.Context) -> list[str]:
    """Return the section of a command; of a group, those of its commands."""
    if isinstance(command, click.Group):
        inner = ((f"{name} {key}", each) for key, each in command.commands.items())
        return [line for key, each in inner for line in _command(key, each, click.Context(each, parent=context))]
    usage = " ".join(word for word in command.collect_usage_pieces(context) if word != "[OPTIONS]")
    heading = [f".SS {text(f'{name} {usage}'.strip())}", *paragraphs(command.help or "")[1:]]
    return heading + _options(command, context)


def _options(command: click.Command, context: click.Context) -> list[str]:
    page: list[str] = []
    for parameter in command.get_params(context):
        if parameter is QUIET:  # described once, as an option of netscanctl
            continue
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):  # arguments are in the heading
            page += tagged(" ".join(record[0].split()), " ".join(record[1].split()))
    return page


def netscand_notify() -> list[str]:
    """Return the page of netscand-notify."""
    return _service(
        "notify",
        "send messages about chosen events by ntfy, webhook, mail or Apprise",
        NOTIFY.parser(),
        "netscand-notify follows netscand(8) and sends messages about events that its rules choose: by default, one "
        "for each new device that is not known. Each message is sent until its channel accepts it; a channel that "
        "does not answer delays no other. What a channel refuses is counted in netscanctl status, and sent once more "
        "at the next start.\n\n"
        "It runs as the service netscand-notify.service, as a user of its own without any capability. To enable it, "
        "after [notify] ntfy or a channel is set in /etc/netscand/services.toml:",
        {
            "/etc/credstore/netscand-notify.NAME": "The secret of the channel NAME, readable only by root.",
            "/var/lib/netscand-notify/state.json": "The cursor, and messages that are not accepted yet.",
        },
        also=r"\fBnetscand\-notify test\fR \fICHANNEL\fR",
    )


def netscand_uplink() -> list[str]:
    """Return the page of netscand-uplink."""
    return _service(
        "uplink",
        "publish the events of this site to NATS JetStream",
        UPLINK.parser(),
        "netscand-uplink follows netscand(8) and publishes every event to a NATS server, where a central view of many "
        "sites reads them. It asks the server for the last event that it has, and continues after it from netscand's "
        "history: while the server is down, nothing is lost.\n\n"
        "It runs as the service netscand-uplink.service, as a user of its own without any capability. It needs "
        "python3-nacl. To enable it, after [uplink] server and site are set in /etc/netscand/services.toml:",
        {"/etc/credstore/netscand-uplink.key": "The private key of this site, readable only by root."},
        also=r"\fBnetscand\-uplink join\fR \fISERVER NAME\fR",
    )


def netscand_hub() -> list[str]:
    """Return the page of netscand-hub."""
    parser = hub.parser()
    page = head("netscand-hub", 8, "serve the devices of many sites, from their log on NATS")
    page += [".SH SYNOPSIS", r"\fBnetscand\-hub\fR [\fIOPTION\fR]... [\fICOMMAND\fR [\fIARGUMENT\fR]...]"]
    page += [".SH DESCRIPTION"]
    page += paragraphs(
        "Without a command, netscand-hub reads the log of all sites from a NATS server, and serves it as "
        "netscand(8) serves one site. netscand-uplink(8) at each site writes the log. Each site has a key of its own, "
        "which reaches only this site's part of the log.\n\n"
        "It runs as the service netscand-hub.service, and the server as netscand-nats.service. To set up both, and to "
        "let a site publish:"
    )
    page += example("netscand-hub init hub.example.org", "netscand-hub add-site home")
    plain = [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]
    page += [".SH OPTIONS", *_tagged(plain), ".SH COMMANDS"]
    for command in hub.COMMANDS:
        one = argparse.ArgumentParser(command.name, allow_abbrev=False)
        command.add_arguments(one)
        usage = " ".join(one.format_usage().split()[1:])
        summary = f"{command.summary[:1].upper()}{command.summary[1:]}."
        page += [f".SS {text(usage)}", *paragraphs(summary), *_actions(one)]
    page += [".SH EXIT STATUS"]
    for code, meaning in HUB_EXITS.items():
        page += tagged(str(code), meaning)
    page += [".SH FILES"]
    page += tagged("/etc/netscand/hub.toml", "The configuration.")
    page += tagged("/etc/netscand/nats", "Configuration, certificates and keys of the server.")
    page += tagged("/etc/credstore/netscand-hub.key", "The private key of the hub, readable only by root.")
    page += tagged("/var/lib/netscand-nats", "The log.")
    return [*page, ".SH SEE ALSO", r"\fBnetscand\-uplink\fR(8), \fBnetscand\fR(8), \fBnetscanctl\fR(1)"]


def netscand_toml() -> list[str]:
    """Return the page of the configuration."""
    page = head("netscand.toml", 5, "the configuration of netscand")
    page += [".SH SYNOPSIS", r"\fI/etc/netscand/netscand.toml\fR", ".SH DESCRIPTION"]
    page += paragraphs(
        "The file is TOML. Every key is optional; unknown keys are errors. Times are in seconds. netscand(8) reads the "
        "file at its start and at systemctl reload netscand; changes of [listen], except tcp, and of [history] path "
        "take effect at the next restart. To check a file:"
    )
    page += example("netscand --check-config /etc/netscand/netscand.toml")
    page += _keys(CONFIGURATION, config.Config)
    page += [".SH SEE ALSO", r"\fBnetscand\fR(8), \fBnetscanctl\fR(1)"]
    return page


def services_toml() -> list[str]:
    """Return the page of the services' configuration."""
    page = head("services.toml", 5, "the configuration of the services that follow netscand")
    page += [".SH SYNOPSIS", r"\fI/etc/netscand/services.toml\fR", ".SH DESCRIPTION"]
    page += paragraphs(
        "The file is TOML, with a table for each service. Every key is optional; unknown keys are errors. A service "
        "reads the file at its start. To check a file:"
    )
    page += example("netscand-mqtt --check-config /etc/netscand/services.toml")
    page += _keys(SERVICES, Settings)
    page += [
        ".SH SEE ALSO",
        r"\fBnetscand\-mqtt\fR(8), \fBnetscand\-notify\fR(8), \fBnetscand\-uplink\fR(8), \fBnetscand\fR(8)",
    ]
    return page


def _keys(path: Path, root: type[config.Table]) -> list[str]:
    page: list[str] = []
    for table, description, keys in tables(path):
        page += [f'.SH "{text(table)}"', *paragraphs(" ".join(description))]
        for key, words, shown in keys:
            page += tagged(f"{key} = {shown}", words or "", bounds(root, table, key))
    return page


def tables(path: Path) -> Iterator[tuple[str, list[str], list[tuple[str, str, str]]]]:
    """Yield each table of a shipped file: name, description, and its keys with their descriptions."""
    name, about, comment = "", list[str](), list[str]()
    keys: list[tuple[str, str, str]] = []
    for line in [*path.read_text().splitlines(), "[end]"]:
        if line.startswith("# "):
            comment.append(line[2:].strip())
        elif line.startswith(("[", "#[")):
            if name:
                yield name, about, keys
            name, about, comment, keys = line.lstrip("#"), comment if line.startswith("#") else [], [], []
        elif line.startswith("#"):
            key, _, shown = line[1:].partition(" = ")
            keys.append((key, " ".join(comment), shown))
            comment = []
        elif not name:
            comment = []


def bounds(root: type[config.Table], table: str, key: str) -> str:
    """Return the bounds of a numeric key, from its type."""
    name, *inner = table.strip("[]").split(".")
    struct = config.NetworkRule if name == "network" else {f.name: f.type for f in msgspec.structs.fields(root)}[name]
    for part in inner[:1]:  # [notify.channel.NAME]
        (struct,) = (config.table_of(f.type) for f in msgspec.structs.fields(struct) if f.name == part)
    kind = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}[key]
    found: list[str] = []
    for variant in getattr(kind, "__args__", (kind,)):
        for meta in getattr(variant, "__metadata__", getattr(kind, "__metadata__", ())):
            least = (
                f"from {meta.ge:,}" if meta.ge is not None else f"more than {meta.gt:,}" if meta.gt is not None else ""
            )
            most = f"to {meta.le:,}" if meta.le is not None else ""
            found = [" ".join(part for part in (least, most) if part)]
    return f"({', '.join(found)})" if found and found[0] else ""


PAGES = {
    "netscand.8": netscand,
    "netscand-mqtt.8": netscand_mqtt,
    "netscand-notify.8": netscand_notify,
    "netscand-uplink.8": netscand_uplink,
    "netscand-hub.8": netscand_hub,
    "netscanctl.1": netscanctl,
    "netscand.toml.5": netscand_toml,
    "services.toml.5": services_toml,
}


def main() -> None:
    """Write all pages."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text("\n".join(page()) + "\n")


if __name__ == "__main__":
    main()
