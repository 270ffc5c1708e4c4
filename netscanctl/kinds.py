"""`--kind`: which kinds of events, with commas between them, or repeated."""

from collections.abc import Callable
from typing import TypeVar, get_args

import click

from netscand.protocol import EventKind

F = TypeVar("F", bound=Callable[..., object])
KINDS: tuple[str, ...] = get_args(EventKind)


def kind_option(what: str) -> Callable[[F], F]:
    """Give a command `--kind`, by which it tells only some of `what`, as its argument `kinds`."""
    said = f"Only {what} of this kind (online, offline, discovered, …); several with commas, or repeated."
    return click.option("--kind", "kinds", metavar="KIND", multiple=True, callback=_read, shell_complete=_complete,
                        help=said)  # fmt: skip


def _read(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Each once, in the order given. Raises BadParameter."""
    kinds = tuple(dict.fromkeys(kind.strip() for text in given for kind in text.split(",")))
    for kind in kinds:
        if kind not in KINDS:
            raise click.BadParameter(f"'{kind}' is none of {', '.join(KINDS)}")
    return kinds


def _complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{kind}" for kind in KINDS if kind.startswith(last)]
