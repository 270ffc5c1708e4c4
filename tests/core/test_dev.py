"""`./dev` in an artificial checkout: installers and test runners are stand-ins that record their calls."""

import fcntl
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import time
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.spaces import DEADLINE

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOOLS = "cat chmod cksum dirname env find flock fold grep head id mkdir mktemp paste rm sed sh sleep sort stat tr uname"
KEYRINGS, CACHE = "/usr/share/keyrings/", "/var/cache/netscand-tests"

PIP = "#!{}/bin/python3\n"
PYTEST = """
import json, os, pathlib, signal, sys, time
got = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    assert signal.getsignal(number) != signal.SIG_IGN
    signal.signal(number, lambda number, frame: got.append(number))
notes = pathlib.Path(os.environ["NOTES"])
(notes / "stdin").write_text(os.readlink("/proc/self/fd/0"))
(notes / "path").write_text(os.environ["PATH"])
ends = time.monotonic() + 60
(notes / "started").touch()
while os.environ.get("HANGS") and not got and time.monotonic() < ends:
    time.sleep(0.01)
time.sleep(0.3 * len(got))  # tidying up takes a while
(notes / "signals").write_text(" ".join(map(str, got)))
if "FAILED" in os.environ and "tests/lab" in sys.argv:
    first = "--last-failed" not in sys.argv
    with (notes / "attempts").open("a") as attempts:
        print(*sys.argv[1:], file=attempts)
    cache = pathlib.Path(next(word for word in sys.argv if word.startswith("cache_dir=")).removeprefix("cache_dir="))
    (cache / "v/cache").mkdir(parents=True, exist_ok=True)
    failed = dict.fromkeys([f"tests/lab/test_x.py::test_{n}[a b]" for n in range(int(os.environ["FAILED"]))], True)
    (cache / "v/cache/lastfailed").write_text(json.dumps(failed, indent=2))
    sys.exit(int(os.environ["CODE"]) if first else int(os.environ["AGAIN"]))
"""


DEFAULT_SIGNALS = "/usr/bin/env", "--default-signal=INT,QUIT,TERM,HUP"
"""The caller of these tests may ignore some signals, and a shell cannot trap a signal that was ignored at its start."""

SERVICES = ("avahi-daemon", "caddy", "haproxy", "mosquitto", "nginx", "ntfy", "prometheus")
"""Programs that are unpacked and not installed."""


class Checkout:
    """A checkout with `dev`, a PATH of its own, and a virtual environment whose pip and pytest are stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.root, self.programs, self.notes = folder / "checkout", folder / "programs", folder / "notes"
        self.cache = folder / "cache"
        for path in (self.root, self.programs, self.notes, folder / "keyrings"):
            path.mkdir()
        text = (ROOT / "dev").read_text()
        for ours, made_up in ((CACHE, self.cache), (KEYRINGS, f"{folder}/keyrings/"), (":/usr/sbin:/sbin", "")):
            assert ours in text
            text = text.replace(ours, str(made_up))
        (self.root / "dev").write_text(text)
        (self.root / "dev").chmod(0o755)
        shutil.copytree(ROOT / "requirements", self.root / "requirements")
        shutil.copy(ROOT / "pyproject.toml", self.root)
        for tool in TOOLS.split():
            (self.programs / tool).symlink_to(shutil.which(tool) or "/nonexistent")
        (folder / "keyrings/debian-archive-keyring.gpg").touch()
        self.program("id", f"echo {os.geteuid()}")
        self.program("chown")

    def program(self, name: str, script: str = "") -> None:
        """Put a stand-in on PATH; it notes its arguments."""
        path = self.programs / name
        path.unlink(missing_ok=True)
        path.write_text(f'#!/bin/sh\necho "$@" >>"{self.notes}/{name}"\n{script}\n')
        path.chmod(0o755)

    def calls(self, name: str) -> str:
        """What a stand-in was called with."""
        note = self.notes / name
        return note.read_text() if note.exists() else ""

    def environment(self) -> Path:
        """Make .venv, as `./dev` and pip leave it."""
        path = self.root / ".venv"
        venv.create(path, with_pip=False, symlinks=True)
        (packages,) = path.glob("lib/python*/site-packages")
        (packages / "pip").mkdir()
        (packages / "pip/__init__.py").touch()
        for module in ("pip/__main__", "ruff", "mypy", "check_jsonschema"):
            (packages / f"{module}.py").touch()
        (packages / "pytest.py").write_text(PYTEST)
        (path / "bin/pip").write_text(PIP.format(path))
        return path

    def everything(self) -> None:
        """Have all the programs that tests want, as root, through sudo."""
        self.environment()
        self.program("id", "echo 0")
        for name in re.findall(r"\b([\w.-]+)=[\w-]+", re.sub(r"/\S+", "", _lists(self.root / "dev"))):
            self.program(name)
        for name in ("chromium", "chromium-browser", "shellcheck", *SERVICES):
            self.program(name)

    def options(self, **env: str) -> dict[str, object]:
        clean = {"PATH": str(self.programs), "HOME": str(self.notes), "NOTES": str(self.notes), "SUDO_UID": "4242"}
        return {"cwd": self.root, "env": clean | env, "text": True}

    def run(self, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
        """Run `./dev WORDS` to its end."""
        argv = [*DEFAULT_SIGNALS, "/bin/sh", "dev", *words]
        return subprocess.run(argv, capture_output=True, check=False, stdin=subprocess.DEVNULL, **self.options(**env))  # type: ignore[call-overload,no-any-return]

    def popen(self, *words: str, stdin: int = subprocess.DEVNULL, terminal: bool = False) -> "subprocess.Popen[str]":
        """Start `./dev WORDS` with tests that hang, in a session of its own; on the terminal `stdin` if it is one."""
        own: Callable[[], object] | None = (lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)) if terminal else None
        process = subprocess.Popen(
            [*DEFAULT_SIGNALS, "/bin/sh", "dev", *words], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, preexec_fn=own, **self.options(HANGS="1"),
        )  # type: ignore[call-overload]  # fmt: skip
        ends = time.monotonic() + DEADLINE
        while not (self.notes / "started").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < ends
            time.sleep(0.01)
        return process  # type: ignore[no-any-return]


def _lists(dev: Path) -> str:
    """The lists of packages at its head."""
    return " ".join(re.findall(r"^(?:RUN|TREES|TEST)=['\"]([^'\"]*)", dev.read_text(), re.MULTILINE))


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


# ---- words that it knows, and others --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    ["setup", "run", "demo", "hub-demo", "test", "bench", "lint", "lock", "deb", "image", "setup --test", "test fast"],
)
def test_help_of_a_command_only_helps(command: str, tmp_path: Path) -> None:
    """In a checkout with nothing installed: it prints text, and makes no file."""
    (tmp_path / "dev").write_bytes((ROOT / "dev").read_bytes())
    words = command.split()
    done = subprocess.run(["sh", "dev", *words, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"./dev {words[0]}" in done.stdout
    assert "./dev COMMAND" not in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["dev"]


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("nonsense", "nonsense"), ("nonsense --help", "nonsense"), ("nonsense -h", "nonsense"),
        ("help nonsense", "nonsense"),
        ("setup foo", "foo"), ("setup --test foo", "foo"), ("setup foo --test", "foo"), ("lint foo", "foo"),
        ("lock foo", "foo"), ("deb dist foo", "foo"), ("deb --foo", "--foo"), ("image --foo", "--foo"),
        ("test --newest foo", "foo"),
    ],
)  # fmt: skip
def test_what_would_be_ignored_is_an_error(checkout: Checkout, words: str, wrong: str) -> None:
    """It is named, nothing is done, and the exit code is 2."""
    checkout.everything()
    checkout.program("python3")
    done = checkout.run(*words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert f'"{wrong}"' in done.stderr.splitlines()[0]
    assert not checkout.calls("python3")


# ---- setting up -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["test fast", "test --oldest", "test --newest", "lock"])
def test_without_python_there_is_one_sentence(checkout: Checkout, words: str) -> None:
    """It names what to do."""
    done = checkout.run(*words.split())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "dev: python3 is missing: run sudo ./dev setup\n"


def made_anew(checkout: Checkout) -> bool:
    """Whether `./dev test fast` finds that .venv has to be made."""
    checkout.program("python3", '[ "$1 $2" != "-m venv" ]')
    (checkout.notes / "python3").unlink(missing_ok=True)
    checkout.run("test", "fast")
    return "-m venv --clear .venv\n" in checkout.calls("python3")


@pytest.mark.parametrize("start", ["#!{}/bin/python3\n", '#!/bin/sh\n\'\'\'exec\' "{}/bin/python3" "$0" "$@"\n'])
def test_a_moved_environment_is_created_again(checkout: Checkout, start: str) -> None:
    """Its programs name the old path: moved, copied, and copied while the old one still exists."""
    path = checkout.environment()
    (path / "bin/pip").write_text(start.format(path))
    assert not made_anew(checkout)
    old = checkout.root
    checkout.root = old.with_name("a copy")
    shutil.copytree(old, checkout.root, symlinks=True)
    assert made_anew(checkout)
    shutil.rmtree(old)
    assert made_anew(checkout)


def test_an_environment_that_is_a_link_is_used(checkout: Checkout) -> None:
    """Several worktrees may share one."""
    path = checkout.environment()
    path.rename(shared := path.with_name("shared"))
    path.symlink_to(shared)
    (shared / "bin/pip").write_text(PIP.format(shared))
    assert not made_anew(checkout)


def test_lint_wants_only_what_it_uses(checkout: Checkout) -> None:
    """shellcheck, and the virtual environment."""
    checkout.environment()
    checkout.program("id", "echo 1000")
    done = checkout.run("lint")
    assert done.returncode == 1
    assert done.stderr.startswith("dev: missing Debian packages: shellcheck; ")
    checkout.program("shellcheck")
    assert checkout.run("lint").returncode == 0
    assert "packaging/install" in checkout.calls("shellcheck")


def test_setup_says_every_size(checkout: Checkout) -> None:
    """Of the virtual environment, and of the trees that tests will make, with the way to remove them."""
    checkout.everything()
    done = checkout.run("setup")
    assert (done.returncode, done.stdout) == (0, "")
    installing = "dev: installing requirements/run.txt into .venv (about 85 MB)\n"
    assert done.stderr == f"{installing}dev: ready; next: sudo ./dev run, or sudo ./dev demo\n"
    done = checkout.run("setup", "--test")
    first, second, last = done.stderr.splitlines()
    assert first == "dev: installing requirements/test.txt into .venv (about 240 MB)"
    assert re.search(rf"about [\d.]+ GB.*sudo rm -rf {checkout.cache}$", second)
    (checkout.cache / "build").mkdir(parents=True)
    assert (
        checkout.run("setup", "--test").stderr
        == f"{last}\n"
        == "dev: ready; next: sudo ./dev test, or ./dev test fast\n"
    )


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_never_to_be_installed(checkout: Checkout, service: str) -> None:
    """Where it can be neither fetched nor found: apt would start it, so it is copied."""
    checkout.everything()
    (checkout.programs / service).unlink()
    checkout.program("apt-get", "echo 'E: Failed to fetch http://nowhere/it.deb'; exit 100")
    done = checkout.run("setup", "--test")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert f"Copy {checkout.cache}/{service} from a machine" in last
    assert "nstall" not in last
    assert "--download-only" in checkout.calls("apt-get")
    assert f"{checkout.cache}/{service}\n" in checkout.run("setup", "--help").stdout.partition("Do not install")[2]


@pytest.mark.parametrize("service", SERVICES)
def test_what_tests_borrow_is_found_by_every_user(checkout: Checkout, service: str) -> None:
    """`sudo` drops XDG_CACHE_HOME, so the path must not depend on it."""
    checkout.everything()
    (checkout.programs / service).unlink()
    path = checkout.cache / service / "bin"
    path.mkdir(parents=True)
    shutil.copy(checkout.programs / "shellcheck", path / service)
    done = checkout.run("test", "tests/x", XDG_CACHE_HOME=str(checkout.notes))
    assert done.returncode == 0, done.stderr
    assert str(path) in checkout.calls("path").split(":")


@pytest.mark.parametrize("failures", [1, 2])
def test_a_package_that_did_not_arrive_is_fetched_again(checkout: Checkout, failures: int) -> None:
    """One of hundreds, or the mirror changed after its lists were fetched. If it fails again, apt's error is shown."""
    checkout.everything()
    (checkout.programs / "nmap").unlink()
    failed, nmap = checkout.notes / "failed", checkout.programs / "nmap"
    checkout.program(
        "apt-get",
        f"""case "$*" in *--assume-no*) ;; *install*)
        echo >>{failed}; read -r _ <{failed}
        if [ $(stat -c %s {failed}) -le {failures} ]; then
            echo 'E: Failed to fetch http://mirror/nmap.deb  404  Not Found'
            exit 100
        fi
        echo '#!/bin/sh' >{nmap}; chmod 755 {nmap} ;; esac""",
    )
    done = checkout.run("setup", "--test")
    assert checkout.calls("apt-get").count("install -y") == 2
    assert checkout.calls("apt-get").splitlines()[-2].endswith("update")  # between the two
    if failures == 1:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 1
        assert "Failed to fetch http://mirror/nmap.deb  404  Not Found" in done.stderr.splitlines()[-1]


def test_a_list_of_packages_is_named_where_there_is_no_apt(checkout: Checkout) -> None:
    checkout.everything()
    (checkout.programs / "nmap").unlink()
    done = checkout.run("setup", "--test")
    assert done.returncode == 1
    assert "missing: nmap;" in done.stderr


# ---- its end --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["test fast", "test tests/x"])
@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_the_tests_and_gives_the_caches_back(
    checkout: Checkout, words: str, number: str, code: int
) -> None:
    """To the user of sudo: dash runs no EXIT trap for a signal. The tests get it once, and tidy up first."""
    checkout.everything()
    process = checkout.popen(*words.split())
    process.send_signal(signal.Signals[number])
    said, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == code, said
    assert checkout.calls("signals") == str(signal.Signals[number])
    assert "4242 .pytest_cache .mypy_cache" in checkout.calls("chown")


def test_ctrl_c_reaches_the_tests_once(checkout: Checkout) -> None:
    """On a terminal, which sends it to all: a second one would cut the tidying short."""
    checkout.everything()
    ours, theirs = pty.openpty()
    process = checkout.popen("test", "fast", stdin=theirs, terminal=True)
    assert checkout.calls("stdin") == os.ttyname(theirs), "pytest --pdb needs the terminal"
    os.write(ours, b"\x03")
    said, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130, said
    assert checkout.calls("signals") == str(signal.SIGINT)
    assert "4242 .pytest_cache" in checkout.calls("chown")
    os.close(ours)
    os.close(theirs)


def test_the_exit_code_says_whether_something_failed(checkout: Checkout) -> None:
    checkout.everything()
    assert checkout.run("test", "fast").returncode == 0
    (checkout.root / ".venv/bin/python").unlink()
    (checkout.root / ".venv/bin/python").write_text(
        f'#!/bin/sh\n[ "$2" != pytest ] || exit 3\nexec {sys.executable} "$@"\n'
    )
    done = checkout.run("test", "fast")
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("failed", "code", "again", "attempts", "exit_code"),
    [(1, 1, 0, 2, 0), (3, 1, 0, 2, 0), (1, 1, 1, 2, 1), (4, 1, 0, 1, 1), (1, 2, 0, 1, 1), (0, 3, 0, 1, 1)],
)
def test_up_to_three_failed_tests_are_tried_once_more(
    checkout: Checkout, failed: int, code: int, again: int, attempts: int, exit_code: int
) -> None:
    """And named, if they pass then. Neither many failures nor an error of pytest itself is tried again."""
    checkout.everything()
    done = checkout.run("test", FAILED=str(failed), CODE=str(code), AGAIN=str(again))
    assert done.returncode == exit_code, done.stderr
    assert len(checkout.calls("attempts").splitlines()) == attempts
    passed = "WARNING: passed only at the second attempt" in done.stderr
    assert passed == (exit_code == 0)
    if passed:
        assert done.stderr.rstrip().endswith(f"tests/lab/test_x.py::test_{failed - 1}[a b]")
