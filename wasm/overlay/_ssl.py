"""Stands in for the C module of that name. Contexts, their settings, errors and constants are there, so that programs which prepare
for TLS can be imported; a connection cannot be made, and certificates are not looked into.
"""

from __future__ import annotations

import os
from typing import Any, NoReturn

from cloche_refusal import constants

globals().update(
    constants("""
    ALERT_DESCRIPTION_ACCESS_DENIED=49 ALERT_DESCRIPTION_BAD_CERTIFICATE=42 ALERT_DESCRIPTION_BAD_CERTIFICATE_HASH_VALUE=114
    ALERT_DESCRIPTION_BAD_CERTIFICATE_STATUS_RESPONSE=113 ALERT_DESCRIPTION_BAD_RECORD_MAC=20
    ALERT_DESCRIPTION_CERTIFICATE_EXPIRED=45 ALERT_DESCRIPTION_CERTIFICATE_REVOKED=44 ALERT_DESCRIPTION_CERTIFICATE_UNKNOWN=46
    ALERT_DESCRIPTION_CERTIFICATE_UNOBTAINABLE=111 ALERT_DESCRIPTION_CLOSE_NOTIFY=0 ALERT_DESCRIPTION_DECODE_ERROR=50
    ALERT_DESCRIPTION_DECOMPRESSION_FAILURE=30 ALERT_DESCRIPTION_DECRYPT_ERROR=51 ALERT_DESCRIPTION_HANDSHAKE_FAILURE=40
    ALERT_DESCRIPTION_ILLEGAL_PARAMETER=47 ALERT_DESCRIPTION_INSUFFICIENT_SECURITY=71 ALERT_DESCRIPTION_INTERNAL_ERROR=80
    ALERT_DESCRIPTION_NO_RENEGOTIATION=100 ALERT_DESCRIPTION_PROTOCOL_VERSION=70 ALERT_DESCRIPTION_RECORD_OVERFLOW=22
    ALERT_DESCRIPTION_UNEXPECTED_MESSAGE=10 ALERT_DESCRIPTION_UNKNOWN_CA=48 ALERT_DESCRIPTION_UNKNOWN_PSK_IDENTITY=115
    ALERT_DESCRIPTION_UNRECOGNIZED_NAME=112 ALERT_DESCRIPTION_UNSUPPORTED_CERTIFICATE=43
    ALERT_DESCRIPTION_UNSUPPORTED_EXTENSION=110 ALERT_DESCRIPTION_USER_CANCELLED=90 CERT_NONE=0 CERT_OPTIONAL=1
    CERT_REQUIRED=2 ENCODING_DER=2 ENCODING_PEM=1 HAS_ALPN=1 HAS_ECDH=1 HAS_NPN=0 HAS_PSK=1 HAS_SNI=1 HAS_SSLv2=0 HAS_SSLv3=0
    HAS_TLS_UNIQUE=1 HAS_TLSv1=1 HAS_TLSv1_1=1 HAS_TLSv1_2=1 HAS_TLSv1_3=1 HOSTFLAG_ALWAYS_CHECK_SUBJECT=1
    HOSTFLAG_MULTI_LABEL_WILDCARDS=8 HOSTFLAG_NEVER_CHECK_SUBJECT=32 HOSTFLAG_NO_PARTIAL_WILDCARDS=4 HOSTFLAG_NO_WILDCARDS=2
    HOSTFLAG_SINGLE_LABEL_SUBDOMAINS=16 OPENSSL_VERSION_NUMBER=805306672 OP_ALL=2147483728 OP_CIPHER_SERVER_PREFERENCE=4194304
    OP_ENABLE_KTLS=8 OP_ENABLE_MIDDLEBOX_COMPAT=1048576 OP_IGNORE_UNEXPECTED_EOF=128 OP_LEGACY_SERVER_CONNECT=4
    OP_NO_COMPRESSION=131072 OP_NO_RENEGOTIATION=1073741824 OP_NO_SSLv2=0 OP_NO_SSLv3=33554432 OP_NO_TICKET=16384
    OP_NO_TLSv1=67108864 OP_NO_TLSv1_1=268435456 OP_NO_TLSv1_2=134217728 OP_NO_TLSv1_3=536870912 OP_SINGLE_DH_USE=0
    OP_SINGLE_ECDH_USE=0 PROTOCOL_SSLv23=2 PROTOCOL_TLS=2 PROTOCOL_TLS_CLIENT=16 PROTOCOL_TLS_SERVER=17 PROTOCOL_TLSv1=3
    PROTOCOL_TLSv1_1=4 PROTOCOL_TLSv1_2=5 PROTO_MAXIMUM_SUPPORTED=-1 PROTO_MINIMUM_SUPPORTED=-2 PROTO_SSLv3=768
    PROTO_TLSv1=769 PROTO_TLSv1_1=770 PROTO_TLSv1_2=771 PROTO_TLSv1_3=772 SSL_ERROR_EOF=8 SSL_ERROR_INVALID_ERROR_CODE=10
    SSL_ERROR_SSL=1 SSL_ERROR_SYSCALL=5 SSL_ERROR_WANT_CONNECT=7 SSL_ERROR_WANT_READ=2 SSL_ERROR_WANT_WRITE=3
    SSL_ERROR_WANT_X509_LOOKUP=4 SSL_ERROR_ZERO_RETURN=6 VERIFY_ALLOW_PROXY_CERTS=64 VERIFY_CRL_CHECK_CHAIN=12
    VERIFY_CRL_CHECK_LEAF=4 VERIFY_DEFAULT=0 VERIFY_X509_PARTIAL_CHAIN=524288 VERIFY_X509_STRICT=32
    VERIFY_X509_TRUSTED_FIRST=32768
""")
)

_WHY = (
    "a sandboxed node has no TLS and no network: let the host fetch and pass the data, or call a service that it grants"
)
OPENSSL_VERSION = "OpenSSL 3.0.19 27 Jan 2026 (interface only: a sandboxed node has no TLS)"
OPENSSL_VERSION_INFO = _OPENSSL_API_VERSION = (3, 0, 0, 19, 0)
_DEFAULT_CIPHERS = "@SECLEVEL=2:ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:DHE+AES:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM"
_TLS_CLIENT, _TLS_SERVER, _TLS = 16, 17, 2
_MINIMUM, _MAXIMUM, _TLS_1_2, _TLS_1_3 = -2, -1, 0x303, 0x304
_VERSIONS = (_MINIMUM, _MAXIMUM, 0x300, 0x301, 0x302, _TLS_1_2, _TLS_1_3)
_CIPHERS = """
    TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256 TLS_AES_128_GCM_SHA256 ECDHE-ECDSA-AES256-GCM-SHA384
    ECDHE-RSA-AES256-GCM-SHA384 ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-RSA-AES128-GCM-SHA256 ECDHE-ECDSA-CHACHA20-POLY1305
    ECDHE-RSA-CHACHA20-POLY1305 ECDHE-ECDSA-AES256-SHA384 ECDHE-RSA-AES256-SHA384 ECDHE-ECDSA-AES128-SHA256
    ECDHE-RSA-AES128-SHA256 DHE-RSA-AES256-GCM-SHA384 DHE-RSA-AES128-GCM-SHA256 DHE-RSA-AES256-SHA256 DHE-RSA-AES128-SHA256
""".split()


class SSLError(OSError):
    """An error of TLS."""

    def __str__(self) -> str:
        return str(self.strerror) if isinstance(self.strerror, str) else super().__str__()

    library: str | None = None
    reason: str | None = None


class SSLZeroReturnError(SSLError):
    """The connection was closed."""


class SSLWantReadError(SSLError):
    """More has to be received."""


class SSLWantWriteError(SSLError):
    """More has to be sent."""


class SSLSyscallError(SSLError):
    """The system failed."""


class SSLEOFError(SSLError):
    """The connection was cut off."""


class SSLCertVerificationError(SSLError, ValueError):
    """A certificate is not accepted."""

    verify_code = 0
    verify_message = ""


for _class in (
    *(SSLError, SSLZeroReturnError, SSLWantReadError, SSLWantWriteError, SSLSyscallError, SSLEOFError),
    SSLCertVerificationError,
):
    _class.__module__ = "ssl"
del _class


def _refuse(*args: Any, **kwargs: Any) -> NoReturn:
    raise SSLError(1, _WHY)


class _SSLContext:
    def __new__(cls, protocol: int, /) -> _SSLContext:
        if protocol not in (_TLS, _TLS_CLIENT, _TLS_SERVER, 3, 4, 5):
            raise ValueError("invalid or unsupported protocol version")
        self = super().__new__(cls)
        is_client = protocol == _TLS_CLIENT
        fixed = {3: 0x301, 4: 0x302, 5: _TLS_1_2}.get(protocol)
        self.__dict__["_own"] = {
            "protocol": protocol,
            "check_hostname": is_client,
            "verify_mode": 2 if is_client else 0,
            "verify_flags": 0x8000,
            "options": 0x82520050,
            "minimum_version": fixed or _TLS_1_2,
            "maximum_version": fixed or _MAXIMUM,
            "num_tickets": 2,
            "post_handshake_auth": False,
            "keylog_filename": None,
            "sni_callback": None,
            "_msg_callback": None,
            "_host_flags": 2,
            "ciphers": list(_CIPHERS),
        }
        return self

    # ---- settings
    @property
    def protocol(self) -> int:
        return int(self._own["protocol"])

    @property
    def security_level(self) -> int:
        return 2

    @property
    def check_hostname(self) -> bool:
        return bool(self._own["check_hostname"])

    @check_hostname.setter
    def check_hostname(self, value: Any) -> None:
        if value and self._own["verify_mode"] == 0:
            self._own["verify_mode"] = 2
        self._own["check_hostname"] = bool(value)

    @property
    def verify_mode(self) -> int:
        return int(self._own["verify_mode"])

    @verify_mode.setter
    def verify_mode(self, value: int) -> None:
        if value not in (0, 1, 2):
            raise ValueError("invalid value for verify_mode")
        if value == 0 and self._own["check_hostname"]:
            raise ValueError("Cannot set verify_mode to CERT_NONE when check_hostname is enabled.")
        self._own["verify_mode"] = int(value)

    @property
    def minimum_version(self) -> int:
        return int(self._own["minimum_version"])

    @minimum_version.setter
    def minimum_version(self, value: int) -> None:
        self._set_version("minimum_version", value)

    @property
    def maximum_version(self) -> int:
        return int(self._own["maximum_version"])

    @maximum_version.setter
    def maximum_version(self, value: int) -> None:
        self._set_version("maximum_version", value)

    def _set_version(self, name: str, value: int) -> None:
        if self._own["protocol"] not in (_TLS, _TLS_CLIENT, _TLS_SERVER):
            raise ValueError("The context's protocol doesn't support modification of highest and lowest version.")
        if value not in _VERSIONS:
            raise ValueError(f"Unsupported TLS/SSL version {int(value):#x}")
        self._own[name] = int(value)

    @property
    def num_tickets(self) -> int:
        return int(self._own["num_tickets"])

    @num_tickets.setter
    def num_tickets(self, value: int) -> None:
        if value < 0:
            raise ValueError("value must be non-negative")
        if self._own["protocol"] != _TLS_SERVER:
            raise ValueError("SSLContext is not a server context.")
        self._own["num_tickets"] = int(value)

    @property
    def keylog_filename(self) -> Any:
        return self._own["keylog_filename"]

    @keylog_filename.setter
    def keylog_filename(self, value: Any) -> None:
        if value is not None:
            with open(value, "a", encoding="utf-8"):
                pass
        self._own["keylog_filename"] = value

    @property
    def sni_callback(self) -> Any:
        return self._own["sni_callback"]

    @sni_callback.setter
    def sni_callback(self, value: Any) -> None:
        if self._own["protocol"] == _TLS_CLIENT:
            raise ValueError("sni_callback cannot be set on TLS_CLIENT context")
        if value is not None and not callable(value):
            raise TypeError("not a callable object")
        self._own["sni_callback"] = value

    # ---- certificates and ciphers
    def set_ciphers(self, cipherlist: str, /) -> None:
        """Accepts any list that names something."""
        known = [
            word for word in cipherlist.replace(",", ":").replace(" ", ":").split(":") if word and word[0] not in "!-+@"
        ]
        if not any(set(word.split("+")) <= _WORDS for word in known):
            raise SSLError("No cipher can be selected.")
        plain = [word for word in known if word in _CIPHERS and word not in _CIPHERS[:3]]
        self._own["ciphers"] = [*_CIPHERS[:3], *plain] if plain else list(_CIPHERS)

    def get_ciphers(self) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "protocol": "TLSv1.3" if name.startswith("TLS_") else "TLSv1.2",
                "strength_bits": 128 if "128" in name else 256,
                "alg_bits": 128 if "128" in name else 256,
                "aead": "GCM" in name or "CHACHA20" in name,
            }
            for name in self._own["ciphers"]
        ]

    def load_verify_locations(self, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
        """Checks that the files are there. Nothing will be verified, because no connection can be made."""
        if cafile is None and capath is None and cadata is None:
            raise TypeError("cafile, capath and cadata cannot be all omitted")
        if isinstance(cadata, str) and not cadata.isascii():
            raise TypeError("cadata should be an ASCII string or a bytes-like object")
        if cafile is not None:
            with open(cafile, "rb") as file:
                if b"-----BEGIN " not in file.read():
                    raise SSLError(136, "[X509: NO_CERTIFICATE_OR_CRL_FOUND] no certificate or crl found")

    def load_cert_chain(self, certfile: Any, keyfile: Any = None, password: Any = None) -> None:
        for name in (certfile, keyfile):
            if name is not None:
                with open(name, "rb"):
                    pass

    def load_dh_params(self, path: Any, /) -> None:
        with open(path, "rb"):
            pass

    def set_default_verify_paths(self) -> None:
        """Does nothing: there are no default certificates."""

    def set_ecdh_curve(self, name: Any, /) -> None:
        """Does nothing."""

    def set_psk_client_callback(self, callback: Any) -> None:
        """Does nothing: it would be called by a connection."""

    def set_psk_server_callback(self, callback: Any, identity_hint: Any = None) -> None:
        """Does nothing: it would be called by a connection."""

    def _set_alpn_protocols(self, protos: Any, /) -> None:
        self._own["alpn"] = bytes(protos)

    def cert_store_stats(self) -> dict[str, int]:
        return {"x509": 0, "crl": 0, "x509_ca": 0}

    def session_stats(self) -> dict[str, int]:
        names = """number connect connect_good connect_renegotiate accept accept_good accept_renegotiate hits misses timeouts
            cache_full"""
        return dict.fromkeys(names.split(), 0)

    def get_ca_certs(self, binary_form: bool = False) -> list[Any]:
        return []

    _wrap_socket = _wrap_bio = _refuse


_WORDS = frozenset(
    """ALL DEFAULT HIGH MEDIUM TLSv1.2 TLSv1 ECDH ECDHE kECDHE EECDH kEECDH DH DHE kDHE EDH RSA kRSA aRSA ECDSA aECDSA PSK AES
    AES128 AES256 AESGCM AESCCM CHACHA20 CAMELLIA SHA SHA1 SHA256 SHA384 3DES""".split()
).union(_CIPHERS)


def _setting(name: str, convert: Any) -> property:
    def get(self: _SSLContext) -> Any:
        return self._own[name]

    def put(self: _SSLContext, value: Any) -> None:
        self._own[name] = convert(value)

    return property(get, put)


for _name, _convert in {"verify_flags": int, "options": int, "post_handshake_auth": bool, "_host_flags": int}.items():
    setattr(_SSLContext, _name, _setting(_name, _convert))
setattr(_SSLContext, "_msg_callback", _setting("_msg_callback", lambda value: value))  # noqa: B010
del _name, _convert


class _SSLSocket:
    context: Any
    owner = session = None
    server_side = session_reused = False
    server_hostname: str | None = None
    __new__ = _refuse
    cipher = compression = do_handshake = get_channel_binding = get_unverified_chain = get_verified_chain = _refuse
    getpeercert = pending = read = selected_alpn_protocol = shared_ciphers = shutdown = _refuse
    verify_client_post_handshake = version = write = _refuse


class SSLSession:
    """Cannot be made."""

    __new__ = _refuse
    has_ticket = id = ticket_lifetime_hint = time = timeout = None


class Certificate:
    """Cannot be made."""

    __new__ = _refuse
    get_info = public_bytes = _refuse


Certificate.__module__ = "_ssl"


class MemoryBIO:
    """A buffer of bytes between a program and TLS."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ended = False

    @property
    def pending(self) -> int:
        return len(self._bytes)

    @property
    def eof(self) -> bool:
        return self._ended and not self._bytes

    def read(self, size: int = -1, /) -> bytes:
        found = bytes(self._bytes if size < 0 else self._bytes[:size])
        del self._bytes[: len(found)]
        return found

    def write(self, b: Any, /) -> int:
        if self._ended:
            raise SSLError(1, "cannot write() after write_eof()")
        body = bytes(memoryview(b))
        self._bytes += body
        return len(body)

    def write_eof(self) -> None:
        self._ended = True


def RAND_bytes(n: int, /) -> bytes:  # noqa: N802
    if n < 0:
        raise ValueError("num must be positive")
    return os.urandom(n)


def RAND_status() -> bool:  # noqa: N802
    return True


def RAND_add(string: Any, entropy: float, /) -> None:  # noqa: N802
    """Does nothing: `os.urandom` is the source."""


def get_default_verify_paths() -> tuple[str, str, str, str]:
    return "SSL_CERT_FILE", "/usr/lib/ssl/cert.pem", "SSL_CERT_DIR", "/usr/lib/ssl/certs"


_OBJECTS = {
    129: ("serverAuth", "TLS Web Server Authentication", "1.3.6.1.5.5.7.3.1"),
    130: ("clientAuth", "TLS Web Client Authentication", "1.3.6.1.5.5.7.3.2"),
    13: ("CN", "commonName", "2.5.4.3"),
    14: ("C", "countryName", "2.5.4.6"),
    17: ("O", "organizationName", "2.5.4.10"),
    18: ("OU", "organizationalUnitName", "2.5.4.11"),
}


def txt2obj(txt: str, name: bool = False) -> tuple[int, str, str, str]:
    for number, row in _OBJECTS.items():
        if txt == row[2] or (name and txt in row):
            return number, *row
    raise ValueError(f"unknown object '{txt:.100s}'")


def nid2obj(nid: int, /) -> tuple[int, str, str, str]:
    if nid < 0:
        raise ValueError("NID must be positive")
    if nid not in _OBJECTS:
        raise ValueError(f"unknown NID {nid}")
    return nid, *_OBJECTS[nid]


_test_decode_cert = _refuse
