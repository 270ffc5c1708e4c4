"""Table `[mqtt]` of services.toml."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from netscanctl.services.settings import COMMON_CHECKS, ServiceTable, file_fault
from netscand.config import Checks, ConfigError, Texts

NAME = re.compile(r"[a-zA-Z0-9_-]{1,32}")
TOPIC = re.compile(r"[^\s+#\x00/]+(?:/[^\s+#\x00/]+)*")
ZONE = re.compile(r"zone\.[a-z0-9_]+")
PORTS = {"mqtt": 1883, "mqtts": 8883}
"""Scheme → default port."""
PASSWORD = "netscand-mqtt.password"  # noqa: S105 - the name of a credential
"""Credential of systemd that has the password if there is no `password_file`."""
PASSWORD_FILE = f"/etc/credstore/{PASSWORD}"
"""Where systemd reads this credential."""
PASSWORD_LIMIT = 65_535
"""Bytes of a password in MQTT."""


def _broker(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in PORTS and parts.hostname and (parts.port is None or parts.port > 0)
        if not valid or parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
            raise ValueError
    except ValueError:
        yield f"broker {url!r}: expected mqtt://HOST:PORT or mqtts://HOST:PORT; see username and password_file"


def _site(site: str) -> Iterator[str]:
    if not NAME.fullmatch(site):
        yield f"site {site!r}: expected 1 to 32 letters, digits, - or _"


def _topic(topic: str) -> Iterator[str]:
    if not TOPIC.fullmatch(topic) or len(topic) > 128:
        yield f"topic {topic!r}: expected a topic such as netscand, without +, # or spaces"


def _discovery_prefix(prefix: str) -> Iterator[str]:
    if prefix and (not TOPIC.fullmatch(prefix) or len(prefix) > 128):
        yield f'discovery_prefix {prefix!r}: expected a topic such as homeassistant, or "" for no discovery'


def _zone(zone: str) -> Iterator[str]:
    if not ZONE.fullmatch(zone):
        yield f"zone {zone!r}: expected the id of a zone, such as zone.home or zone.office"


CHECKS: Checks = {
    **COMMON_CHECKS,
    "broker": _broker,
    "site": _site,
    "topic": _topic,
    "discovery_prefix": _discovery_prefix,
    "zone": _zone,
}


class Mqtt(ServiceTable, frozen=True):
    """`[mqtt]`."""

    checks = CHECKS

    broker: str = "mqtt://localhost:1883"
    username: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    certificate: str | None = None
    key: str | None = None
    protocol: Literal["5", "3.1.1"] = "5"
    client_id: Annotated[str, Meta(max_length=64)] | None = None
    site: str = "home"
    topic: str = "netscand"
    discovery_prefix: str = "homeassistant"
    devices: Literal["known", "all"] = "known"
    connectivity: Texts = ()
    zone: str = "zone.home"
    unknown: Literal["keep", "unknown"] = "keep"
    commands: bool = False

    @property
    def host(self) -> str:
        """Return the broker's host."""
        return urlsplit(self.broker).hostname or ""

    @property
    def port(self) -> int:
        """Return the broker's port."""
        parts = urlsplit(self.broker)
        return parts.port or PORTS[parts.scheme]

    @property
    def uses_tls(self) -> bool:
        """Return whether the connection is encrypted."""
        return urlsplit(self.broker).scheme == "mqtts"

    def password(self, credentials: Path | None) -> str | None:
        """Return the password in the file or credential; None: there is none. Raises ConfigError."""
        path = Path(self.password_file) if self.password_file else credentials and credentials / PASSWORD
        if path is None or (self.password_file is None and not path.exists()):
            return None
        try:
            text = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"[mqtt] password_file {str(path)!r}: cannot be read: {error.strerror}") from None
        if len(text) > PASSWORD_LIMIT:
            raise ConfigError(f"[mqtt] password_file {str(path)!r}: expected only a password")
        try:
            return text.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise ConfigError(f"[mqtt] password_file {str(path)!r}: expected a password in UTF-8") from None


def faults(table: Mqtt, credentials: Path | None) -> Iterable[str]:
    """Yield a line for each combination and each file of the table that cannot be used."""
    for key in ("password_file", "ca_file", "certificate", "key"):
        yield from file_fault(key, getattr(table, key))
    if not list(file_fault("password_file", table.password_file)):
        try:
            table.password(credentials)
        except ConfigError as wrong:
            yield from (fault.removeprefix("[mqtt] ") for fault in wrong.faults)
    if table.password_file and table.username is None:
        yield f"password_file {table.password_file!r}: set username as well"
    if (table.certificate is None) != (table.key is None):
        yield "certificate and key: set both, or none"
    if not table.uses_tls and (table.ca_file or table.certificate):
        yield f"broker {table.broker!r}: ca_file and certificate need mqtts://"
