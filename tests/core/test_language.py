"""The language of the project: no private vocabulary where a standard term exists (docs, messages, docstrings)."""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

DONE = (
    "netscand",
    "netscanctl",
    "packaging",
    "systemd",
    "docs",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "RELEASING.md",
    "SECURITY.md",
    "dev",
)
"""Folders and files that have been revised; the others are added one by one."""

TEXTS_DONE = ("tests/core", "tests/serve", "tests/store")
"""The same, but names in the code are still to be revised."""

EXCEPT = {
    "tests/core/test_language.py": "it names the words",
}
"""File in these folders → reason why it is not checked."""

PROSE = (".py", ".md", ".js", ".css", ".html", ".toml", ".service", ".socket", ".conf", ".sysusers", "")
"""Suffixes of files that people read; scripts and Debian's files have none."""

STANDARD = {
    r"told|tells?|telling": "published, reported, printed, says",
    r"wish(es|ed)?|wishing": "request",
    r"slips?": "mistake, typo, unknown",
    r"mend(s|ed|ing)?": "fix, hint",
    r"of late": "recently",
    r"who(m|so)?ever": "the user, the process, the peer",
    r"for ever": "indefinitely, until interrupted",
    r"hardly meant": "probably a mistake",
    r"(is|are|was|were|be|been) said": "is reported, is printed",
    r"(strike|strikes|struck|striking) (it |them )?out": "delete",
    r"anew": "again",
    r"(?<!in )(?<!take )(the|this|that|a|its|last|our) place": "cursor, position",
    r"places? in the stream": "cursor",
    r"nobody": "no client, no process, no device",
    r"somebody|anybody|everybody": "a user, any host, every client",
    r"heard|hears?|hearing": "seen, received",
    r"spoke|spoken": "sent, used",
    r"hearsay": "weak evidence",
    r"chores?": "deferred batches",
    r"census": "admission limits",
    r"rulebook": "rules of presence",
    r"lobby": "connection limits",
    r"lost a room": "a component failed",
    r"(hold|holds|held|holding) (\w+ )?up": "delay, block",
    r"(let|lets|letting) (it |them |in )?go": "release, drop",
    r"(made|make|makes) again": "created again, reconnects",
    r"(has|have) gone (away|astray)": "is lost",
    r"taken for": "considered, counts as",
    r"gives? way": "yields, is evicted",
    r"lessen(s|ed|ing)?": "limit, reduce",
    r"(refused?|fails?|silent|gone) for good": "permanently",
    r"(that|which) (is|are) none of (its|the)": "invalid",
    r"turn(s|ed)? away|at the door": "refuse, refused before it reaches a route",
    r"connects? nowhere": "makes no connection",
    r"(is|are|was|were) away": "does not answer, is down, is absent",
    r"received of": "received from",
}
"""Pattern → term to use instead."""
PATTERN = re.compile(rf"\b({'|'.join(STANDARD)})\b", re.IGNORECASE)

NAMES = {
    "tell": "publish", "tells": "publishes", "told": "published", "telling": "publishing",
    "say": "print, report", "says": "prints, reports", "said": "text, claim",
    "wish": "request", "wishes": "requests", "wished": "requested",
    "hear": "receive, observe", "hears": "receives", "heard": "received, observed",
    "ask": "probe, request, query", "asks": "probes", "asked": "probed, requested", "asking": "probing",
    "mend": "fix, hint", "slip": "mistake", "anew": "again",
    "whose": "owner", "whom": "targets", "whoever": "peer", "nobody": "none", "somebody": "peer", "anybody": "any",
    "doubt": "outage", "doubted": "unknown", "chore": "batch", "chores": "batches", "census": "limits",
    "rulebook": "rules", "hearsay": "weak evidence", "lobby": "limits", "outlet": "socket", "ear": "reader",
    "murmur": "show status", "hush": "clear", "lightly": "partly", "held": "address, binding", "spared": "excluded",
}  # fmt: skip
"""Part of a name in the code → term to use instead."""

PROMISED = {
    ("netscand/protocol.py", "mend"): "a field of `doctor --json`, which docs/commands.md promises",
    ("tests/core/test_check.py", "nobody"): "the name of a Unix account",
}
"""(file, whole string or name) → reason why it stays."""


def files(names: Iterable[str]) -> Iterator[Path]:
    for name in names:
        path = ROOT / name
        assert path.exists(), f"{name}: no such file or folder"
        found = path.rglob("*") if path.is_dir() else [path]
        yield from (each for each in sorted(found) if is_read(each))


def is_read(path: Path) -> bool:
    inside = path.relative_to(ROOT)
    if not path.is_file() or {"__pycache__", ".hypothesis", "copyright"} & set(inside.parts):
        return False
    return path.suffix in PROSE and str(inside) not in EXCEPT


def texts(name: str, source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of everything that people read in a file."""
    if not name.endswith(".py"):
        source = re.sub(r"`[^`\n]+`", lambda code: " " * len(code[0]), source)  # names of fields and commands
        yield from enumerate(source.splitlines(), 1)
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (name, node.value) not in PROMISED:
            yield from enumerate(node.value.splitlines(), node.lineno)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def dialect(name: str, source: str) -> list[str]:
    """Return "file:line: word (standard term)" for each word that has one."""
    found = []
    for line, text in texts(name, source):
        for match in PATTERN.finditer(text):
            term = next(term for words, term in STANDARD.items() if re.fullmatch(words, match[0], re.IGNORECASE))
            found.append(f"{name}:{line}: {match[0]!r}; use: {term}")
    return found


def defined(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of each function, class, parameter, variable and attribute that a file defines."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name


def private_names(name: str, source: str) -> list[str]:
    """Return "file:line: name (standard term)" for each name of the code that has one."""
    found = []
    for line, defined_name in defined(source):
        parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", defined_name).lower().split("_")
        if (name, defined_name) not in PROMISED:
            found += [f"{name}:{line}: {defined_name!r}; use: {NAMES[part]}" for part in parts if part in NAMES]
    return found


@pytest.mark.parametrize("path", list(files(DONE + TEXTS_DONE)), ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_use_standard_terms(path: Path) -> None:
    """Docs, messages, docstrings and comments of the revised folders contain no word of the private vocabulary."""
    found = dialect(str(path.relative_to(ROOT)), path.read_text())
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "path", [path for path in files(DONE) if path.suffix == ".py"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_names_in_the_code_use_standard_terms(path: Path) -> None:
    """Functions, classes, parameters, variables and attributes have no word of the private vocabulary."""
    found = private_names(str(path.relative_to(ROOT)), path.read_text())
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def tell_all(): ...", "a.py:1: 'tell_all'"),
        ("def f(*, whom=0): ...", "a.py:1: 'whom'"),
        ("class ScanWish: ...", "a.py:1: 'ScanWish'"),
        ("x = 1\nself._told = x", "a.py:2: '_told'"),
        ("for held in ():\n    pass", "a.py:1: 'held'"),
    ],
)
def test_a_private_name_is_found_with_file_and_line(source: str, expected: str) -> None:
    """The check finds functions, parameters, classes, attributes and variables."""
    (found,) = private_names("a.py", source)
    assert found.startswith(expected)


def test_names_of_others_are_allowed() -> None:
    """The use of a name that another file defines, and words that only contain a private one, are no finding."""
    assert private_names("a.py", "server.tell(x)\nshell = mask(forehead)\n") == []


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("a.py", '"""First line.\n\nThe client is told."""\n', "a.py:3: 'told'"),
        ("a.py", "x = 1\ny = f'a wish: {x}'\n", "a.py:2: 'wish'"),
        ("a.py", "x = 1  # for ever\n", "a.py:1: 'for ever'"),
        ("a.md", "ok\nWhoever asks\n", "a.md:2: 'Whoever'"),
        ("a.md", "The place in the stream is gone.\n", "a.md:1: 'The place'"),
    ],
)
def test_a_wrong_word_is_found_with_file_and_line(name: str, source: str, expected: str) -> None:
    """The check finds words in docstrings, messages, comments and docs."""
    (found, *_) = dialect(name, source)
    assert found.startswith(expected)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("netscand/protocol.py", 'rename = {"hint": "mend"}\n'),
        ("a.py", "told = wishes\n"),
        ("a.md", "A field `mend`; foretold, in the place of it, take the place of it.\n"),
    ],
)
def test_identifiers_and_promised_names_are_allowed(name: str, source: str) -> None:
    """Code is not prose, and what the project promises keeps its name."""
    assert dialect(name, source) == []
