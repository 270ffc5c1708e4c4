"""`netscanctl kind DEVICE [KIND]`: prints or sets the kind of a device."""

import re
from typing import get_args

import click

from netscanctl.annotate import annotate, json_option
from netscanctl.cli import Session
from netscanctl.params import device_argument, device_of, site_option
from netscanctl.render import kind_of
from netscanctl.text import clean
from netscand.protocol import Device, DeviceUpdate, Kind

KINDS: tuple[Kind, ...] = get_args(Kind)
AUTO = "auto"

CHOICE = click.Choice([*KINDS, AUTO])


def _parse(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """Return KIND as the API has it: in any case, and with a space or a hyphen, as `devices` and people write it."""
    if text is None:
        return None
    return str(CHOICE.convert(re.sub("[ -]", "_", text.strip().lower()) or text, parameter, context))


def _complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return [kind for kind in (*KINDS, AUTO) if kind.startswith(incomplete)]


@click.command("kind", short_help="Print or set the kind of a device.")
@device_argument
@click.argument("kind", required=False, callback=_parse, shell_complete=_complete, metavar="[KIND]")
@site_option
@json_option
@click.pass_obj
def command(session: Session, device: str, kind: str | None, as_json: bool) -> None:
    """Set the kind of a DEVICE (its MAC, address, name or label) to KIND, such as printer.

    It replaces what evidence says; KIND "auto" removes it. Without KIND, prints the kind and the evidence for it.
    """
    if kind is None:
        if as_json:
            raise click.UsageError("--json requires KIND; to print the whole device: netscanctl show DEVICE --json")
        now = device_of(session.client, device)
        if now.kind:
            session.terminal.write(f"{clean(now.kind)}\n")
        reason = clean(now.kind_reason or "")
        session.terminal.notice(f"reason: {reason}" if now.kind else "no kind: there is no evidence for one")
        return
    chosen = None if kind == AUTO else next(each for each in KINDS if each == kind)

    def message(now: Device) -> str:
        if chosen is not None:
            return f"kind set to {kind_of(now)}"
        return f"kind by evidence: {kind_of(now) or 'none'}"

    annotate(session, device, DeviceUpdate(kind=chosen), as_json, message)
