"""Fixtures for the tests of the history."""

import pytest

from netscand.store import database, history, writer


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tolerate a disk that the machine keeps busy for a second or two, unless a test sets less."""
    monkeypatch.setattr(history, "LATE", 60.0)
    for module in (database, writer):
        monkeypatch.setattr(module, "PATIENCE", 60.0)
