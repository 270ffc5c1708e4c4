"""A module of the tests that runs in a namespace, with commands on its stdin and results on its stdout."""

import json
import subprocess
import sys
from typing import Any

from tests.lab.spaces import Space


class Program:
    """`python -m MODULE ARGS`; `options` are its first line of stdin, as JSON."""

    def __init__(self, space: Space, module: str, *args: object, options: object = None) -> None:
        argv = [sys.executable, "-m", module, *map(str, args)]
        self._space = space
        self._module = module
        self._process = space.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if options is not None:
            self.say(json.dumps(options))

    def say(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def read(self) -> str:
        """The next line of its stdout."""
        assert self._process.stdout is not None
        line: str = self._process.stdout.readline()
        assert line, f"{self._module} has died"
        return line.strip()

    def ready(self) -> "Program":
        """Wait until it is; itself."""
        assert self.read() == "ready"
        return self

    def go(self) -> None:
        """Let it begin."""
        self.say("go")

    def result(self) -> Any:  # noqa: ANN401 JSON
        """What came of it."""
        return json.loads(self.read())

    def close(self) -> None:
        """End it."""
        self._space.end(self._process, now=True)
