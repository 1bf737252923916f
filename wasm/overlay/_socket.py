"""Stands in for the C module of that name: the names that `socket` and asyncio look up, and clear errors for the rest.

The guest has no network. WASI's own `_socket` would be built without half of its functions, so that `socket` fails with
an AttributeError somewhere inside.
"""

from __future__ import annotations

import errno
from typing import Any, NoReturn

_WHY = "a sandboxed node has no sockets; the host can offer a service instead"

AF_UNSPEC, AF_INET, AF_INET6, AF_UNIX = 0, 2, 10, 1
SOCK_STREAM, SOCK_DGRAM, SOCK_RAW = 1, 2, 3
SOL_SOCKET, SO_REUSEADDR, SO_TYPE, SO_ERROR, SO_BROADCAST, SO_KEEPALIVE, SO_REUSEPORT = 1, 2, 3, 4, 6, 9, 15
SO_SNDBUF, SO_RCVBUF, SOMAXCONN = 7, 8, 128
IPPROTO_IP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_IPV6, IPV6_V6ONLY, TCP_NODELAY = 0, 6, 17, 41, 26, 1
SHUT_RD, SHUT_WR, SHUT_RDWR = 0, 1, 2
AI_PASSIVE, AI_CANONNAME, AI_NUMERICHOST, AI_ADDRCONFIG = 1, 2, 4, 32
NI_NUMERICHOST, NI_NUMERICSERV = 1, 2
EAI_ADDRFAMILY, EAI_NONAME = -9, -2
MSG_PEEK, MSG_WAITALL = 2, 256
INADDR_ANY, INADDR_LOOPBACK = 0, 0x7F000001
has_ipv6, CAPI = False, None

error, timeout = OSError, TimeoutError


class herror(OSError):  # noqa: N801  # the name that users know
    """A resolver failed, by its old interface."""


class gaierror(OSError):  # noqa: N801
    """A resolver failed."""


class socket:  # noqa: N801
    """Cannot be made."""

    __slots__ = ()  # socket.socket adds its own
    family = type = proto = -1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EAFNOSUPPORT, _WHY)

    def __del__(self) -> None:
        pass

    def close(self) -> None:
        pass

    def fileno(self) -> int:
        return -1


SocketType = socket


def _no_names(*args: Any, **kwargs: Any) -> NoReturn:
    raise gaierror(EAI_NONAME, _WHY)


getaddrinfo = getnameinfo = gethostbyname = gethostbyname_ex = gethostbyaddr = _no_names
getservbyname = getservbyport = getprotobyname = _no_names


def socketpair(*args: Any) -> NoReturn:
    raise OSError(errno.EAFNOSUPPORT, _WHY)


def getdefaulttimeout() -> None:
    return None


def setdefaulttimeout(seconds: float | None) -> None:
    pass


def gethostname() -> str:
    return "node"


def close(descriptor: int) -> NoReturn:
    raise OSError(errno.EBADF, "Bad file descriptor")


dup = close


def _swapped(size: int, value: int) -> int:
    return int.from_bytes(value.to_bytes(size, "little"), "big")


def htons(value: int) -> int:
    return _swapped(2, value)


def htonl(value: int) -> int:
    return _swapped(4, value)


ntohs, ntohl = htons, htonl


def inet_aton(address: str) -> bytes:
    parts = address.split(".")
    if len(parts) != 4 or not all(part.isdigit() and int(part) < 256 for part in parts):
        raise OSError("illegal IP address string passed to inet_aton")
    return bytes(map(int, parts))


def inet_ntoa(packed: bytes) -> str:
    if len(packed) != 4:
        raise OSError("packed IP wrong length")
    return ".".join(map(str, packed))
