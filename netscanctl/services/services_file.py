"""`services.toml`: one file for all services, a table each, read and checked as netscand's own configuration is."""

from pathlib import Path
from typing import TypeVar

from netscanctl.services.mqtt.settings import Mqtt
from netscanctl.services.notify.settings import Notify
from netscanctl.services.settings import Connection, ServiceTable
from netscanctl.services.uplink.settings import Uplink
from netscand.config import ConfigError, Reading, Table, read

DEFAULT = Path("/etc/netscand/services.toml")


class Settings(Table, frozen=True):
    """The whole file."""

    daemon: Connection = Connection()
    mqtt: Mqtt = Mqtt()
    notify: Notify = Notify()
    uplink: Uplink = Uplink()


T = TypeVar("T", bound=ServiceTable)


def load(path: Path, kind: type[T], *, required: bool = True) -> tuple[Connection, T]:
    """Return the connection and the table of one service; defaults if the file is missing. Raises ConfigError."""
    reading = read_file(path, required=required)
    connection, table = reading.table(Connection), reading.table(kind)
    if reading.faults or connection is None or table is None:
        raise ConfigError(*(f"{path}: {fault}" for fault in reading.faults))
    return connection, table


def read_file(path: Path, *, required: bool = True) -> Reading:
    """Parse the file, valid or not. Raises ConfigError where it cannot be parsed at all."""
    return read(path, required=required, root=Settings)
