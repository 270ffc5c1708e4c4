"""Option `--kind`: kinds of events, comma-separated or repeated."""

from collections.abc import Callable
from typing import TypeVar, get_args

import click

from netscand.protocol import EventKind

F = TypeVar("F", bound=Callable[..., object])
KINDS: tuple[str, ...] = get_args(EventKind)


def kind_option(noun: str) -> Callable[[F], F]:
    """Add `--kind` to a command, as its argument `kinds`; `noun` is used in the help."""
    text = f"Only {noun} of this kind (online, offline, discovered, …); comma-separated or repeated for several."
    return click.option("--kind", "kinds", metavar="KIND", multiple=True, callback=_parse, shell_complete=_complete,
                        help=text)  # fmt: skip


def _parse(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return each kind once, in the given order. Raises BadParameter."""
    kinds = tuple(dict.fromkeys(kind.strip() for value in values for kind in value.split(",")))
    for kind in kinds:
        if kind not in KINDS:
            raise click.BadParameter(f'unknown kind "{kind}"; expected {", ".join(KINDS)}')
    return kinds


def _complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{kind}" for kind in KINDS if kind.startswith(last)]
