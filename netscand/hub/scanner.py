"""The sites as the server of clients sees them: where on a host the engine is."""

import time
from collections.abc import Hashable, Mapping, Sequence

from netscand import sites
from netscand.core.conflicts import Conflict
from netscand.core.merged import MergedMacs
from netscand.core.model import BadTarget, Busy, Coverage, Load, Mac, Network
from netscand.core.people import People
from netscand.core.ratelimit import Budgets
from netscand.core.status import StatusCounts
from netscand.hub.log import Log
from netscand.hub.requests import Requests
from netscand.hub.site import SiteDevice
from netscand.hub.view import View
from netscand.protocol import ScanNow

AT_SITE = "a hub scans nothing itself; name the site to scan"


class Sites:
    """`Scanner` of all sites; what only a host has is empty."""

    def __init__(self, view: View, log: Log, requests: Requests) -> None:
        self.view = view
        self.log = log
        self.requests = requests
        self.counts = StatusCounts()
        self.people, self.merged = People({}), MergedMacs()
        self.networks: Mapping[str, Network] = {}
        self.observations: Mapping[str, int] = {}
        self.budgets = Budgets()
        self.interval = 0.0
        self.scanning = False
        self.last_scan: float | None = None
        self.started_at = time.monotonic()
        self.not_reloaded = ""
        self._scans = 0

    @property
    def devices(self) -> Mapping[Mac, SiteDevice]:
        """All devices, by site and MAC."""
        return self.view.devices

    @property
    def cursor(self) -> str:
        """Cursor of the last message of the log."""
        return self.log.cursor

    def last_scan_of(self, network: str) -> float | None:
        """Return nothing."""
        return None

    def coverage(self, network: str) -> Coverage:
        """Return nothing."""
        return Coverage(0.0, 0.0)

    def load(self) -> Load:
        """Return zeros."""
        return Load(0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0)

    def problems(self) -> tuple[str, ...]:
        """Return why what is shown may be wrong."""
        found = [self.log.problem, self.not_reloaded]
        if self.log.derived_ahead:
            found.append(f"{sites.STATE} does not match the log; to rebuild it: netscand-hub doctor --repair")
        return tuple(each for each in found if each)

    def conflicts(self) -> Sequence[Conflict]:
        """Return nothing: conflicts are shown at the site."""
        return ()

    def scan_now(
        self, targets: Sequence[str], account: Hashable = None, client: object = None, site: str | None = None
    ) -> int:
        """Request a scan of a site; return its number. Raises BadTarget, Busy, with a sentence."""
        if site is None:
            raise BadTarget(AT_SITE)
        found = self.view.sites.get(site)
        if found is None:
            raise BadTarget(f"no site {site}")
        if found.state != "connected":
            raise Busy(f"site {site} is {found.state}")
        if found.alive is not None and not found.alive.commands:
            raise Busy(f"site {site} accepts no commands ([uplink] commands there)")
        self._scans += 1
        self.requests.send(self._scans, site, ScanNow(targets=list(targets)))
        return self._scans

    def leave_scans(self, client: object) -> None:
        """Do nothing."""

    def lease(self, client: object, seconds: float | None) -> float:
        """Raise ValueError for any interval."""
        if seconds is not None:
            raise ValueError("a hub has no scan interval; set it at the site")
        return self.interval

    def label(self, mac: Mac, changes: Mapping[str, object]) -> None:
        """Raise Busy: a site does it on request (`serving.SiteChanges`)."""
        raise Busy("a hub changes no device")

    async def wake(self, mac: Mac) -> Sequence[str]:
        """Do nothing, as `forget`."""
        raise NotImplementedError

    def forget(self, mac: Mac) -> None:
        """Raise ValueError: the site does it."""
        raise ValueError("a hub removes no device")
