"""FAULTS T1: the source of the daemon contains nothing that could run a client's input."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ADMINISTRATION = ("hub/log_server.py", "hub/places.py")
"""Modules of the commands of netscand-hub that an administrator runs: they start openssl, systemctl and nats-server."""
MODULES = sorted(set((ROOT / "netscand").rglob("*.py")) - {ROOT / "netscand" / name for name in ADMINISTRATION})

NO_MODULE = frozenset(
    ("subprocess", "pty", "multiprocessing", "pickle", "shelve", "marshal", "code", "codeop", "runpy", "webbrowser",
     "xmlrpc", "concurrent.futures.process", "asyncio.subprocess")
)  # fmt: skip
"""They start programs, or make code of bytes."""
NO_CALL = frozenset(("eval", "exec", "compile", "__import__", "breakpoint", "input"))
NO_OF_OS = ("system", "popen", "exec", "spawn", "posix_spawn", "fork", "startfile")
NO_OF_THE_LOOP = ("create_subprocess_exec", "create_subprocess_shell", "subprocess_exec", "subprocess_shell")


def faults(tree: ast.AST) -> Iterator[str]:
    """What of it could run something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _forbidden(alias.name))
        elif isinstance(node, ast.ImportFrom):
            yield from (
                f"{node.module}.{alias.name}" for alias in node.names if _forbidden(f"{node.module}.{alias.name}")
            )
            yield from (f"os.{alias.name}" for alias in node.names if node.module == "os" and _starts(alias.name))
        elif isinstance(node, ast.Attribute):
            of_os = isinstance(node.value, ast.Name) and node.value.id == "os" and _starts(node.attr)
            if of_os or node.attr in NO_OF_THE_LOOP or node.attr == "import_module":
                yield node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NO_CALL:
            yield node.func.id


def _forbidden(name: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in NO_MODULE)


def _starts(name: str) -> bool:
    return name.startswith(NO_OF_OS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_daemon_starts_no_process_and_makes_no_code(path: Path) -> None:
    assert not list(faults(ast.parse(path.read_text())))


@pytest.mark.parametrize(
    "code",
    ["import subprocess", "from subprocess import run", "import os\nos.system('x')", "import os\nos.execv('x', [])",
     "from os import popen", "eval('1')", "exec('1')", "import pickle", "from multiprocessing import Process",
     "loop.subprocess_exec()", "asyncio.create_subprocess_shell('x')", "importlib.import_module(name)"],
)  # fmt: skip
def test_it_would_be_seen(code: str) -> None:
    assert list(faults(ast.parse(code)))
