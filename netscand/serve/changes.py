"""What clients may change: the user's words of a device, and that it is known at all."""

from time import monotonic
from unicodedata import normalize

import msgspec
from aiohttp import web

from netscand import protocol
from netscand.core.budgets import ANNOTATIONS
from netscand.serve.answers import HEADERS, Refused, answer
from netscand.serve.http import connection_of
from netscand.serve.hub import Hub
from netscand.serve.query import NOT_READABLE, json_of, mac_of, parameters
from netscand.serve.scanner import Scanner
from netscand.serve.translate import Translator, mac_text
from netscand.wording import not_readable

decode_words = msgspec.json.Decoder(protocol.DeviceWords).decode


class Changes:
    """The handlers; rights.RIGHTS says who may."""

    def __init__(self, scanner: Scanner, hub: Hub, translator: Translator) -> None:
        self._scanner = scanner
        self._hub = hub
        self._translator = translator

    def routes(self) -> list[web.RouteDef]:
        """Every route."""
        return [web.patch("/api/devices/{mac}", self.label), web.delete("/api/devices/{mac}", self.forget)]

    async def label(self, request: web.Request) -> web.StreamResponse:
        """Take label, known, notes, patience; answer with the device."""
        parameters(request)
        mac = mac_of(request.match_info["mac"])
        body = await json_of(request)
        try:
            words = decode_words(body)
        except NOT_READABLE as wrong:
            raise Refused(
                "bad_request", f"not what can be said of a device: {not_readable(wrong, body, protocol.DeviceWords)}"
            ) from None
        wishes = {name: value for name, value in msgspec.structs.asdict(words).items() if value is not msgspec.UNSET}
        for name in ("label", "notes"):
            if isinstance(text := wishes.get(name), str):
                wishes[name] = cleaned(text, lines=name == "notes")
        scanner, spender, now = self._scanner, (connection_of(request).account, mac), monotonic()
        if mac not in scanner.devices:
            raise Refused("not_found", f"no device {mac_text(mac)}")
        if not scanner.budgets.has(ANNOTATIONS, spender, now):
            scanner.budgets.refuse(ANNOTATIONS, now)
            raise Refused(
                "busy",
                f"{mac_text(mac)}: changed more than {ANNOTATIONS.at_once:g} times, and then more than once a minute; "
                "try again in 60 s",
            )
        cursor = scanner.cursor
        scanner.label(mac, wishes)
        if scanner.cursor != cursor:  # what changes nothing costs nothing
            scanner.budgets.take(ANNOTATIONS, spender, now)
        self._translator.sync()
        told = answer(self._translator.wholly(self._scanner.devices[mac]))
        await self._hub.settled()
        return told

    async def forget(self, request: web.Request) -> web.StreamResponse:
        """Strike a device out; heard again, it is new."""
        parameters(request)
        mac = mac_of(request.match_info["mac"])
        try:
            self._scanner.forget(mac)
        except KeyError:
            raise Refused("not_found", f"no device {mac_text(mac)}") from None
        except ValueError as wrong:
            raise Refused("bad_request", f"{mac_text(mac)}: {wrong}") from None
        await self._hub.settled()
        return web.Response(status=204, headers=HEADERS)


def cleaned(text: str, *, lines: bool = False) -> str | None:
    """The text without control, bidi and zero-width characters (FAULTS T8), in NFC; None where nothing is left."""
    kept = "".join(char for char in normalize("NFC", text) if char.isprintable() or (lines and char == "\n"))
    return kept.strip() or None
