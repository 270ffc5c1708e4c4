"""A headless Chromium in a namespace, controlled by its debugging pipe (Chrome DevTools Protocol).

The pipe (two descriptors, JSON between NULs) needs no port that a page or a neighbour could reach. The namespace has
no way out, so the browser reaches the daemon and nothing else.
"""

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests.lab.spaces import Space, temporary_folder

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")

FLAGS = (  # noqa: SIM905 - as they stand in a command line
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-default-apps --disable-extensions --disable-breakpad "
    "--disable-dev-shm-usage --disable-features=Translate,OptimizationHints,MediaRouter --no-proxy-server "
    "--hide-scrollbars --password-store=basic --force-color-profile=srgb --remote-debugging-pipe"
).split()

PATIENCE = 60.0
"""Seconds an answer may take on a busy machine."""


def installed() -> str | None:
    """The command of a Chromium, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class BrowserFailed(AssertionError):
    """It said no, or nothing in time."""


class Chromium:
    """A browser with a profile of its own; `with` ends it."""

    def __init__(self, space: Space, *flags: str) -> None:
        binary = installed()
        assert binary, "no Chromium"
        self._folder = str(temporary_folder("chromium"))
        there, self._write = os.pipe()
        self._read, back = os.pipe()
        # The shell moves the two ends to where Chromium looks for them: 3 and 4. (Away first: they may be just these.)
        script = f'exec 8<&{there} 9>&{back} && exec 3<&8 4>&9 8<&- 9>&- && exec "$@"'
        argv = ["bash", "-c", script, "chromium", binary, *FLAGS, *flags, f"--user-data-dir={self._folder}"]
        how: dict[str, Any] = {"pass_fds": (there, back), "env": {"HOME": self._folder}}
        with open(Path(self._folder) / "log", "wb") as log:
            self._process = space.popen(argv, stdout=log, stderr=log, **how)
        os.close(there)
        os.close(back)
        self._space = space
        self._numbers = itertools.count(1)
        self._rest = b""
        self._answers: dict[int, Any] = {}
        self._pages: dict[str, Page] = {}
        self.call("Browser.getVersion")

    def page(self, url: str = "about:blank", *, width: int = 1280, height: int = 800, scale: float = 1) -> "Page":
        """A new tab that shows `url`."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self._pages[session] = Page(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network", "Performance"):
            page.call(f"{domain}.enable")
        page.resize(width, height, scale)
        if url != "about:blank":
            page.go(url)
        return page

    def call(self, method: str, how: dict[str, Any] | None = None, session: str | None = None) -> Any:  # noqa: ANN401
        """One command; its result. Raises BrowserFailed."""
        number = next(self._numbers)
        said: dict[str, Any] = {"id": number, "method": method, "params": how or {}}
        if session:
            said["sessionId"] = session
        os.write(self._write, json.dumps(said).encode() + b"\0")
        ends = time.monotonic() + PATIENCE
        while number not in self._answers:
            self.hear(ends - time.monotonic(), f"{method}: no answer")
        answer = self._answers.pop(number)
        if "error" in answer:
            raise BrowserFailed(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def hear(self, timeout: float, otherwise: str = "") -> None:
        """Take in what it says next; where it says nothing, raise `otherwise` if that was given."""
        if timeout <= 0 or not select.select([self._read], [], [], timeout)[0]:
            if otherwise:
                raise BrowserFailed(otherwise)
            return
        heard = os.read(self._read, 1 << 20)
        if not heard:
            log = (Path(self._folder) / "log").read_text(errors="replace")
            raise BrowserFailed(f"Chromium has ended, exit {self._process.wait()}\n{log[-2000:]}")
        *whole, self._rest = (self._rest + heard).split(b"\0")
        for text in whole:
            message = json.loads(text)
            if "id" in message:
                self._answers[message["id"]] = message
            elif page := self._pages.get(message.get("sessionId", "")):
                page.told(message["method"], message["params"])

    def close(self) -> None:
        """End it, with all it wrote."""
        with contextlib.suppress(BrowserFailed, OSError, subprocess.TimeoutExpired):
            self.call("Browser.close")  # so that it waits for its children itself
            self._process.wait(PATIENCE)
        self._space.end(self._process, now=True)
        os.close(self._write)
        os.close(self._read)
        for _ in range(50):  # its children are still writing
            shutil.rmtree(self._folder, ignore_errors=True)
            if not os.path.exists(self._folder):
                return
            time.sleep(0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Page:
    """One tab."""

    def __init__(self, browser: Chromium, session: str, target: str) -> None:
        self._browser = browser
        self._session = session
        self._target = target
        self.errors: list[str] = []
        """What the page itself did wrong: exceptions, console.error, refusals by its Content-Security-Policy."""
        self.network_errors: list[str] = []
        """What the browser wrote of requests that failed."""
        self.requested: list[str] = []
        """Addresses of all requests."""
        self.loaded = 0
        """Bytes of bodies that came."""

    def call(self, method: str, how: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        """One command to this tab; its result."""
        return self._browser.call(method, how, self._session)

    def told(self, method: str, what: dict[str, Any]) -> None:
        """Note an event of the browser."""
        if method == "Runtime.exceptionThrown":
            details = what["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(arg.get("value", arg.get("description"))) for arg in what["args"]))
        elif method == "Log.entryAdded" and what["entry"]["level"] in ("error", "warning"):
            entry = what["entry"]
            kind = self.network_errors if entry["source"] == "network" or "net::ERR" in entry["text"] else self.errors
            kind.append(f"{entry['text']} {entry.get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requested.append(what["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requested.append(what["url"])
        elif method == "Network.dataReceived":
            self.loaded += what["dataLength"]

    def go(self, url: str) -> None:
        """Open `url`; returns when its markup is there."""
        result = self.call("Page.navigate", {"url": url})
        if result.get("errorText"):
            raise BrowserFailed(f"{url}: {result['errorText']}")
        self.until("document.readyState !== 'loading'")

    def js(self, expression: str) -> Any:  # noqa: ANN401 - JSON
        """The value of an expression, awaited where it is a promise."""
        how = {"expression": expression, "returnByValue": True, "awaitPromise": True, "userGesture": True}
        how["allowUnsafeEvalBlockedByCSP"] = False  # what the page may not, its tests may not
        result = self.call("Runtime.evaluate", how)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise BrowserFailed(f"{expression}: {details.get('exception', {}).get('description', details['text'])}")
        return result["result"].get("value")

    def until(self, expression: str, timeout: float = PATIENCE) -> Any:  # noqa: ANN401 - JSON
        """The value of an expression once it is truthy."""
        ends = time.monotonic() + timeout
        while True:
            if value := self.js(expression):
                return value
            if time.monotonic() > ends:
                shown = self.js("document.body ? document.body.innerText.slice(0, 1500) : ''")
                raise BrowserFailed(f"not within {timeout:g} s: {expression}\n{self.errors}\n{shown}")
            self._browser.hear(0.05)

    def until_told(self, so: Callable[[], bool], timeout: float = PATIENCE) -> None:
        """Hear the browser until it is so."""
        ends = time.monotonic() + timeout
        while not so():
            if time.monotonic() > ends:
                raise BrowserFailed(f"not within {timeout:g} s; the page did wrong: {self.errors}")
            self._browser.hear(0.05)

    def click(self, selector: str) -> None:
        """Press the mouse on what the selector finds; once more where the page moved away under it, as people do."""
        for _ in range(10):
            box = self.js(
                f"(() => {{ const it = document.querySelector({json.dumps(selector)}); window.pressed = false;"
                " it.addEventListener('click', () => { window.pressed = true }, {capture: true, once: true});"
                " it.scrollIntoView({block: 'nearest'}); const box = it.getBoundingClientRect();"
                " return [box.x + box.width / 2, box.y + box.height / 2] })()"
            )
            for kind in ("mousePressed", "mouseReleased"):
                self.call(
                    "Input.dispatchMouseEvent",
                    {"type": kind, "x": box[0], "y": box[1], "button": "left", "clickCount": 1},
                )
            if self.js("window.pressed"):
                return
            self._browser.hear(0.1)

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of what the selector finds."""
        self.js(
            f"{{ const it = document.querySelector({json.dumps(selector)}); it.value = {json.dumps(value)};"
            " it.dispatchEvent(new Event('change', {bubbles: true})) }"
        )

    def type(self, text: str) -> None:
        """Put text where the keyboard is."""
        self.call("Input.insertText", {"text": text})

    def key(self, key: str) -> None:
        """Press one key: `Enter`, `ArrowDown`, `/`."""
        codes = {"Enter": 13, "Escape": 27, "ArrowUp": 38, "ArrowDown": 40, "Tab": 9, "Home": 36, "End": 35}
        how: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0]))}
        text = "\r" if key == "Enter" else key if len(key) == 1 else None
        self.call("Input.dispatchKeyEvent", {"type": "keyDown", **how, **({"text": text} if text else {})})
        self.call("Input.dispatchKeyEvent", {"type": "keyUp", **how})

    def resize(self, width: int, height: int, scale: float = 1, *, mobile: bool = False) -> None:
        """Be a screen of that many CSS pixels."""
        how = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile}
        self.call("Emulation.setDeviceMetricsOverride", how)

    def prefer(self, **features: str) -> None:
        """What the user's system prefers: `color_scheme="dark"`, `reduced_motion="reduce"`."""
        wished = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", {"features": wished})

    def shot(self, path: Path) -> None:
        """A picture of the screen, PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", {"format": "png"})["data"]))

    def metrics(self) -> dict[str, float]:
        """Chromium's own counters of this tab (seconds, bytes, numbers)."""
        return {one["name"]: one["value"] for one in self.call("Performance.getMetrics")["metrics"]}

    def close(self) -> None:
        """Close the tab."""
        self._browser.call("Target.closeTarget", {"targetId": self._target})
