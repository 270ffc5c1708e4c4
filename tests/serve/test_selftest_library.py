"""Each name that is needed of aiohttp beyond its documentation: a release without it fails here."""

import ast
import re
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from netscand.serve import http, selftest
from netscand.serve.selftest import REQUIRED, SUPPORTED, LibraryError, Requirement, check

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("need", REQUIRED, ids=lambda need: need.path)
def test_each_requirement_exists(need: Requirement) -> None:
    """The name is not in the documentation of aiohttp, and netscand needs it."""
    assert selftest._exists(need), f"aiohttp {aiohttp.__version__} has no {need.path} as netscand needs it"


@pytest.mark.parametrize("need", [need for need in REQUIRED if "." in need.path[4:]], ids=lambda need: need.path)
def test_a_missing_requirement_is_named_at_the_start(need: Requirement, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sentence with the library, its version, the name, and what to install."""
    owner, _, name = need.path.rpartition(".")
    found = aiohttp
    for step in owner.split("."):
        found = getattr(found, step)
    for each in (found, *(base for base in found.__mro__ if name in vars(base))):  # type: ignore[attr-defined]
        if name in vars(each):
            monkeypatch.delattr(each, name)
    if hasattr(found, name):  # object has one
        return
    with pytest.raises(LibraryError) as wrong:
        check()
    assert need.path in str(wrong.value)
    assert aiohttp.__version__ in str(wrong.value)
    assert SUPPORTED in str(wrong.value)


def test_another_signature_is_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.RequestHandler, "handle_error", lambda self, request, status: None)
    with pytest.raises(LibraryError, match=re.escape("handle_error(request, status, exc, message)")):
        check()


def test_no_private_name_of_a_library_is_used() -> None:
    """Every attribute that begins with `_` is netscand's own, documented for namedtuple, or held by a test.

    `_id`: core/test_libraries.py.
    """
    trees = [ast.parse(path.read_text()) for top in ("netscand", "netscanctl") for path in (ROOT / top).rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    own = {node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)}
    own |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    own |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}
    assert not {name for name in used if name.startswith("_") and not name.startswith("__")} - own - {"_replace", "_id"}


def test_our_protocol_hides_no_attribute_of_aiohttps() -> None:
    """A slot or method of ours could hide one of a new version."""
    assert not http.Http.__slots__
    assert {name for name in vars(http.Http) if not name.startswith("__")} == {"handle_error"}


def test_the_bounds_are_those_of_the_package() -> None:
    """Users install what is tested."""
    assert f'"{SUPPORTED}"' in (ROOT / "pyproject.toml").read_text()
