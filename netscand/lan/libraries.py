"""Partial imports of scapy and pyroute2, without the parts that this daemon never uses.

Measured (resident set beside an interpreter with asyncio, Python 3.11):

    pyroute2 0.9.7    24.5 MiB with its `__init__`, which loads every protocol it speaks; 5.3 MiB for rtnetlink alone
    scapy 2.8.0       34.7 MiB with its vendor table as a dict of tuples; only the text of that table is read here

At import, scapy also creates folders in HOME and unpickles a cache there, and 2.6 fails if it cannot (a service has no
writable HOME). So it gets an empty folder instead. The environment and `sys.modules` are restored at once: a later
import of pyroute2 loads all of it. If scapy or pyroute2 are already loaded, they are used as they are. A release with
another layout is imported completely, with a warning in the log: that costs only memory.
"""

import ctypes
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

_EMPTY_FOLDER = "/dev/null"
"""Exists, so scapy creates no folder; contains no file, so its cache is neither read nor written."""


@cache
def rtnetlink() -> Any:  # noqa: ANN401 neither library has types
    """Return pyroute2's `MarshalRtnl`, the decoder of rtnetlink. Raises ImportError with the library's name."""

    def load() -> Any:  # noqa: ANN401
        from pyroute2.netlink.rtnl.marshal import MarshalRtnl

        if not callable(getattr(MarshalRtnl, "parse", None)):
            raise ImportError("MarshalRtnl has no parse", name="pyroute2")
        return MarshalRtnl

    with _without_warnings("pyroute2"):  # of traffic control, which needs a file that the unit hides (ProcSubset=pid)
        return _partly_or_whole("pyroute2", load)


def vendor_table() -> str:
    """Return scapy's copy of Wireshark's `manuf` as text (2.7 MB), and free it in scapy; "" if there is none."""
    if find_spec("scapy") is None:  # our Debian package has a table of its own
        return ""
    name = "scapy.libs.manuf"
    was_loaded = name in sys.modules
    try:
        with _without_home():
            module = import_module(name)
            if not isinstance(module.DATA, str):
                raise TypeError(f"DATA is {type(module.DATA).__name__}")
        if was_loaded:
            return module.DATA
        _unload(name)
        return str(vars(module).pop("DATA"))  # the module is a reference cycle, freed only by the collector
    except Exception as wrong:  # another layout: use scapy's own function
        log.warning(
            "%s: no vendor table in %s (%s); using its dictionary, which takes more memory",
            _release("scapy"),
            name,
            wrong,
        )
    try:
        from scapy.data import load_manuf

        found = load_manuf()
        if not len(found):
            raise LookupError("it is empty")
        return "\n".join(f"{prefix}\t{found[prefix][0]}\t{found[prefix][1]}" for prefix in found)
    except Exception as wrong:
        log.warning("%s: no vendor table (%s): vendors are not shown", _release("scapy"), wrong)
        return ""


def return_memory() -> None:
    """Return freed memory to the system, 20 MiB after the vendor table, if the C library supports it."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _partly_or_whole(library: str, load: Callable[[], T]) -> T:
    """Return what `load` imports while the library's `__init__` is skipped; if that fails, import all of it.

    Raises the error of the last try.
    """
    before = set(sys.modules)
    ssl = ModuleType("ssl") if "asyncio" in sys.modules else None  # only a name, if ssl was hidden (partial_imports.py)
    try:
        with _replaced(library, _package_without_its_init(library)), _replaced("ssl", ssl):
            return load()
    except Exception as wrong:  # another layout may raise anything
        for each in set(sys.modules) - before:
            if each.partition(".")[0] == library:
                _unload(each)
        log.warning(
            "%s: partial import failed (%r); imported completely, which takes more memory", _release(library), wrong
        )
    return load()


def _release(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return library


@contextmanager
def _replaced(name: str, module: ModuleType | None) -> Iterator[None]:
    """Let `module` replace the module `name`, unless that is already loaded."""
    if module is None or sys.modules.get(name) is not None:
        yield
        return
    sys.modules[name] = module
    try:
        yield
    finally:
        _unload(name)


def _unload(name: str) -> None:
    """Remove a module as if it had never been imported."""
    sys.modules.pop(name, None)
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        vars(sys.modules[parent]).pop(child, None)


def _package_without_its_init(name: str) -> ModuleType | None:
    """Return a package without running its `__init__`; None if it is no plain folder."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    package = ModuleType(name)
    package.__spec__ = spec
    package.__path__ = list(spec.submodule_search_locations)
    return package


@contextmanager
def _without_warnings(library: str) -> Iterator[None]:
    """Log only errors of a library."""
    logger = logging.getLogger(library)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _without_home() -> Iterator[None]:
    """Hide the folders for configuration and cache."""
    names = ("XDG_CONFIG_HOME", "XDG_CACHE_HOME")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, _EMPTY_FOLDER))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
