"""`netscanctl token`: the file, what is printed once, and the reload."""

import json
import os
import re
import stat
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from netscanctl import token_file
from netscanctl.client import Failure, NoDaemon, NotPermitted
from netscanctl.page_links import links_with_token, origins_here
from netscanctl.token_file import TokenFile, add_token, entries, read_lines, revoke_token
from netscand.protocol import Access
from netscand.serve.auth import read_tokens
from tests.ctl.conftest import Ctl
from tests.ctl.fake_daemon import FakeDaemon

LOOPBACK = ["127.0.0.1:8000", "[::1]:8000"]


def access(path: Path, *listening: str, tls: bool = False) -> Access:
    return Access(
        listening=list(listening) or LOOPBACK, tls=tls, hosts=["pi", "pi.local"], addresses=["192.168.1.5", "10.0.0.5"],
        tokens=0, token_file=str(path), uid=os.geteuid(), gid=os.getegid(),
    )  # fmt: skip


@pytest.fixture
def path(daemon: FakeDaemon, tmp_path: Path) -> Path:
    """The token file that the daemon names."""
    daemon.status.access = access(tmp_path / "tokens")
    return tmp_path / "tokens"


def reloads(daemon: FakeDaemon) -> int:
    return sum(request[:2] == ("POST", "/api/reload") for request in daemon.requests)


@pytest.mark.parametrize(
    ("listening", "tls", "found"),
    [
        (LOOPBACK, False, ["http://localhost:8000"]),
        (["0.0.0.0:8000"], False, ["http://localhost:8000", "http://192.168.1.5:8000", "http://10.0.0.5:8000"]),
        (["192.168.1.5:8000"], False, ["http://192.168.1.5:8000"]),
        (["0.0.0.0:8443"], True, ["https://192.168.1.5:8443", "https://10.0.0.5:8443"]),
    ],
)
def test_the_page_of_this_host_comes_first(tmp_path: Path, listening: list[str], tls: bool, found: list[str]) -> None:
    """By localhost, if it listens there; not with TLS, because no certificate is for that name."""
    assert origins_here(access(tmp_path, *listening, tls=tls)) == found


# ---- add -------------------------------------------------------------------------------------------------------------


def test_a_token_is_created_printed_once_and_in_force(ctl: Ctl, daemon: FakeDaemon, path: Path) -> None:
    """T2, T18: 256 random bits; the file has only its digest, and netscand accepts this file."""
    done = ctl.run("token", "add", "admin", "--name", "Jürgen's phone")
    assert done.returncode == 0
    link, token = (line.split()[1] for line in done.stdout.splitlines())
    assert link == f"http://localhost:8000/#token={token}"
    assert len(token) == 43
    assert done.stderr.splitlines() == [
        f'netscanctl: created the token "Jürgen\'s phone" (role admin) in {path}; it cannot be shown again',
        "netscanctl: only this host can open the page; for a phone or another computer, see docs/phone.md",
    ]
    assert token not in path.read_text()
    found = read_tokens(str(path), {}).find(token)
    assert found is not None
    assert found.role.on_wire == "admin"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert reloads(daemon) == 1
    assert token not in str(daemon.requests), "it is nothing that netscand needs to be sent"
    assert ctl.run("token", "list").stdout.splitlines()[1].startswith("Jürgen's phone  admin  20")


def test_tokens_are_added_to_what_is_there(ctl: Ctl, path: Path) -> None:
    """Comments and hand-written tokens stay; names are unique."""
    before = f"# mine\nscan {'x' * 40}"
    path.write_text(before)
    given = json.loads(ctl.run("token", "add", "read", "--json").stdout)
    assert (given["name"], given["role"], given["links"]) == (
        "read-1", "read", [f"http://localhost:8000/#token={given['token']}"],
    )  # fmt: skip
    assert json.loads(ctl.run("token", "add", "read", "--json").stdout)["name"] == "read-2"
    assert path.read_text().startswith(before + "\nread sha256:")
    assert 'there is a token "read-1"' in ctl.fails(1, "token", "add", "scan", "--name", "read-1")
    shown = json.loads(ctl.run("token", "list", "--json").stdout)
    by_hand = sha256(b"x" * 40).hexdigest()[:8]
    assert shown[0] == {"name": None, "role": "scan", "added": None, "id": by_hand}
    assert [one["name"] for one in shown] == [None, "read-1", "read-2"]
    assert len(read_tokens(str(path), {})) == 3


@pytest.mark.parametrize("name", ["", " ", "\u200b", "x" * 65])
def test_a_name_that_cannot_be_shown_is_refused(ctl: Ctl, path: Path, name: str) -> None:
    assert "expected 1 to 64 printable characters" in ctl.fails(1, "token", "add", "read", "--name", name)
    assert not path.exists()


def test_a_name_adds_no_line(ctl: Ctl, path: Path) -> None:
    """Its text could be a token of its own."""
    ctl.run("token", "add", "read", "--name", f"x\nadmin {'y' * 40}")
    assert len(read_tokens(str(path), {})) == 1


@pytest.mark.parametrize(
    ("listening", "tls", "origins"),
    [
        (LOOPBACK, False, ["http://localhost:8000"]),
        (["0.0.0.0:8000", "[::]:8000"], False, ["http://192.168.1.5:8000", "http://10.0.0.5:8000"]),
        (["127.0.0.1:8000", "192.168.1.9:443"], True, ["https://192.168.1.9:443"]),
        (["[fd00::7]:8000"], False, ["http://[fd00::7]:8000"]),
        ([], False, []),
    ],
)
def test_the_link_is_that_for_other_hosts(listening: list[str], tls: bool, origins: list[str]) -> None:
    """T18: the token is in the fragment, which is sent to no server."""
    links = links_with_token(Access(
        listening=listening, tls=tls, hosts=[], addresses=["192.168.1.5", "10.0.0.5"], tokens=0, token_file="/t",
        uid=0, gid=0,
    ), "T")  # fmt: skip
    assert links == [f"{origin}/#token=T" for origin in origins]


def test_a_reload_that_is_refused_is_reported(ctl: Ctl, daemon: FakeDaemon, path: Path) -> None:
    """The token is printed all the same: it is in the file."""
    daemon.refuse(400, "bad_request", "the configuration was not reloaded: no TOML", "/api/reload")
    done = ctl.run("token", "add", "read")
    assert done.returncode == 1
    assert re.search(r"^token  \S{43}$", done.stdout, re.MULTILINE)
    assert "not in force: the configuration was not reloaded: no TOML; fix that" in done.stderr
    message = ctl.fails(1, "token", "revoke", "read-1")
    assert "removed from" in message
    assert "still in force" in message


# ---- revoke ----------------------------------------------------------------------------------------------------------


def test_a_token_is_revoked_by_name_or_id(ctl: Ctl, daemon: FakeDaemon, path: Path) -> None:
    path.write_text(f"# mine\nscan {'x' * 40}\n")
    ctl.run("token", "add", "admin", "--name", "a b")
    done = ctl.run("token", "revoke", "a b")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == 'netscanctl: revoked the token "a b" (role admin); it is no longer accepted\n'
    assert path.read_text() == f"# mine\nscan {'x' * 40}\n"
    assert 'no token has the name or id "a b"' in ctl.fails(1, "token", "revoke", "a b")
    done = ctl.run("token", "revoke", sha256(b"x" * 40).hexdigest()[:8])
    assert "that was the last token" in done.stderr
    assert len(read_tokens(str(path), {})) == 0, "netscand accepts a file of comments, and refuses an empty one"
    assert reloads(daemon) == 3
    path.write_text(f"scan {'x' * 40}\n")
    ctl.run("token", "revoke", sha256(b"x" * 40).hexdigest()[:8])
    assert len(read_tokens(str(path), {})) == 0


# ---- where it cannot -------------------------------------------------------------------------------------------------


def test_without_permission_it_says_how(ctl: Ctl, daemon: FakeDaemon, path: Path) -> None:
    """As another user than root and that of netscand."""
    assert daemon.status.access is not None
    daemon.status.access.uid = os.geteuid() + 1
    if os.geteuid() != 0:
        assert "sudo netscanctl token" in ctl.fails(4, "token", "add", "read")
        assert not path.exists()
    daemon.status.access.token_file = ""
    assert "as a credential; edit the file of LoadCredential=" in ctl.fails(1, "token", "list")
    message = ctl.fails(2, "token", "list", NETSCANCTL_URL="http://127.0.0.1:9", NETSCANCTL_SOCKET="")
    assert "run netscanctl token there" in message


def test_another_netscand_that_does_not_run_is_not_the_service(ctl: Ctl, tmp_path: Path) -> None:
    """With a socket of `./dev run`, the file of the service is none of ours."""
    assert "not running" in ctl.fails(3, "token", "list", NETSCANCTL_SOCKET=str(tmp_path / "none"))


def test_a_service_that_does_not_run_is_found_by_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "netscand.toml"
    monkeypatch.setattr(token_file, "SERVICE_USER", "root")
    monkeypatch.setattr(token_file, "CONFIG", config)
    assert token_file.token_file_of_config() == (tmp_path / "tokens", 0, 0)
    config.write_text('[access]\ntoken_file = "/somewhere"\n')
    assert token_file.token_file_of_config().path == Path("/somewhere")
    config.write_text("[access\n")
    with pytest.raises(Failure, match="--check-config"):
        token_file.token_file_of_config()
    config.unlink()
    monkeypatch.setattr(token_file, "SERVICE_USER", "no-such-user")
    with pytest.raises(NoDaemon):
        token_file.token_file_of_config()


def test_a_checkout_that_does_not_run_gets_its_first_token(ctl: Ctl, tmp_path: Path) -> None:
    """`./dev run` refuses [listen] tcp = "0.0.0.0:8000" without a token, so the token comes first."""
    config, socket = tmp_path / "netscand.toml", str(tmp_path / "none.sock")
    env = {"NETSCANCTL_SOCKET": socket, "NETSCANCTL_CONFIG": str(config)}
    assert "not running" in ctl.fails(3, "token", "add", "admin", **env), "there is no configuration"
    assert f"there is no {config}" in ctl.fails(3, "token", "list", "--config", str(config), NETSCANCTL_SOCKET="")
    config.write_text(f'[listen]\nunix = "{socket}"\ntcp = ["0.0.0.0:8000"]\n')
    done = ctl.run("token", "add", "admin", **env)
    assert done.returncode == 0, done.stderr
    assert "netscand is not running; the token is in force when it starts" in done.stderr
    assert len(read_tokens(str(tmp_path / "tokens"), {})) == 1
    assert "admin-1" in ctl.run("token", "list", "--config", str(config), NETSCANCTL_SOCKET="").stdout
    other = env | {"NETSCANCTL_SOCKET": str(tmp_path / "other.sock")}
    assert "not running" in ctl.fails(3, "token", "list", **other)
    assert ctl.run("token", "revoke", "admin-1", **env).returncode == 0
    assert len(read_tokens(str(tmp_path / "tokens"), {})) == 0


# ---- the file --------------------------------------------------------------------------------------------------------


def test_root_makes_a_file_that_netscand_reads(root: None, tmp_path: Path) -> None:
    """T2: of root, for the group of netscand; in a folder of netscand itself, for it alone."""
    service = TokenFile(tmp_path / "tokens", 12_345, 23_456)
    add_token(service, "read", None)
    state = service.path.stat()
    assert (state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode)) == (0, 23_456, 0o640)
    (own := tmp_path / "own").mkdir()
    os.chown(own, 12_345, 23_456)
    add_token(service._replace(path=own / "tokens"), "read", None)
    state = (own / "tokens").stat()
    assert (state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode)) == (12_345, 23_456, 0o600)
    os.chown(own, 999, 999)
    with pytest.raises(Failure, match="belongs to user 999, who could add a token"):
        add_token(service._replace(path=own / "tokens"), "read", None)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """In a folder of another user, root would read and replace what the link leads to."""
    (tmp_path / "victim").write_text("secret\n")
    (tmp_path / "tokens").symlink_to(tmp_path / "victim")
    with pytest.raises(Failure, match="is a link"):
        add_token(TokenFile(tmp_path / "tokens", os.geteuid(), os.getegid()), "read", None)
    assert (tmp_path / "victim").read_text() == "secret\n"


def test_another_user_is_refused_before_anything_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54_321)
    with pytest.raises(NotPermitted, match="sudo netscanctl token"):
        add_token(TokenFile(tmp_path / "tokens", 12_345, 12_345), "read", None)
    assert not list(tmp_path.iterdir())


def test_two_at_a_time_lose_no_token(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens", os.geteuid(), os.getegid())
    threads = [threading.Thread(target=add_token, args=(file, "read", None)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({entry.name for entry in entries(read_lines(file.path))}) == 12
    assert revoke_token(file, "read-7")[1] == 11
