"""Shell completion of devices and networks, without names that are unsafe for a shell."""

import pytest

from tests.ctl.conftest import Ctl
from tests.ctl.fake import FakeDaemon
from tests.ctl.test_text import HOSTILE
from tests.ctl.words import HOME, device, network


def completed(ctl: Ctl, line: str, **env: str) -> list[str]:
    """Return the completions of bash for the last word of the line."""
    variables = {"_NETSCANCTL_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = ctl.run(**(variables | env))
    assert (done.returncode, done.stderr) == (0, "")
    return [offer.removeprefix("plain,") for offer in done.stdout.splitlines() if offer]


@pytest.mark.parametrize("command", ["show", "wait-for", "label", "known", "patience", "forget", "events --device"])
def test_devices_are_completed(ctl: Ctl, command: str) -> None:
    assert completed(ctl, f"netscanctl {command} ho") == ["host20", "host7", "host8"]
    assert completed(ctl, f"netscanctl {command} 192.168.1.2") == ["192.168.1.20"]


@pytest.mark.parametrize("line", ["devices --network 1", "watch --network 1", "scan-now 1"])
def test_networks_are_completed(ctl: Ctl, daemon: FakeDaemon, line: str) -> None:
    daemon.networks.append(network("172.17.0.0/16@docker0", "excluded"))
    assert completed(ctl, f"netscanctl {line}") == [HOME]


def test_names_unsafe_for_a_shell_are_not_completed(ctl: Ctl, daemon: FakeDaemon) -> None:
    """A completed name is executed as if the user had typed it."""
    shell = [
        "$(reboot)",
        "`reboot`",
        "a;reboot",
        "-rf",
        "--yes",
        "a'b",
        'a"b',
        "~",
        "*",
        "a\\b",
        "!x",
        "a|b",
        "#",
        "$x",
        "a&b",
        "<a",
        "{a,b}",
    ]
    evil = [*shell, *(text for text in HOSTILE.values() if text.isprintable() and not text.isascii())]
    daemon.devices = [device(number, hostname=text, label=text, ip=None) for number, text in enumerate(evil, 1)]
    daemon.devices.append(device(99, hostname="a.b_c-9", label="two words", ip="fe80::1"))
    assert completed(ctl, "netscanctl show ") == ["a.b_c-9"]


def test_completion_without_a_daemon_is_silent(ctl: Ctl) -> None:
    assert completed(ctl, "netscanctl show h", NETSCANCTL_SOCKET="/none") == []
    assert completed(ctl, "netscanctl --socket /none show h") == []
