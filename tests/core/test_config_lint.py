"""`netscand --check-config` warns about values that are probably a mistake; they are not errors."""

import subprocess
import sys
from pathlib import Path

import pytest

from netscand import __main__ as main
from netscand.config import read
from netscand.config_lint import config_warnings

ROOT = Path(__file__).parents[2]
RULE = '[[network]]\ncidr = "10.0.0.0/24"\n'


def warnings_of(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "netscand.toml").write_text(text)
    return list(config_warnings(read(tmp_path / "netscand.toml")))


@pytest.mark.parametrize(
    ("text", "where", "remedy"),
    [
        ("[scan]\nbackground_rate = 2000", "[scan] background_rate 2000: above rate 1000,", "lower background_rate"),
        ("[scan]\nrate = 9\nbackground_rate = 9.5", "[scan] background_rate 9.5: above rate 9,", "lower background"),
        (f"{RULE}background_rate = 2000", "[[network]] background_rate 2000: above [scan] rate 1000,", "raise [scan]"),
        (f"{RULE}{RULE}interface = 'lo'\nrate = 2\nbackground_rate = 3", "[[network]] no. 2 background_rate 3:", "2"),
        (f"{RULE}{RULE}", "[[network]] no. 2 cidr '10.0.0.0/24': duplicate of [[network]] no. 1", "merge them"),
        (f"{RULE}interface = 'lo'\n" * 2, "[[network]] no. 2 cidr '10.0.0.0/24' on lo: duplicate of", "merge them"),
        ('[listen]\ntcp = ["127.0.0.1:80", "127.0.0.1:80"]', "[listen] tcp '127.0.0.1:80': '127.0.0.1:80'", "remove"),
        ('[listen]\ntcp = ["localhost:80", "[::1]:80"]', "[listen] tcp '[::1]:80': 'localhost:80' already", "remove"),
        ('[listen]\ntcp = ["0.0.0.0:80", "10.0.0.1:80"]', "[listen] tcp '10.0.0.1:80': '0.0.0.0:80' already", "remove"),
        ('[names]\nsources = ["dns", "dhcp", "dns"]', "[names] sources 'dns': listed twice", "remove the other"),
        ('[access]\ngroup = "no such group"', "[access] group 'no such group': no such group", "groupadd"),
        ('[scan]\ninterfaces = ["lo", "eth77"]', "[scan] interfaces 'eth77': this host has no such", "ip link"),
        (f"{RULE}interface = 'eth77*'", "[[network]] interface 'eth77*': this host has no such interface", "ip link"),
        ('[history]\npath = "history.db"', "[history] path 'history.db': relative path", "absolute"),
        ('[listen]\nunix = "./sock"', "[listen] unix './sock': relative path", "absolute"),
        ('[access]\ntoken_file = "tokens"', "[access] token_file 'tokens': relative path", "absolute"),
    ],
)  # fmt: skip
def test_a_probable_mistake_is_one_line_with_its_remedy(tmp_path: Path, text: str, where: str, remedy: str) -> None:
    """A warning names the table, the key, the value and what to do."""
    (line,) = warnings_of(tmp_path, text)
    assert line.startswith(where)
    assert remedy in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[scan]\nrate = 20",  # a limit on all frames limits those between scans, too
        "[scan]\nrate = 0\nbackground_rate = 2000",
        "[scan]\nbackground_rate = 0",
        f"{RULE}rate = 20",
        f"[scan]\nrate = 100\n{RULE}rate = 300\nbackground_rate = 200",
        f"{RULE}{RULE}interface = 'lo'",  # the one that names the interface wins
        '[listen]\ntcp = ["127.0.0.1:80", "[::1]:80", "127.0.0.1:81", "127.0.0.1:0", "127.0.0.1:0"]',
        '[listen]\ntcp = ["0.0.0.0:80", "[::]:80"]',
        '[listen]\nunix = ""\ntcp = []',
        '[access]\ngroup = "root"',
        '[names]\nsources = ["dns", "dhcp", "mdns"]',
    ],
)
def test_an_intended_value_is_not_warned_about(tmp_path: Path, text: str) -> None:
    """Values that make sense cause no warning."""
    assert warnings_of(tmp_path, text) == []


def test_errors_hide_no_warning_and_cause_none(tmp_path: Path) -> None:
    """Each warning about a valid value is printed beside the errors; an invalid value causes none."""
    warnings = warnings_of(tmp_path, f"[scan]\ninterval = 0\nbackground_rate = 2000\nrate = 5\n{RULE}{RULE}tries = 1\n")
    assert [line.partition(":")[0] for line in warnings] == [
        "[scan] background_rate 2000", "[[network]] no. 2 cidr '10.0.0.0/24'",
    ]  # fmt: skip
    assert warnings_of(tmp_path, f'[[network]]\ncidr = "10.0.0.0/24"\ninterface = "/"\n{RULE}') == []
    assert warnings_of(tmp_path, f'[scan]\nrate = "2000"\nbackground_rate = 1500\n{RULE}background_rate = 1500\n') == []
    assert warnings_of(tmp_path, '[listen]\ntcp = ["here", "here"]\n[access]\ngroup = 7\n') == []


@pytest.mark.parametrize(
    ("more", "code", "error"),
    [("", 0, ""), ("interval = 0\n", 78, "[scan] interval: expected"), ("[listen]\ntls_key = '/k'\n", 78, "tls_certi")],
)
def test_check_config_prints_warnings_beside_errors(tmp_path: Path, more: str, code: int, error: str) -> None:
    """The exit code is 0 with warnings alone and 78 with errors, also those that need other tables or files."""
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
    assert error in done.stderr
    assert all(line.startswith(f"netscand: {path}: [") for line in wrong)


@pytest.mark.parametrize(("text", "code"), [("", 0), ("[scan]\ninterval = 0\n", 78), (None, 78)])
def test_check_config_without_a_file_checks_the_own_one(tmp_path: Path, text: str | None, code: int) -> None:
    """As `systemctl reload` does: the file of --config, which has to exist, or the default one, which need not."""
    path = tmp_path / "netscand.toml"
    if text is not None:
        path.write_text(text)
    argv = [sys.executable, "-m", "netscand", "--config", str(path), "--check-config"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert str(path) in done.stdout + done.stderr


def test_check_config_accepts_that_there_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main, "DEFAULT", tmp_path / "none.toml")
    assert main._check_config(None, None) == 0
    assert capsys.readouterr().out == f"{tmp_path}/none.toml: does not exist, so the defaults apply\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('sources = ["dns", "dhcp", "mdns"]', "[names] sources: a name from dns, dhcp, mdns, in this order"),
        ("sources = []", "[names] sources: no names"),
        ('sources = ["dhcp", "mdns", "dns", "nbns"]', None),
    ],
)
def test_check_config_prints_the_order_of_names(tmp_path: Path, text: str, line: str | None) -> None:
    """FIELD case 2: the order is what was written, if it is not the default one."""
    path = tmp_path / "netscand.toml"
    path.write_text(f"[names]\n{text}\n")
    argv = [sys.executable, "-m", "netscand", "--check-config", str(path)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{path}: good", *([f"{path}: {line}"] if line else [])]
    assert done.stderr == ""
