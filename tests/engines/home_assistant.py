"""A real Home Assistant in a Debian tree of its own, in the network namespace of its broker."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engines.mosquitto import Mosquitto, wait
from tests.lab.spaces import DEADLINE, ROOT, Space, command
from tests.system.machine import tree
from tests.system.wheels import wheelhouse

LOCKS = ("build", "home-assistant")
NOBODY = "65534"
CONFIGURATION = """
homeassistant: {name: Home, latitude: 52.5, longitude: 13.4, country: DE}
zone: [{name: Old Office, latitude: 48.1, longitude: 11.6, radius: 100}]
person:
"""
ENTRY: dict[str, object] = {
    "created_at": "2026-01-01T00:00:00+00:00", "modified_at": "2026-01-01T00:00:00+00:00", "disabled_by": None,
    "discovery_keys": {}, "domain": "mqtt", "entry_id": "01JAAAAAAAAAAAAAAAAAAAAAAA", "version": 2, "minor_version": 1,
    "options": {"discovery": True, "discovery_prefix": "homeassistant"}, "pref_disable_new_entities": False,
    "pref_disable_polling": False, "source": "user", "subentries": [], "title": "broker", "unique_id": None,
}  # fmt: skip
INSTALL = """
mount -t proc proc "$1/proc"
mount --bind "$2" "$1/mnt"
chroot "$1" python3 -m venv --clear /opt/home-assistant
for lock in build home-assistant; do
    chroot "$1" /usr/bin/env -i HOME=/tmp /opt/home-assistant/bin/pip --quiet --disable-pip-version-check \
        install --no-index --find-links /mnt --no-deps --no-build-isolation --require-hashes -r /mnt/$lock.txt
done
"""
START_INSIDE = """
mount -t proc proc "$1/proc"
mount --bind "$2" "$1/mnt"
mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
exec chroot --userspec="$3:$3" "$1" /usr/bin/env -i HOME=/tmp LC_ALL=C.UTF-8 PATH=/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 /opt/home-assistant/bin/python /mnt/inside.py /mnt/config
"""
IN_PRIVATE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", "-euc"]


def home_assistant_tree() -> Path:
    """Return a tree with the locked Home Assistant in /opt/home-assistant; make it if need be. No network: skips."""
    made = tree("forky")
    python = command("chroot", made, "python3", "-c", "import platform; print(platform.python_version())").strip()
    locks = {name: (ROOT / "requirements" / f"{name}.txt").read_bytes() for name in LOCKS}
    stamp, recipe = made / "opt/home-assistant/recipe", b"".join(locks.values())
    with (made.parent / "forky.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_bytes() != recipe:
            with tempfile.TemporaryDirectory(dir=made.parent, prefix="wheels-") as folder:
                try:
                    wheels = wheelhouse(Path(folder), python, LOCKS)
                except subprocess.CalledProcessError:
                    pytest.skip("Home Assistant cannot be fetched here: see above what pip reports")
                for name, text in locks.items():
                    (wheels / f"{name}.txt").write_bytes(text)
                subprocess.run([*IN_PRIVATE, INSTALL, "sh", made, wheels], check=True, stdout=sys.stderr)
            stamp.write_bytes(recipe)
    return made


class HomeAssistant:
    """Home Assistant with one MQTT broker and persons, each of whom has one device tracker."""

    def __init__(self, space: Space, folder: Path, broker: Mosquitto, persons: dict[str, str]) -> None:
        self.folder = folder / "home-assistant"
        (storage := self.folder / "config/.storage").mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("home_assistant_inside.py"), self.folder / "inside.py")
        people = [{"name": name, "id": name.lower(), "device_trackers": [entity]} for name, entity in persons.items()]
        (self.folder / "config/configuration.yaml").write_text(CONFIGURATION.rstrip() + f" {json.dumps(people)}\n")
        entry = ENTRY | {"data": {"broker": "127.0.0.1", "port": broker.port, "protocol": "5"}}
        stored = {"version": 1, "minor_version": 5, "key": "core.config_entries", "data": {"entries": [entry]}}
        (storage / "core.config_entries").write_text(json.dumps(stored))
        for path in (self.folder, *self.folder.rglob("*")):
            os.chown(path, int(NOBODY), int(NOBODY))
        self._log, self._space = self.folder / "log", space
        self._tree = home_assistant_tree()
        self.start()

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        argv = [*IN_PRIVATE, START_INSIDE, "sh", str(self._tree), str(self.folder), NOBODY]
        with self._log.open("ab") as log:
            self._process = self._space.popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._answer() == "ready"

    def ask(self, command: str, *arguments: object) -> Any:  # noqa: ANN401
        """Return the answer to a command of home_assistant_inside.py."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:  # noqa: ANN401
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"Home Assistant ended: {self._log.read_text()[-4000:]}"
        return json.loads(line)

    def call(self, service: str, **values: object) -> None:
        """Call a service: `button.press`."""
        self.ask("call", *service.split("."), values)

    def state(self, entity: str) -> str | None:
        """Return the state of an entity; None: there is none."""
        there = self.ask("states").get(entity)
        return str(there["state"]) if there else None

    def attributes(self, entity: str) -> dict[str, Any]:
        """Return the attributes of an entity; none if it is not there."""
        return dict(self.ask("states").get(entity, {}).get("attributes", {}))

    def until(self, entity: str, state: str | Callable[[str | None], bool] | None) -> None:
        """Wait until an entity has a state; None: until it is gone."""

        def holds() -> bool:
            there = self.state(entity)
            return state(there) if callable(state) else there == state

        try:
            wait(f"{entity}: {state}", holds)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.ask('states').get(entity)}; {self.warnings()}") from None

    def warnings(self) -> list[str]:
        """Return what its MQTT complains of, in this run and those before a restart."""
        logs = (self.folder / "config").glob("home-assistant.log*")
        lines = [line for log in logs for line in log.read_text().splitlines()]
        return [line for line in lines if "homeassistant.components.mqtt" in line]

    def stop(self) -> None:
        """Stop it, as its user does."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(DEADLINE) == 0, self._log.read_text()[-4000:]

    def close(self) -> None:
        """End it."""
        self._space.end(self._process, now=True)
