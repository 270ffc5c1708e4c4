"""Command line of netscand-hub: without a command, it serves; `administration.py` has the commands."""

import argparse
import faulthandler
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from netscand import __version__, nats_settings
from netscand.config import ConfigError
from netscand.hub import settings
from netscand.hub.settings import DEFAULT
from netscand.service import credentials

EX_UNAVAILABLE, EX_TEMPFAIL, EX_CONFIG = 69, 75, 78
"""sysexits.h: a component failed; already running; configuration."""
INTERRUPTED = 130
"""What shells expect after Ctrl-C (128 + SIGINT)."""


class Command(NamedTuple):
    """A command that administers the hub."""

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]


def add_init(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of init."""
    parser.add_argument("host", nargs="?", metavar="HOST", help="name or address of this host, as the sites reach it")
    parser.add_argument("--port", type=int, metavar="N", help="port of the server (default 4222)")
    parser.add_argument(
        "--size", type=int, metavar="GIB", help="maximum GiB of the log (default 10, or a third of the free disk)"
    )
    parser.add_argument(
        "--certificate", type=Path, metavar="FILE",
        help="certificate of the server, PEM, instead of one by an authority of the hub",
    )  # fmt: skip
    parser.add_argument("--key", type=Path, metavar="FILE", help="private key of --certificate, PEM")
    parser.add_argument(
        "--no-commands", action="store_true", help="send no commands to the sites; for more than 1000 sites"
    )


def add_add_site(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of add-site."""
    parser.add_argument("name", metavar="NAME", help="name of the site")
    parser.add_argument(
        "--key", metavar="KEY", help="public key of the site; without it, print the command to run at the site"
    )
    parser.add_argument("--replace", action="store_true", help="replace the key of a site that has one")


def add_remove_site(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of remove-site."""
    parser.add_argument("name", metavar="NAME", help="name of the site")
    parser.add_argument("--purge", action="store_true", help="also delete its events from the log")


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of doctor."""
    parser.add_argument(
        "--repair", action="store_true", help="correct streams and keys; rebuild the streams that are made from the log"
    )
    parser.add_argument("--json", action="store_true", help='print an object with "ok" and the list "checks"')


COMMANDS: Sequence[Command] = (
    Command("init", "set up the NATS server and the hub, or repair them", add_init),
    Command("add-site", "let a site publish", add_add_site),
    Command("remove-site", "revoke the key of a site, and remove it from the hubs", add_remove_site),
    Command("doctor", "find problems of the server, the log and the sites", add_doctor),
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; packaging/manuals.py makes the manual page from it."""
    found = argparse.ArgumentParser(
        "netscand-hub", description="Serve the devices of many sites, from their log.", allow_abbrev=False
    )
    found.add_argument("--config", type=Path, metavar="FILE", help=f"configuration file (default {DEFAULT})")
    found.add_argument("--check-config", action="store_true", help="print errors in the configuration, and exit")
    found.add_argument("--version", action="version", version=f"netscand-hub {__version__}")
    commands = found.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for command in COMMANDS:
        one = commands.add_parser(command.name, help=command.summary, description=command.summary, allow_abbrev=False)
        command.add_arguments(one)
    return found


def main() -> None:
    """Run the command line; the exit code says what happened. Ctrl-C ends it quietly at any time."""
    arguments = parser().parse_args()
    nats_settings.find_library()
    try:
        if arguments.command is not None:
            sys.exit(_administer(arguments))
        path = arguments.config or DEFAULT
        if arguments.check_config:
            sys.exit(_check_config(path, required=arguments.config is not None))
        _serve(settings.load(path, required=arguments.config is not None), path)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in nats_settings.MISSING:
            raise
        sys.exit(_print_error("nats-py or python3-nacl is missing; to install it, see docs/sites.md", EX_CONFIG))
    except ConfigError as wrong:
        sys.exit(_print_error("\nnetscand-hub: ".join(wrong.faults), EX_CONFIG))


def _check_config(path: Path, *, required: bool) -> int:
    """Print all errors in a configuration, and in the files that it names; return the exit code."""
    reading = settings.read(path, required=required)
    table = reading.table(settings.Hub)
    faults = [*reading.faults, *(settings.faults(table, credentials()) if table is not None else ())]
    for fault in faults:
        _print_error(f"{path}: {fault}", EX_CONFIG)
    if faults:
        return EX_CONFIG
    sys.stdout.write(f"{path}: {'good' if path.exists() else 'does not exist, so the defaults apply'}\n")
    return 0


def _administer(arguments: argparse.Namespace) -> int:
    """Run a command, and return its exit code. A hub that serves imports nothing of this."""
    from netscand.hub import administration, doctor
    from netscand.hub.log_server import ServerError

    commands = {
        "init": administration.init, "add-site": administration.add_site, "remove-site": administration.remove_site,
        "doctor": doctor.doctor,
    }  # fmt: skip
    try:
        return commands[arguments.command](arguments)
    except ServerError as error:
        return _print_error(str(error), EX_UNAVAILABLE)


def _serve(config: settings.Config, path: Path) -> None:
    """Run the hub until SIGTERM or SIGINT; exit with the code of what went wrong."""
    from netscand.event_log import open_log
    from netscand.partial_imports import import_aiohttp_server

    faulthandler.enable()  # the watchdog's SIGABRT writes a traceback of the hang to the log
    open_log(config.log.level)
    import_aiohttp_server()
    from netscand.serve.auth import TokensRefused
    from netscand.serve.listen import AlreadyRunning, ListenError

    try:
        from netscand.hub.daemon import run

        run(config, path, credentials())
    except AlreadyRunning as wrong:
        sys.exit(_print_error(str(wrong), EX_TEMPFAIL))
    except (ListenError, TokensRefused) as wrong:
        sys.exit(_print_error(str(wrong), EX_CONFIG))
    except ExceptionGroup as lost:
        known, others = lost.split((ConfigError, AlreadyRunning, ListenError, TokensRefused))
        if known is not None and others is None:
            (first, *_) = known.exceptions
            sys.exit(_print_error(str(first), EX_TEMPFAIL if isinstance(first, AlreadyRunning) else EX_CONFIG))
        logging.getLogger(__name__).critical("a part failed; see the traceback", exc_info=lost)
        sys.exit(EX_UNAVAILABLE)


def _print_error(sentence: str, code: int) -> int:
    sys.stderr.write(f"netscand-hub: {sentence}\n")
    return code


if __name__ == "__main__":
    main()
