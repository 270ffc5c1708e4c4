"""The command line: global options, and the verbs, each in its own file that is read only when it is used."""

import os
import sys
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import click

from netscanctl.client import Client, Daemon, Failure, chosen, find_daemon
from netscanctl.terminal import Terminal, complain
from netscanctl.text import clean
from netscand import __version__
from netscand.protocol import PROTOCOL

VERBS = (
    "watch", "scan-now", "devices", "show", "events", "wait-for", "label", "known", "patience", "forget", "networks",
    "status", "backup", "doctor", "completion",
)  # fmt: skip
"""In the order of `--help`. `scan-now` is the `command` of `netscanctl/verbs/scan_now.py`."""
INTERRUPTED = 130
"""What shells expect after Ctrl-C (128 + SIGINT)."""


@dataclass
class Session:
    """What a verb needs: where the daemon is, and where to write."""

    socket: str | None
    url: str | None
    token_file: str | None

    @cached_property
    def daemon(self) -> Daemon:
        """The daemon that the options name. Raises Failure."""
        return find_daemon(self.socket, self.url, self.token_file)

    @cached_property
    def client(self) -> Client:
        """A connection for questions. Raises Failure."""
        return Client(self.daemon)

    @cached_property
    def terminal(self) -> Terminal:
        """Where to write."""
        return Terminal()


class Verbs(click.Group):
    """Verbs by name; none is imported before it is needed, so that each starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them."""
        if cmd_name not in VERBS:
            return None
        verb: click.Command = import_module(f"netscanctl.verbs.{cmd_name.replace('-', '_')}").command
        return verb

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is named; a slip is told what was likely meant."""
        name = args[0]
        if name not in VERBS and not name.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches  # only a slip pays for it

            meant = get_close_matches(name.lower().replace("_", "-"), VERBS, 1)
            what = f"did you mean {meant[0]}?" if meant else f"there are {', '.join(VERBS)}"
            ctx.fail(f"no command is {clean(name)}: {what}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  # click's own signature
        """Run it: a failure is one line on stderr and an exit code; Ctrl-C and a closed pipe end quietly."""
        try:
            return super().invoke(ctx)
        except Failure as failure:
            complain(failure)
            sys.exit(failure.exit_code)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except click.Abort:  # Ctrl-C at a question
            click.echo(err=True)
            sys.exit(INTERRUPTED)
        except OSError as wrong:  # of stdout: what the network does is a Failure
            # What is still buffered goes nowhere, also when the interpreter flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(wrong, BrokenPipeError):
                sys.exit(0)
            complain(Failure(f"cannot write: {wrong.strerror or wrong}"))
            sys.exit(Failure.exit_code)


@click.group(cls=Verbs, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--socket", metavar="PATH", help="The daemon's Unix socket. [env: NETSCANCTL_SOCKET]")
@click.option("--url", metavar="URL", help="The daemon over TCP, as http://HOST:PORT. [env: NETSCANCTL_URL]")
@click.option("--token-file", metavar="FILE", help="A file that holds a token, and nothing else.")
@click.version_option(message=f"netscanctl {__version__} (protocol {PROTOCOL})", version=__version__)
@click.pass_context
def cli(ctx: click.Context, socket: str | None, url: str | None, token_file: str | None) -> None:
    """Which devices are on the local networks: ask netscand, and watch it.

    Exit codes: 0 done; 1 refused, or no such device, or more than one, or no target answered; 2 usage; 3 no daemon;
    4 not permitted; 5 versions do not fit; 6 timed out.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)
    ctx.obj = Session(*chosen(socket, url), token_file)
