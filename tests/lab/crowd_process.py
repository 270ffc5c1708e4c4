"""The crowd: one process that answers ARP for thousands of devices, and has them come and go at a command.

Run in its own namespace by `tests.lab.crowd.Crowd`. A command is a JSON object on one line of stdin, its answer one
line on stdout: `{"ok": true, "at": …}` (unix seconds at which its frames had gone out) or `{"ok": false, "error": …}`.
WHO is an address or a MAC of the crowd. The commands:

    populate  ips [macs]            devices that are there without a word
    join      ip [mac] [say] [via]  one comes: `say` announcement (a gratuitous request; default), reply (a gratuitous
                                    reply), probe (RFC 5227), none. An address somebody holds already: both answer
    leave     who                   gone without a word
    sleep     who                   neither hears nor speaks
    wake      who [say]             back again
    move      who ip [say]          takes another address
    speak     who [to]              asks for `to`, as any host does now and then; without `to`: announces itself
    set       [who] [loss] [delay] [deaf] [via]
                                    loss: the probability that a request gets no reply, so 0.05 stands for all that is
                                    lost on both ways; delay: seconds, or [least, most] drawn evenly; deaf: to
                                    "unicast", "broadcast" or "" (hears both); via: the Ethernet source, where it is not
                                    the sender's own (an access point that answers for its stations). Without who:
                                    loss and delay of everyone who has none of his own
    send      frames                these bytes (hex), as they are
    flood     rate seconds macs     made-up devices: gratuitous requests from `macs` MACs at `rate` a second; answered
                                    at once, `counts` shows how far it is
    counts                          asked, answered, lost, flooded, dropped (by the ring)

With the same seed, the same commands and the same order of requests, the same requests are lost.
"""

import heapq
import json
import os
import random
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

from tests.lab.crowd_device import ANY, BROADCAST, PADDING, Delay, Device
from tests.lab.macs import mac_of, pack_mac
from tests.lab.ring import ARP_REQUESTS, BATCH, Ring, Sender


class Crowd:
    """Who is there, and what each would answer."""

    def __init__(self, interface: str, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.ring = Ring(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0), interface, program=ARP_REQUESTS)
        self.out = Sender(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0), interface)
        self.loss = 0.0
        self.delay: Delay | None = None
        self.devices: dict[bytes, Device] = {}
        self.holders: dict[bytes, list[Device]] = {}
        self.plain: dict[bytes, bytes] = {}
        """IP → the middle of the reply, for those without a whim: the fast path."""
        self.later: list[tuple[float, int, bytes]] = []
        self.asked = self.answered = self.lost = self.flooded = self.dropped = self.delayed = 0
        self.flood: tuple[float, float, int, float] | None = None
        """Begun at, frames a second, MACs, ends at."""

    # ---- answering ----------------------------------------------------------------------------------------------

    def hear(self) -> bool:
        """Answer what waits in the ring, up to a batch; whether there was anything."""
        ring, memory, words, halves = self.ring, self.ring.memory, self.ring.words, self.ring.halves
        size, slots = ring.size, ring.slots
        at, plain, holders, loss, draw = ring.at, self.plain, self.holders, self.loss, self.random.random
        replies: list[bytes] = []
        heard = lost = 0
        while heard < BATCH and words[at * size >> 2] & 1:
            start = at * size
            mac = start + halves[start + 12 >> 1]  # tp_mac
            target = memory[mac + 38 : mac + 42]
            middle = plain.get(target)
            if middle is not None:
                to = memory[mac : mac + 6]
                if to == BROADCAST or middle.startswith(to):
                    if loss and draw() < loss:
                        lost += 1
                    else:
                        asker = memory[mac + 22 : mac + 32]
                        replies.append(asker[:6] + middle + asker + PADDING)
            elif target in holders:
                lost += self._answer_each(target, memory[mac : mac + 6], memory[mac + 22 : mac + 32], replies)
            words[start >> 2] = 0
            at = at + 1 if at + 1 < slots else 0
            heard += 1
        ring.at = at
        self.asked += heard
        self.lost += lost
        if replies:
            self.answered += len(replies)
            if self.delay:
                for reply in replies:
                    self._later(self.delay, reply)
            else:
                self.out.send(replies)
        return heard > 0

    def _answer_each(self, ip: bytes, to: bytes, asker: bytes, replies: list[bytes]) -> int:
        """The slow path: several holders, or one with a whim. Gives how many replies were lost."""
        lost = 0
        for device in self.holders[ip]:
            way = "broadcast" if to == BROADCAST else "unicast"
            if device.asleep or device.deaf == way or (way == "unicast" and to not in (device.mac, device.via)):
                continue
            if self.random.random() < (self.loss if device.loss is None else device.loss):
                lost += 1
                continue
            reply = asker[:6] + device.reply(ip) + asker + PADDING
            if device.delay:
                self.answered += 1
                self._later(device.delay, reply)
            else:
                replies.append(reply)
        return lost

    def _later(self, delay: Delay, frame: bytes) -> None:
        self.delayed += 1
        heapq.heappush(self.later, (time.monotonic() + self.random.uniform(*delay), self.delayed, frame))

    def due(self) -> float | None:
        """Send what is due; seconds until the next is, None if nothing waits."""
        now = time.monotonic()
        ready: list[bytes] = []
        while self.later and self.later[0][0] <= now:
            ready.append(heapq.heappop(self.later)[2])
        if self.flood:
            ready += self._flood(now)
        if ready:
            self.out.send(ready)
        if self.flood:
            return 0.001
        return max(0.0, self.later[0][0] - now) if self.later else None

    def _flood(self, now: float) -> list[bytes]:
        assert self.flood is not None
        begun, rate, macs, ends = self.flood
        goal = round((min(now, ends) - begun) * rate)
        first, last = self.flooded, min(goal, self.flooded + 4 * BATCH)
        self.flooded = last
        if now >= ends and last == goal:
            self.flood = None
        frames = []
        for number in range(first, last):
            mac = b"\x06\xfd" + (number % macs).to_bytes(4)
            ip = b"\x0a" + (number % macs % 0xFFFFFF).to_bytes(3)
            frames.append(Device(mac).request(ip, ip))
        return frames

    # ---- commands -----------------------------------------------------------------------------------------------

    def populate(self, ips: list[str], macs: list[str] | None = None) -> dict[str, object]:
        for number, ip in enumerate(ips):
            self._enter(ip, macs[number] if macs else None)
        return {"macs": [self.holders[IPv4Address(ip).packed][-1].mac.hex(":") for ip in ips]}

    def join(
        self, ip: str, mac: str | None = None, say: str = "announcement", via: str | None = None
    ) -> dict[str, object]:
        device = self._enter(ip, mac)
        device.via = pack_mac(via) if via else None
        self._index(device)
        self._say(device, IPv4Address(ip).packed, say)
        return {"mac": device.mac.hex(":")}

    def leave(self, who: str) -> None:
        device = self._who(who)
        del self.devices[device.mac]
        for ip in device.ips:
            self._drop(device, ip)

    def sleep(self, who: str) -> None:
        device = self._who(who)
        device.asleep = True
        self._index(device)

    def wake(self, who: str, say: str = "announcement") -> None:
        device = self._who(who)
        device.asleep = False
        self._index(device)
        self._say(device, device.ips[-1], say)

    def move(self, who: str, ip: str, say: str = "announcement") -> None:
        device = self._who(who)
        for old in device.ips:
            self._drop(device, old)
        device.ips.clear()
        self._enter(ip, device.mac.hex(":"))
        self._say(device, device.ips[-1], say)

    def speak(self, who: str, to: str | None = None) -> None:
        device = self._who(who)
        own = device.ips[-1]
        self.out.send([device.request(own, IPv4Address(to).packed if to else own)])

    def set(self, who: str | None = None, **changes: Any) -> None:  # noqa: ANN401 - JSON
        if unknown := changes.keys() - {"loss", "delay", "deaf", "via"}:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        if "delay" in changes:
            delay = changes["delay"]
            changes["delay"] = (delay, delay) if isinstance(delay, int | float) else tuple(delay) if delay else None
        if who is None:
            self.loss = changes.get("loss", self.loss)
            self.delay = changes.get("delay", self.delay)
            return
        device = self._who(who)
        if changes.get("via"):
            changes["via"] = pack_mac(changes["via"])
        for name, value in changes.items():
            setattr(device, name, value)
        self._index(device)

    def send(self, frames: list[str]) -> None:
        for frame in frames:
            self.out.socket.send(bytes.fromhex(frame))

    def start_flood(self, rate: float, seconds: float, macs: int) -> None:
        now = time.monotonic()
        self.flooded = 0
        self.flood = (now, rate, macs, now + seconds)

    def counts(self) -> dict[str, object]:
        self.dropped += self.ring.dropped()
        return {
            "asked": self.asked, "answered": self.answered, "lost": self.lost, "flooded": self.flooded,
            "dropped": self.dropped, "devices": len(self.devices),
        }  # fmt: skip

    def _who(self, who: str) -> Device:
        if ":" in who:
            device = self.devices.get(pack_mac(who))
        else:
            device = next(iter(self.holders.get(IPv4Address(who).packed, ())), None)
        if device is None:
            raise ValueError(f"no device is {who}")
        return device

    def _enter(self, ip: str, mac: str | None) -> Device:
        address = IPv4Address(ip)
        key = pack_mac(mac) if mac else mac_of(address, self.seed)
        device = self.devices.setdefault(key, Device(key))
        if address.packed not in device.ips:
            device.ips.append(address.packed)
            self.holders.setdefault(address.packed, []).append(device)
        self._index(device)
        return device

    def _drop(self, device: Device, ip: bytes) -> None:
        self.plain.pop(ip, None)
        left = [holder for holder in self.holders.pop(ip) if holder is not device]
        if left:
            self.holders[ip] = left
            self._index(left[0])

    def _index(self, device: Device) -> None:
        for ip in device.ips:
            if len(self.holders[ip]) == 1 and device.plain:
                self.plain[ip] = device.reply(ip)
            else:
                self.plain.pop(ip, None)

    def _say(self, device: Device, ip: bytes, what: str) -> None:
        match what:
            case "announcement":
                self.out.send([device.request(ip, ip)])
            case "reply":
                self.out.send([BROADCAST + device.reply(ip) + BROADCAST + ip + PADDING])
            case "probe":
                self.out.send([device.request(ANY, ip)])
            case "none":
                pass
            case _:
                raise ValueError(f"say {what}: expected announcement, reply, probe or none")


def obey(crowd: Crowd, line: bytes) -> dict[str, object]:
    """Do the command on this line; the answer."""
    verbs: dict[str, Callable[..., dict[str, object] | None]] = {
        "populate": crowd.populate, "join": crowd.join, "leave": crowd.leave, "sleep": crowd.sleep, "wake": crowd.wake,
        "move": crowd.move, "speak": crowd.speak, "set": crowd.set, "send": crowd.send, "flood": crowd.start_flood,
        "counts": crowd.counts,
    }  # fmt: skip
    try:
        wish = json.loads(line)
        answer = verbs[wish.pop("do")](**wish)
    except Exception as wrong:  # reported to the test, whatever it is
        return {"ok": False, "error": f"{type(wrong).__name__}: {wrong}"}
    return {"ok": True, "at": time.time()} | (answer or {})


def main() -> None:
    """INTERFACE SEED; ends when stdin does, and so after Ctrl-C in the order in which the lab ends things."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    crowd = Crowd(sys.argv[1], int(sys.argv[2]))
    unread = b""
    os.write(1, b'{"ok": true}\n')
    busy = False
    while True:
        wait = crowd.due()
        ready, _, _ = select.select((0, crowd.ring.socket.fileno()), (), (), 0 if busy else wait)
        if 0 in ready:
            piece = os.read(0, 1 << 20)
            if not piece:
                return
            *lines, unread = (unread + piece).split(b"\n")
            for line in lines:
                os.write(1, json.dumps(obey(crowd, line)).encode() + b"\n")
        busy = crowd.hear()


if __name__ == "__main__":
    main()
