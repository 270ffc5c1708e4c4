"""`netscanctl people`: lists people, and sets which devices each has."""

from collections.abc import Iterable
from datetime import datetime
from urllib.parse import quote

import click

from netscanctl.cli import Session
from netscanctl.client import Client, Failure, Usage
from netscanctl.params import complete_device, complete_person, mac_of
from netscanctl.render import NONE, Paint, moment, name_of, table, title
from netscanctl.text import clean
from netscand.protocol import Device, DeviceList, PeopleList, Person, PersonDevice, PersonUpdate, encode

JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as received.")


@click.group("people", invoke_without_command=True, short_help="List who is home, and set the devices of each person.")
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as received.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List people, and who is home.

    A person is home while any of their devices is online, without those that were added with --not-counting. In doubt,
    as while the network is silent, the status is unknown, never away.
    """
    if context.invoked_subcommand is not None:
        return
    session = context.ensure_object(Session)
    client, terminal = session.client, session.terminal
    answer = client.get("/api/people")
    if as_json:
        terminal.json(answer)
        return
    people = client.read(answer, PeopleList).people
    if not people:
        terminal.notice("no people; to add one: netscanctl people add NAME DEVICE...")
        return
    devices = _devices(client)
    terminal.write(people_table(people, devices, columns=terminal.columns, paint=terminal.paint, today=terminal.today))


@command.command("add", short_help="Add a person, or devices to one.")
@click.argument("name", shell_complete=complete_person)
@click.argument("devices", metavar="[DEVICE...]", nargs=-1, shell_complete=complete_device)
@click.option(
    "--not-counting", is_flag=True, help="The person has the devices, but is not home because of them: a desktop, a TV."
)
@JSON_OPTION
@click.pass_obj
def add(
    session: Session, name: str, devices: tuple[str, ...], not_counting: bool, as_json: bool
) -> None:  # fmt: skip
    """Add DEVICEs (MACs, addresses, names or labels) to the person NAME, who is added, too, if there is none.

    A DEVICE that the person has already is changed: it counts, or with --not-counting it does not.
    """
    if not_counting and not devices:
        raise click.UsageError("--not-counting requires a DEVICE")
    added = [PersonDevice(mac=mac_of(session.client, text), counts=not not_counting) for text in devices]
    _change(session, name, PersonUpdate(add=added), as_json)


@command.command("rename", short_help="Give a person another name.")
@click.argument("name", shell_complete=complete_person)
@click.argument("new_name", metavar="NEW")
@JSON_OPTION
@click.pass_obj
def rename(session: Session, name: str, new_name: str, as_json: bool) -> None:
    """Give the person NAME the name NEW. Events from before are also found by the old name."""
    _change(session, name, PersonUpdate(name=new_name), as_json)


@command.command("remove", short_help="Remove a person, or devices from one.")
@click.argument("name", shell_complete=complete_person)
@click.argument("devices", metavar="[DEVICE...]", nargs=-1, shell_complete=complete_device)
@JSON_OPTION
@click.pass_obj
def remove(session: Session, name: str, devices: tuple[str, ...], as_json: bool) -> None:
    """Remove DEVICEs from the person NAME; without DEVICE, remove the person. The devices stay."""
    client = session.client
    known = {person.name.casefold() for person in client.read(client.get("/api/people"), PeopleList).people}
    if name.casefold() not in known:
        raise Failure(f'no person "{clean(name)}"', "to list people: netscanctl people")
    if devices:
        _change(session, name, PersonUpdate(remove=[mac_of(client, text) for text in devices]), as_json)
        return
    client.delete(person_path(name))
    session.terminal.notice(f"{clean(name)}: removed; the devices stay")


def _change(session: Session, name: str, update: PersonUpdate, as_json: bool) -> None:
    for given in (name, update.name):
        if isinstance(given, str) and not any(map(str.isalnum, given)):  # the API has no path for some of these
            raise Usage(f'NAME "{clean(given)}": expected up to 64 characters, with a letter or a digit')
    client, terminal = session.client, session.terminal
    answer = client.patch(person_path(name), encode(update))
    person = client.read(answer, Person)
    if as_json:
        terminal.json(answer)
    devices = {mac: title(device) for mac, device in _devices(client).items()} if person.devices else {}
    named = ", ".join(
        devices.get(each.mac, clean(each.mac)) + ("" if each.counts else " (does not count)") for each in person.devices
    )
    terminal.notice(f"{clean(person.name)}: {clean(person.status)}; devices: {named or 'none'}")


def _devices(client: Client) -> dict[str, Device]:
    return {device.mac: device for device in client.read(client.get("/api/devices"), DeviceList).devices}


def person_path(name: str) -> str:
    """Return the path of a person in the API."""
    return f"/api/people/{quote(name, safe='')}"


def people_table(
    people: Iterable[Person], devices: dict[str, Device], *, columns: int | None, paint: Paint, today: datetime | None
) -> str:  # fmt: skip
    """Return the table of people, with the names of their devices; those that do not count are in parentheses."""

    def shown(each: PersonDevice) -> str:
        device = devices.get(each.mac)
        name = name_of(device) if device is not None and name_of(device) != NONE else clean(each.mac)
        return name if each.counts else f"({name})"

    rows = [
        (clean(person.status), moment(person.status_since, today), clean(person.name),
         ", ".join(map(shown, person.devices)) or NONE)
        for person in people
    ]  # fmt: skip
    return table(("STATUS", "SINCE", "PERSON", "DEVICES"), rows, columns=columns, paint=paint)
