"""What the tests of the history share."""

import pytest

from netscand.store import database, history, writer


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that the machine keeps busy for a second or two is no trouble, where a test does not say so itself."""
    monkeypatch.setattr(history, "LATE", 60.0)
    for module in (database, writer):
        monkeypatch.setattr(module, "PATIENCE", 60.0)
