"""The language of the project: no private vocabulary where a standard term exists (docs, messages, docstrings)."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

DONE = (
    "netscand/engine.py",
    "netscand/store",
    "netscanctl",
    "README.md",
    "docs/commands.md",
    "docs/configuration.md",
    "docs/history.md",
    "docs/house.md",
    "docs/page.md",
    "docs/protocol.md",
    "docs/service.md",
    "tests/store",
)
"""Folders and files that have been revised; the others are added one by one."""

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
}
"""Pattern → term to use instead."""
PATTERN = re.compile(rf"\b({'|'.join(STANDARD)})\b", re.IGNORECASE)

PROMISED = {("netscanctl/doctor/result.py", "mend"): "a field of `doctor --json`, which docs/commands.md promises"}
"""(file, whole string) → reason why it stays."""


def files() -> Iterator[Path]:
    for name in DONE:
        path = ROOT / name
        assert path.exists(), f"{name}: no such file or folder"
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


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


@pytest.mark.parametrize("path", list(files()), ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_use_standard_terms(path: Path) -> None:
    """Docs, messages, docstrings and comments of the revised folders contain no word of the private vocabulary."""
    found = dialect(str(path.relative_to(ROOT)), path.read_text())
    assert not found, "\n".join(found)


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
        ("netscanctl/doctor/result.py", 'rename = {"hint": "mend"}\n'),
        ("a.py", "told = wishes\n"),
        ("a.md", "A field `mend`; foretold, in the place of it, take the place of it.\n"),
    ],
)
def test_identifiers_and_promised_names_are_allowed(name: str, source: str) -> None:
    """Code is not prose, and what the project promises keeps its name."""
    assert dialect(name, source) == []
