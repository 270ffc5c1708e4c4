"""`/api/settings`: the configuration in force. Its values are numbers, names and paths, never a token or a key."""

from collections.abc import Callable, Iterator

import msgspec
from aiohttp import web

from netscand import config, protocol
from netscand.serve.http import answer


class SettingsView:
    """Handler of the settings; `configuration` returns what is in force."""

    def __init__(self, configuration: Callable[[], config.Table]) -> None:
        self._configuration = configuration

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Return every key with its value and its default."""
        return answer(protocol.Settings(settings=list(_settings(self._configuration()))))


def _settings(configuration: config.Table) -> Iterator[protocol.Setting]:
    for field in msgspec.structs.fields(configuration):
        found = getattr(configuration, field.name)
        tables = [(f"[{field.name}]", found)]
        if isinstance(found, tuple):
            tables = [(f"[[{field.name}]] {rule.cidr}", rule) for rule in found]
        for heading, table in tables:
            values = msgspec.to_builtins(table)
            for key in msgspec.structs.fields(table):
                default = None if key.default is msgspec.NODEFAULT else msgspec.to_builtins(key.default)
                yield protocol.Setting(table=heading, key=key.name, value=values[key.name], default=default)
