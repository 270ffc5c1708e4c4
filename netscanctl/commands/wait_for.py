"""`netscanctl wait-for DEVICE...`: waits until devices are online or offline."""

import asyncio
import sys
import time
from contextlib import aclosing
from ipaddress import ip_address, ip_network

import click

from netscanctl.cli import Session
from netscanctl.client import Failure, TimedOut
from netscanctl.params import (
    NoMatch,
    as_ip,
    as_mac,
    complete_device,
    duration,
    find_one,
    matching,
    site_option,
    tag_option,
)
from netscanctl.render import NONE, moment, name_of
from netscanctl.state import ClientState
from netscanctl.stream import CONNECT_TIMEOUT, follow
from netscanctl.text import clean
from netscand.protocol import Device, Person

PERSON_STATUS = {"online": "home", "offline": "away"}
"""Status of devices that is waited for → that of a person."""


@click.command("wait-for", short_help="Wait until devices are online or offline, or people home or away.")
@click.argument("devices", metavar="[DEVICE...]", nargs=-1, shell_complete=complete_device)
@tag_option("Also wait for the devices")
@click.option("--any", "any_", is_flag=True, help="Wait for one of the devices, not for all.")
@click.option("--offline", is_flag=True, help="Wait until the devices are offline.")
@site_option
@click.option("--timeout", metavar="SECONDS", callback=duration(0),
              help="Fail with exit code 6 after this time; 0: only check the status now.")  # fmt: skip
@click.pass_obj
def command(
    session: Session, devices: tuple[str, ...], tag: str | None, any_: bool, offline: bool, timeout: float | None
) -> None:
    """Wait until each DEVICE (its MAC, address, name or label) is online; all at the same time, or with --any, one.

    DEVICE may be the name of a person: waits until the person is home, with --offline until they have left.
    A device that was never seen can be given by MAC or address. On a hub, a MAC may be at any site. With --tag,
    those devices count that have the tag at the start.
    """
    if not devices and not tag:
        raise click.UsageError("Missing argument 'DEVICE...' or option '--tag'.")
    wait(session, devices, "offline" if offline else "online", any_=any_, timeout=timeout, tag=tag)


def wait(
    session: Session, devices: tuple[str, ...], wanted: str = "online", *, any_: bool = False, timeout: float | None,
    tag: str | None = None,
) -> None:  # fmt: skip
    """Wait until devices have a status. Raises Failure, TimedOut."""
    waiting = Waiting(devices, wanted, any_=any_, tag=tag)
    try:
        asyncio.run(_wait(session, waiting, seconds=timeout))
    except TimeoutError:
        after = f" after {timeout:g} s" if timeout else ""
        raise TimedOut(f"{waiting.missing()}{after}") from None
    session.terminal.notice(waiting.reached())


async def _wait(session: Session, waiting: "Waiting", seconds: float | None) -> None:
    """Wait for the status; at least one snapshot is checked. Raises Failure, TimeoutError."""
    ends = None if seconds is None else time.monotonic() + seconds
    first = True
    query = session.stream_query() | waiting.query
    async with asyncio.timeout(None if seconds is None else max(seconds, CONNECT_TIMEOUT)) as limit:
        async with aclosing(follow(session.daemon, session.terminal.notice, query=query)) as stream:
            async for received in stream:
                waiting.picture.on_message(received.message)
                if not waiting.picture.complete:
                    continue
                if waiting.is_reached():
                    return
                if first and ends is not None:
                    if time.monotonic() >= ends:
                        raise TimeoutError
                    limit.reschedule(asyncio.get_running_loop().time() + ends - time.monotonic())
                if first:
                    for notice in waiting.notices(on_terminal=sys.stderr.isatty()):
                        session.terminal.notice(notice)
                first = False


class Waiting:
    """Devices that should reach a status: `texts` as a user wrote them."""

    def __init__(self, texts: tuple[str, ...], wanted: str, *, any_: bool, tag: str | None = None) -> None:
        self.picture = ClientState()
        self.targets = [as_mac(text) or as_ip(text) for text in texts]
        """MAC or address; None until a name was found in the first snapshot: once only, a name may change."""
        self._texts = texts
        self._people: dict[str, str] = {}
        """Target of a person → name, in lower case."""
        self._tag = tag
        """Tag whose devices are to be added, at the first snapshot."""
        self._wanted = wanted
        self._any = any_

    @property
    def query(self) -> dict[str, str]:
        """Return the filter of the stream that has the devices; empty: all devices are needed."""
        if self._tag is not None or len(self.targets) != 1 or self.targets[0] is None:
            return {}
        return {"q": self.targets[0]}

    def is_reached(self) -> bool:
        """Return whether the devices have the status. Raises Failure unless each name matches one device."""
        devices = self.picture.devices.values()
        if self._tag is not None:
            tagged = tuple(device.mac for device in devices if self._tag in device.tags)
            if not tagged:
                raise Failure(f'no device has the tag "{clean(self._tag)}"; to list tags: netscanctl tag')
            self._tag, self._texts = None, (*self._texts, *tagged)
            self.targets += tagged
        self.targets = [
            target or self._person(text) or self._device(text)
            for target, text in zip(self.targets, self._texts, strict=True)
        ]
        for ip in filter(as_ip, filter(None, self.targets)):
            if len({device.site for device in matching(devices, ip)}) > 1:
                find_one(devices, ip)  # a MAC is the same device at any site, an address is not
        return (any if self._any else all)(map(self._has_status, self.targets))

    def _device(self, text: str) -> str:
        """Return the MAC of the device that matches. Raises Failure, which names the people, if there are any."""
        try:
            return find_one(self.picture.devices.values(), text).mac
        except NoMatch as none:
            if not self.picture.people:
                raise
            people = ", ".join(clean(person.name) for person in self.picture.people.values())
            raise NoMatch(
                f'no device and no person matches "{clean(text)}"', f"{none.hint}; the people are: {people}"
            ) from None

    def _person(self, text: str) -> str | None:
        """Return the target of the person with this name, even if a device has it; None: there is none."""
        if text.casefold() not in self.picture.people:
            return None
        target = f"person {text.casefold()}"
        self._people[target] = text.casefold()
        return target

    def reached(self) -> str:
        """Return the message about the devices that have the status."""
        return self._sentence([at for at, target in enumerate(self.targets) if self._has_status(target)], "")

    def missing(self) -> str:
        """Return the message about the devices that do not have it."""
        return self._sentence([at for at, target in enumerate(self.targets) if not self._has_status(target)], "not ")

    def notices(self, *, on_terminal: bool) -> list[str]:
        """Return the addresses that no scan covers; on a terminal, also what is waited for."""
        notices = [
            f"{target} is in no scanned network; a device there is seen only if it sends frames to this host's network"
            for target in self.targets
            if target and target not in self._people and not self._found(target) and not self._may_be_scanned(target)
        ]
        if on_terminal:
            missing = [at for at, target in enumerate(self.targets) if not self._has_status(target)]
            states = (" or " if self._any else ", ").join(f"{self._name(at)} ({self._state(at)})" for at in missing)
            notices.append(f"waiting until {self._wanted}: {states}; Ctrl-C to stop")
        return notices

    def _found(self, target: str | None) -> list[Device]:
        return matching(self.picture.devices.values(), target) if target else []

    def _has_status(self, target: str | None) -> bool:
        """Return whether a device at the target is online, or all there are offline; a person: home, or away."""
        if target in self._people:
            person = self.picture.people.get(self._people[target])
            return person is not None and person.status == PERSON_STATUS[self._wanted]
        statuses = [device.status for device in self._found(target)]
        if self._wanted == "online":
            return "online" in statuses
        return bool(statuses) and set(statuses) == {self._wanted}

    def _may_be_scanned(self, target: str) -> bool:
        """Return whether a target is a MAC, an IPv6 address (no scan), or in a scanned network."""
        if ":" in target:
            return True
        networks = [each.cidr for each in self.picture.networks.values() if each.state != "excluded"]
        return any(ip_address(target) in ip_network(cidr, strict=False) for cidr in networks)

    def _name(self, at: int) -> str:
        if (person := self._person_at(at)) is not None:
            return clean(person.name)
        found = self._found(self.targets[at])
        name = name_of(found[0]) if found else NONE
        return name if name != NONE else clean(self._texts[at])

    def _person_at(self, at: int) -> Person | None:
        return self.picture.people.get(self._people.get(self.targets[at] or "", ""))

    def _state(self, at: int) -> str:
        if (person := self._person_at(at)) is not None:
            return f"{clean(person.status)} since {moment(person.status_since)}"
        found = self._found(self.targets[at])
        return f"{clean(found[0].status)} since {moment(found[0].status_since)}" if found else "not seen yet"

    def _sentence(self, listed: list[int], negation: str) -> str:
        verb = "is" if len(listed) == 1 else "are"
        people = sum(self.targets[at] in self._people for at in listed)
        words = [self._wanted] if people < len(listed) else []
        words += [PERSON_STATUS[self._wanted]] if people else []
        return f"{', '.join(map(self._name, listed))} {verb} {negation}{' or '.join(words)}"
