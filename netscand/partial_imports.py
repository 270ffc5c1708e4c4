"""Imports at the start of the service, without the parts of aiohttp and of the standard library that it never uses.

Measured with 254 devices (resident set, Python 3.11, aiohttp 3.14):

    aiohttp's client, with what only that imports     4.6 MiB
    OpenSSL, where no TLS is configured               4.8 MiB

`__main__` calls `import_partly` before it imports anything else of the daemon, and `reveal_openssl` after that. If a
release of a library does not work like this, it is imported completely, with a warning in the log: that costs only
memory.
"""

import logging
import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec

OPENSSL = ("ssl", "_hashlib")
"""Modules of the standard library that load OpenSSL. asyncio and aiohttp work without `ssl`, as Python may be built
without it; `hashlib` has its own functions instead of `_hashlib`."""

INCOMPLETE = ("http.client", "urllib.request")
"""Modules of the standard library that lack names without `ssl`; they are imported again when they are next needed."""

log = logging.getLogger(__name__)


def import_partly(*, openssl: bool) -> None:
    """Import what is large in part; `openssl`: it is used."""
    if not openssl:
        hide_openssl()
    import_aiohttp_server()


def hide_openssl() -> None:
    """Let no module import OpenSSL, unless one has, or this Python has no other SHA-1 and SHA-256."""
    if any(name in sys.modules for name in (*OPENSSL, "hashlib")):
        return
    sys.modules.update(dict.fromkeys(OPENSSL))  # type: ignore[arg-type]  # None: documented for `import`
    disabled = logging.root.manager.disable
    logging.disable()  # hashlib logs each function that it lacks
    try:
        from hashlib import sha1, sha256  # noqa: F401
    except ImportError:
        for name in (*OPENSSL, "hashlib"):
            sys.modules.pop(name, None)
    finally:
        logging.disable(disabled)


def reveal_openssl() -> None:
    """Let what is imported later, such as prometheus-client at the first scrape, import `ssl`."""
    if sys.modules.get("ssl", ...) is None:
        for name in ("ssl", *INCOMPLETE):
            sys.modules.pop(name, None)


def import_aiohttp_server() -> None:
    """Import `aiohttp.web` without the package's `__init__`, which imports the client.

    The `__init__` runs when another name of aiohttp is first used.
    """
    spec = find_spec("aiohttp")
    if "aiohttp" in sys.modules or spec is None or spec.loader is None:
        return
    loader, package = spec.loader, module_from_spec(spec)
    vars(package)["__version__"] = version("aiohttp")
    sys.modules["aiohttp"] = package
    try:
        http = import_module("aiohttp.http")
        vars(package).update(WSCloseCode=http.WSCloseCode, WSMsgType=http.WSMsgType)
        import_module("aiohttp.web")
    except Exception as wrong:  # another layout may raise anything
        for name in [name for name in sys.modules if name.partition(".")[0] == "aiohttp"]:
            del sys.modules[name]
        log.warning("aiohttp: partial import failed (%r); imported completely, which takes more memory", wrong)
        return

    def complete(name: str) -> object:
        del vars(package)["__getattr__"]
        loader.exec_module(package)
        return getattr(package, name)

    vars(package)["__getattr__"] = complete
