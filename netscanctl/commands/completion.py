"""`netscanctl completion SHELL`: script for shell completion."""

import click
from click.shell_completion import get_completion_class

from netscanctl.cli import Session
from netscanctl.completion import register


@click.command("completion", short_help="Print the completion script for a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL, for example: eval "$(netscanctl completion bash)"."""
    session: Session = ctx.obj
    register()
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(ctx.find_root().command, {}, "netscanctl", "_NETSCANCTL_COMPLETE").source()
    session.terminal.write(script + "\n")
