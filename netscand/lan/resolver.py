"""Reverse DNS: which name does the resolver of this host know for an address? By UDP on the loop, no thread waits.

Sources: RFC 1035, RFC 3596 (ip6.arpa), resolv.conf(5).
"""

import asyncio
import secrets
import socket
from pathlib import Path
from typing import NamedTuple

from netscand.core.model import Ip
from netscand.lan import turns
from netscand.lan.clean import clean_name
from netscand.lan.heard import dns

RESOLV_CONF = Path("/etc/resolv.conf")
MOST_SERVERS = 3
"""As many as the C library reads."""

PORT = 53
MOST_ANSWERS = 16
"""Datagrams taken for one question. Who sends another server's address and guesses the number of the question has that
many tries, of 65,536, if it knows the port that is asked from."""

LOOKED_AT = 8
"""Records of an answer that are looked at for the name."""

RECURSION_DESIRED = 0x0100
NO_ERROR, NO_SUCH_NAME = 0, 3


class Effort(NamedTuple):
    """How hard a question is tried."""

    wait: float
    """Seconds that a server has."""
    tries: int
    """Questions to each server."""


class Unanswered(Exception):
    """No resolver answers; the text says why."""


class Resolver:
    """Asks the servers in a resolv.conf, which it reads again whenever it has changed."""

    def __init__(self, path: Path = RESOLV_CONF, port: int = PORT) -> None:
        self._path = path
        self._port = port
        self._stamp: tuple[int, int] | None = None
        self._servers: tuple[str, ...] = ()

    async def name_of(self, ip: Ip, effort: Effort) -> str | None:
        """The name, cleaned; None where nobody knows one. Raises Unanswered where nobody is there to know."""
        asked = reverse(ip)
        question = dns.questions(secrets.randbits(16), [asked], dns.PTR, flags=RECURSION_DESIRED)
        why = f"no server in {self._path}"
        refused = False
        for server in self.servers() * effort.tries:
            try:
                answer = await _ask(server, self._port, question, effort.wait)
            except (OSError, TimeoutError) as wrong:
                why = f"{server}: {str(wrong) or 'no answer'}"
                continue
            if answer is not None:
                return pointed_to(answer, asked)
            refused = True  # or failed: another one may know
        if refused:
            return None
        raise Unanswered(why)

    def servers(self) -> tuple[str, ...]:
        """The addresses of the servers, as the file has them now."""
        try:
            status = self._path.stat()
            stamp = status.st_mtime_ns, status.st_ino
            if stamp != self._stamp:
                lines = self._path.read_text(errors="replace").splitlines()
                words = [line.split() for line in lines]
                found = [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]
                self._servers = tuple(found[:MOST_SERVERS])
                self._stamp = stamp
        except OSError:
            self._servers, self._stamp = (), None
        return self._servers


def reverse(ip: Ip) -> tuple[bytes, ...]:
    """The labels of the name that stands for an address."""
    if len(ip) == 4:
        return (*(str(byte).encode() for byte in reversed(ip)), b"in-addr", b"arpa")
    return (*(digit.encode() for digit in reversed(ip.hex())), b"ip6", b"arpa")


def pointed_to(message: dns.Message, asked: tuple[bytes, ...]) -> str | None:
    """Return the first name that `asked` (in small letters) points to, aliases on the way followed (RFC 2317).

    None where that only repeats an address, or stands for a role. The first records alone are read.
    """
    for record in message.answers[:LOOKED_AT]:
        if record.kind not in (dns.PTR, dns.CNAME) or record.klass & dns.CLASS != 1:
            continue
        owner, labels = (dns.labels(message.raw, place) for place in (record.name_at, record.content_at))
        if not owner or not labels or tuple(map(bytes.lower, owner)) != asked:
            continue
        if record.kind == dns.CNAME:
            asked = tuple(map(bytes.lower, labels))
        elif labels[-1].lower() != b"arpa" and not labels[0].startswith(b"_"):
            return clean_name(".".join(label.decode("utf-8", "replace") for label in labels))
    return None


async def _ask(server: str, port: int, question: bytes, wait: float) -> dns.Message | None:
    """The answer of one server; None where it has none to give. Raises OSError, TimeoutError."""
    family, address = _where(server, port)
    # A socket for each question: an answer has to guess its port as well as the message's number.
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as asking:
        asking.connect(address)
        await asyncio.get_running_loop().sock_sendall(asking, question)
        async with asyncio.timeout(wait):
            for _ in range(MOST_ANSWERS):
                raw = await turns.receive(asking, 4096)
                if raw[:2] != question[:2] or raw[12 : len(question)].lower() != question[12:]:
                    continue
                answer = dns.read(raw)
                if answer is not None and answer.flags & dns.RESPONSE:
                    return answer if answer.flags & dns.RCODE in (NO_ERROR, NO_SUCH_NAME) else None
    return None


def _where(server: str, port: int) -> tuple[int, tuple[str, int] | tuple[str, int, int, int]]:
    """The socket's family and address. Raises OSError for what is no address."""
    if ":" not in server:
        socket.inet_aton(server)
        return socket.AF_INET, (server, port)
    host, _, scope = server.partition("%")
    socket.inet_pton(socket.AF_INET6, host)
    index = 0 if not scope else int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)
    return socket.AF_INET6, (host, port, 0, index)
