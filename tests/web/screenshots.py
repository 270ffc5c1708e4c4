"""`python -m tests.web.screenshots [FOLDER]`: the pictures of the page in docs/, from a made-up LAN. Then look at them.

They show the sans-serif of this machine: with fonts-inter installed, what it looks like at most people's. Where
pngquant is installed, they are made small.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.crowd import Crowd
from tests.lab.daemon import Daemon
from tests.lab.demo import AT_HOME, introduce
from tests.lab.lan import Lab
from tests.lab.spaces import ROOT, sweep
from tests.web.chromium import Chromium, Page
from tests.web.past import write_past

CONFIG = """
[scan]
interval = 10
[presence]
patience = [10, 10]
"""

WORDS = {
    "10.77.0.1": "Router",
    "10.77.0.10": "Weather",
    "10.77.0.11": "Backups",
    "10.77.0.20": "Kitchen lamp",
    "10.77.0.30": "Printer",
    "10.77.0.40": "Living room",
    "10.77.0.101": "Jane's laptop",
    "10.77.0.102": "Jane's phone",
}

FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>
<include ignore_missing="yes">/etc/fonts/fonts.conf</include>
<alias binding="strong"><family>sans-serif</family><prefer><family>Inter</family></prefer></alias>
<alias binding="strong"><family>sans</family><prefer><family>Inter</family></prefer></alias>
<alias binding="strong"><family>system-ui</family><prefer><family>Inter</family></prefer></alias>
</fontconfig>"""

LAPTOP, NEWCOMER = AT_HOME["10.77.0.101"], AT_HOME["10.77.0.22"]
NETWORK = "10.77.0.0/24@eth0"


@contextmanager
def inter() -> Iterator[None]:
    """A better sans-serif than Debian's, where it is installed."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as fonts:
        fonts.write(FONTS)
        fonts.flush()
        os.environ["FONTCONFIG_FILE"] = fonts.name
        yield
        del os.environ["FONTCONFIG_FILE"]


def live(crowd: Crowd, daemon: Daemon, page: Page) -> None:
    """Let things happen while the page looks on."""
    page.until("document.querySelectorAll('#table [data-mac]').length > 15")
    macs = {ip: device["mac"] for ip, device in daemon.devices().items()}
    for ip, label in WORDS.items():
        daemon.request("PATCH", f"/api/devices/{macs[ip]}", {"label": label, "known": True})
    crowd.sleep(LAPTOP)
    crowd.leave("10.77.0.20")
    time.sleep(8)
    crowd.join("10.77.0.110", "7a:0c:52:e1:88:6e")
    time.sleep(4)
    crowd.move("10.77.0.102", "10.77.0.112")
    time.sleep(10)
    crowd.wake(LAPTOP)
    time.sleep(5)
    crowd.leave("10.77.0.21")
    crowd.join("10.77.0.113", "24:0a:c4:81:77:71")
    time.sleep(0.4)


def take(page: Page, folder: Path) -> None:
    """All four."""
    for scheme in ("light", "dark"):
        page.prefer(color_scheme=scheme)
        page.resize(1360, 1010)
        page.js(f"location.hash = '{LAPTOP if scheme == 'light' else ''}'")
        page.js("document.activeElement.blur()")
        page.js("document.querySelector('#scroll').scrollTop = 0")
        shoot(page, folder / f"page-desktop-{scheme}.png")
        page.resize(390, 780, 1.5, mobile=True)
        page.js(f"location.hash = '{LAPTOP if scheme == 'dark' else ''}'")
        page.js("document.activeElement.blur()")
        page.js("document.querySelector('#scroll').scrollTop = 0")
        page.js("document.querySelector('#device').scrollTop = 500")
        shoot(page, folder / f"page-phone-{scheme}.png")


def shoot(page: Page, path: Path) -> None:
    """One, once the page has come to rest."""
    time.sleep(0.7)
    page.shot(path)
    if shutil.which("pngquant"):
        subprocess.run(
            ["pngquant", "--force", "--strip", "--skip-if-larger", "--output", path, "128", path], check=True
        )


def main() -> int:
    """Build, let live, take."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    sweep()
    with inter(), Lab() as lab:
        lab.gateway()
        lab.host("10.77.0.5", mac="3c:52:82:6a:70:05")
        crowd = lab.crowd()
        crowd.populate(AT_HOME, AT_HOME.values())
        crowd.populate(lab.addresses(9, start=120))
        daemon = lab.daemon(CONFIG, start=False)
        ips = {mac: ip for ip, mac in AT_HOME.items()}
        write_past(daemon.history, LAPTOP, [mac for mac in ips if mac not in (LAPTOP, NEWCOMER)], ips, NETWORK)
        daemon.start()
        introduce(crowd)
        with Chromium(lab.watcher.space) as browser:
            page = browser.page("http://127.0.0.1:8000/", width=1360, height=800)
            live(crowd, daemon, page)
            take(page, folder)
            if page.errors:
                print("\n".join(page.errors), file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
