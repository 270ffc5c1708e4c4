"""The one table of rights: which role each route and each message needs."""

from collections.abc import Mapping
from enum import IntEnum

from netscand.serve.answers import Refused
from netscand.serve.page import PATHS


class Role(IntEnum):
    """Each may do what the ones before may."""

    NONE = 0
    READ = 1
    SCAN = 2
    ADMIN = 3

    @property
    def told(self) -> str:
        """As it stands on the wire."""
        return self.name.lower()


RIGHTS: Mapping[str, Role] = {
    **{f"GET {path}": Role.NONE for path in PATHS},
    "GET /healthz": Role.NONE,
    "GET /metrics": Role.READ,
    "GET /ws": Role.READ,
    "GET /api/openapi.json": Role.READ,
    "GET /api/devices": Role.READ,
    "GET /api/devices/{mac}": Role.READ,
    "GET /api/devices/{mac}/events": Role.READ,
    "GET /api/devices/{mac}/presence": Role.READ,
    "GET /api/events": Role.READ,
    "GET /api/networks": Role.READ,
    "GET /api/status": Role.READ,
    "POST /api/scan": Role.SCAN,
    "PATCH /api/devices/{mac}": Role.ADMIN,
    "DELETE /api/devices/{mac}": Role.ADMIN,
    "GET /api/backup": Role.ADMIN,
    "scan_now": Role.SCAN,
    "set_interval": Role.SCAN,
}
"""Every route and every message: the least role. What has no entry is refused, and fails a test (FAULTS T1)."""

DEEDS: Mapping[str, str] = {
    "GET /api/backup": "saving a copy of the history",
    "POST /api/scan": "asking for a scan",
    "scan_now": "asking for a scan",
    "set_interval": "asking for another interval",
    "PATCH /api/devices/{mac}": "changing what is said of a device",
    "DELETE /api/devices/{mac}": "forgetting a device",
}
"""What a route or a message does, for a person; all others read."""


def need(what: str, role: Role, *, ask_for_token: bool = False) -> None:
    """Refuse what this role may not do; `ask_for_token`: with a token it could be another."""
    least = RIGHTS.get(what)
    if least is not None and role >= least:
        return
    deed = DEEDS.get(what, "reading") if least is not None else what
    sentence = f"{deed} needs the role {least.told if least is not None else 'of nobody'}, not {role.told}"
    if ask_for_token and least is not None:
        raise Refused("unauthorized", f"{sentence}; a token may have it", headers={"WWW-Authenticate": "Bearer"})
    raise Refused("forbidden", sentence)
