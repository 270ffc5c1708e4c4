"""What a service reports about itself: to systemd, to `netscanctl status`, to the log and to Prometheus."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from netscanctl.service_status import FILE, WRITE_INTERVAL, ServiceStatus, own_run, timestamp
from netscanctl.text import SENTENCE_LIMIT, clean
from netscand import __version__

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge

LOOK = 0.5
"""Seconds between two checks whether the status changed."""

log = logging.getLogger(__name__)


class Report:
    """Status of a service, with its metrics. `problem` gives a part of it a problem, or solves it."""

    def __init__(
        self,
        name: str,
        daemon: str,
        notify: Callable[[str], None],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.status = ServiceStatus(name=name, version=__version__, daemon=daemon, updated_at=timestamp())
        self._notify = notify
        self._file = _status_file(name, environment)
        self._problems: dict[str, str] = {}
        # Imported late: the manual pages are made where it is not installed.
        from prometheus_client import CollectorRegistry, Counter, Gauge

        self.registry = CollectorRegistry()
        """Registry, also for metrics of the service's own."""

        def counter(metric: str, text: str) -> "Counter":
            return Counter(f"netscand_service_{metric}", text, ["service"], registry=self.registry).labels(name)

        def gauge(metric: str, text: str) -> "Gauge":
            return Gauge(f"netscand_service_{metric}", text, ["service"], registry=self.registry).labels(name)

        self._accepted = counter("accepted", "Events that the target accepted.")
        self._put_aside = counter("put_aside", "Events that the target refused permanently.")
        self._errors = counter("errors", "Errors since the start.")
        self._behind = gauge("behind", "Events not accepted yet.")
        self._working = gauge("working", "1 while nothing is wrong.")
        self._working.set(1)

    def problem(self, part: str, sentence: str | None) -> None:
        """Set or, with None, clear the problem of a part (`daemon`, `target`); each is logged once."""
        before = self._problems.get(part)
        if sentence is None:
            if self._problems.pop(part, None) is not None:
                log.info("%s: works again", part)
        else:
            self._problems[part] = sentence = clean(sentence, SENTENCE_LIMIT)
            if sentence != before:
                self.error(f"{part}: {sentence}")
        self.status.problems = [f"{name}: {text}" for name, text in self._problems.items()]
        self._working.set(0 if self._problems else 1)

    def has_problem(self, part: str) -> bool:
        """Return whether a part has a problem."""
        return part in self._problems

    def error(self, sentence: str) -> None:
        """Log an error, count it, and show it as the last one."""
        log.warning("%s", sentence)
        self._errors.inc()
        self.status.last_error, self.status.last_error_at = clean(sentence, SENTENCE_LIMIT), timestamp()

    def accepted(self, behind: int) -> None:
        """Count an event that the target accepted; `behind` are still to come."""
        self.status.accepted += 1
        self._accepted.inc()
        self.behind(behind)

    def put_aside(self) -> None:
        """Count an event that the target refused permanently."""
        self.status.put_aside += 1
        self._put_aside.inc()

    def behind(self, events: int) -> None:
        """Set how many events are not accepted yet."""
        self.status.behind = events
        self._behind.set(events)

    @property
    def metrics(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        from prometheus_client import generate_latest

        return bytes(generate_latest(self.registry))

    async def run(self) -> None:
        """Keep the status file and systemd's STATUS up to date, until cancelled."""
        before, written = None, 0.0
        loop = asyncio.get_running_loop()
        try:
            while True:
                shown = msgspec.structs.replace(self.status, updated_at="")
                if shown != before or loop.time() - written >= WRITE_INTERVAL:
                    self._publish()
                    before, written = shown, loop.time()
                await asyncio.sleep(LOOK)
        finally:
            if self._file is not None:
                with suppress(OSError):
                    self._file.unlink()

    def _publish(self) -> None:
        self.status.updated_at = timestamp()
        # sdnotify encodes as Latin-1, and drops silently what that does not have; systemd expects UTF-8.
        self._notify(f"STATUS={self.sentence}".encode().decode("latin-1"))
        if self._file is not None:
            new = self._file.with_suffix(".new")
            try:
                new.write_bytes(msgspec.json.encode(self.status))
                new.chmod(0o644)
                new.replace(self._file)
            except OSError as error:
                log.warning("%s: %s", self._file, error.strerror)
                self._file = None

    @property
    def sentence(self) -> str:
        """Return the status in one line."""
        behind = f"{self.status.behind} events to deliver" if self.status.behind else "up to date"
        return "; ".join([*self.status.problems, behind])


def _status_file(name: str, environment: Mapping[str, str]) -> Path | None:
    """Return the file for `netscanctl status`: in the folder of systemd, or if run by hand, in a folder of the user."""
    if folder := environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        return Path(folder, FILE)
    if (own := own_run(environment)) is None:
        return None
    place = own / f"netscand-{name}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        log.warning("%s: %s", place, error.strerror)
        return None
    return place / FILE
