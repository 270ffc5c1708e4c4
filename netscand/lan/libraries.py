"""The two big libraries, imported without what this daemon never uses.

Measured (resident set beside an interpreter with asyncio, Python 3.11):

    pyroute2 0.9.7    24.5 MiB with its `__init__`, which loads every protocol it speaks; 5.3 MiB for rtnetlink alone
    scapy 2.8.0       34.7 MiB with its vendor table as a dict of tuples; 10.4 MiB without
                      (cleared and given back after the import: 12.9 MiB, and a higher peak)

scapy also makes folders in HOME at import, and 2.6 fails where it cannot (a service has no writable HOME); it unpickles
a cache from there, too. It is shown an empty place instead. The environment and `sys.modules` are put back at once:
whoever imports pyroute2 later gets the whole of it. Where scapy or pyroute2 are loaded already, they are used as they
are. A release of another layout is imported whole, and the log says so: it costs memory, and nothing else.
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
"""Exists, so that scapy makes nothing; holds no file, so that its cache is neither read nor written."""


@cache
def rtnetlink() -> Any:  # noqa: ANN401 neither library has types
    """pyroute2's `MarshalRtnl`: rtnetlink bytes → messages. Raises ImportError, with the library's name."""

    def load() -> Any:  # noqa: ANN401
        from pyroute2.netlink.rtnl.marshal import MarshalRtnl

        if not callable(getattr(MarshalRtnl, "parse", None)):
            raise ImportError("MarshalRtnl has no parse", name="pyroute2")
        return MarshalRtnl

    return _partly_or_whole("pyroute2", _package_without_its_init("pyroute2"), load)


@cache
def ethernet_arp() -> tuple[Any, Any]:
    """The classes `Ether` and `ARP` of scapy."""
    no_vendors = ModuleType("scapy.libs.manuf")
    no_vendors.DATA = ""  # type: ignore[attr-defined]

    def load() -> tuple[Any, Any]:
        from scapy.layers.l2 import ARP, Ether

        return Ether, ARP

    return _partly_or_whole("scapy.libs.manuf", no_vendors, load)


def vendor_table() -> str:
    """The lines of scapy's copy of Wireshark's `manuf`: 2.7 MB, and nobody else keeps them. "" where there is none."""
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
        return str(vars(module).pop("DATA"))  # the module is a cycle: it lives on until the collector comes
    except Exception as wrong:  # another layout: by the way that scapy itself takes
        log.warning("%s: no table of vendors in %s (%s): taken from its dictionary", _release("scapy"), name, wrong)
    try:
        from scapy.data import load_manuf

        found = load_manuf()
        if not len(found):
            raise LookupError("it is empty")
        return "\n".join(f"{prefix}\t{found[prefix][0]}\t{found[prefix][1]}" for prefix in found)
    except Exception as wrong:
        log.warning("%s: no table of vendors (%s): no vendor is shown", _release("scapy"), wrong)
        return ""


def return_memory() -> None:
    """Have the C library return freed memory to the system: after the vendor table, 20 MiB. Not every library can."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _partly_or_whole(name: str, module: ModuleType | None, load: Callable[[], T]) -> T:
    """What `load` imports while `module` answers to `name`; where a release has another layout, as others import it.

    Raises what the last try raised.
    """
    library = name.partition(".")[0]
    before = set(sys.modules)
    try:
        with _replaced(name, module), _without_home():
            return load()
    except Exception as wrong:  # whatever its other layout leads to
        for each in set(sys.modules) - before:
            if each.partition(".")[0] == library:
                _unload(each)
        log.warning("%s: cannot be imported in part (%r): imported whole", _release(library), wrong)
    with suppress(Exception), _without_home():
        return load()
    return load()


def _release(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return library


@contextmanager
def _replaced(name: str, module: ModuleType | None) -> Iterator[None]:
    """`module` answers to `name`, unless the true one is loaded already."""
    if module is None or name in sys.modules:
        yield
        return
    sys.modules[name] = module
    try:
        yield
    finally:
        _unload(name)


def _unload(name: str) -> None:
    """As if that module had never been imported."""
    sys.modules.pop(name, None)
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        vars(sys.modules[parent]).pop(child, None)


def _package_without_its_init(name: str) -> ModuleType | None:
    """A package whose modules can be imported though its `__init__` did not run; None where it is no plain folder."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    package = ModuleType(name)
    package.__spec__ = spec
    package.__path__ = list(spec.submodule_search_locations)
    return package


@contextmanager
def _without_home() -> Iterator[None]:
    """No folder for configuration or cache."""
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
