"""A daemon, a broker, and the service between them."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.ctl.fake_daemon import FakeDaemon
from tests.engines.mosquitto import Mosquitto, Subscriber, wait
from tests.engines.service_process import Running
from tests.lab.spaces import temporary_folder

Start = Callable[..., Running]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    made = temporary_folder("engine")
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def broker(folder: Path) -> Iterator[Mosquitto]:
    """A broker without persistence: what it loses, we must bring back."""
    made = Mosquitto(folder)
    yield made
    made.kill()


@pytest.fixture
def subscriber(broker: Mosquitto) -> Iterator[Subscriber]:
    made = Subscriber(broker)
    yield made
    made.close()


@pytest.fixture
def daemon(folder: Path) -> Iterator[FakeDaemon]:
    made = FakeDaemon(folder / "netscand.sock")
    made.start()
    assert made.socket is not None
    made.socket.chmod(0o666)
    yield made
    made.stop()


@pytest.fixture
def start(folder: Path, daemon: FakeDaemon, broker: Mosquitto) -> Iterator[Start]:
    """Start the service, with keys of [mqtt]; wait until it followed the daemon."""
    with ExitStack() as stack:

        def begin(*, wait_for: int = 2, **keys: Any) -> Running:  # noqa: ANN401
            assert daemon.socket is not None
            made = Running(folder, daemon.socket, **{"broker": broker.url} | keys)
            stack.callback(made.close)
            made.start()
            if wait_for:
                wait("the service follows the daemon", lambda: daemon.greeted >= wait_for)
            return made

        yield begin
