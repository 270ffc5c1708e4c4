"""Entry point of netscand-uplink."""

import argparse
import asyncio
import os
import sys
from contextlib import aclosing
from pathlib import Path

from netscanctl.client import Daemon, Failure
from netscanctl.documentation import documentation
from netscanctl.services import services_file
from netscanctl.services.program import EX_CONFIG, EX_UNAVAILABLE, Context, Program, Service
from netscanctl.services.services_file import DEFAULT
from netscanctl.services.uplink.publications import Publications
from netscanctl.services.uplink.settings import KEY, Uplink, faults
from netscanctl.stream import follow
from netscand import nats_settings, sites
from netscand.config import ConfigError
from netscand.service import credentials

DEFAULT_SIZE, LEAST_SIZE = 10.0, 10 * 2**20
"""Of the log: GiB, bytes."""
CREDENTIAL = Path("/etc/credstore") / KEY


def build(table: Uplink, context: Context) -> Service:
    """Make the service; nats-py is imported here, so that --check-config and --help work without it."""
    from netscanctl.services.uplink.service import build as build_service

    return build_service(table, context)


class UplinkProgram(Program[Uplink]):
    """The service, its key, and what it would publish."""

    def parser(self) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().parser()
        parser.add_argument(
            "--dry-run", action="store_true", help="print what a first start would publish, and exit; no server is used"
        )
        parser.add_argument(
            "--take-over", action="store_true", help="make this machine the owner of the site's name, and exit"
        )
        parser.add_argument(
            "command",
            nargs="?",
            choices=["join", "key", "streams"],
            help="join SERVER NAME: join a hub (netscand-hub add-site prints the command); key [FILE]: make a private "
            f"key, and print the public one (default {CREDENTIAL}); streams: make the streams, as administrator",
        )
        parser.add_argument("words", nargs="*", metavar="WORD", help="arguments of the command")
        parser.add_argument(
            "--ca", metavar="CERTIFICATE", help="with join: authority of the server's certificate, a file or base64"
        )
        parser.add_argument("--replace", action="store_true", help="with join: replace another name of this site")
        parser.add_argument(
            "--size", type=float, metavar="GIB", help="with streams: maximum GiB of the log (default 10)"
        )
        parser.add_argument("--no-start", action="store_true", help="with join: do not enable and start the service")
        return parser

    def main(self) -> None:
        """Run the command line; the exit code says what happened."""
        arguments = self.parser().parse_args()
        if not (arguments.command or arguments.dry_run or arguments.take_over):
            super().main()
            return
        words = arguments.words
        least, most = {"join": (2, 2), "key": (0, 1)}.get(arguments.command, (0, 0))
        if not least <= len(words) <= most:
            self.parser().error(
                f"{arguments.command}: unexpected or missing WORD; expected join SERVER NAME, or key [FILE]"
            )
        try:
            if arguments.command == "key":
                make_key(Path(words[0]) if words else CREDENTIAL)
                return
            if arguments.command == "join":
                from netscanctl.services.uplink.join import join

                place = arguments.config or DEFAULT
                join(place, words[0], words[1], arguments.ca, replace=arguments.replace, start=not arguments.no_start)
                return
            connection, table = services_file.load(arguments.config or DEFAULT, Uplink)
            if arguments.dry_run:
                asyncio.run(dry_run(connection.find(), table))
            else:
                size = int((DEFAULT_SIZE if arguments.size is None else arguments.size) * 2**30)
                if size < LEAST_SIZE:
                    raise ConfigError(f"--size {arguments.size:g}: expected 0.01 or more GiB")
                asyncio.run(at_server(table, size if arguments.command == "streams" else None))
        except ConfigError as wrong:
            sys.exit(self._print(f"\nnetscand-{self.name}: ".join(wrong.faults), EX_CONFIG))
        except Failure as failure:
            sys.exit(self._print(str(failure), EX_UNAVAILABLE))


def make_key(path: Path) -> None:
    """Write a new private key, and print the public one. Raises ConfigError."""
    import nkeys

    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path} exists; delete it first if its key is to be replaced") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    with open(opened, "wb") as out:
        out.write(seed + b"\n")
    sys.stdout.write(f"{nkeys.from_seed(bytearray(seed)).public_key.decode()}\n")


async def dry_run(daemon: Daemon, table: Uplink) -> None:
    """Print the messages of a first start: subject and content. Raises Failure."""
    made = Publications(table.name, words=table.words)
    async with aclosing(follow(daemon, lambda sentence: None)) as stream:
        async for received in stream:
            for message in made.on_message(received):
                sys.stdout.write(f"{message.subject} {message.payload.decode()}\n")
            if not getattr(received.message, "more", False):
                return


async def at_server(table: Uplink, size: int | None) -> None:
    """Make the streams, with so many bytes of the log; None: make this machine the owner of the site's name.

    Raises ConfigError or Failure.
    """
    from netscanctl.services.uplink.server import ServerError, connect
    from netscanctl.services.uplink.service import claim

    try:
        async with connect(table, table.seed(credentials() or CREDENTIAL.parent), table.tls()) as server:
            if size is not None:
                for stream in sites.streams(size=size):
                    await server.make_stream(stream)
                    sys.stdout.write(f"{stream['name']}: ready\n")
            else:
                await claim(server, table.name, table.identity(), take_over=True)
                sys.stdout.write(f"site {table.name} belongs to this machine now\n")
    except ServerError as error:
        raise Failure(str(error)) from None


PROGRAM = UplinkProgram("uplink", "Publish the events of this site to NATS JetStream.", Uplink, build, faults)


def main() -> None:
    """Run the command line; exit with its exit code."""
    nats_settings.find_library()
    try:
        PROGRAM.main()
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in nats_settings.MISSING:
            raise
        sys.stderr.write(
            f"netscand-uplink: nats-py or python3-nacl is missing; to install it, see {documentation('sites.md')}\n"
        )
        sys.exit(EX_CONFIG)  # a restart does not install it


if __name__ == "__main__":
    main()
