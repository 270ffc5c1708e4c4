"""`netscanctl tag [DEVICE...] [+TAG...] [-TAG...]`: adds tags to devices and removes them, or lists tags."""

import shlex
from collections import Counter

import click
from msgspec import UNSET

from netscanctl.annotate import confirm, update_device
from netscanctl.cli import Session
from netscanctl.client import Client, Usage
from netscanctl.params import (
    TAG_RULE,
    NoMatch,
    complete_device,
    is_tag,
    mac_of,
    refuse_unknown_network,
    selection_options,
)
from netscanctl.render import NONE, table, title
from netscanctl.text import clean
from netscand.protocol import Device, DeviceList, DeviceUpdate

OPTIONS = ("-q", "-h")
"""Words with one hyphen that are options, not tags to remove."""
MARK = "\0"
"""Put before a tag to remove, so that it does not count as an option."""


class TagCommand(click.Command):
    """Command that has `-TAG` among its arguments."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep click from taking `-TAG` for options."""
        marked = [f"{MARK}{word}" if word[:1] == "-" and word[1:2] not in "-" and word not in OPTIONS else word
                  for word in args]  # fmt: skip
        return super().parse_args(ctx, marked)


@click.command("tag", cls=TagCommand, short_help="Add tags to devices, or remove them.")
@click.argument("words", metavar="[DEVICE...] [+TAG...] [-TAG...]", nargs=-1, shell_complete=complete_device)
@selection_options
@click.option("--all", "everyone", is_flag=True, help="All devices.")
@click.option("--yes", is_flag=True, help="Without DEVICE: do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print the changed devices as JSON.")
@click.pass_obj
def command(
    session: Session, words: tuple[str, ...], selected: dict[str, str], everyone: bool, yes: bool, as_json: bool
) -> None:  # fmt: skip
    """Add each +TAG to the DEVICEs (MACs, addresses, names or labels), and remove each -TAG.

    Instead of DEVICEs, the options select devices; on a terminal, lists them and asks for confirmation. Without a tag,
    lists the tags, with the number of devices.
    """
    words = tuple(word.removeprefix(MARK) for word in words)
    added, removed = ([word[1:].lower() for word in words if word[:1] == sign] for sign in "+-")
    for tag in (*added, *removed):
        if not is_tag(tag):
            raise Usage(f'"{clean(tag)}" is not a tag; {TAG_RULE}')
    if both := sorted(set(added) & set(removed)):
        raise Usage(f"+{both[0]} and -{both[0]} exclude each other")
    query, given = selected, [word for word in words if word[:1] not in "+-"]
    if given and (query or everyone):
        raise click.UsageError("give either DEVICEs or options that select them")
    client, terminal = session.client, session.terminal
    if not (added or removed):
        if as_json:
            raise click.UsageError("--json requires a +TAG or -TAG; to list devices: netscanctl devices --json")
        macs = {_mac_of(client, text) for text in given}
        found = [device for device in _listed(client, query) if not given or device.mac in macs]
        terminal.write(tags_table(found)) if any(device.tags for device in found) else terminal.notice("no tags")
        return
    if not (given or query or everyone):
        raise click.UsageError("Missing argument 'DEVICE...'; to select devices, see --help")
    update = DeviceUpdate(add_tags=added or UNSET, remove_tags=removed or UNSET)
    macs_in_order = list(dict.fromkeys(_mac_of(client, text) for text in given))
    if not given:
        found = _listed(client, query)
        if found and not yes:
            names = "\n".join(f"  {title(each)}" for each in found)
            confirm(f"{names}\nChange the tags of {len(found)} devices?")
        macs_in_order = [each.mac for each in found]
    for mac in macs_in_order:
        answer, device = update_device(client, mac, update)
        if as_json:
            terminal.json(answer)
        if given:
            terminal.notice(f"{title(device)}: {clean(' '.join(device.tags)) or 'no tags'}")
    if not given:
        terminal.notice(f"tags of {len(macs_in_order)} devices changed" if macs_in_order else "no device matches")


def _mac_of(client: Client, text: str) -> str:
    try:
        return mac_of(client, text)
    except NoMatch as why:
        if not is_tag(text):
            raise
        raise NoMatch(why.cause, f"{why.hint}; to add it as a tag: {shlex.quote(f'+{clean(text)}')}") from None


def _listed(client: Client, query: dict[str, str]) -> list[Device]:
    refuse_unknown_network(client, query)
    return client.read(client.get("/api/devices", query), DeviceList).devices


def tags_table(devices: list[Device]) -> str:
    """Return the table of tags, with the number of devices that have each, and that are online."""
    counts = Counter(tag for device in devices for tag in device.tags)
    online = Counter(tag for device in devices if device.status == "online" for tag in device.tags)
    rows = [(clean(tag) or NONE, str(counts[tag]), str(online[tag])) for tag in sorted(counts)]
    return table(("TAG", "DEVICES", "ONLINE"), rows)
