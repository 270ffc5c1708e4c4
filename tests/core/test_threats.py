"""docs/threats.md is complete: each cited number has its row, and each named test exists."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threats.md").read_text()
ROW = re.compile(r"^\| ([TF]\d+) \|(.*)\|$", re.MULTILINE)
ROWS = {found[1]: found[2] for found in ROW.finditer(PAGE)}
CITED = re.compile(
    r"FAULTS ([TF]\d+(?:(?:, | to | and |, and )[TF]\d+)*)|(?<=\()([TF]\d+)(?=\))|\"\"\"([TF]\d+)(?=[:,])"
)
AUDIT = re.compile(r"ATTACKED ([HML]\d+)")
ITSELF = Path(__file__)


def sources() -> Iterator[Path]:
    for folder in ("netscand", "netscanctl", "packaging", "tests", "docs"):
        for end in ("*.py", "*.md", "*.js"):
            yield from (path for path in (ROOT / folder).rglob(end) if path != ITSELF)


def cited() -> dict[str, Path]:
    """Each number, and one place that cites it."""
    found: dict[str, Path] = {}
    for path in sources():
        for groups in CITED.findall(path.read_text()):
            for number in re.findall(r"[TF]\d+", " ".join(groups)):
                found[number] = path
    return found


@cache
def functions_of(path: Path) -> frozenset[str]:
    tree = ast.walk(ast.parse(path.read_text()))
    return frozenset(node.name for node in tree if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_number_that_is_cited_has_its_row() -> None:
    known = cited()
    assert len(known) > 30, "the citations are not found: this proves nothing"
    assert not {number: str(path) for number, path in known.items() if number not in ROWS}


def test_every_name_of_the_audit_has_its_row() -> None:
    rows = set(re.findall(r"\| ([HML]\d+) \|", PAGE)) | set(re.findall(r"\(audit ([HML]\d+)\)", PAGE))
    assert len(rows) == 19
    for path in sources():
        assert set(AUDIT.findall(path.read_text())) <= rows, path


@pytest.mark.parametrize("number", ROWS)
def test_every_row_names_tests_that_exist(number: str) -> None:
    named = re.findall(r"`(\w+/\w+\.py)::(\w+)`", ROWS[number])
    assert named, f"{number} names no test"
    for file, test in named:
        path = ROOT / "tests" / file
        assert path.exists(), f"{number} names {file}"
        assert test in functions_of(path), f"{number} names {file}::{test}"


def test_the_numbers_have_no_gap() -> None:
    for letter in "TF":
        numbers = sorted(int(number[1:]) for number in ROWS if number[0] == letter)
        assert numbers == list(range(1, len(numbers) + 1))


def test_the_page_of_security_leads_here() -> None:
    assert "(threats.md)" in (ROOT / "docs" / "security.md").read_text()
