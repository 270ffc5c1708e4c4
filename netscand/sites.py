"""The wire contract between sites and the central view, on NATS JetStream (docs/sites.md). Fields are only added.

A site's events are in one log. Streams derived from it have the last value of each device, and the last message of each
site, so that a reader and a site know where to continue.
"""

import re
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from netscand.protocol import MAC_PATTERN, Event, Kind, Message, Network, ScanNow

VERSION = 1
PREFIX = f"netscan.v{VERSION}"

NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
"""Name of a site: one token of a subject."""

LOG, STATE, CURSOR, OWNER = "NETSCAN", "NETSCAN_STATE", "NETSCAN_CURSOR", "NETSCAN_OWNER"

CURSOR_HEADER = "Netscan-Cursor"
"""Cursor of the site after the message; missing within a snapshot, which is worth nothing until it is complete."""
PREVIOUS = "Netscan-Previous"
"""Cursor before it; missing if the message continues nothing."""
ACKNOWLEDGED = "Netscan-Acknowledged"
"""Cursor up to which the server had acknowledged every message when this one was sent."""
SNAPSHOT = "Netscan-Snapshot"
"""The site's last snapshot: a device whose last message has another one is not among the devices any more, once a
message with this one has a cursor."""
RUN = "Netscan-Run"
"""Connection to which the ids of the site's last events belong."""
SUBJECT = "Netscan-Subject"
"""Subject of the message in the log."""
SEQUENCE = "Nats-Sequence"
"""Number of a stored message in its stream; JetStream adds it to an answer."""
PROTOCOL, INSTANCE, MESSAGE_ID = "Netscan-Protocol", "Netscan-Instance", "Nats-Msg-Id"

SOURCE = "Nats-Stream-Source"
"""Header of STATE and CURSOR, set by the server: the second word is the number of the message in the log."""

LARGEST = 64 * 1024
"""Bytes of a message, with its headers."""
WINDOW = 64
"""Messages of a site that are not acknowledged, at most."""
ALIVE_INTERVAL = 30.0
"""Seconds between two `alive` messages."""


class SnapshotBegan(Message, tag="snapshot_began"):
    """On the subject of the site: each device follows in an event of kind `snapshot`, then `snapshot_ended`."""

    cursor: str
    version: str
    networks: list[Network]


class SnapshotEnded(Message, tag="snapshot_ended"):
    """A device that was not in the snapshot exists no more."""

    cursor: str
    version: str = ""
    networks: tuple[Network, ...] = ()


class SiteUp(Message, tag="site_up"):
    """On the subject of the site: it has connected, and continues behind `cursor`."""

    cursor: str
    version: str
    networks: list[Network]


class SiteRemoved(Message, tag="site_removed"):
    """On the subject of the site, by the administrator: the site is not one of the hub any more, nor are its devices.

    Later messages are of a site that was added again, and begin with a snapshot.
    """


class Alive(Message, tag="alive"):
    """Not stored: the site is connected. `backlog`: events that wait; `now`: its clock."""

    cursor: str | None
    now: str
    instance: str
    version: str
    backlog: int
    commands: bool


class Resend(Message, tag="resend", forbid_unknown_fields=True):
    """Command: publish again every event after the cursor."""

    after: Annotated[str, Meta(max_length=128, pattern="^[!-~]+$")]


class Annotate(Message, tag="annotate", forbid_unknown_fields=True, omit_defaults=True):
    """Command: set a user's annotations of a device; as `protocol.DeviceUpdate`."""

    mac: Annotated[str, Meta(max_length=17, pattern=MAC_PATTERN)]
    label: Annotated[str, Meta(max_length=128)] | UnsetType | None = UNSET
    known: bool | UnsetType = UNSET
    notes: Annotated[str, Meta(max_length=4096)] | UnsetType | None = UNSET
    patience: Annotated[float, Meta(ge=1, le=86_400)] | UnsetType | None = UNSET
    kind: Kind | UnsetType | None = UNSET


Command = ScanNow | Resend | Annotate


class Done(Struct, kw_only=True):
    """Answer to a command that was carried out; to one that was not, it is `protocol.ErrorAnswer`."""

    ok: bool = True


class Owner(Struct, kw_only=True):
    """Entry of a site in the bucket OWNER: the only machine that publishes as this site.

    An empty entry is of a site that has a key, and no machine yet.
    """

    instance: str
    host: str
    since: str


_TOKEN = {"%": "%25", "_": "%5F", ".": "_", "*": "%2A", ">": "%3E"}


def network_token(network: str) -> str:
    """Return the id of a network as one token of a subject."""
    return "".join(_TOKEN.get(letter, letter) for letter in network)


def subject(site: str, event: Event) -> str:
    """Return the subject of an event: its device, else its network, else the site."""
    if event.device is not None:
        return f"{PREFIX}.{site}.device.{event.device.mac.replace(':', '')}"
    if event.network is not None:
        return f"{PREFIX}.{site}.network.{network_token(event.network)}"
    return site_subject(site)


def site_subject(site: str) -> str:
    """Return the subject of messages about the site itself."""
    return f"{PREFIX}.{site}.site"


def alive_subject(site: str) -> str:
    """Return the subject of the sign of life, which is not stored."""
    return f"{PREFIX}.{site}.alive"


def command_subject(site: str) -> str:
    """Return the subject of commands to the site, which are not stored."""
    return f"{PREFIX}.{site}.command"


def cursor_subject(site: str) -> str:
    """Return the subject of the site's last message, in the stream CURSOR."""
    return f"netscan.cursor.{site}"


def owner_subject(site: str) -> str:
    """Return the subject of the site's entry in the key-value bucket OWNER."""
    return f"$KV.{OWNER}.{site}"


def inbox(site: str) -> str:
    """Return the prefix of the subjects at which the site gets answers."""
    return f"_INBOX_{site}"


def rights(site: str) -> dict[str, Any]:
    """Return the permissions of the site's key, for the server's configuration: its own subjects, and no other's."""
    return {
        "publish": [
            f"{PREFIX}.{site}.>",
            owner_subject(site),
            f"$JS.API.DIRECT.GET.{CURSOR}.{cursor_subject(site)}",
            f"$JS.API.DIRECT.GET.{LOG}.{PREFIX}.{site}.>",
            f"$JS.API.DIRECT.GET.KV_{OWNER}.{owner_subject(site)}",
        ],
        "subscribe": [f"{inbox(site)}.>", command_subject(site)],
        "allow_responses": True,
    }


HUB_INBOX = "_HUB"
"""Prefix of the subjects at which a hub gets answers and streams."""


def dead_subject(site: str) -> str:
    """Return the subject of a site's messages that a hub cannot read; not stored."""
    return f"netscan.dead.{site}"


def hub_rights() -> dict[str, Any]:
    """Return the permissions of a hub's key: it reads the log, and publishes nothing but commands."""
    read = (LOG, STATE, f"KV_{OWNER}")
    return {
        "publish": [
            *(f"$JS.API.STREAM.INFO.{stream}" for stream in read),
            *(f"$JS.API.CONSUMER.CREATE.{stream}.>" for stream in read),
            *(f"$JS.API.CONSUMER.DELETE.{stream}.>" for stream in read),
            f"$JS.API.CONSUMER.MSG.NEXT.{LOG}.>",
            f"$JS.API.DIRECT.GET.{LOG}",
            "$JS.FC.>",
            command_subject("*"),
            dead_subject("*"),
        ],
        "subscribe": [f"{HUB_INBOX}.>", alive_subject("*")],
    }


def streams(replicas: int = 1, days: int = 90, size: int = 10 * 2**30) -> list[dict[str, Any]]:
    """Return the configurations of all streams, as JetStream's API takes them; the log comes first."""
    second = 1_000_000_000
    shared = {"retention": "limits", "storage": "file", "num_replicas": replicas, "allow_direct": True}
    last = shared | {"max_msgs_per_subject": 1, "discard": "old"}
    subjects = [f"{PREFIX}.*.device.*", f"{PREFIX}.*.network.*", f"{PREFIX}.*.site"]
    transforms = [{"src": source, "dest": "netscan.cursor.{{wildcard(1)}}"} for source in subjects]
    log = {
        "name": LOG, "subjects": subjects, "compression": "s2", "max_age": days * 86_400 * second, "max_bytes": size,
        "discard": "old", "max_msg_size": LARGEST, "duplicate_window": 120 * second,
    }  # fmt: skip
    return [
        shared | log,
        # No mirror: it would answer direct requests to the log.
        last | {"name": STATE, "sources": [{"name": LOG}]},
        last | {"name": CURSOR, "sources": [{"name": LOG, "subject_transforms": transforms}]},
        last | {"name": f"KV_{OWNER}", "subjects": [f"$KV.{OWNER}.*"], "discard": "new", "allow_rollup_hdrs": True},
    ]
