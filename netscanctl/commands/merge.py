"""`netscanctl merge [DEVICE OTHER...]`: makes one device of several MACs, on the user's word; or lists suggestions."""

from collections.abc import Iterable

import click

from netscanctl.annotate import confirm, update_device
from netscanctl.cli import Session
from netscanctl.client import Client, Failure, device_path
from netscanctl.params import as_mac, complete_device, device_of
from netscanctl.render import title
from netscanctl.text import SENTENCE_LIMIT, clean
from netscand.checkout import for_checkout
from netscand.protocol import Device, DeviceList, DeviceUpdate, MergeRequest, Suggestion, SuggestionList, encode


@click.command("merge", short_help="Make one device of several MACs, or list suggestions.")
@click.argument("devices", metavar="[DEVICE OTHER...]", nargs=-1, shell_complete=complete_device)
@click.option("--undo", is_flag=True, help="Separate the given MACs again, or all MACs that DEVICE got by merges.")
@click.option("--dismiss", is_flag=True, help="DEVICE and each OTHER are different: do not suggest them again; "
                                              "with --undo, suggest them again.")  # fmt: skip
@click.option("--dismissed", is_flag=True, help="List the suggestions that were dismissed.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's answers as received.")
@click.pass_obj
def command(
    session: Session, devices: tuple[str, ...], undo: bool, dismiss: bool, dismissed: bool, yes: bool, as_json: bool
) -> None:
    """Merge each OTHER into DEVICE (MACs, addresses, names or labels): one device, online while any of its MACs is.

    DEVICE keeps its label, and gets OTHER's tags, history, people, and the annotations that it lacks. Without
    arguments, lists devices that are probably one, with the evidence; any station can claim a name, so check it. On a
    terminal, asks for confirmation.
    """
    if not devices:
        if undo or dismiss:
            raise click.UsageError("Missing argument 'DEVICE'; to list suggestions: netscanctl merge")
        _list(session, as_json, dismissed=dismissed)
    elif dismissed:
        raise click.UsageError("--dismissed lists suggestions, and takes no DEVICE; to dismiss one: --dismiss")
    elif undo and not dismiss:
        _undo(session, devices, as_json)
    elif len(devices) < 2:
        raise click.UsageError("give a DEVICE and at least one OTHER; to list suggestions, give neither")
    elif dismiss:
        _dismiss(session, devices, as_json, undo=undo)
    else:
        _merge(session, devices, yes, as_json)


def _merge(session: Session, devices: Iterable[str], yes: bool, as_json: bool) -> None:
    client, terminal = session.client, session.terminal
    into, *others = (device_of(client, text) for text in devices)
    if not yes:
        confirm(f"Merge {', '.join(map(title, others))} into {title(into)}?")
    for other in others:
        answer = client.post(f"{device_path(into.mac)}/merge", encode(MergeRequest(mac=other.mac)))
        if as_json:
            terminal.json(answer)
        merged = client.read(answer, Device)
        undo_hint = f"to undo: netscanctl merge --undo {clean(other.mac)}"
        terminal.notice(f"{title(other)} is merged into {title(merged)}; {undo_hint}")


def _undo(session: Session, devices: Iterable[str], as_json: bool) -> None:
    client, terminal = session.client, session.terminal
    for text in devices:
        device, mac = device_of(client, text), as_mac(text)
        merged = device.merged_macs or []
        if not merged:
            raise Failure(f"{title(device)} has one MAC only", "to list devices: netscanctl devices")
        for each in [mac] if mac in merged else merged:
            answer = client.delete(f"{device_path(each)}/merge")
            if as_json:
                terminal.json(answer)
            terminal.notice(f"{title(client.read(answer, Device))} is a device of its own again")


def _dismiss(session: Session, devices: Iterable[str], as_json: bool, *, undo: bool) -> None:
    client, terminal = session.client, session.terminal
    one, *others = (device_of(client, text) for text in devices)
    for other in others:
        one = _set_different(client, one, other.mac, add=not undo)
        if undo:
            other = _set_different(client, other, one.mac, add=False)
        if as_json:
            terminal.json(encode(one))
        hint = f"; to undo: netscanctl merge --undo --dismiss {clean(one.mac)} {clean(other.mac)}"
        what = "may be suggested as one again" if undo else f"are not suggested again{hint}"
        terminal.notice(f"{title(one)} and {title(other)} {what}")


def _set_different(client: Client, device: Device, mac: str, *, add: bool) -> Device:
    """Add a MAC to those that a device is not, or remove it; return the device as it is then."""
    before = set(device.not_same_as or ())
    after = before | {mac} if add else before - {mac}
    return device if after == before else update_device(client, device.mac, DeviceUpdate(not_same_as=sorted(after)))[1]


def _list(session: Session, as_json: bool, *, dismissed: bool) -> None:
    client, terminal = session.client, session.terminal
    answer = client.get("/api/suggestions")
    if as_json:
        terminal.json(answer)
        return
    found = client.read(answer, SuggestionList)
    devices = {one.mac: one for one in client.read(client.get("/api/devices"), DeviceList).devices}
    for one in found.dismissed if dismissed else found.suggestions:
        terminal.write(_text(one, devices, "merge --undo --dismiss" if dismissed else "merge"))
    if dismissed:
        if not found.dismissed:
            terminal.notice("no suggestion was dismissed")
        return
    if found.suggestions:
        terminal.notice("if two are different devices: netscanctl merge --dismiss DEVICE OTHER")
    else:
        terminal.notice("no two devices seem to be one")
    if found.dismissed:
        terminal.notice(f"dismissed: {len(found.dismissed)}; to list them: netscanctl merge --dismissed")
    if found.more:
        terminal.notice("there are more; merge or dismiss some of these first")


def _text(one: Suggestion, devices: dict[str, Device], action: str) -> str:
    into, other = (title(devices[mac]) if mac in devices else clean(mac) for mac in (one.into, one.mac))
    evidence = clean("; ".join(one.evidence), SENTENCE_LIMIT)
    hint = for_checkout(f"netscanctl {action} {clean(one.into)} {clean(one.mac)}")
    return f"{other} is probably {into}: {evidence}\n    {hint}\n"
