"""`/api/capture`: what netscand receives, streamed as it comes; see lan/recorder.py for its limits."""

import asyncio
from time import monotonic

from aiohttp import web

from netscand.core.model import Busy
from netscand.serve.connection import LEAST_RATE
from netscand.serve.http import BINARY, HEADERS, Refused, connection_of
from netscand.serve.ports import FrameRecorder
from netscand.serve.query import SLOW, boolean_of, number_of

LONGEST, DEFAULT = 3600, 60
"""Seconds of a capture: maximum, and without `seconds`."""

APART = 0.1
"""Seconds between two pieces: each has the frames of that time."""


class CaptureApi:
    """Handler of captures; `recorder` records what the wire receives; None: nothing is received."""

    def __init__(self, recorder: FrameRecorder | None) -> None:
        self._recorder = recorder

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Stream a capture, until its time is over or the client leaves."""
        seconds, anonymise = (
            number_of(request.query, "seconds", DEFAULT, LONGEST),
            boolean_of(request.query, "anonymise"),
        )
        recorder, connection = self._recorder, connection_of(request)
        if recorder is None:
            raise Refused("not_found", "this netscand receives no frames; capture at a site")
        try:
            recording = recorder.start(anonymise=bool(anonymise))
        except Busy as busy:
            raise Refused("busy", str(busy)) from None
        ends = monotonic() + seconds
        try:
            async with connection.answering(int, seconds * LEAST_RATE):
                response = web.StreamResponse(headers={**HEADERS, "Content-Type": BINARY})
                await response.prepare(request)
                while (left := ends - monotonic()) > 0 and not recording.is_over:
                    async with asyncio.timeout(SLOW):
                        await response.write(recording.take())
                    await recording.wait(left)
                    await asyncio.sleep(min(max(0.0, ends - monotonic()), APART))
                async with asyncio.timeout(SLOW):
                    await response.write(recording.take() + recording.end())
                return response
        finally:
            recorder.stop()
