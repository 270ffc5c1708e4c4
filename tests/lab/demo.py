"""`./dev demo`: the product on a made-up LAN, for somebody who owns none. Touches no real interface."""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.lab.crowd import Crowd
from tests.lab.forward import Forwarder, listener
from tests.lab.lan import Host, Lab
from tests.lab.spaces import CommandFailed, sweep

CONFIG = """
[scan]
interval = 10
[presence]
patience = [10, 10]
[access]
loopback_admin = true
"""
"""Impatient: a demo is not watched for an hour. Its page, which root forwards, may name the made-up devices."""

LASTS = 75.0
"""Seconds of the story."""
LONGEST = 86_400
"""Seconds that anybody may watch."""

AT_HOME = {
    "10.77.0.10": "b8:27:eb:3a:10:0a",  # a Raspberry Pi
    "10.77.0.11": "00:11:32:5c:21:0b",  # a Synology box
    "10.77.0.20": "00:17:88:4f:02:14",  # Hue lamps
    "10.77.0.21": "24:0a:c4:81:33:15",  # an ESP32 somewhere
    "10.77.0.22": "24:0a:c4:81:9e:16",
    "10.77.0.30": "3c:d9:2b:77:12:1e",  # the HP printer
    "10.77.0.40": "5c:aa:fd:0d:c1:28",  # a loudspeaker
    "10.77.0.101": "a4:83:e7:12:34:56",  # a laptop
    "10.77.0.102": "9e:41:7c:05:b2:66",  # a telephone with a randomised MAC
    "10.77.0.103": "a4:83:e7:5e:09:67",
}
BY_MDNS = {
    "10.77.0.10": "raspberrypi",
    "10.77.0.11": "DiskStation",
    "10.77.0.30": "HP77121E",
}
BY_DHCP = {
    "10.77.0.40": "SonosZP",
    "10.77.0.101": "Janes-MacBook-Pro",
    "10.77.0.102": "janes-phone",
}
"""Address → the name that its device sends."""
NO_NAMESPACES = (
    "dev: the demo needs network namespaces, and this system permits none: it needs CAP_NET_ADMIN and CAP_SYS_ADMIN "
    "(in a container: run it with --privileged)"
)
NETSCANCTL = ".venv/bin/netscanctl"
PORT = 8000
"""Port of the page, unless it is taken."""
VISITOR, VISITORS_MAC = "10.77.0.110", "7a:0c:52:e1:88:6e"


@dataclass(frozen=True)
class Step:
    """One turn of the story."""

    at: float
    """Seconds after its start."""
    says: str


def story(crowd: Crowd, computer: Host) -> Iterator[Step]:
    """What happens, one step at a time: each happens when the next is asked for."""
    yield Step(4, "the phone of a visitor joins, and announces its address")
    crowd.join(VISITOR, VISITORS_MAC)
    yield Step(9, "Jane's laptop sleeps, without a message: netscand probes it before it reports it offline")
    crowd.sleep("10.77.0.101")
    yield Step(14, "the phone of the visitor gets another address")
    crowd.move(VISITORS_MAC, "10.77.0.111")
    yield Step(19, "the cable of the computer 10.77.0.5 is unplugged")
    computer.unplug()
    yield Step(33, "Jane's laptop wakes up")
    crowd.wake("10.77.0.101")
    yield Step(38, "the cable is plugged in again; the computer announces nothing, so the next scan finds it")
    computer.replug()
    yield Step(46, "another device uses the address of the printer, 10.77.0.30: a conflict")
    crowd.join("10.77.0.30", "02:42:0a:4d:00:1e")
    crowd.speak("10.77.0.30")
    yield Step(52, "that device and the phone of the visitor leave")
    crowd.leave("02:42:0a:4d:00:1e")
    crowd.leave(VISITORS_MAC)


def introduce(
    crowd: Crowd,
    macs: Mapping[str, str] = AT_HOME,
    by_mdns: Mapping[str, str] = BY_MDNS,
    by_dhcp: Mapping[str, str] = BY_DHCP,
) -> None:
    """Let devices send their names, which are by address, as the MACs are."""
    from tests.core import built_frames  # scapy: half a second

    crowd.send(
        *(built_frames.mdns((f"{name}.local.", "A", ip), source=ip, mac=macs[ip]) for ip, name in by_mdns.items()),
        *(
            built_frames.dhcp("request", ("hostname", name.encode()), mac=macs[ip], ciaddr=ip)
            for ip, name in by_dhcp.items()
        ),
    )


@contextmanager
def a_lab(network: str = "10.77.0.0/24") -> Iterator[Lab]:
    """Build a LAN; where that is not permitted, end with a sentence."""
    with ExitStack() as undo:
        try:
            lab = undo.enter_context(Lab(network))
        except (CommandFailed, OSError) as why:
            if "not permitted" not in str(why) and "denied" not in str(why):
                raise
            sys.exit(NO_NAMESPACES)
        yield lab


def demo(seconds: float) -> None:
    """Build, watch, play the story for `seconds` or until Ctrl-C, tidy up."""
    sweep()
    with a_lab() as lab, listener(PORT) as listening:
        port = listening.getsockname()[1]
        lab.gateway()
        computer = lab.host("10.77.0.5", mac="3c:52:82:6a:70:05")
        crowd = lab.crowd()
        crowd.conditions(loss=0.02, delay=(0.0005, 0.004))
        crowd.populate(AT_HOME, AT_HOME.values())
        devices = f"{len(AT_HOME) + 2} devices, {lab.network}"
        say(f"simulating a LAN of {devices}, in network namespaces (no real interface is used); starting netscand")
        daemon = lab.daemon(f'{CONFIG}\n[listen]\ntcp = ["127.0.0.1:{port}"]\n')
        introduce(crowd)
        with Forwarder(lab.watcher.space, listening):
            say(f"page: http://127.0.0.1:{port}/   (while the demo runs, and on this machine only)")
            say(f"in another terminal: {NETSCANCTL} --socket {daemon.socket} devices")
            say("below: netscanctl watch, which lists the devices, then each change  (Ctrl-C ends the demo)")
            watch = lab.watcher.popen(daemon.ctl_argv("watch"))
            tell(crowd, computer, watch, time.monotonic(), seconds)
        if watch.poll() is None:
            watch.send_signal(signal.SIGINT)
            watch.wait(30)
    say("the simulated LAN is removed; to run netscand on your own LAN: sudo ./dev run")


def tell(crowd: Crowd, computer: Host, watch: "subprocess.Popen[bytes]", start: float, seconds: float) -> None:
    """Go through the story while `watch` runs."""
    for step in story(crowd, computer):
        if not wait(watch, start + min(step.at, seconds)) or step.at >= seconds:
            return
        say(step.says)
    wait(watch, start + seconds)


def wait(watch: "subprocess.Popen[bytes]", until: float) -> bool:
    """Wait; False once `watch` has ended."""
    try:
        watch.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        return True
    return False


def say(text: str) -> None:
    """A line of the narrator's, apart from what netscanctl prints."""
    print(f"\033[2m— {text}\033[0m" if sys.stderr.isatty() else f"— {text}", file=sys.stderr, flush=True)


def above_nothing(text: str) -> float:
    """A number of seconds. Raises ArgumentTypeError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text}: expected a number above 0, at most {LONGEST}")
    return seconds


def main() -> int:
    """Read the arguments; the exit code."""
    # sh lets what it starts with & ignore Ctrl-C, and so would watch, which is ended by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="./dev demo", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seconds", type=above_nothing, default=LASTS, help=f"how long (default {LASTS:g})")
    try:
        demo(parser.parse_args().seconds)
    except KeyboardInterrupt:
        say("the simulated LAN is removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
