"""The outermost middleware: each request in a fair turn, judged, and whatever goes wrong told in one shape."""

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from netscand.core.recorded import Unreadable
from netscand.serve.answers import Refused, from_aiohttp, refusal
from netscand.serve.fair import FairTurns
from netscand.serve.http import connection_of

log = logging.getLogger(__name__)


def in_our_shape(
    judge: Callable[[web.Request], Awaitable[None]], turns: FairTurns
) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Make it: `judge` may refuse a request."""

    @web.middleware
    async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
        connection = connection_of(request)
        connection.begin(request)
        try:
            await turns.turn(connection.account)
            await judge(request)
            return await handler(request)
        except Refused as refused:
            return refusal(refused)
        except Unreadable as wrong:
            return refusal(Refused("busy", str(wrong)))
        except web.HTTPException as wrong:
            return refusal(from_aiohttp(wrong))
        except (ConnectionError, TimeoutError):
            connection.abort()  # a mere close would wait for it to read
            raise ConnectionResetError("the client is gone, or too slow") from None
        except Exception:
            if connection.half_answered:
                raise  # too late for another answer
            log.exception("%s %s failed", request.method, request.rel_url.raw_path)
            return refusal(Refused("internal", "netscand failed at this; its log says more", 500))
        finally:
            connection.end()

    return outermost
