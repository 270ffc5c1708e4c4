"""`./dev run` and `./dev demo`, as a newcomer types them."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.lan import Lab
from tests.lab.ordinary import NOBODY, visible
from tests.lab.spaces import DEADLINE, NAMESPACES, ROOT, command


class Shown:
    """A process's output, line by line, each with the time it came."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.lines: list[tuple[float, str]] = []
        self._process = process
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append((time.monotonic(), line))

    def until(self, word: str, seconds: float = DEADLINE) -> float:
        """When a line with `word` came; fails if none does in time."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            for at, line in tuple(self.lines):
                if word in line:
                    return at
            time.sleep(0.01)
        raise AssertionError(f"no {word!r} within {seconds:g} s in:\n{self.text()}")

    def text(self) -> str:
        """All of it."""
        return "".join(line for _, line in self.lines)


@contextmanager
def dev_run(lab: Lab, uid: int | None = None) -> "Iterator[subprocess.Popen[str]]":
    """`./dev run` in the watcher's namespace, in a process group of its own; through sudo of a user."""
    argv = ["env", "--default-signal=INT", "./dev", "run"]
    state = {"NETSCAND_STATE": str(lab.folder / "state")}
    if uid is not None:  # and as on a machine whose users can read the checkout, its Python, and the folder
        state |= {"SUDO_UID": str(uid), "SUDO_GID": str(uid)}
        lab.folder.chmod(0o711)
        (lab.folder / "hold").mkdir(exist_ok=True)
        argv = visible(argv, lab.folder / "hold")
    process = lab.watcher.popen(
        argv, env=state, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield process
    finally:
        lab.watcher.space.end(process)


@pytest.mark.parametrize("planted", ["a link", "a folder"])
def test_dev_run_writes_nothing_where_another_user_leads_it(lab: Lab, planted: str) -> None:
    """In a folder that others may write to, what has the name already may be theirs."""
    victim, state = lab.folder / "victim", lab.folder / "state"
    victim.mkdir()
    if planted == "a link":
        state.symlink_to(victim)
    else:
        state.mkdir()
        (state / "log").symlink_to(victim / "log")
    os.chown(state, 12_345, 12_345, follow_symlinks=False)
    with dev_run(lab) as process:
        assert process.wait(DEADLINE) == 1
        assert process.stdout is not None
        assert "belongs to another user" in process.stdout.read()
    assert not list(victim.iterdir())


def pid_of(lab: Lab, word: str) -> int:
    """The one process in the watcher's namespace whose command line has `word`."""
    pids = [int(pid) for pid in command("ip", "netns", "pids", lab.watcher.space.name).split()]
    (found,) = [pid for pid in pids if f"\0{word}\0" in _command_line(pid)]
    return found


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended since
        return ""


def test_dev_run_shows_the_devices_and_ctrl_c_ends_both(lab: Lab) -> None:
    """The list, then each change, then nothing of it is left."""
    crowd = lab.crowd()
    crowd.populate(["10.77.0.50"])
    with dev_run(lab) as process:
        shown = Shown(process)
        shown.until("10.77.0.50")
        crowd.join("10.77.0.51")
        shown.until("10.77.0.51")
        daemon = pid_of(lab, "netscand")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(DEADLINE) == 130
        assert not Path(f"/proc/{daemon}").exists()
    assert "Traceback" not in shown.text()


def test_dev_run_says_why_the_daemon_died(lab: Lab) -> None:
    """The end of its log, its exit code, and watch ends too."""
    lab.crowd().populate(["10.77.0.50"])
    with dev_run(lab) as process:
        shown = Shown(process)
        shown.until("10.77.0.50")
        os.kill(pid_of(lab, "netscand"), signal.SIGKILL)
        assert process.wait(DEADLINE) == 137
        shown.until("netscand ended, exit 137")
        shown.until("ready:")


def test_dev_run_names_its_files_even_without_a_network(lab: Lab) -> None:
    """Page, log and socket, in one line; each of them is there. And why no device is seen."""
    lab.watcher.set_address(None)
    state = lab.folder / "state"
    with dev_run(lab) as process:
        shown = Shown(process)
        shown.until("STATUS")
        (line,) = [line for line in shown.text().splitlines() if "http://localhost:8000/" in line]
        assert line.startswith("dev: page http://localhost:8000/, log "), "the address for this host comes first"
        for name in ("log", "netscand.sock"):
            assert f"{state / name}" in line
            assert (state / name).exists()
        assert (state / "log").stat().st_mode & 0o777 == 0o600, "it says who was at home when"
        lab.watcher.run(["curl", "--silent", "--fail", "http://localhost:8000/"])
        assert "dev: no network is scanned" in shown.text()


def test_a_second_dev_run_is_refused_and_leaves_the_first_alone(lab: Lab) -> None:
    """A sentence that names the process; the log and the daemon of the first are as they were."""
    with dev_run(lab) as first:
        Shown(first).until("STATUS")
        daemon = pid_of(lab, "netscand")
        log = lab.folder / "state" / "log"
        written = log.read_text()
        assert "ready:" in written
        with dev_run(lab) as second:
            shown = Shown(second)
            assert second.wait(DEADLINE) == 1
            shown.until(f"runs already (process {daemon})")
        assert log.read_text().startswith(written)
        assert pid_of(lab, "netscand") == daemon


USER = 23_456
"""A user of the host, who calls sudo."""


def by_user(lab: Lab, *argv: str, uid: int = USER) -> str:
    """Run a command as that user, without sudo."""
    drop = f"setpriv --reuid {uid} --regid {uid} --clear-groups --inh-caps=-all --bounding-set=-all --".split()
    (hold := lab.folder / f"hold{len(list(lab.folder.iterdir()))}").mkdir()
    env = {"NETSCAND_STATE": str(lab.folder / "state")}
    done = lab.watcher.run(visible([*drop, *argv], hold), env=env, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("uid", [USER, 0])
def test_dev_run_is_the_user_of_sudo_with_one_capability(lab: Lab, uid: int) -> None:
    """T1: no other right of root; without sudo, a user without any. Files are for that user alone."""
    state = lab.folder / "state"
    with dev_run(lab, uid) as process:
        Shown(process).until("STATUS")
        found = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid_of(lab, 'netscand')}/status").read_text().splitlines()
        )
        owner = uid or NOBODY
        assert found["Uid"].split() == found["Gid"].split() == [str(owner)] * 4
        assert {int(found[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {1 << 13}
        assert (found["NoNewPrivs"], found["Groups"].strip()) == ("1", "")
        for path in state.iterdir():
            mode = path.stat().st_mode & 0o777
            assert path.stat().st_uid == owner, path
            assert mode == (0o666 if path.name == "netscand.sock" else 0o600), path
        assert state.stat().st_mode & 0o777 == 0o711
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(DEADLINE) == 130


def test_the_user_of_sudo_is_admin_without_it(lab: Lab) -> None:
    """`./dev ctl` finds the socket; the token and the page work; another user is not admin, and reads what to do."""
    with dev_run(lab, USER) as process:
        shown = Shown(process)
        shown.until("./dev ctl devices")
        assert "your role  admin" in by_user(lab, "./dev", "ctl", "status")
        assert "page       http://localhost:8000/" in by_user(lab, "./dev", "ctl", "status")
        assert 'label set to "router"' in by_user(lab, "./dev", "ctl", "label", "52:54:00:77:00:99", "router")
        assert "token  " in by_user(lab, "./dev", "ctl", "token", "add", "admin")
        tokens = (lab.folder / "state" / "tokens").stat()
        assert (tokens.st_uid, tokens.st_mode & 0o777) == (USER, 0o600)
        as_root = by_user(lab, "./dev", "ctl", "doctor", uid=0)
        assert "tokens" not in as_root or "owned by" not in as_root
        listen = (state := lab.folder / "state" / "netscand.toml").read_text()
        state.write_text(listen.replace('"127.0.0.1:8000", "[::1]:8000"', '"0.0.0.0:8000"'))
        assert "configuration reloaded" in by_user(lab, "./dev", "ctl", "reload")
        pages = [line.split()[1] for line in by_user(lab, "./dev", "ctl", "status").splitlines() if line[:5] == "page "]
        assert pages == ["http://localhost:8000/", "http://10.77.0.2:8000/"]
        (lab.folder / "state" / "tokens").write_text("")
        refused = by_user(lab, "./dev", "ctl", "reload")
        assert "to create a token: ./dev ctl token add ROLE" in refused
        assert "netscanctl token" not in refused + by_user(lab, "./dev", "ctl", "status")
        page_text = by_user(lab, "curl", "--silent", "--noproxy", "*", "http://localhost:8000/")
        assert "<code>./dev ctl token add admin</code>" in page_text
        other = by_user(lab, "./dev", "ctl", "known", "52:54:00:77:00:99", uid=USER + 1)
        assert 'requires role "admin" (you have "scan")' in other
        assert "run it with sudo" in other or "join the group" in other
        page = ["curl", "--silent", "--noproxy", "*", "http://localhost:8000/api/status"]
        assert '"role":"admin"' in by_user(lab, *page, "--header", "Sec-Fetch-Site: same-origin")
        assert '"role":"scan"' in by_user(lab, *page)
        assert '"role":"scan"' in by_user(lab, *page, "--header", "Sec-Fetch-Site: same-origin", uid=USER + 1)


def test_dev_run_says_how_to_use_another_port(lab: Lab) -> None:
    """And names no page that is not there."""
    code = "import socket, time; a = socket.create_server(('127.0.0.1', 8000)); "
    code += (
        "b = socket.create_server(('::1', 8000), family=socket.AF_INET6); print('taken', flush=True); time.sleep(60)"
    )
    taken = lab.watcher.popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert taken.stdout is not None
    assert taken.stdout.readline() == "taken\n"
    with dev_run(lab) as process:
        shown = Shown(process)
        shown.until(
            "cannot listen on 127.0.0.1:8000: Address already in use; to use another port, change [listen] tcp in "
        )
        assert "http://localhost" not in shown.text()
    lab.watcher.space.end(taken)


def test_dev_run_changes_no_folder_that_is_not_its_own(lab: Lab) -> None:
    """Such as /tmp, or one with other files."""
    state = lab.folder / "state"
    state.mkdir(0o1777)
    state.chmod(0o1777)
    for word in ("other users can write to", "has other files"):
        with dev_run(lab, USER) as process:
            assert process.wait(DEADLINE) == 1
            assert process.stdout is not None
            assert word in process.stdout.read()
        assert state.stat().st_uid == 0
        state.chmod(0o755)
        (state / "mine").touch()


def test_dev_ctl_without_an_environment_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "dev").write_bytes((ROOT / "dev").read_bytes())
    done = subprocess.run(["sh", "dev", "ctl", "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "dev: there is no .venv yet: run sudo ./dev setup\n")


def test_dev_ctl_runs_in_the_folder_of_its_caller(tmp_path: Path) -> None:
    """Files that are named on its command line are there; --help is that of netscanctl."""
    argv = [str(ROOT / "dev"), "ctl", "--token-file", "mine", "devices"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "--token-file: mine: No such file" in done.stderr
    (tmp_path / "mine").write_text("x" * 32)
    done = subprocess.run(
        argv, cwd=tmp_path, capture_output=True, text=True, check=False, env=os.environ | {"NETSCAND_STATE": "/none"}
    )
    assert "/none/netscand.sock" in done.stderr
    done = subprocess.run([*argv[:2], "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("Usage: ./dev ctl ")


def test_dev_ctl_knows_the_configuration_and_the_commands_of_a_checkout(tmp_path: Path) -> None:
    """While `./dev run` does not run: doctor checks its configuration, a token is added, hints name ./dev."""

    def ctl(*words: str) -> str:
        argv = [str(ROOT / "dev"), "ctl", *words]
        env = os.environ | {"NETSCAND_STATE": str(tmp_path)}
        return subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=env
        ).stdout

    assert "/run/netscand" not in ctl("doctor"), "./dev run has not made its configuration yet"
    (tmp_path / "netscand.toml").write_text(
        f'[listen]\nunix = "{tmp_path}/netscand.sock"\n[history]\npath = "{tmp_path}/netscand.db"\n'
    )
    found = ctl("doctor")
    assert f"{tmp_path}/netscand.toml is valid" in found
    assert "to start it: sudo ./dev run" in found
    assert "/run/netscand" not in found + ctl("devices")
    assert "sudo ./dev run; to find out why: ./dev ctl doctor" in ctl("devices")
    assert "to create one: ./dev ctl token add ROLE" in ctl("token", "list")
    assert "token  " in ctl("token", "add", "admin")
    assert (tmp_path / "tokens").exists()
    if os.geteuid() == 0:  # the files of ./dev run belong to the user of sudo, and that is no fault
        for path in (tmp_path, *tmp_path.iterdir()):
            os.chown(path, USER, USER)
        assert "owned by" not in ctl("doctor")
    elsewhere = ctl("--socket", f"{tmp_path}/other", "devices")
    assert "to find out why: netscanctl doctor" in elsewhere


def test_dev_run_passes_arguments_on(lab: Lab) -> None:
    """`./dev run --version` and `--once` are netscand's own: what they print is on stdout, and nothing else is said."""
    lab.crowd().populate(["10.77.0.50"])
    env = {"NETSCAND_STATE": str(lab.folder / "state")}
    said = lab.watcher.run(["./dev", "run", "--version"], env=env, stderr=subprocess.STDOUT).stdout
    assert re.search(r"(?m)^netscand \d", said)
    done = lab.watcher.run(["./dev", "run", "--once"], env=env)
    assert "10.77.0.50" in done.stdout
    assert "netscand ended" not in done.stderr


@pytest.mark.usefixtures("root")
def test_the_demo_shows_a_change_and_tidies_up() -> None:
    """The list, the visitor, and no namespace left."""
    argv = ["./dev", "demo", "--seconds", "9"]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "10.77.0.103" in out
    assert "7a:0c:52:e1:88:6e" in out
    assert "Traceback" not in err
    assert not list(NAMESPACES.glob(f"nsd-{process.pid}-*"))


@pytest.mark.usefixtures("root")
def test_the_demo_ends_in_the_background_too() -> None:
    """What sh starts with & ignores Ctrl-C, and by that a demo ends its watch."""
    argv = ["sh", "-c", "./dev demo --seconds 1 & wait $!"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("seconds", ["0", "-1", "abc", "nan", "inf"])
def test_a_demo_of_no_length_is_refused_before_anything_is_built(seconds: str) -> None:
    argv = [sys.executable, "-m", "tests.lab.demo", f"--seconds={seconds}"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{seconds}: expected a number above 0" in done.stderr


def test_an_unknown_command_is_said_to_be_one() -> None:
    done = subprocess.run(["./dev", "sertup"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith('dev: unknown command "sertup"; the commands are:\n')
    assert "\n  setup " in done.stderr
