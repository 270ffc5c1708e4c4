"""docs/commands.md has every command, argument, option and exit code, and none that is not there."""

import re
from collections.abc import Iterator

import click
import pytest

from netscanctl import client
from netscanctl.cli import INTERRUPTED, cli
from netscand import __main__ as daemon
from netscand.checkout import COMMANDS
from tests.ctl.conftest import ROOT

PAGE = (ROOT / "docs/commands.md").read_text()
HELP = {"-h", "--help"}
QUIET = {"-q", "--quiet"}
"""Documented once, for every command."""


def sections() -> dict[str, str]:
    """Heading → text."""
    parts = re.split(r"^## `(.*)`$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def section(command: str) -> tuple[str, str]:
    """Arguments and text of a command."""
    (found,) = [
        (heading.removeprefix(command).strip(), text)
        for heading, text in sections().items()
        if heading == command or re.fullmatch(f"{command} [^a-z-].*", heading)
    ]
    return found


def options(text: str) -> set[str]:
    """What stands in the table of options."""
    rows = re.findall(r"^\| (`-.*?) \|", text, flags=re.MULTILINE)
    return {word for row in rows for word in re.findall(r"`(--?[a-z-]+)", row)}


def verbs() -> Iterator[tuple[str, click.Command]]:
    """Each command with its name, those of a group each by itself."""
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli, **cli.context_settings), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", each) for inner, each in command.commands.items())
        else:
            yield name, command


@pytest.mark.parametrize(("verb", "command"), list(verbs()), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_is_documented_with_its_options(verb: str, command: click.Command) -> None:
    arguments, text = section(f"netscanctl {verb}")
    assert arguments == " ".join(_shown(param) for param in command.params if isinstance(param, click.Argument))
    named = {name for param in command.params if isinstance(param, click.Option) for name in param.opts}
    assert named >= QUIET
    assert options(text) == named - QUIET
    for param in command.params:
        if isinstance(param, click.Option) and isinstance(param.type, click.Choice) and len(param.type.choices) < 10:
            assert not [choice for choice in param.type.choices if f"`{choice}`" not in text], param.name


def _shown(argument: click.Argument) -> str:
    name = (argument.name or "").upper()
    return argument.metavar or (name if argument.required else f"[{name}]")


def test_only_existing_commands_are_documented() -> None:
    documented = {heading.split()[1] for heading in sections() if heading.startswith("netscanctl ")}
    assert documented == set(COMMANDS)


def test_the_global_options_are_documented() -> None:
    _, text = section("netscanctl")
    assert options(text) == {name for param in cli.params for name in param.opts} | HELP


def test_every_exit_code_is_documented() -> None:
    failures: list[type[client.Failure]] = [client.Failure, *client.Failure.__subclasses__()]
    codes = {0, INTERRUPTED, *(failure.exit_code for failure in failures)}
    assert _codes("netscanctl") == codes
    usage = 2  # of argparse
    documented = {usage, daemon.EX_CHECK_FAILED, daemon.EX_UNAVAILABLE, daemon.EX_TEMPFAIL, daemon.EX_NOPERM,
                  daemon.EX_CONFIG, daemon.INTERRUPTED, daemon.EX_DATAERR, daemon.EX_NOINPUT,
                  daemon.EX_IOERR}  # fmt: skip
    assert _codes("netscand") == {0} | documented


def _codes(command: str) -> set[int]:
    return {int(code) for code in re.findall(r"^\| (\d+) \|", section(command)[1], flags=re.MULTILINE)}


def test_the_options_of_the_daemon_are_documented() -> None:
    named = {name for action in daemon.parser()._actions for name in action.option_strings}
    assert options(section("netscand")[1]) == named
