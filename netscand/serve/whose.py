"""Whose socket is at the other end of a connection on loopback? TCP does not say; the kernel does, by sock_diag(7)."""

import socket
import struct
from ipaddress import ip_address

SOCK_DIAG = 4
"""NETLINK_SOCK_DIAG, linux/netlink.h; Python has no name for it."""

BY_FAMILY = 20
REQUEST = 1

_HEADER = struct.Struct("=IHHII")
_QUESTION = struct.Struct("=BBBBI")
"""inet_diag_req_v2: family, protocol, extensions, padding, states."""

_SOCKET = struct.Struct("!HH16s16s4sQ")
"""inet_diag_sockid: ports, addresses, interface, and a cookie of ones where it is not known."""

_OWNER = struct.Struct("=II")
"""Uid and inode; no program has a socket without an inode."""

_OWNER_AT = _HEADER.size + 4 + _SOCKET.size + 12
"""In inet_diag_msg: behind family and states, the socket, the timer and the two queues."""

CLOSE_WAIT = 8
"""TCP_CLOSE_WAIT, linux/tcp_states.h"""

EVERY_STATE = 0xFFFFFFFF


CLOSED = "closed by the other end"


def owner(sock: socket.socket) -> int | None:
    """Return the uid that made the socket at the other end of this one, on this host.

    None where the kernel does not tell, because it has no sock_diag. Raises ConnectionError where that socket is
    closed: it belongs to nobody any more, and most kernels show it as root's.
    """
    ours, theirs = sock.getsockname(), sock.getpeername()
    side = _SOCKET.pack(
        theirs[1], ours[1], ip_address(theirs[0]).packed, ip_address(ours[0]).packed, bytes(4), 2**64 - 1
    )
    question = _QUESTION.pack(sock.family, socket.IPPROTO_TCP, 0, 0, EVERY_STATE) + side
    header = _HEADER.pack(_HEADER.size + len(question), BY_FAMILY, REQUEST, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, SOCK_DIAG) as asking:
            asking.setblocking(False)  # the kernel has answered when sendto returns
            asking.sendto(header + question, (0, 0))
            answer = asking.recv(4096)
    except OSError:
        return None
    if len(answer) < _OWNER_AT + _OWNER.size or _HEADER.unpack_from(answer)[1] != BY_FAMILY:
        if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == CLOSE_WAIT:  # and its other end is not there
            raise ConnectionResetError(CLOSED)
        return None
    uid, inode = _OWNER.unpack_from(answer, _OWNER_AT)
    if not inode:
        raise ConnectionResetError(CLOSED)
    return int(uid)
