"""Handlers of `/api/people`: who is home, and which devices each person has."""

import re
from time import monotonic

from aiohttp import web

from netscand import protocol
from netscand.core.model import Busy, Mac
from netscand.core.ratelimit import ANNOTATIONS
from netscand.protocol import LONGEST_NAME, NAME_PATTERN
from netscand.serve.encode import Encoder, mac_text
from netscand.serve.http import Refused, answer, connection_of
from netscand.serve.hub import Hub
from netscand.serve.ports import HistoryPort, Scanner
from netscand.serve.query import mac_of, struct_of
from netscand.serve.rest import changed, cleaned, no_device
from netscand.serve.summary import Summary


class PeopleApi:
    """The people as clients get them."""

    def __init__(
        self, scanner: Scanner, hub: Hub, summary: Summary, encoder: Encoder, archive: HistoryPort | None
    ) -> None:
        self._scanner = scanner
        self._hub = hub
        self._summary = summary
        self._encoder = encoder
        self._archive = archive

    async def people(self, request: web.Request) -> web.StreamResponse:
        """List people, and whether each is home."""
        response = answer(protocol.PeopleList(cursor=self._scanner.cursor, people=self._summary.people()))
        await self._hub.settled()
        return response

    async def change_person(self, request: web.Request) -> web.StreamResponse:
        """Add a person, or change the devices or the name of one; return the person."""
        name = person_name("NAME", request.match_info["name"])
        update = await struct_of(request, protocol.PersonUpdate, "person update")
        new_name = person_name("name", update.name) if isinstance(update.name, str) else None
        add = {mac_of(each.mac): each.counts for each in update.add}
        remove = [mac_of(mac) for mac in update.remove]
        if both := next((mac for mac in remove if mac in add), None):
            raise Refused("bad_request", f"add and remove: {mac_text(both)} is in both")
        scanner, now = self._scanner, monotonic()
        if (remove or new_name) and scanner.people.find(name) is None:
            raise Refused("not_found", f"no person {name!r}")
        spender = connection_of(request).account, Mac(b"people")
        if not scanner.budgets.has(ANNOTATIONS, spender, now):
            scanner.budgets.refuse(ANNOTATIONS, now)
            raise Refused(
                "busy",
                f"people were changed more than {ANNOTATIONS.at_once:g} times, and then more than once a minute; "
                "try again in 60 s",
            )  # fmt: skip
        cursor = scanner.cursor
        try:
            scanner.set_person(name, add, remove, new_name)
        except KeyError as missing:
            raise no_device(missing.args[0], "a device that was not seen yet needs a label first") from None
        except Busy as full:
            raise Refused("bad_request", str(full)) from None
        if scanner.cursor != cursor:
            scanner.budgets.take(ANNOTATIONS, spender, now)
        person = scanner.people.find(new_name or name)
        assert person is not None
        self._encoder.sync()
        return await changed(request, self._hub, self._archive, self._encoder.person(person))

    async def remove_person(self, request: web.Request) -> web.StreamResponse:
        """Remove a person; the devices stay."""
        name = person_name("NAME", request.match_info["name"])
        try:
            self._scanner.remove_person(name)
        except KeyError:
            raise Refused("not_found", f"no person {name!r}") from None
        return await changed(request, self._hub, self._archive)


def person_name(where: str, text: str) -> str:
    """Return a name without control and invisible characters. Raises Refused if it is too long, or no name."""
    name = cleaned(text)
    if name is None or len(name) > LONGEST_NAME or not re.search(NAME_PATTERN, name):
        raise Refused(
            "bad_request",
            f"{where}: expected up to {LONGEST_NAME} characters, with a letter or a digit, not {text[:80]!r}",
        )
    return name
