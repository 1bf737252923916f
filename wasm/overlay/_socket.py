"""Stands in for the C module of that name: constants, functions on addresses, and clear errors for the rest.

The guest has no network. WASI's own `_socket` would be built without half of its functions, so that `socket` fails with
an AttributeError somewhere inside.
"""

from __future__ import annotations

import errno
from typing import Any, NoReturn

from cloche_refusal import constants, refusing

_WHY = "a sandboxed node has no sockets; the host can offer a service instead"

globals().update(
    constants("""
    AF_ALG=38 AF_APPLETALK=5 AF_ASH=18 AF_ATMPVC=8 AF_ATMSVC=20 AF_AX25=3 AF_BRIDGE=7 AF_CAN=29 AF_DECnet=12 AF_ECONET=19
    AF_IPX=4 AF_IRDA=23 AF_KEY=15 AF_LLC=26 AF_NETBEUI=13 AF_NETLINK=16 AF_NETROM=6 AF_PACKET=17 AF_PPPOX=24 AF_QIPCRTR=42
    AF_RDS=21 AF_ROSE=11 AF_ROUTE=16 AF_SECURITY=14 AF_SNA=22 AF_TIPC=30 AF_UNIX=1 AF_VSOCK=40 AF_WANPIPE=25 AF_X25=9
    AI_ADDRCONFIG=32 AI_ALL=16 AI_CANONNAME=2 AI_V4MAPPED=8 ALG_OP_DECRYPT=0 ALG_OP_ENCRYPT=1 ALG_OP_SIGN=2 ALG_OP_VERIFY=3
    ALG_SET_AEAD_ASSOCLEN=4 ALG_SET_AEAD_AUTHSIZE=5 ALG_SET_IV=2 ALG_SET_KEY=1 ALG_SET_OP=3 ALG_SET_PUBKEY=6 CAN_BCM=2
    CAN_BCM_CAN_FD_FRAME=2048 CAN_BCM_RX_ANNOUNCE_RESUME=256 CAN_BCM_RX_CHANGED=12 CAN_BCM_RX_CHECK_DLC=64 CAN_BCM_RX_DELETE=6
    CAN_BCM_RX_FILTER_ID=32 CAN_BCM_RX_NO_AUTOTIMER=128 CAN_BCM_RX_READ=7 CAN_BCM_RX_RTR_FRAME=1024 CAN_BCM_RX_SETUP=5
    CAN_BCM_RX_STATUS=10 CAN_BCM_RX_TIMEOUT=11 CAN_BCM_SETTIMER=1 CAN_BCM_STARTTIMER=2 CAN_BCM_TX_ANNOUNCE=8
    CAN_BCM_TX_COUNTEVT=4 CAN_BCM_TX_CP_CAN_ID=16 CAN_BCM_TX_DELETE=2 CAN_BCM_TX_EXPIRED=9 CAN_BCM_TX_READ=3
    CAN_BCM_TX_RESET_MULTI_IDX=512 CAN_BCM_TX_SEND=4 CAN_BCM_TX_SETUP=1 CAN_BCM_TX_STATUS=8 CAN_EFF_FLAG=2147483648
    CAN_EFF_MASK=536870911 CAN_ERR_FLAG=536870912 CAN_ERR_MASK=536870911 CAN_ISOTP=6 CAN_J1939=7 CAN_RAW=1 CAN_RAW_FD_FRAMES=5
    CAN_RAW_FILTER=1 CAN_RAW_JOIN_FILTERS=6 CAN_RAW_LOOPBACK=3 CAN_RAW_RECV_OWN_MSGS=4 CAN_RTR_FLAG=1073741824
    CAN_SFF_MASK=2047 EAI_ADDRFAMILY=-9 EAI_AGAIN=-3 EAI_BADFLAGS=-1 EAI_FAIL=-4 EAI_MEMORY=-10 EAI_NODATA=-5 EAI_OVERFLOW=-12
    EAI_SYSTEM=-11 ETHERTYPE_ARP=2054 ETHERTYPE_IP=2048 ETHERTYPE_IPV6=34525 ETHERTYPE_VLAN=33024 ETH_P_ALL=3
    INADDR_ALLHOSTS_GROUP=3758096385 INADDR_ANY=0 INADDR_BROADCAST=4294967295 INADDR_LOOPBACK=2130706433
    INADDR_MAX_LOCAL_GROUP=3758096639 INADDR_NONE=4294967295 INADDR_UNSPEC_GROUP=3758096384
    IOCTL_VM_SOCKETS_GET_LOCAL_CID=1977 IPPORT_RESERVED=1024 IPPORT_USERRESERVED=5000 IPPROTO_AH=51 IPPROTO_DSTOPTS=60
    IPPROTO_EGP=8 IPPROTO_ESP=50 IPPROTO_FRAGMENT=44 IPPROTO_GRE=47 IPPROTO_HOPOPTS=0 IPPROTO_ICMP=1 IPPROTO_ICMPV6=58
    IPPROTO_IDP=22 IPPROTO_IGMP=2 IPPROTO_IP=0 IPPROTO_IPIP=4 IPPROTO_IPV6=41 IPPROTO_MPTCP=262 IPPROTO_NONE=59
    IPPROTO_PIM=103 IPPROTO_PUP=12 IPPROTO_RAW=255 IPPROTO_ROUTING=43 IPPROTO_RSVP=46 IPPROTO_SCTP=132 IPPROTO_TCP=6
    IPPROTO_TP=29 IPPROTO_UDP=17 IPPROTO_UDPLITE=136 IPV6_CHECKSUM=7 IPV6_DONTFRAG=62 IPV6_DSTOPTS=59 IPV6_HOPLIMIT=52
    IPV6_HOPOPTS=54 IPV6_JOIN_GROUP=20 IPV6_LEAVE_GROUP=21 IPV6_MULTICAST_HOPS=18 IPV6_MULTICAST_IF=17 IPV6_MULTICAST_LOOP=19
    IPV6_NEXTHOP=9 IPV6_PATHMTU=61 IPV6_PKTINFO=50 IPV6_RECVDSTOPTS=58 IPV6_RECVHOPLIMIT=51 IPV6_RECVHOPOPTS=53
    IPV6_RECVPATHMTU=60 IPV6_RECVPKTINFO=49 IPV6_RECVRTHDR=56 IPV6_RECVTCLASS=66 IPV6_RTHDR=57 IPV6_RTHDRDSTOPTS=55
    IPV6_RTHDR_TYPE_0=0 IPV6_TCLASS=67 IPV6_UNICAST_HOPS=16 IPV6_V6ONLY=26 IP_ADD_MEMBERSHIP=35 IP_ADD_SOURCE_MEMBERSHIP=39
    IP_BIND_ADDRESS_NO_PORT=24 IP_BLOCK_SOURCE=38 IP_DEFAULT_MULTICAST_LOOP=1 IP_DEFAULT_MULTICAST_TTL=1 IP_DROP_MEMBERSHIP=36
    IP_DROP_SOURCE_MEMBERSHIP=40 IP_HDRINCL=3 IP_MAX_MEMBERSHIPS=20 IP_MULTICAST_IF=32 IP_MULTICAST_LOOP=34
    IP_MULTICAST_TTL=33 IP_OPTIONS=4 IP_PKTINFO=8 IP_RECVOPTS=6 IP_RECVRETOPTS=7 IP_RECVTOS=13 IP_RETOPTS=7 IP_TOS=1
    IP_TRANSPARENT=19 IP_TTL=2 IP_UNBLOCK_SOURCE=37 J1939_EE_INFO_NONE=0 J1939_EE_INFO_TX_ABORT=1 J1939_FILTER_MAX=512
    J1939_IDLE_ADDR=254 J1939_MAX_UNICAST_ADDR=253 J1939_NLA_BYTES_ACKED=1 J1939_NLA_PAD=0 J1939_NO_ADDR=255 J1939_NO_NAME=0
    J1939_NO_PGN=262144 J1939_PGN_ADDRESS_CLAIMED=60928 J1939_PGN_ADDRESS_COMMANDED=65240 J1939_PGN_MAX=262143
    J1939_PGN_PDU1_MAX=261888 J1939_PGN_REQUEST=59904 MSG_CMSG_CLOEXEC=1073741824 MSG_CONFIRM=2048 MSG_CTRUNC=8
    MSG_DONTROUTE=4 MSG_DONTWAIT=64 MSG_EOR=128 MSG_ERRQUEUE=8192 MSG_FASTOPEN=536870912 MSG_MORE=32768 MSG_NOSIGNAL=16384
    MSG_OOB=1 MSG_PEEK=2 MSG_TRUNC=32 MSG_WAITALL=256 NETLINK_CRYPTO=21 NETLINK_DNRTMSG=14 NETLINK_FIREWALL=3
    NETLINK_IP6_FW=13 NETLINK_NFLOG=5 NETLINK_ROUTE=0 NETLINK_USERSOCK=2 NETLINK_XFRM=6 NI_DGRAM=16 NI_IDN=32 NI_MAXHOST=1025
    NI_MAXSERV=32 NI_NAMEREQD=8 NI_NOFQDN=4 NI_NUMERICHOST=1 NI_NUMERICSERV=2 PACKET_BROADCAST=1 PACKET_FASTROUTE=6
    PACKET_HOST=0 PACKET_LOOPBACK=5 PACKET_MULTICAST=2 PACKET_OTHERHOST=3 PACKET_OUTGOING=4 PF_CAN=29 PF_PACKET=17 PF_RDS=21
    SCM_CREDENTIALS=2 SCM_J1939_DEST_ADDR=1 SCM_J1939_DEST_NAME=2 SCM_J1939_ERRQUEUE=4 SCM_J1939_PRIO=3 SCM_RIGHTS=1 SHUT_RD=0
    SHUT_RDWR=2 SHUT_WR=1 SOCK_CLOEXEC=524288 SOCK_NONBLOCK=2048 SOCK_RDM=4 SOCK_SEQPACKET=5 SOL_ALG=279 SOL_CAN_BASE=100
    SOL_CAN_RAW=101 SOL_IP=0 SOL_RDS=276 SOL_SOCKET=1 SOL_TCP=6 SOL_TIPC=271 SOL_UDP=17 SOMAXCONN=4096 SO_ACCEPTCONN=30
    SO_BINDTODEVICE=25 SO_BINDTOIFINDEX=62 SO_BROADCAST=6 SO_DEBUG=1 SO_DOMAIN=39 SO_DONTROUTE=5 SO_ERROR=4 SO_INCOMING_CPU=49
    SO_J1939_ERRQUEUE=4 SO_J1939_FILTER=1 SO_J1939_PROMISC=2 SO_J1939_SEND_PRIO=3 SO_KEEPALIVE=9 SO_LINGER=13 SO_MARK=36
    SO_OOBINLINE=10 SO_PASSCRED=16 SO_PASSSEC=34 SO_PEERCRED=17 SO_PEERSEC=31 SO_PRIORITY=12 SO_PROTOCOL=38 SO_RCVBUF=8
    SO_RCVLOWAT=18 SO_RCVTIMEO=20 SO_REUSEADDR=2 SO_REUSEPORT=15 SO_SNDBUF=7 SO_SNDLOWAT=19 SO_SNDTIMEO=21 SO_TYPE=3
    SO_VM_SOCKETS_BUFFER_MAX_SIZE=2 SO_VM_SOCKETS_BUFFER_MIN_SIZE=1 SO_VM_SOCKETS_BUFFER_SIZE=0 TCP_CC_INFO=26
    TCP_CONGESTION=13 TCP_CORK=3 TCP_DEFER_ACCEPT=9 TCP_FASTOPEN=23 TCP_FASTOPEN_CONNECT=30 TCP_FASTOPEN_KEY=33
    TCP_FASTOPEN_NO_COOKIE=34 TCP_INFO=11 TCP_INQ=36 TCP_KEEPCNT=6 TCP_KEEPIDLE=4 TCP_KEEPINTVL=5 TCP_LINGER2=8 TCP_MAXSEG=2
    TCP_MD5SIG=14 TCP_MD5SIG_EXT=32 TCP_NODELAY=1 TCP_NOTSENT_LOWAT=25 TCP_QUEUE_SEQ=21 TCP_QUICKACK=12 TCP_REPAIR=19
    TCP_REPAIR_OPTIONS=22 TCP_REPAIR_QUEUE=20 TCP_REPAIR_WINDOW=29 TCP_SAVED_SYN=28 TCP_SAVE_SYN=27 TCP_SYNCNT=7
    TCP_THIN_DUPACK=17 TCP_THIN_LINEAR_TIMEOUTS=16 TCP_TIMESTAMP=24 TCP_TX_DELAY=37 TCP_ULP=31 TCP_USER_TIMEOUT=18
    TCP_WINDOW_CLAMP=10 TCP_ZEROCOPY_RECEIVE=35 TIPC_ADDR_ID=3 TIPC_ADDR_NAME=2 TIPC_ADDR_NAMESEQ=1 TIPC_CFG_SRV=0
    TIPC_CLUSTER_SCOPE=2 TIPC_CONN_TIMEOUT=130 TIPC_CRITICAL_IMPORTANCE=3 TIPC_DEST_DROPPABLE=129 TIPC_HIGH_IMPORTANCE=2
    TIPC_IMPORTANCE=127 TIPC_LOW_IMPORTANCE=0 TIPC_MEDIUM_IMPORTANCE=1 TIPC_NODE_SCOPE=3 TIPC_PUBLISHED=1
    TIPC_SRC_DROPPABLE=128 TIPC_SUBSCR_TIMEOUT=3 TIPC_SUB_CANCEL=4 TIPC_SUB_PORTS=1 TIPC_SUB_SERVICE=2 TIPC_TOP_SRV=1
    TIPC_WAIT_FOREVER=-1 TIPC_WITHDRAWN=2 TIPC_ZONE_SCOPE=1 UDPLITE_RECV_CSCOV=11 UDPLITE_SEND_CSCOV=10
    VMADDR_CID_ANY=4294967295 VMADDR_CID_HOST=2 VMADDR_PORT_ANY=4294967295 VM_SOCKETS_INVALID_VERSION=4294967295
""")
)

AF_UNSPEC, AF_INET, AF_INET6, SOCK_STREAM, SOCK_DGRAM, SOCK_RAW = 0, 2, 10, 1, 2, 3
AI_PASSIVE, AI_NUMERICHOST, AI_NUMERICSERV = 1, 4, 1024
EAI_FAMILY, EAI_NONAME, EAI_SERVICE, EAI_SOCKTYPE = -6, -2, -8, -7
has_ipv6, CAPI = False, None

error, timeout = OSError, TimeoutError
_HOST = "node"
_LOCAL = "127.0.0.1"
_PROTOCOLS = {"ip": 0, "icmp": 1, "tcp": 6, "udp": 17, "ipv6": 41, "ipv6-icmp": 58, "sctp": 132}
_PORTS = constants("""ftp=21 ssh=22 telnet=23 smtp=25 domain=53 http=80 pop3=110 ntp=123 imap2=143 ldap=389 https=443 submission=587
    ldaps=636 imaps=993 pop3s=995 mysql=3306 postgresql=5432""")


class herror(OSError):  # noqa: N801  # the name that users know
    """A resolver failed, by its old interface."""


class gaierror(OSError):  # noqa: N801
    """A resolver failed."""


class socket:  # noqa: N801
    """Cannot be made."""

    __slots__ = ()  # socket.socket adds its own
    family = type = proto = -1
    timeout = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EAFNOSUPPORT, _WHY)

    def __del__(self) -> None:
        pass

    def close(self) -> None:
        pass

    def fileno(self) -> int:
        return -1


for _name in """_accept bind connect connect_ex detach getblocking getpeername getsockname getsockopt gettimeout listen
    recv recv_into recvfrom recvfrom_into recvmsg recvmsg_into send sendall sendmsg sendmsg_afalg sendto setblocking setsockopt
    settimeout shutdown""".split():
    setattr(socket, _name, refusing(_name, _WHY, OSError, errno.ENOTSOCK))
del _name

SocketType = socket


# ---- names
def _packed_host(host: str, family: int) -> tuple[int, str] | None:
    """The family and the plain form of an address in digits, or of this machine's own names."""
    for known, size in ((AF_INET, 4), (AF_INET6, 16)):
        if family in (AF_UNSPEC, known):
            try:
                return known, inet_ntop(known, inet_aton(host) if size == 4 else inet_pton(known, host))
            except (OSError, ValueError):
                continue
    if host in ("localhost", _HOST) and family in (AF_UNSPEC, AF_INET):
        return AF_INET, _LOCAL
    return None


def getaddrinfo(  # the names of the arguments are those of the C function
    host: Any,
    port: Any,
    family: int = 0,
    type: int = 0,  # noqa: A002
    proto: int = 0,
    flags: int = 0,
) -> list[Any]:
    """What needs no name server: addresses in digits, localhost, and no host at all."""
    if host is None and port is None:
        raise gaierror(EAI_NONAME, "Name or service not known")
    if family not in (AF_UNSPEC, AF_INET, AF_INET6):
        raise gaierror(EAI_FAMILY, "ai_family not supported")
    if isinstance(host, (bytes, bytearray)):
        host = bytes(host).decode("ascii")
    if host is None:
        wanted = family or AF_INET
        any_host, own = ("0.0.0.0", _LOCAL) if wanted == AF_INET else ("::", "::1")
        found: Any = (wanted, any_host if flags & AI_PASSIVE else own)
    else:
        found = _packed_host(str(host), family)
    if found is None:
        raise gaierror(EAI_NONAME, f"{host}: {_WHY}")
    known, address = found
    place: Any = (address, _port(port)) if known == AF_INET else (address, _port(port), 0, 0)
    kinds = [(SOCK_STREAM, 6), (SOCK_DGRAM, 17), (SOCK_RAW, 0)]
    chosen = [
        (known, kind, proto if kind == SOCK_RAW else number, "", place)
        for kind, number in kinds
        if type in (0, kind) and (proto in (0, number) or kind == SOCK_RAW)
    ]
    if not chosen:
        raise gaierror(EAI_SOCKTYPE, "ai_socktype not supported")
    return chosen


def _port(port: Any) -> int:
    text = port.decode("ascii") if isinstance(port, bytes) else port
    if text is None:
        return 0
    if isinstance(text, int):
        return text & 0xFFFF
    if not isinstance(text, str):
        raise OSError("Int or String expected")
    if text.strip().isdigit():
        return int(text) & 0xFFFF
    if text not in _PORTS:
        raise gaierror(EAI_SERVICE, "Servname not supported for ai_socktype")
    return _PORTS[text]


def gethostbyname(host: str, /) -> str:
    found = _packed_host(host, AF_INET) if host else (AF_INET, "0.0.0.0")
    if found is None:
        raise gaierror(EAI_NONAME, f"{host}: {_WHY}")
    return found[1]


def gethostbyname_ex(host: str, /) -> tuple[str, list[str], list[str]]:
    return host, [], [gethostbyname(host)]


def gethostbyaddr(host: str, /) -> tuple[str, list[str], list[str]]:
    address = gethostbyname(host)
    if not address.startswith("127."):
        raise herror(1, f"{host}: {_WHY}")
    return (_HOST if host == _HOST else "localhost"), [], [address]


def getnameinfo(sockaddr: Any, flags: int, /) -> NoReturn:
    raise gaierror(EAI_NONAME, _WHY)


def getservbyname(servicename: str, protocolname: str = "tcp", /) -> int:
    if servicename not in _PORTS or protocolname not in ("tcp", "udp"):
        raise OSError("service/proto not found")
    return _PORTS[servicename]


def getservbyport(port: int, protocolname: str = "tcp", /) -> str:
    if not 0 <= port <= 0xFFFF:
        raise OverflowError("getservbyport: port must be 0-65535.")
    for name, number in _PORTS.items():
        if number == port and protocolname in ("tcp", "udp"):
            return name
    raise OSError("port/proto not found")


def getprotobyname(name: str, /) -> int:
    if name not in _PROTOCOLS:
        raise OSError("protocol not found")
    return _PROTOCOLS[name]


def gethostname() -> str:
    return _HOST


def sethostname(name: Any, /) -> NoReturn:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def if_nameindex() -> list[tuple[int, str]]:
    return [(1, "lo")]


def if_nametoindex(oname: str, /) -> int:
    if oname != "lo":
        raise OSError("no interface with this name")
    return 1


def if_indextoname(if_index: int, /) -> str:
    if if_index != 1:
        raise OSError(errno.ENXIO, "No such device or address")
    return "lo"


# ---- what a socket would be asked
def socketpair(*args: Any) -> NoReturn:
    raise OSError(errno.EAFNOSUPPORT, _WHY)


_defaults: dict[str, float | None] = {"timeout": None}


def getdefaulttimeout() -> float | None:
    return _defaults["timeout"]


def setdefaulttimeout(timeout: float | None, /) -> None:
    if timeout is not None and not timeout >= 0:
        raise ValueError("Timeout value out of range")
    _defaults["timeout"] = None if timeout is None else float(timeout)


def close(descriptor: int, /) -> NoReturn:
    raise OSError(errno.EBADF, "Bad file descriptor")


dup = close


def CMSG_LEN(length: int, /) -> int:  # noqa: N802
    if not 0 <= length <= 0x7FFFFFFF:
        raise OverflowError("CMSG_LEN() argument out of range")
    return 16 + length


def CMSG_SPACE(length: int, /) -> int:  # noqa: N802
    if not 0 <= length <= 0x7FFFFFFF:
        raise OverflowError("CMSG_SPACE() argument out of range")
    return 16 + (length + 7) // 8 * 8


# ---- numbers and addresses
def _swapped(size: int, value: int) -> int:
    if value < 0:
        raise OverflowError("can't convert negative value to unsigned int")
    try:
        return int.from_bytes(value.to_bytes(size, "little"), "big")
    except OverflowError:
        raise OverflowError(f"Python int too large to convert to C {8 * size}-bit unsigned integer") from None


def htons(value: int, /) -> int:
    return _swapped(2, value)


def htonl(value: int, /) -> int:
    return _swapped(4, value)


ntohs, ntohl = htons, htonl


def inet_aton(ip_addr: str, /) -> bytes:
    """From one to four numbers, decimal, octal or hexadecimal, of which the last fills what is left."""
    try:
        parts = [_c_number(part) for part in ip_addr.split(" ")[0].split(".")]
    except ValueError:
        parts = []
    size = 5 - len(parts)
    if not 1 <= len(parts) <= 4 or any(part > 255 for part in parts[:-1]) or parts[-1] >= 1 << 8 * size:
        raise OSError("illegal IP address string passed to inet_aton")
    return bytes(parts[:-1]) + parts[-1].to_bytes(size, "big")


def _c_number(text: str) -> int:
    if not text or not text.isascii() or not text.isalnum():
        raise ValueError(text)
    base = 16 if text[:2].lower() == "0x" else 8 if text[0] == "0" and len(text) > 1 else 10
    return int(text, base)


def inet_ntoa(packed_ip: Any, /) -> str:
    packed = bytes(packed_ip)
    if len(packed) != 4:
        raise OSError("packed IP wrong length")
    return ".".join(map(str, packed))


def inet_pton(address_family: int, ip_string: str, /) -> bytes:
    from ipaddress import AddressValueError, IPv4Address, IPv6Address

    if address_family not in (AF_INET, AF_INET6):
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
    try:
        if "%" in ip_string or "/" in ip_string:
            raise AddressValueError(ip_string)
        return (IPv4Address if address_family == AF_INET else IPv6Address)(ip_string).packed
    except AddressValueError:
        raise OSError("illegal IP address string passed to inet_pton") from None


def inet_ntop(address_family: int, packed_ip: Any, /) -> str:
    from ipaddress import IPv6Address

    packed = bytes(packed_ip)
    if address_family not in (AF_INET, AF_INET6):
        raise ValueError(f"unknown address family {address_family}")
    if len(packed) != (4 if address_family == AF_INET else 16):
        raise ValueError("invalid length of packed IP address string")
    if address_family == AF_INET:
        return inet_ntoa(packed)
    if packed[:12] == bytes(12) and packed[12:14] != bytes(2):
        return f"::{inet_ntoa(packed[12:])}"
    return str(IPv6Address(packed))
