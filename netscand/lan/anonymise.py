"""Anonymiser of captured frames: replaces names, and the lower half of MACs, consistently within a capture.

Lengths, IPv4 addresses, service types, vendors and models stay, so that the frames are valid and mean the same. What is
not understood is set to zero, or the whole frame is left out. Pure, but for the random key.
"""

import re
import struct
from collections.abc import Callable, Iterator
from hashlib import blake2b
from ipaddress import IPv4Address
from secrets import token_bytes

from netscand.core.kinds import kind_of_name, model_words
from netscand.core.mac_ranges import is_virtual
from netscand.core.model import Ip
from netscand.lan import dhcp, dns, mdns, nbns, ndp
from netscand.lan.arp import ARP_LENGTH
from netscand.lan.decode import ARP, DHCP_PORTS, EXTENSIONS, ICMPV6, IPV4, IPV6, UDP, untagged
from netscand.lan.ndp import checksum
from netscand.lan.text import NON_NAMES

MOST = 65_536
"""Maximum names that are remembered, to give no two the same substitute; further ones may collide."""

TRIES = 64
"""Substitutes tried for one name; of a single letter, there are only 26."""

KEPT_LABELS = frozenset([b"local", b"arpa", b"in-addr", b"ip6", b"lan", b"home", b"localdomain", b"internal"])
MODEL_KEYS = frozenset([b"am", b"model", b"md", b"ty", b"usb_mfg", b"usb_mdl", b"product", b"manufacturer", b"rpmd"])
"""Keys of TXT records whose values name a model, not a person."""

KEPT_OPTIONS = frozenset([1, 3, 6, 26, 28, 50, 51, 52, 53, 54, 55, 57, 58, 59, 108, 116])
"""DHCP options with addresses, times and flags (RFC 2132 and others)."""

TXT, SRV, DNAME, NSEC = 16, 33, 39, 47
"""Types of records (RFC 1035, 2782, 6672, 4034)."""

PREFIX_INFORMATION, MTU, RDNSS = 3, 5, 25
"""Options of neighbour discovery (RFC 4861, 8106) whose contents stay, but for EUI-64 addresses."""

_MAC_TEXT = re.compile(rb"(?<![0-9a-f])[0-9a-f]{2}([:_-]?)(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}(?![0-9a-f])", re.IGNORECASE)
_SERIAL = re.compile(rb"((?:^|[;, ])(?:ser|serial|sn|s/n)[=:])([^;, ]+)", re.IGNORECASE)
_TWO_BYTES = "àáâãäåæçèéêëìíîïðñòóôõöøùúûüýþß"
_SOLICITED_NODE = ndp.GROUP
_ARP_HEADS = (b"\0\1\x08\0\6\4\0\1", b"\0\1\x08\0\6\4\0\2", b"\0\6\x08\0\6\4\0\1", b"\0\6\x08\0\6\4\0\2")


class Anonymiser:
    """Substitutes of one capture: another one has other substitutes, unless it has the same `key`."""

    def __init__(self, key: bytes = b"") -> None:
        self._key = key or token_bytes(32)
        self._names: dict[bytes, bytes] = {}
        self._used: set[bytes] = set()

    def frame(self, frame: bytes) -> bytes | None:
        """Return a frame without names and full MACs; None for one that is not understood. Never raises."""
        try:
            return self._frame(untagged(frame))
        except (ValueError, IndexError, struct.error):
            return None

    # ---- values ----------------------------------------------------------------------------------------------------

    def mac(self, mac: bytes) -> bytes:
        """Return the substitute of a MAC, never the same for two. The vendor, groups and virtual routers stay."""
        if mac[0] & 1 or not any(mac) or is_virtual(mac):  # type: ignore[arg-type]
            return mac
        while True:
            left, right = int.from_bytes(mac[3:]) >> 12, int.from_bytes(mac[3:]) & 0xFFF
            for turn in range(4):  # a Feistel cipher of 24 bits
                round_key = self._hash(b"mac", bytes([turn]) + mac[:3] + right.to_bytes(2))
                left, right = right, left ^ (int.from_bytes(round_key[:2]) & 0xFFF)
            mac = mac[:3] + (left << 12 | right).to_bytes(3)
            if not is_virtual(mac):  # type: ignore[arg-type]
                return mac

    def ip6(self, ip: bytes) -> bytes:
        """Return an IPv6 address without the MAC in it (EUI-64; RFC 4291, appendix A); others stay."""
        if ip[0] == 0xFF or ip[11:13] != b"\xff\xfe":
            return ip
        mac = self.mac(bytes([ip[8] ^ 2]) + ip[9:11] + ip[13:])
        return ip[:13] + mac[3:]

    def name(self, name: bytes) -> bytes:
        """Return the substitute of a host name, label by label; an IPv4 address stays."""
        try:
            IPv4Address(name.rstrip(b"\0").decode())
        except ValueError:
            return b".".join(map(self.label, name.split(b".")))
        return name

    def label(self, label: bytes) -> bytes:
        """Return the substitute of one label; service types, LAN domains, and labels that name no host stay."""
        plain = label.rstrip(b"\0").lower()
        if plain.startswith(b"_") or plain in KEPT_LABELS or plain.decode(errors="replace") in NON_NAMES:
            return label
        return self.text(label)

    def text(self, text: bytes) -> bytes:
        """Return a text with its letters and digits replaced, and the MACs in it. The case of ASCII stays."""
        key = text.lower()
        found = self._names.get(key)
        if found is None:
            found = self._substitute(key)
            if len(self._names) < MOST:
                self._names[key] = found
                self._used.add(found)
        if text.isupper():  # of a MAC, other digits may be letters now
            return found.upper()
        pairs = zip(text, found, strict=True)
        return bytes(new - 32 if 65 <= old <= 90 and 97 <= new <= 122 else new for old, new in pairs)

    def opaque(self, raw: bytes) -> bytes:
        """Return the substitute of bytes of any meaning."""
        stream = b"".join(self._hash(b"raw", bytes([part]) + raw) for part in range(1 + len(raw) // 64))
        return stream[: len(raw)]

    def _substitute(self, key: bytes) -> bytes:
        kind = kind_of_name(_plain(key))
        if kind is not None:  # words of a model stay, so that the substitute says the same kind
            for attempt in range(TRIES):
                found = self._around_model(key, attempt, is_hex=kind == "printer")
                if found not in self._used and kind_of_name(_plain(found)) == kind:
                    return found
        found = key
        for attempt in range(TRIES):
            found = b"".join(self._parts(key, attempt))
            if _plain(found) not in NON_NAMES and found != key and found not in self._used:
                break
        return found

    def _around_model(self, key: bytes, attempt: int, *, is_hex: bool) -> bytes:
        found, position = b"", 0
        for match in model_words().finditer(key.decode("latin-1")):
            found += b"".join(self._parts(key[position : match.start()], attempt, is_hex=is_hex))
            found += key[match.start() : match.end()]
            position = match.end()
        return found + b"".join(self._parts(key[position:], attempt, is_hex=is_hex))

    def _parts(self, key: bytes, attempt: int, *, is_hex: bool = False) -> Iterator[bytes]:
        position = 0
        for match in _MAC_TEXT.finditer(key):
            yield self._letters(key[position : match.start()], key, attempt, position, is_hex=is_hex)
            separator = match[1].decode()
            mac = self.mac(bytes.fromhex(match[0].replace(match[1], b"").decode() if separator else match[0].decode()))
            yield (mac.hex(separator) if separator else mac.hex()).encode()
            position = match.end()
        yield self._letters(key[position:], key, attempt, position, is_hex=is_hex)

    def _letters(self, part: bytes, key: bytes, attempt: int, position: int, *, is_hex: bool) -> bytes:
        found = ""
        for char in part.decode("utf-8", "surrogateescape"):
            if not char.isalnum():
                found += char
                continue
            place = bytes([attempt]) + (position + len(found)).to_bytes(2)
            number = int.from_bytes(self._hash(b"name", place + key)[:4])
            size = len(char.encode())
            if char.isascii():
                letters = 6 if is_hex and char in "abcdef" else 26
                found += chr(ord("0") + number % 10) if char.isdigit() else chr(ord("a") + number % letters)
            elif size == 2:
                found += _TWO_BYTES[number % len(_TWO_BYTES)]
            else:
                found += chr((0x4E00 if size == 3 else 0x20000) + number % 4096)
        return found.encode("utf-8", "surrogateescape")

    def _hash(self, what: bytes, raw: bytes) -> bytes:
        return blake2b(raw, key=self._key, person=what).digest()

    # ---- frames ----------------------------------------------------------------------------------------------------

    def _frame(self, frame: bytes) -> bytes | None:
        to, source, kind = frame[:6], frame[6:12], frame[12:14]
        head = self.mac(to) + self.mac(source) + kind
        if kind == ARP:
            return self._arp(head, frame)
        if kind == IPV4:
            return head + self._ipv4(frame[14:], len(frame) - 14)
        if kind != IPV6:
            return None
        packet, group = self._ipv6(frame[14:])
        return (group or self.mac(to)) + head[6:] + packet + bytes(len(frame) - 14 - len(packet))

    def _arp(self, head: bytes, frame: bytes) -> bytes | None:
        if len(frame) < ARP_LENGTH or frame[14:22] not in _ARP_HEADS:
            return None
        content = frame[14:22] + self.mac(frame[22:28]) + frame[28:32] + self.mac(frame[32:38]) + frame[38:42]
        return head + content + bytes(len(frame) - ARP_LENGTH)

    def _ipv4(self, packet: bytes, size: int) -> bytes:
        first, length, fragment, protocol = struct.unpack_from("!BxHxxHxB", packet)
        start = 4 * (first & 0xF)
        if first >> 4 != 4 or start < 20 or not start + 8 <= length <= size or fragment & 0x3FFF or protocol != UDP:
            raise ValueError("not a whole UDP datagram")
        head = packet[:10] + b"\0\0" + packet[12:20] + bytes(start - 20)
        content = self._udp(packet[start:length], packet[12:20])
        return head[:10] + checksum(head) + head[12:] + content + bytes(size - length)

    def _ipv6(self, packet: bytes) -> tuple[bytes, bytes]:
        """Return a packet, and its Ethernet destination if it is a group made of an address in it."""
        length, protocol = struct.unpack_from("!HB", packet, 4)
        if packet[0] >> 4 != 6 or len(packet) < 40 + length:
            raise ValueError("not a whole packet")
        start, between = 40, b""
        while protocol in EXTENSIONS:
            size = 8 * (packet[start + 1] + 1)
            between += packet[start : start + 2] + bytes(size - 2)
            protocol, start = packet[start], start + size
        source, to, group = self.ip6(packet[8:24]), self.ip6(packet[24:40]), b""
        content = packet[start : 40 + length]
        if to.startswith(_SOLICITED_NODE):
            if content[:1] != bytes([ndp.NEIGHBOUR_SOLICITATION]) or content[21:24] != to[13:]:
                raise ValueError("the group of an address that the packet does not have")
            to = to[:13] + self.ip6(content[8:24])[13:]
            group = b"\x33\x33" + to[12:]
        if protocol == UDP:
            content = self._udp(content, source + to)
        elif protocol == ICMPV6:
            content = self._icmpv6(content)
            summed = source + to + struct.pack("!II", len(content), ICMPV6) + content
            content = content[:2] + checksum(summed + bytes(len(summed) & 1)) + content[4:]
        else:
            raise ValueError("neither UDP nor ICMPv6")
        return packet[:8] + source + to + between + content, group

    def _udp(self, datagram: bytes, addresses: bytes) -> bytes:
        from_port, port, length = struct.unpack_from("!HHH", datagram)
        if not 8 <= length <= len(datagram):
            raise ValueError("not a whole datagram")
        ports, raw = {from_port, port}, datagram[8:length]
        if mdns.PORT in ports:
            content = self._dns(raw, self._record)
        elif nbns.PORT in ports:
            content = self._dns(raw, self._nbns_record)
        elif ports & set(DHCP_PORTS):
            content = self._dhcp(raw)
        else:
            raise ValueError("a port that netscand does not receive")
        head = datagram[:6]
        found = b"\0\0"
        if datagram[6:8] != b"\0\0":
            summed = addresses + struct.pack("!HH", UDP, length) + head + b"\0\0" + content
            found = checksum(summed + bytes(len(summed) & 1))
            found = b"\xff\xff" if found == b"\0\0" else found
        return head + found + content + bytes(len(datagram) - length)

    def _icmpv6(self, message: bytes) -> bytes:
        """Return a message with a checksum of zero."""
        kind, start = message[0], ndp.OPTIONS_AT.get(message[0], 8)
        if kind not in ndp.OPTIONS_AT and kind != ndp.ECHO_REPLY:
            raise ValueError("a type that netscand does not receive")
        head = bytearray(message[:2] + b"\0\0" + message[4:start])
        if len(head) < start:
            raise ValueError("too short")
        if kind == ndp.ECHO_REPLY:
            return bytes(head) + bytes(len(message) - start)
        for at in range(8, start - 15, 16) if kind != ndp.ROUTER_ADVERTISEMENT else ():
            head[at : at + 16] = self.ip6(message[at : at + 16])
        options = b""
        while start < len(message):
            size = 8 * message[start + 1]
            option = message[start : start + size]
            if not size or len(option) < size:
                raise ValueError("a malformed option")
            options += option[:2] + self._ndp_option(option[0], option[2:])
            start += size
        return bytes(head) + options

    def _ndp_option(self, number: int, value: bytes) -> bytes:
        if number in (ndp.SOURCE_ADDRESS, ndp.TARGET_ADDRESS) and len(value) == 6:
            return self.mac(value)
        if number in (PREFIX_INFORMATION, MTU):
            return value
        if number == RDNSS:
            return value[:6] + b"".join(self.ip6(value[at : at + 16]) for at in range(6, len(value), 16))
        return bytes(len(value))

    # ---- DNS, mDNS and NBNS ----------------------------------------------------------------------------------------

    def _dns(self, raw: bytes, record: Callable[[bytearray, bytes, dns.Record, set[int]], None]) -> bytes:
        message = dns.read(raw)
        if message is None:
            raise ValueError("not a DNS message")
        found, done, end = bytearray(raw), set[int](), 12
        by_nbns = record == self._nbns_record
        for question in message.questions:
            self._names_at(found, raw, question.name_at, done, by_nbns=by_nbns)
            end = max(end, _after(raw, question.name_at) + 4)
        for each in (*message.answers, *message.authorities, *message.additionals):
            self._names_at(found, raw, each.name_at, done, by_nbns=by_nbns)
            record(found, raw, each, done)
            end = max(end, each.content_at + len(each.content))
        found[end:] = bytes(len(raw) - end)  # records beyond those that are read
        return bytes(found)

    def _names_at(self, found: bytearray, raw: bytes, at: int, done: set[int], *, by_nbns: bool = False) -> None:
        """Replace the labels of a name where they are: several names may share them (RFC 1035, 4.1.4)."""
        spots = list(_spots(raw, at))
        labels = [raw[start:end] for start, end in spots]
        domain = tuple(label.lower() for label in labels[-2:])
        if domain == (b"in-addr", b"arpa"):
            return
        if domain == (b"ip6", b"arpa") and len(labels) == 34:
            labels = list(dns.reverse(Ip(self.ip6(bytes.fromhex(b"".join(labels[31::-1]).decode())))))
        elif by_nbns and labels and (name := nbns.plain(labels[0])) is not None:
            labels = [_first_level(self._netbios(name)), *map(self.label, labels[1:])]
        else:
            labels = list(map(self.label, labels))
        for (start, end), label in zip(spots, labels, strict=True):
            if start not in done:
                found[start:end] = label
                done.add(start)

    def _record(self, found: bytearray, raw: bytes, record: dns.Record, done: set[int]) -> None:
        start, end = record.content_at, record.content_at + len(record.content)
        if record.kind in (dns.PTR, dns.CNAME, dns.NS, DNAME, NSEC):
            self._names_at(found, raw, start, done)
        elif record.kind == SRV:
            self._names_at(found, raw, start + 6, done)
        elif record.kind == TXT:
            found[start:end] = self._txt(record.content)
        elif record.kind == dns.AAAA and len(record.content) == 16:
            found[start:end] = self.ip6(record.content)
        elif record.kind != dns.A:
            found[start:end] = bytes(end - start)

    def _nbns_record(self, found: bytearray, raw: bytes, record: dns.Record, done: set[int]) -> None:
        start, content = record.content_at, record.content
        if record.kind == dns.NBSTAT and content:
            names, size = content[:1], 1 + 18 * content[0]
            if len(content) < size:
                raise ValueError("a list of names that is cut")
            for at in range(1, size, 18):
                names += self._netbios(content[at : at + 16]) + content[at + 16 : at + 18]
            unit = content[size : size + 6]
            names += self.mac(unit) if len(unit) == 6 else bytes(len(unit))
            found[start : start + len(content)] = names + bytes(len(content) - len(names))
        elif record.kind != dns.NB:
            found[start : start + len(content)] = bytes(len(content))

    def _netbios(self, name: bytes) -> bytes:
        """Return the substitute of a NetBIOS name of sixteen bytes; those of no host stay."""
        if name[:1] in (b"*", b"\1", b"\0", b" "):
            return name
        plain = name[:15].rstrip(b" \0")
        return self.text(plain) + name[len(plain) :]

    def _txt(self, content: bytes) -> bytes:
        found, at = b"", 0
        while at < len(content):
            end = at + 1 + content[at]
            if end > len(content):
                raise ValueError("a text that is cut")
            key, equals, value = content[at + 1 : end].partition(b"=")
            if not equals:
                key, value = b"", key
            if key.lower() not in MODEL_KEYS:
                value = self.text(value) if _is_text(value) else self.opaque(value)
            found += content[at : at + 1] + key + equals + value
            at = end
        return found

    # ---- DHCP ------------------------------------------------------------------------------------------------------

    def _dhcp(self, message: bytes) -> bytes:
        if len(message) < dhcp.OPTIONS_AT or message[dhcp.OPTIONS_AT - 4 : dhcp.OPTIONS_AT] != dhcp.COOKIE:
            raise ValueError("not DHCP")
        client = message[28:34]
        found = bytearray(message[:28] + self.mac(client) + bytes(len(message) - 34))
        found[dhcp.OPTIONS_AT - 4 : dhcp.OPTIONS_AT] = dhcp.COOKIE
        spots = list(dhcp.spots(message))
        values: dict[int, bytes] = {}
        for number, start, end in spots:
            found[start - 2 : start] = message[start - 2 : start]
            values[number] = values.get(number, b"") + message[start:end]
        new = {number: self._option(number, value, client, values) for number, value in values.items()}
        for number, start, end in spots:
            found[start:end], new[number] = new[number][: end - start], new[number][end - start :]
        return bytes(found)

    def _option(self, number: int, value: bytes, client: bytes, values: dict[int, bytes]) -> bytes:
        if number in KEPT_OPTIONS:
            return value
        if number == dhcp.HOST_NAME:
            return self.name(value)
        if number == dhcp.FQDN:
            return value[:3] + self._fqdn(value[:1], value[3:])
        if number == dhcp.VENDOR_CLASS:
            return self._vendor_class(value, values.get(dhcp.HOST_NAME, b"").rstrip(b"\0"))
        if number == dhcp.CLIENT_ID:
            return self._client_id(value, client)
        return bytes(len(value))

    def _fqdn(self, flags: bytes, name: bytes) -> bytes:
        if not (flags and flags[0] & dhcp.FQDN_ENCODED) and name[:1] >= b" ":
            return self.name(name)
        found, at = b"", 0
        while at < len(name) and 0 < name[at] < 64 and at + 1 + name[at] <= len(name):
            found += name[at : at + 1] + self.label(name[at + 1 : at + 1 + name[at]])
            at += 1 + name[at]
        return found + bytes(len(name) - at)

    def _vendor_class(self, value: bytes, hostname: bytes) -> bytes:
        value = _MAC_TEXT.sub(lambda match: self.text(match[0]), value)
        value = _SERIAL.sub(lambda match: match[1] + self.text(match[2]), value)
        if len(hostname) > 2:
            value = re.sub(re.escape(hostname), lambda match: self.name(match[0]), value, flags=re.IGNORECASE)
        return value

    def _client_id(self, value: bytes, client: bytes) -> bytes:
        """Return the substitute of a client identifier: a MAC, a name, or a DUID behind a number (RFC 4361, 6.1)."""
        kind, rest = value[:1], value[1:]
        if kind == dhcp.DUID_FOLLOWS and len(value) > dhcp.DUID_AT + 2:
            number, duid = value[1 : dhcp.DUID_AT], value[dhcp.DUID_AT :]
            number = self.mac(client)[2:] if number == client[2:] else self.opaque(number)
            head = {b"\0\1": 8, b"\0\3": 4, b"\0\2": 6, b"\0\4": 2}.get(duid[:2], 2)  # RFC 8415, 11: LLT, LL, EN, UUID
            identifier = duid[head:]
            is_mac = duid[:2] in (b"\0\1", b"\0\3") and len(identifier) == 6
            return kind + number + duid[:head] + (self.mac(identifier) if is_mac else self.opaque(identifier))
        if client in value:
            return value.replace(client, self.mac(client))
        if kind == b"\1" and len(rest) == 6:
            return kind + self.mac(rest)
        return kind + (self.name(rest) if kind == b"\0" and _is_text(rest) else self.opaque(rest))


def _plain(name: bytes) -> str:
    return name.rstrip(b"\0").decode(errors="replace")


def _is_text(raw: bytes) -> bool:
    try:
        return raw.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _first_level(name: bytes) -> bytes:
    """Encode sixteen bytes as a label (RFC 1001, 14.1)."""
    return bytes(0x41 + half for byte in name for half in (byte >> 4, byte & 0xF))


def _spots(raw: bytes, at: int) -> Iterator[tuple[int, int]]:
    """Yield where each label of a name begins and ends. Raises ValueError for a malformed one."""
    earliest, left = at, dns.LONGEST
    while raw[at]:
        length = raw[at]
        if length >= 0xC0:
            at = (length & 0x3F) << 8 | raw[at + 1]
            if at >= earliest:
                raise ValueError("a pointer that does not lead back")
            earliest = at
            continue
        left -= 1 + length
        if length >= 0x40 or at + 1 + length > len(raw) or left <= 0:
            raise ValueError("a malformed label")
        yield at + 1, at + 1 + length
        at += 1 + length


def _after(raw: bytes, at: int) -> int:
    """Return the position after the name at `at`."""
    while 0 < raw[at] < 0xC0:
        at += 1 + raw[at]
    return at + (2 if raw[at] else 1)
