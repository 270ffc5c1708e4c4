"""`netscanctl scan-now`: scan, show how it goes, list who answered."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import datetime
from ipaddress import ip_address, ip_network

import click

from netscanctl.cli import Session
from netscanctl.client import Failure, scan_wish
from netscanctl.picture import Picture
from netscanctl.render import MARKS, ORDERS, change, devices_table, scan_summary
from netscanctl.stream import Heard, follow, post
from netscanctl.terminal import Terminal
from netscanctl.text import SENTENCE_LIMIT, clean
from netscand import protocol
from netscand.protocol import Device, ScanTicket, ScanUpdate

WAIT = "/api/scan?wait=1"


@click.command("scan-now", short_help="Scan now, and list who answered.")
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@click.option("--no-wait", is_flag=True, help="Ask for it, and do not wait for its end.")
@click.option("--json", "as_json", is_flag=True, help="The daemon's answer as it came.")
@click.pass_obj
def command(session: Session, targets: tuple[str, ...], no_wait: bool, as_json: bool) -> None:
    """Scan now: every network, or each TARGET (an address, a prefix, a network's id), and list who answered."""
    client, terminal = session.client, session.terminal
    if no_wait:
        answer = client.post("/api/scan", scan_wish(targets))
        if as_json:
            terminal.json(answer)
        else:
            terminal.talk(f"scan {client.read(answer, ScanTicket).scan_id} is accepted")
        return
    if not as_json and (terminal.is_terminal or terminal.bar.possible):
        answer = asyncio.run(_watched(session, targets))
    else:
        answer = client.post(WAIT, scan_wish(targets), patience=None)
    update = client.read(answer, ScanUpdate)
    answered = [device for device in update.devices if not targets or meant(device, targets)]
    if as_json:
        terminal.json(answer)
    else:
        answered.sort(key=ORDERS["ip"])
        terminal.data(devices_table(answered, columns=terminal.columns, paint=terminal.paint, today=terminal.today))
        terminal.talk(scan_summary(update, len(answered)))
    if targets and not answered:
        raise Failure("no target answered")


def meant(device: Device, targets: Sequence[str]) -> bool:
    """Whether a device is at one of the targets: others' wishes may have been met by the same scan."""
    return any(at_target(held.ip, held.network, target) for held in device.addresses for target in targets)


def at_target(ip: str, network: str, target: str) -> bool:
    """Whether an address lies in an address, prefix or network id."""
    if "@" in target:
        return network == target
    try:
        return ip_address(ip) in ip_network(target, strict=False)
    except ValueError:
        return False


async def _watched(session: Session, targets: Sequence[str]) -> bytes:
    """Scan while the stream shows how it goes; the answer."""
    progress = Progress(session.terminal)
    async with aclosing(follow(session.daemon, session.terminal.talk)) as stream:
        while not progress.picture.whole:
            progress.picture.hear((await anext(stream)).message)
        try:
            async with asyncio.TaskGroup() as group:
                showing = group.create_task(progress.show(stream))
                answer = await post(session.daemon, WAIT, scan_wish(targets))
                showing.cancel()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            session.terminal.bar.end()
    return answer


class Progress:
    """How a scan goes: a bar, and who is found."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self.picture = Picture()
        self._others: set[int] = set()
        """Scans that no client wished for: not ours."""

    async def show(self, stream: AsyncIterator[Heard]) -> None:
        """Show it until cancelled."""
        self._terminal.bar.set(0, 1, "waiting for the scan")
        async for heard in stream:
            match heard.message:
                case protocol.ScanStarted(scan_id=scan_id, requested_by=cause) if cause != "client":
                    self._others.add(scan_id)
                case protocol.ScanProgress(scan_id=scan_id, done=done, total=total, found=found) if (
                    scan_id not in self._others
                ):
                    self._terminal.bar.set(done, total, f"{done}/{total} addresses, {found} found")
                case protocol.ScanError(network=network, message=message):
                    self._terminal.talk(f"scan of {clean(network)}: {clean(message, SENTENCE_LIMIT)}")
            for event in self.picture.hear(heard.message):
                if MARKS.get(event.kind) == "+" and self._terminal.is_terminal:
                    self._line(event)

    def _line(self, event: protocol.Event) -> None:
        now = datetime.now().astimezone()
        self._terminal.data(change(event, paint=self._terminal.paint, now=now, short=True) + "\n")
