"""Command line of netscand: reads the arguments, starts the daemon, maps errors to exit codes."""

import argparse
import faulthandler
import logging
import sys
from importlib.metadata import PackageNotFoundError, version
from ipaddress import IPv4Network
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from netscand import __version__

if TYPE_CHECKING:
    from netscand.config import Config

DEFAULT = Path("/etc/netscand/netscand.toml")
OWN = Path()
"""`--check-config` without FILE."""

EMPTY = "empty, so the defaults apply at a start; a reload refuses it: write a comment into it"

EX_CHECK_FAILED = 1
EX_DATAERR, EX_NOINPUT, EX_UNAVAILABLE, EX_IOERR, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG = 65, 66, 69, 74, 75, 77, 78
"""sysexits.h: bad input; no input; a component failed; no output; already running; not permitted; configuration."""
INTERRUPTED = 130
"""What shells expect after Ctrl-C (128 + SIGINT)."""


def main() -> None:
    """Run the command line; the exit code says what happened. Ctrl-C ends it quietly at any time."""
    try:
        _run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _run() -> None:
    arguments = _arguments()
    # Imported late, here and below: --check-config and --version need no scapy, and Ctrl-C stays quiet.
    from netscand.config import ConfigError, load

    try:
        if arguments.check_config:
            sys.exit(_check_config(None if arguments.check_config is OWN else arguments.check_config, arguments.config))
        if arguments.check:
            sys.exit(_check(arguments))
        if arguments.replay is not None:
            sys.exit(_replay(arguments))
        config = load(arguments.config or DEFAULT, required=arguments.config is not None)
    except ConfigError as wrong:
        sys.exit(_print_error("\nnetscand: ".join(wrong.faults), EX_CONFIG))
    faulthandler.enable()  # the watchdog's SIGABRT writes a traceback of the hang to the log
    try:
        _start(arguments, config)
    except (ImportError, AttributeError) as wrong:
        if (library := _incompatible_library(wrong)) is None:
            raise
        sys.exit(
            _print_error(f"{library}: {wrong}; see pyproject.toml for the versions that netscand needs", EX_UNAVAILABLE)
        )


def _start(arguments: argparse.Namespace, config: "Config") -> None:
    from netscand.event_log import open_log
    from netscand.partial_imports import import_partly, reveal_openssl

    open_log(config.log.level)
    import_partly(openssl=config.listen.tls)
    from netscand.lan.netlink import NetlinkError
    from netscand.lan.wire import WireError
    from netscand.serve.auth import TokensRefused
    from netscand.serve.listen import AlreadyRunning, ListenError
    from netscand.serve.selftest import LibraryError
    from netscand.store.lock import HistoryInUse
    from netscand.store.paths import HistoryRefused

    try:
        if arguments.once:
            from netscand.once import once

            sys.exit(once(config, as_json=arguments.json))
        logging.disable()  # pyroute2 warns about a file that our unit hides and that we do not need
        from netscand.daemon import run

        logging.disable(logging.NOTSET)
        reveal_openssl()
        run(config, arguments.config or DEFAULT)
    except WireError as wrong:
        sys.exit(_print_error(str(wrong), EX_NOPERM if wrong.not_permitted else EX_UNAVAILABLE))
    except (NetlinkError, LibraryError) as wrong:
        sys.exit(_print_error(str(wrong), EX_UNAVAILABLE))
    except (AlreadyRunning, HistoryInUse) as wrong:
        sys.exit(_print_error(str(wrong), EX_TEMPFAIL))
    except (ListenError, TokensRefused, HistoryRefused) as wrong:
        sys.exit(_print_error(str(wrong), EX_CONFIG))
    except ExceptionGroup as lost:
        (first, *others) = lost.exceptions
        if isinstance(first, LibraryError) and not others:
            sys.exit(_print_error(str(first), EX_UNAVAILABLE))
        logging.getLogger(__name__).critical("a component failed; see the traceback", exc_info=lost)
        sys.exit(EX_UNAVAILABLE)


def _incompatible_library(wrong: ImportError | AttributeError) -> str | None:
    """Return the library, with its version, that an import failed in; None where the error is our own."""
    if isinstance(wrong, ImportError):
        name = wrong.name or ""
    else:
        name = wrong.obj.__name__ if isinstance(wrong.obj, ModuleType) else ""
    library = name.partition(".")[0]
    try:
        return f"{library} {version(library)}" if library != "netscand" else None
    except (PackageNotFoundError, ValueError):
        return library or None


def _check_config(file: Path | None, own: Path | None) -> int:
    """Print all errors in a configuration, and in the files that it names, and warnings; return the exit code.

    `file` None: the configuration that netscand uses, which is `own` if that is given.
    """
    path = file or own or DEFAULT
    if file is None and own is None and not path.exists():
        sys.stdout.write(f"{path}: does not exist, so the defaults apply\n")
        return 0
    from netscand.check import file_errors
    from netscand.config import Names, read
    from netscand.config_lint import config_warnings

    reading = read(path)
    faults = [*reading.faults, *map(str, file_errors(path, reading))]
    for fault in faults:
        _print_error(f"{path}: {fault}", EX_CONFIG)
    for warning in [*config_warnings(reading), *([] if path.stat().st_size else [EMPTY])]:
        _print_error(f"{path}: warning: {warning}", 0)
    if faults:
        return EX_CONFIG
    sys.stdout.write(f"{path}: good\n")
    if (sources := reading.config().names.sources) != Names().sources:
        order = f"a name from {', '.join(sources)}, in this order" if sources else "no names"
        sys.stdout.write(f"{path}: [names] sources: {order}\n")
    return 0


def _replay(arguments: argparse.Namespace) -> int:
    """Print the events and the devices of a capture; return the exit code. Raises ConfigError."""
    from netscand.config import Config, load
    from netscand.replay import replay

    logging.disable()  # the events are the output
    config = load(arguments.config) if arguments.config is not None else Config()
    return replay(arguments.replay, tuple(arguments.network or ()), config, as_json=arguments.json)


def _prefix(text: str) -> IPv4Network:
    """Return the network of `--network`. Raises ArgumentTypeError."""
    try:
        return IPv4Network(text)
    except ValueError as wrong:
        raise argparse.ArgumentTypeError(f"expected a prefix such as 192.168.1.0/24 ({wrong})") from None


def _check(arguments: argparse.Namespace) -> int:
    """Print the results of all checks as JSON; return the exit code."""
    from netscand import check, protocol

    logging.disable()  # stderr is for errors of the check itself
    report = check.run(arguments.config or DEFAULT, required=arguments.config is not None)
    sys.stdout.write(protocol.encode(report).decode() + "\n")
    return 0 if report.ok else EX_CHECK_FAILED


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; packaging/manuals.py makes the manual page from it."""
    parser = argparse.ArgumentParser(
        "netscand", description="Monitor which devices are on the local networks.", allow_abbrev=False
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"configuration file (default {DEFAULT}, if it exists)"
    )
    parser.add_argument(
        "--check-config",
        type=Path,
        nargs="?",
        const=OWN,
        metavar="FILE",
        help="print errors and probable mistakes in FILE (default: the file that netscand uses), and exit",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="check whether netscand can start here, print the results as JSON, and exit",
    )
    parser.add_argument("--once", action="store_true", help="scan, print the devices, and exit")
    parser.add_argument(
        "--replay",
        type=Path,
        metavar="FILE",
        help="print the events and the devices of a capture (pcap, pcapng), and exit; needs no network and no root",
    )
    parser.add_argument(
        "--network",
        type=_prefix,
        action="append",
        metavar="PREFIX",
        help="with --replay: a network of the capture, if FILE does not name it; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="with --once and --replay: print JSON")
    parser.add_argument("--version", action="version", version=f"netscand {__version__}")
    return parser


def _arguments() -> argparse.Namespace:
    arguments_parser = parser()
    arguments = arguments_parser.parse_args()
    if arguments.json and not arguments.once and arguments.replay is None:
        arguments_parser.error("--json requires --once or --replay")
    if arguments.network and arguments.replay is None:
        arguments_parser.error("--network requires --replay")
    if arguments.replay is not None and (arguments.once or arguments.check or arguments.check_config):
        arguments_parser.error("--replay excludes --once, --check and --check-config")
    return arguments


def _print_error(sentence: str, code: int) -> int:
    sys.stderr.write(f"netscand: {sentence}\n")
    return code


if __name__ == "__main__":
    main()
