"""Name queries by mDNS and NBNS: only the queried station can answer."""

import asyncio
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netscand.core.model import Ip, Mac, Network
from netscand.lan import decode, dns, mdns, name_lookup, nbns
from netscand.lan.dns import reverse
from netscand.lan.mdns import GROUPS
from netscand.lan.name_lookup import Effort, Queries, Resolver, Unanswered, datagram, group_mac
from tests.core.built_frames import DNS, IP, UDP, Ether, IPv6
from tests.core.world import ip, mac, network

OWN6 = Ip(ip_address("fe80::2").packed)
NET = replace(network(), own6=OWN6)
QUERIED, OTHER = mac(9), mac(66)
WHERE = ip("10.0.0.9")
WHERE6 = Ip(ip_address("fe80::9").packed)
VICTIMS_IP = "the asked one's address, and another station's MAC: any host can send that"


class Cable:
    """Questions that leave, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[bytes] = []
        self.now = 100.0
        monkeypatch.setattr(name_lookup, "monotonic", lambda: self.now)
        self.questions = Queries(lambda network, frame: self.sent.append(frame))

    @property
    def port(self) -> int:
        """The port that the last question came from."""
        start = 54 if self.six else 34
        return int.from_bytes(self.sent[-1][start : start + 2])

    @property
    def six(self) -> bool:
        return self.sent[-1][12:14] == b"\x86\xdd"

    @property
    def content(self) -> bytes:
        return self.sent[-1][62 if self.six else 42 :]

    def hear(
        self,
        content: bytes,
        *,
        sender: Mac = QUERIED,
        at: Ip = WHERE,
        from_port: int = 5353,
        port: int | None = None,
        interface: int = 2,
    ) -> tuple[Mac, str, str] | None:
        """Return the name in an answer of the queried device, with the fields given here."""
        own = NET.own if len(at) == 4 else OWN6
        frame = datagram(sender, NET.mac, at, own, (from_port, port or self.port), content)
        answer = decode.answer(frame, self.now, interface)
        assert answer is not None
        assert not decode.decode(frame, self.now, interface)
        found = self.questions.name_in(answer)
        assert found is None or found[3] == NET.id
        return found and found[:3]


@pytest.fixture
def cable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cable]:
    made = Cable(monkeypatch)
    yield made
    made.questions.close()


def encoded(*labels: bytes) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def pointing(to: str, at: Ip = WHERE, number: int = 0) -> bytes:
    name = encoded(*to.encode().split(b"."))
    record = encoded(*reverse(at)) + struct.pack("!HHIH", dns.PTR, 1, 10, len(name)) + name
    return struct.pack("!HHHHHH", number, 0x8400, 0, 1, 0, 0) + record


def node(name: bytes, number: int) -> bytes:
    content = b"\1" + name.ljust(15) + b"\0\4\0"
    record = encoded(*nbns.NODE_STATUS) + struct.pack("!HHIH", dns.NBSTAT, 1, 0, len(content)) + content
    return struct.pack("!HHHHHH", number, 0x8400, 0, 1, 0, 0) + record


# ---- what leaves ----------------------------------------------------------------------------------------------------


def test_one_mdns_frame_queries_several_devices(cable: Cable) -> None:
    """It is sent to the multicast group."""
    cable.questions.by_mdns(NET, [(QUERIED, WHERE), (OTHER, ip("10.0.0.66"))])
    (frame,) = cable.sent
    seen = Ether(frame)
    assert (seen.dst, seen[IP].dst, seen[IP].ttl, seen[UDP].dport) == ("01:00:5e:00:00:fb", "224.0.0.251", 255, 5353)
    assert [question.qname for question in seen[DNS].qd] == [b"9.0.0.10.in-addr.arpa.", b"66.0.0.10.in-addr.arpa."]
    message = dns.read(cable.content)
    assert message is not None
    assert {(question.kind, question.klass) for question in message.questions} == {(dns.PTR, 0x8001)}  # answer us alone


def test_an_nbns_query_goes_to_one_device(cable: Cable) -> None:
    """It is a unicast frame."""
    cable.questions.by_nbns(NET, QUERIED, WHERE)
    (frame,) = cable.sent
    assert (frame[:6], frame[30:34], frame[36:38]) == (QUERIED, WHERE, b"\0\x89")


def test_ipv6_queries_need_an_ipv6_address_of_ours(cable: Cable) -> None:
    """Without one, none is sent."""
    cable.questions.by_mdns(network(), [(QUERIED, WHERE6)])
    assert not cable.sent
    cable.questions.by_mdns(NET, [(QUERIED, WHERE6)])
    seen = Ether(cable.sent[0])
    assert (seen.dst, seen[IPv6].src, seen[IPv6].dst, seen[IPv6].hlim) == (
        "33:33:00:00:00:fb", "fe80::2", "ff02::fb", 255,
    )  # fmt: skip


def test_one_frame_leaves_room_for_an_answer() -> None:
    """Avahi answers a port of ours in 512 bytes, the questions included."""
    for length, most in mdns.QUERIES_PER_FRAME.items():
        assert len(mdns.query([Ip(b"\xff" * length)] * most)) < 330


ADDRESSES = st.tuples(st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4)) | st.tuples(
    st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16)
)


@given(ADDRESSES, st.integers(1, 65535), st.binary(max_size=40))
def test_a_datagram_is_what_scapy_would_build(addresses: tuple[bytes, bytes], port: int, content: bytes) -> None:
    own, to = map(ip_address, addresses)
    over = (
        IP(src=str(own), dst=str(to), ttl=255, id=0, flags="DF")
        if len(addresses[0]) == 4
        else IPv6(src=str(own), dst=str(to), hlim=255)
    )
    head = Ether(src=QUERIED.hex(":"), dst=OTHER.hex(":"))
    built = bytes(head / over / UDP(sport=port, dport=5353) / content)
    assert datagram(QUERIED, OTHER, Ip(addresses[0]), Ip(addresses[1]), (port, 5353), content) == built


def test_groups_have_macs_of_their_own() -> None:
    assert group_mac(GROUPS[4]).hex(":") == "01:00:5e:00:00:fb"
    assert group_mac(ip("239.255.255.250")).hex(":") == "01:00:5e:7f:ff:fa"
    assert group_mac(GROUPS[16]).hex(":") == "33:33:00:00:00:fb"


# ---- whose answer counts --------------------------------------------------------------------------------------------


def test_the_queried_station_names_itself(cable: Cable) -> None:
    """Its answer is accepted."""
    cable.questions.by_mdns(NET, [(QUERIED, WHERE)])
    assert cable.hear(pointing("printer.local")) == (QUERIED, "printer", "mdns")
    assert cable.hear(pointing("printer2.local")) is None, "it has answered"
    cable.questions.by_mdns(NET, [(QUERIED, WHERE6)])
    assert cable.hear(pointing("printer.local", WHERE6), at=WHERE6) == (QUERIED, "printer", "mdns")
    cable.questions.by_nbns(NET, QUERIED, WHERE)
    number = int.from_bytes(cable.content[:2])
    assert cable.hear(node(b"EVIL", number ^ 1), from_port=137) is None
    assert cable.hear(node(b"JANES-PC", number), from_port=137) == (QUERIED, "JANES-PC", "nbns")


def test_another_station_cannot_answer_a_query(cable: Cable) -> None:
    """M2: by the IP address alone, every host of the LAN could name any other."""
    cable.questions.by_mdns(NET, [(QUERIED, WHERE), (OTHER, ip("10.0.0.66"))])
    assert cable.hear(pointing("hacked-name.local"), sender=OTHER) is None, VICTIMS_IP
    assert cable.hear(pointing("printer.local")) == (QUERIED, "printer", "mdns")
    cable.questions.by_nbns(NET, QUERIED, WHERE)
    number = int.from_bytes(cable.content[:2])
    assert cable.hear(node(b"HACKED", number), sender=OTHER, from_port=137) is None, VICTIMS_IP


@pytest.mark.parametrize(
    "how",
    [{"at": ip("10.0.0.10")}, {"from_port": 137}, {"port": 4000}, {"interface": 3}],
    ids=["another address", "another port of its", "another port of ours", "another interface"],
)
def test_an_answer_to_something_else_is_none(cable: Cable, how: dict[str, int]) -> None:
    cable.questions.by_mdns(NET, [(QUERIED, WHERE)])
    assert cable.hear(pointing("printer.local"), **how) is None  # type: ignore[arg-type]
    assert cable.hear(pointing("printer.local")) is not None


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0" * 11, pointing("printer.local")[:-1], pointing("printer.example.org"), pointing("_role.local"),
        pointing("printer.local", ip("10.0.0.10")), b"\0\0\0\0" + pointing("printer.local")[4:],
    ],
    ids=["nothing", "short", "cut", "not under local", "a role", "another's name", "a question"],
)  # fmt: skip
def test_an_answer_without_a_name_is_ignored(cable: Cable, content: bytes) -> None:
    """Errors, other names and malformed answers set no name."""
    cable.questions.by_mdns(NET, [(QUERIED, WHERE)])
    assert cable.hear(content) is None


def test_a_question_costs_a_bounded_amount_of_work(cable: Cable) -> None:
    """H1: whatever the one sends that was asked."""
    cable.questions.by_mdns(NET, [(QUERIED, WHERE)])
    for _ in range(name_lookup.ANSWERS_A_DEVICE):
        assert cable.hear(pointing("_role.local")) is None
    assert cable.hear(pointing("printer.local")) is None
    assert not cable.questions._open


def test_a_late_answer_is_ignored_and_queries_expire(cable: Cable) -> None:
    """No query is kept after its time."""
    cable.questions.by_mdns(NET, [(QUERIED, WHERE)])
    cable.now += name_lookup.ANSWERED_WITHIN + 0.1
    assert cable.hear(pointing("printer.local")) is None
    cable.questions.by_mdns(NET, [(OTHER, ip("10.0.0.66"))])
    assert len(cable.questions._open) == 1


def test_without_a_question_an_answer_is_none(cable: Cable) -> None:
    assert cable.hear(pointing("printer.local"), port=4000) is None


def test_our_port_takes_nothing_in_and_refuses_nothing(cable: Cable) -> None:
    """A refusal would be an ICMP message to each device that answers."""
    cable.questions.by_mdns(NET, [(QUERIED, WHERE)])
    held = cable.questions._port_socket
    assert held is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.connect(("127.0.0.1", cable.port))
        for _ in range(3):
            other.send(pointing("printer.local"))
    with pytest.raises(BlockingIOError):
        held.recv(100, socket.MSG_DONTWAIT)


def test_what_cannot_be_sent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(network: Network, frame: bytes) -> None:
        raise OSError("no such device")

    questions = Queries(refuse)
    with pytest.raises(OSError, match="no such device"):
        questions.by_mdns(NET, [(QUERIED, WHERE)])
    assert not questions._open
    questions.close()


@given(st.binary(max_size=200), st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x08\x06"]))
def test_any_bytes_are_an_answer_or_none(content: bytes, kind: bytes) -> None:
    decode.answer(OTHER + QUERIED + kind + content, 1.0, 2)
    decode.answer(content, 1.0, 2)


@pytest.mark.parametrize(
    ("error", "why"),
    [(OSError(101, "Network is unreachable"), "192.0.2.1: Network is unreachable"),
     (TimeoutError(), "192.0.2.1: no answer")],
    ids=str,
)  # fmt: skip
def test_a_name_server_that_fails_is_named_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, why: str
) -> None:
    """The log has no `[Errno 101]`."""

    async def fail(*_args: object) -> bytes:
        raise error

    monkeypatch.setattr(name_lookup, "_query_server", fail)
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    with pytest.raises(Unanswered) as failed:
        asyncio.run(Resolver(tmp_path / "resolv.conf").name_of(WHERE, Effort(0.1, 1)))
    assert str(failed.value) == why
