"""What may stand in a configuration and was hardly meant so is told by --check-config, and refused by nobody."""

import subprocess
import sys
from pathlib import Path

import pytest

from netscand.config import read
from netscand.config_lint import oddities

ROOT = Path(__file__).parents[2]
RULE = '[[network]]\ncidr = "10.0.0.0/24"\n'


def odd(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "netscand.toml").write_text(text)
    return list(oddities(read(tmp_path / "netscand.toml")))


@pytest.mark.parametrize(
    ("text", "place", "mend"),
    [
        ("[scan]\nbackground_rate = 2000", "[scan] background_rate 2000: is above rate 1000,", "lower the one"),
        ("[scan]\nrate = 9\nbackground_rate = 9.5", "[scan] background_rate 9.5: is above rate 9,", "lower the one"),
        (f"{RULE}background_rate = 2000", "[[network]] background_rate 2000: is above [scan] rate 1000,", "lower"),
        (f"{RULE}{RULE}interface = 'a'\nrate = 2\nbackground_rate = 3", "[[network]] no. 2 background_rate 3: is", "2"),
        (f"{RULE}{RULE}", "[[network]] no. 2 cidr '10.0.0.0/24': stands in [[network]] no. 1", "make one of the two"),
        (f"{RULE}interface = 'a'\n" * 2, "[[network]] no. 2 cidr '10.0.0.0/24' on a: stands in", "make one of the two"),
        ('[listen]\ntcp = ["127.0.0.1:80", "127.0.0.1:80"]', "[listen] tcp '127.0.0.1:80': is listened on by", "take"),
        ('[listen]\ntcp = ["localhost:80", "[::1]:80"]', "[listen] tcp '[::1]:80': is listened on by 'lo", "take"),
        ('[listen]\ntcp = ["0.0.0.0:80", "10.0.0.1:80"]', "[listen] tcp '10.0.0.1:80': is listened on by '0.", "take"),
        ('[access]\ngroup = "no such group"', "[access] group 'no such group': there is none here", "groupadd"),
        ('[history]\npath = "history.db"', "[history] path 'history.db': counts from the folder", "from / on"),
        ('[listen]\nunix = "./sock"', "[listen] unix './sock': counts from the folder", "from / on"),
        ('[access]\ntoken_file = "tokens"', "[access] token_file 'tokens': counts from the folder", "from / on"),
    ],
)  # fmt: skip
def test_what_is_odd_is_told_in_a_line_with_its_place_and_the_mend(
    tmp_path: Path, text: str, place: str, mend: str
) -> None:
    (line,) = odd(tmp_path, text)
    assert line.startswith(place)
    assert mend in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[scan]\nrate = 20",  # whoever bounds all frames bounds those between scans, too
        "[scan]\nrate = 0\nbackground_rate = 2000",
        "[scan]\nbackground_rate = 0",
        f"{RULE}rate = 20",
        f"[scan]\nrate = 100\n{RULE}rate = 300\nbackground_rate = 200",
        f"{RULE}{RULE}interface = 'a'",  # the one that names the interface wins
        '[listen]\ntcp = ["127.0.0.1:80", "[::1]:80", "127.0.0.1:81", "127.0.0.1:0", "127.0.0.1:0"]',
        '[listen]\ntcp = ["0.0.0.0:80", "[::]:80"]',
        '[listen]\nunix = ""\ntcp = []',
        '[access]\ngroup = "root"',
    ],
)
def test_what_may_well_be_meant_so_is_not_told(tmp_path: Path, text: str) -> None:
    assert odd(tmp_path, text) == []


def test_what_is_wrong_hides_no_oddity_and_makes_none(tmp_path: Path) -> None:
    told = odd(tmp_path, f"[scan]\ninterval = 0\nbackground_rate = 2000\nrate = 5\n{RULE}{RULE}tries = 1\n")
    assert [line.partition(":")[0] for line in told] == [
        "[scan] background_rate 2000", "[[network]] no. 2 cidr '10.0.0.0/24'",
    ]  # fmt: skip
    assert odd(tmp_path, f'[[network]]\ncidr = "10.0.0.0/24"\ninterface = "/"\n{RULE}') == []
    assert odd(tmp_path, f'[scan]\nrate = "2000"\nbackground_rate = 1500\n{RULE}background_rate = 1500\n') == []
    assert odd(tmp_path, '[listen]\ntcp = ["here", "here"]\n[access]\ngroup = 7\n') == []


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [("", 0, ""), ("interval = 0\n", 78, "[scan] interval: expected"), ("[listen]\ntls_key = '/k'\n", 78, "tls_certi")],
)
def test_check_config_warns_beside_what_is_wrong_and_a_warning_alone_is_good(
    tmp_path: Path, more: str, code: int, said: str
) -> None:
    """Also what only a look at other tables and files can tell, where those tables are good in themselves."""
    path = tmp_path / "netscand.toml"
    path.write_text(f"[scan]\nbackground_rate = 2000\n{more}[presence]\nprobe_interval = {0 if code else 1}\n")
    done = subprocess.run(
        [sys.executable, "-m", "netscand", "--check-config", str(path)], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, "" if code else f"{path}: good\n")
    *wrong, warning = done.stderr.splitlines()
    assert warning.startswith(f"netscand: {path}: warning: [scan] background_rate 2000: ")
    assert bool(wrong) == bool(code)
    assert said in done.stderr
    assert all(line.startswith(f"netscand: {path}: [") for line in wrong)
