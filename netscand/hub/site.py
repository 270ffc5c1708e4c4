"""One site: its devices and networks, how far its messages are known, and its condition. Pure: no clock, no I/O."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from msgspec import structs

from netscand import __version__, protocol, sites
from netscand.core.model import Mac
from netscand.hub.published import LastValue
from netscand.protocol import Network

SILENT = 3 * sites.ALIVE_INTERVAL
"""Seconds without a sign of life after which a site is silent."""
SKEW = 5.0
"""Seconds that a site's clock may be off."""
BEHIND = 2 * sites.WINDOW
"""Events that may wait at a site."""
PATIENCE = 20.0
"""Seconds that missing events may take to come: a site whose message was refused connects again, and repeats it."""
ANSWER = 60.0
"""Seconds that a site has to publish again what is missing."""

UNCERTAIN = frozenset(("network_up", "network_down", "network_silent"))
"""Events of a network that set its online devices to `unknown`, unless they are on another network too."""
STATE_AFTER = {"network_up": "up", "network_down": "down", "network_silent": "silent", "network_recovered": "up"}

DIGITS = 18
"""Digits of the number of a cursor."""

INSTANCES = 16
"""Machines of a site that are remembered."""

COLUMNS = {"online": 0, "offline": 1}


class Position(NamedTuple):
    """A cursor of a site."""

    epoch: bytes
    number: int


def position_of(cursor: bytes | None) -> Position | None:
    """Return the parts of a cursor; None: it is none."""
    epoch, _, number = (cursor or b"").rpartition(b"-")
    return Position(epoch, int(number)) if epoch and number.isdigit() and len(number) <= DIGITS else None


class SiteDevice:
    """A device as its site published it last."""

    __slots__ = ("is_self", "key", "networks", "site", "snapshot", "status", "text")

    def __init__(self, site: "Site", key: Mac, snapshot: bytes) -> None:
        self.site = site
        self.key = key
        """Site and MAC: `home/` and six bytes."""
        self.snapshot = snapshot
        """The site's snapshot at that time."""
        self.text = b""
        """Its JSON, as published."""
        self.status = ""
        self.networks: tuple[str, ...] = ()
        self.is_self = False

    @property
    def shown_status(self) -> str:
        """Return the status that clients see."""
        return "unknown" if self.site.is_silent else self.status


class Site:
    """What is known of one site. Times are monotonic seconds."""

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.devices: dict[Mac, SiteDevice] = {}
        self.gone: dict[Mac, tuple[bytes, bytes]] = {}
        """Devices that a snapshot removed: that snapshot, and the body of the event, for clients that resume."""
        self.networks: dict[str, Network] = {}
        self.counts = [0, 0, 0]
        self.by_network: dict[str, list[int]] = {}
        self.version: str | None = None
        # ---- how far its messages are known
        self.number = 0
        """Number in the log of the last message that came."""
        self.cursor: bytes | None = None
        """Cursor after the last message that was taken; None: any message continues."""
        self.certain: bytes | None = None
        """After a start: cursor up to which the log certainly has all messages; later ones may be repeated."""
        self.snapshot = b""
        """Its last snapshot."""
        self.in_snapshot = False
        self.newest: Mapping[bytes, bytes] = {}
        """Headers of the newest message that a start read."""
        self.missing_since: float | None = None
        self.requested_at: float | None = None
        """When it was requested to publish again."""
        self.gap: str | None = None
        """What is uncertain because events are missing."""
        self.unreadable = 0
        # ---- its condition
        self.state = "unknown"
        self.known_since = now
        self.received_at: float | None = None
        self.connected_since: float | None = None
        self.alive: sites.Alive | None = None
        self.clock_offset: float | None = None
        self.instance: str | None = None
        self.owner: sites.Owner | None = None
        self.added_at = 0
        """When its owner entry, perhaps an empty one, was stored, in nanoseconds of unix time; 0: it has none."""
        self._instances: dict[str, float] = {}
        self._conflict_at: float | None = None
        self.protocol = str(sites.VERSION)
        self.shown: tuple[object, ...] = ()
        """Its state as last published."""

    @property
    def is_silent(self) -> bool:
        """Return whether its devices are unknown."""
        return self.state == "silent"

    # ---- devices

    def count(self, device: SiteDevice, by: int) -> None:
        """Count a device, or stop counting it."""
        if device.is_self:
            return
        column = COLUMNS.get(device.status, 2)
        self.counts[column] += by
        for network in device.networks:
            self.by_network.setdefault(network, [0, 0, 0])[column] += by

    def shown_counts(self, network: str | None = None) -> list[int]:
        """Return how many devices are online, offline and unknown for clients."""
        counts = self.counts if network is None else self.by_network.get(network, [0, 0, 0])
        return [0, 0, sum(counts)] if self.is_silent else counts

    def set_networks(self, networks: Iterable[Network]) -> None:
        """Replace the networks."""
        self.networks = {network.id: network for network in networks}

    def shown_networks(self) -> Iterator[Network]:
        """Yield the networks as clients see them, by id."""
        for name, network in sorted(self.networks.items()):
            yield structs.replace(network, site=self.name, online=self.shown_counts(name)[0])

    def on_network(self, event: protocol.Event | LastValue) -> Iterator[SiteDevice]:
        """Take an event of a network; yield each device that it makes unknown, or online, without an event."""
        name, kind = event.network, event.kind
        if name is None or kind not in STATE_AFTER:
            return
        network = self.networks.get(name)
        if network is None:
            cidr, _, interface = name.partition("@")
            network = self.networks[name] = Network(
                id=name, cidr=cidr, interface=interface, state="up", why=event.reason, gateway=None, interval=0,
                addresses=0, coverage=protocol.Coverage(fraction=0, seconds=0), online=0, last_scan=None,
            )  # fmt: skip
        network.state = STATE_AFTER[kind]
        if kind not in UNCERTAIN:
            return
        for device in self.devices.values():
            if name not in device.networks or (device.is_self and kind == "network_silent"):
                continue
            if (device.is_self and kind == "network_up") or (
                device.status == "online" and not any(self._is_up(each) for each in device.networks if each != name)
            ):
                yield device

    def _is_up(self, network: str) -> bool:
        return network in self.networks and self.networks[network].state == "up"

    # ---- how far its messages are known

    def continues(self, cursor: bytes | None, previous: bytes | None, now: float) -> bool:
        """Return whether an event is the next one: neither a repeated one, nor one after missing events."""
        if cursor is None:
            return self.in_snapshot
        if self.cursor is None or previous == self.cursor or (previous is not None and previous == self.certain):
            self.move(cursor)
            return True
        here, its = position_of(self.cursor), position_of(cursor)
        repeated = here is not None and its is not None and here.epoch == its.epoch and its.number <= here.number
        if not repeated and self.missing_since is None:
            self.missing_since = now
        return False

    def move(self, cursor: bytes) -> None:
        """Set the cursor after a message."""
        self.cursor, self.certain, self.missing_since, self.requested_at = cursor, None, None, None

    def skip_missing(self, gap: str, cursor: bytes | None = None) -> None:
        """Continue after a cursor, or with any message, because the missing events will not come."""
        self.gap, self.cursor, self.certain, self.missing_since, self.requested_at = gap, cursor, None, None, None

    def compare(self, cursor: str | None, now: float) -> None:
        """Compare with the cursor up to which the site knows its events to be in the log."""
        here, its = position_of(self.cursor), position_of(cursor.encode() if cursor else None)
        if here is None or its is None or self.in_snapshot:
            return
        if here.epoch != its.epoch or its.number > here.number:
            self.missing_since = self.missing_since if self.missing_since is not None else now

    # ---- its condition

    def receive(self, now: float, instance: str | None) -> None:
        """Note a sign of life."""
        self.received_at = now
        if instance is None:
            return
        if instance != self.instance and instance in self._instances and now - self._instances[instance] < SILENT:
            self._conflict_at = now  # this one, another one, and this one again
        self._instances.pop(instance, None)  # so that the oldest one comes first
        self._instances[instance] = now
        if len(self._instances) > INSTANCES:
            del self._instances[next(iter(self._instances))]
        self.instance = instance

    def update_state(self, now: float) -> str | None:
        """Return the kind of the event, if the state has changed."""
        last = self.known_since if self.received_at is None else self.received_at
        state = "silent" if now - last > SILENT else "unknown" if self.received_at is None else "connected"
        if state == self.state:
            return None
        self.state = state
        if state == "connected":
            self.connected_since = now
        return "site_silent" if state == "silent" else "site_up"

    def problems(self, now: float) -> dict[str, str]:
        """Return what is wrong with it: a word for programs → a sentence for people."""
        found = {}
        alive = self.alive
        if self.added_at and self.received_at is None and self.cursor is None and not self.devices:
            joined = f"{self.owner.host} joined as this site on {self.owner.since}" if self.owner else "it was added"
            found["never_published"] = f"{joined}, and the log has no event of it"
        if self._conflict_at is not None and now - self._conflict_at < SILENT:
            found["conflicting"] = f"two machines publish as site {self.name}; one of them must have another name"
        if alive is not None and alive.backlog > BEHIND:
            found["behind"] = f"{alive.backlog} events wait at the site"
        if self.clock_offset is not None and abs(self.clock_offset) > SKEW:
            direction = "ahead" if self.clock_offset > 0 else "behind"
            found["wrong_clock"] = f"the site's clock is {abs(self.clock_offset):.0f} s {direction}"
        if self.protocol != str(sites.VERSION):
            found["other_version"] = f"the site speaks protocol {self.protocol}, this hub {sites.VERSION}"
        elif self.version is not None and self.version != __version__:
            found["other_version"] = f"the site has netscand {self.version}, this hub {__version__}"
        if self.in_snapshot:
            found["snapshot"] = "the site is publishing all of its devices again"
        if self.missing_since is not None and now - self.missing_since > PATIENCE:
            found["gap"] = "events of the site are missing in the log"
        elif self.gap is not None:
            found["gap"] = self.gap
        if self.unreadable:
            found["unreadable"] = f"{self.unreadable} messages of the site could not be read"
        return found

    def shown_as(self, now: float, time: Callable[[float], str]) -> protocol.Site:
        """Return the site as clients see it."""
        online, offline, unknown = self.shown_counts()
        found = self.problems(now)
        cursor = self.cursor.decode(errors="replace") if self.cursor else None
        since = self.received_at if self.is_silent else self.connected_since
        return protocol.Site(
            site=self.name, state=self.state, problems=list(found), why=list(found.values()),
            since=None if since is None else time(since), cursor=cursor,
            received_at=None if self.received_at is None else time(self.received_at),
            version=self.version, instance=self.instance, backlog=self.alive.backlog if self.alive else 0,
            clock_offset=self.clock_offset, commands=self.alive is not None and self.alive.commands,
            devices=protocol.Counts(online=online, offline=offline, unknown=unknown), networks=len(self.networks),
            unreadable=self.unreadable,
        )  # fmt: skip
