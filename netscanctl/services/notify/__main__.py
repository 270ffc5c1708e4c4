"""Entry point of netscand-notify."""

import argparse
import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from netscanctl.client import Client, Daemon, Failure
from netscanctl.service_status import timestamp
from netscanctl.services import services_file
from netscanctl.services.notify.compose import Composer
from netscanctl.services.notify.rules import Engine, event_time, unmatched
from netscanctl.services.notify.senders import make_sender
from netscanctl.services.notify.service import build
from netscanctl.services.notify.settings import Notify, faults
from netscanctl.services.notify.state import Message, Rules
from netscanctl.services.program import EX_CONFIG, EX_UNAVAILABLE, Program
from netscanctl.services.services_file import DEFAULT
from netscand.config import ConfigError
from netscand.protocol import DeviceList, EventList, NetworkList, PeopleList
from netscand.service import credentials

PAGE = 1000
"""Events per request."""
DAY = timedelta(days=1)


class NotifyProgram(Program[Notify]):
    """The service, a test of one channel, and a dry run of the rules."""

    def parser(self) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = super().parser()
        parser.add_argument(
            "--dry-run", action="store_true", help="print the messages for the events of the last day, and exit"
        )
        parser.add_argument("command", nargs="?", choices=["test"], help="send one message to CHANNEL, and exit")
        parser.add_argument("channel", nargs="?", metavar="CHANNEL", help="name of the channel to test")
        return parser

    def main(self) -> None:
        """Run the command line; the exit code says what happened."""
        arguments = self.parser().parse_args()
        if (arguments.command is None) != (arguments.channel is None):
            self.parser().error("test: name the channel: netscand-notify test CHANNEL")
        if not arguments.command and not arguments.dry_run:
            super().main()
            return
        try:
            connection, table = services_file.load(arguments.config or DEFAULT, Notify)
            if wrong := list(faults(table, credentials())):
                raise ConfigError(*(f"[notify] {fault}" for fault in wrong))
            if arguments.dry_run:
                dry_run(connection.find(), table)
            else:
                asyncio.run(test(table, arguments.channel, credentials()))
        except ConfigError as wrong:
            sys.exit(self._print(f"\nnetscand-{self.name}: ".join(wrong.faults), EX_CONFIG))
        except Failure as failure:
            sys.exit(self._print(str(failure), EX_UNAVAILABLE))


async def test(table: Notify, name: str, folder: Path | None) -> None:
    """Send one message to a channel. Raises ConfigError, or Failure if it was not accepted."""
    if name not in table.channels:
        raise ConfigError(f'no channel "{name}"; the channels are: {", ".join(table.channels)}')
    now = datetime.now(UTC)
    message = Message(
        id=f"test-{int(now.timestamp())}", kind="test", at=timestamp(),
        title="Test of netscand-notify", text=f'The channel "{name}" works.', link=table.page,
    )  # fmt: skip
    try:
        await make_sender(name, table.channels[name], folder).send(message)
    except Failure as failure:
        raise Failure(f"{name}: {failure}") from None
    sys.stdout.write(f"{name}: accepted\n")


def dry_run(daemon: Daemon, table: Notify) -> None:
    """Print what the events of the last day would have sent. Raises Failure."""
    client = Client(daemon)
    now = time.time()
    engine = Engine(table.rules, table.channels, Composer(table.page), Rules())
    since = f"{datetime.fromtimestamp(now, UTC) - DAY:%Y-%m-%dT%H:%M:%S.000}Z"
    messages: list[tuple[str, Message]] = []
    events = 0
    while True:
        answer = client.get("/api/events", {"since": since, "limit": str(PAGE)})
        page = client.read(answer, EventList)
        for event in page.events:
            messages += engine.take(event, event_time(event, now))
        events, since = events + len(page.events), page.cursor
        if len(page.events) < PAGE:
            break
    messages += engine.advance(now)
    devices = client.read(client.get("/api/devices"), DeviceList).devices
    networks = [network.id for network in client.read(client.get("/api/networks"), NetworkList).networks]
    try:
        people = [person.name for person in client.read(client.get("/api/people"), PeopleList).people]
    except Failure:  # a hub
        people = None
    for line in unmatched(table.rules, devices, people, networks):
        sys.stderr.write(f"netscand-notify: warning: {line}\n")
    for channel, message in messages:
        link = [f"  {message.link}"] if message.link else []
        sys.stdout.write("\n".join([f"{channel}: {message.title}", *_indented(message.text), *link]) + "\n")
    sys.stdout.write(
        f"{events} events of the last day: {len(messages)} messages, {engine.waiting} events would still wait "
        "(for, cooldown, digest or quiet)\n"
    )


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]


PROGRAM = NotifyProgram(
    "notify", "Send messages about chosen events by ntfy, webhook, mail or Apprise.", Notify, build, faults
)


def main() -> None:
    """Run the command line; exit with its exit code."""
    PROGRAM.main()


if __name__ == "__main__":
    main()
