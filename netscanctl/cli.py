"""Command line: global options, and commands that are imported only when used."""

import os
import sys
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import click

from netscanctl.client import Client, Daemon, Failure, find_daemon, socket_or_url
from netscanctl.terminal import Terminal, print_failure
from netscanctl.text import clean
from netscand import __version__
from netscand.checkout import CHECKOUT, COMMANDS, for_checkout
from netscand.protocol import PROTOCOL

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it (128 + SIGINT)."""


@dataclass
class Session:
    """Global options, with the client and the terminal created on first use."""

    socket: str | None
    url: str | None
    token_file: str | None
    quiet: bool = False
    site: str | None = None
    """Site of a hub that a command is limited to (`--site`)."""

    @cached_property
    def daemon(self) -> Daemon:
        """Return the address of the daemon. Raises Failure."""
        return find_daemon(self.socket, self.url, self.token_file)

    @cached_property
    def client(self) -> Client:
        """Return the HTTP client. Raises Failure."""
        return Client(self.daemon, self.site, self.terminal.error)

    def stream_query(self) -> dict[str, str]:
        """Return the parameters that limit the stream to the site, which is checked. Raises Failure."""
        if self.site is None:
            return {}
        self.client.check()
        self.client.close()
        return {"site": self.site}

    @cached_property
    def terminal(self) -> Terminal:
        """Return the output streams."""
        return Terminal(quiet=self.quiet)


def _set_quiet(ctx: click.Context, _parameter: click.Parameter, quiet: bool) -> None:
    session = ctx.find_object(Session)
    if quiet and session is not None:  # none during completion
        session.quiet = True


QUIET = click.Option(
    ["-q", "--quiet"], is_flag=True, expose_value=False, callback=_set_quiet, help="Print only errors to stderr."
)
"""The option of every command; the group has it too."""


class Commands(click.Group):
    """Commands by name, imported on first use so that each starts fast."""

    def main(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # click's own signature
        """Run the command line; for a shell that completes, with our own script."""
        if any(name.endswith("_COMPLETE") for name in os.environ if name.startswith("_")):
            from netscanctl.completion import register  # slow to import, and only needed here

            register()
        return super().main(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if it is unknown. `scan-now` is the `command` of netscanctl/commands/scan_now.py."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"netscanctl.commands.{cmd_name.replace('-', '_')}").command
        for each in (command, *(command.commands.values() if isinstance(command, click.Group) else ())):
            if QUIET not in each.params:
                each.params.append(QUIET)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command; for an unknown name, fail with a suggestion."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches  # slow to import, and only needed here

            similar = get_close_matches(name.lower().replace("_", "-"), COMMANDS, 1)
            hint = f'did you mean "{similar[0]}"?' if similar else f"the commands are {', '.join(COMMANDS)}"
            ctx.fail(f'unknown command "{clean(name)}"; {hint}')
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  # click's own signature
        """Run the command: one line on stderr and an exit code for a failure; silence for Ctrl-C or a closed pipe."""
        try:
            return super().invoke(ctx)
        except Failure as failure:
            print_failure(failure)
            sys.exit(failure.exit_code)
        except click.UsageError as error:
            if type(error) is not click.UsageError:  # those of click itself name no command
                raise
            raise click.UsageError(for_checkout(error.message), error.ctx) from None
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except click.Abort:  # Ctrl-C at a prompt
            click.echo(err=True)
            sys.exit(INTERRUPTED)
        except OSError as error:  # from stdout: network errors are raised as Failure
            # Discard buffered output; the interpreter flushes again on exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, BrokenPipeError):
                sys.exit(0)
            print_failure(Failure(f"cannot write to stdout: {error.strerror or error}"))
            sys.exit(Failure.exit_code)


@click.group(cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--socket", metavar="PATH", help="Unix socket of the daemon. [env: NETSCANCTL_SOCKET]")
@click.option(
    "--url",
    metavar="URL",
    help="Connect over TCP, to http://HOST:PORT, or https://HOST/PATH of a proxy. [env: NETSCANCTL_URL]",
)
@click.option("--token-file", metavar="FILE", help="File that contains only a token.")
@click.option("-q", "--quiet", is_flag=True, help="Print only errors to stderr; also after every command.")
@click.version_option(
    message=f"netscanctl {__version__} (protocol {PROTOCOL})", version=__version__, help="Print the version and exit."
)
@click.pass_context
def cli(ctx: click.Context, socket: str | None, url: str | None, token_file: str | None, quiet: bool) -> None:
    """List and watch the devices on the local networks, as seen by netscand.

    Exit codes: 0 success; 1 refused, DEVICE matches no device or several, no target answered, or a line of FILE was
    skipped; 2 usage error; 3 no daemon; 4 not permitted; 5 incompatible versions; 6 timed out.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)
    if (socket or url) and os.environ.pop(CHECKOUT, None):  # not the daemon of `./dev run`
        os.environ.pop("NETSCANCTL_CONFIG", None)
    ctx.obj = Session(*socket_or_url(socket, url), token_file, quiet)
