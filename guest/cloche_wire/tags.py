"""All CBOR tags of the protocol; any other tag is refused. docs/reference/wire.md describes each one.

Registered tags are used where they exist (RFC 8949 section 3.4, RFC 8746, the IANA registry). The others are in a block of Cloche's
own, OWN_FIRST to OWN_LAST.
"""

from __future__ import annotations

from typing import Final

# RFC 8949, section 3.4.3
POS_BIGNUM: Final = 2  # bstr
NEG_BIGNUM: Final = 3  # bstr

# RFC 8746
ROW_MAJOR: Final = 40  # [dims, typed array]
COLUMN_MAJOR: Final = 1040  # [dims, typed array]
TYPED_FIRST: Final = 64
TYPED_LAST: Final = 87
TYPED_ARRAYS: Final[dict[str, int]] = {  # numpy dtype.str -> tag. 68 (clamped) and 76 (reserved) are not used
    "|u1": 64, ">u2": 65, ">u4": 66, ">u8": 67, "<u2": 69, "<u4": 70, "<u8": 71,
    "|i1": 72, ">i2": 73, ">i4": 74, ">i8": 75, "<i2": 77, "<i4": 78, "<i8": 79,
    ">f2": 80, ">f4": 81, ">f8": 82, "<f2": 84, "<f4": 85, "<f8": 86,
}  # fmt: skip
TYPED_DTYPES: Final[dict[int, str]] = {tag: dtype for dtype, tag in TYPED_ARRAYS.items()}

# IANA registry
SET: Final = 258  # array of hashable items
UUID: Final = 37  # bstr of 16
COMPLEX: Final = 43000  # [float, float]

# Cloche's own block
TUPLE: Final = 49600  # array
FROZENSET: Final = 49601  # array of hashable items
MAP: Final = 49602  # array [key, value, key, value, ...]: a dict with other keys than well-formed texts
SURROGATES: Final = 49603  # bstr: UTF-8 with lone surrogates ("surrogatepass")
BYTES_AT: Final = 49604  # [address, length]: a byte string that lies elsewhere in linear memory
TEXT_AT: Final = 49605  # [address, length]: UTF-8 text that lies elsewhere in linear memory
NDARRAY: Final = 49606  # [dtype, dims, order, body]: an array whose dtype RFC 8746 has no tag for
SCALAR: Final = 49607  # [dtype, bstr]: a numpy scalar
DATETIME: Final = 49608  # [text (ISO 8601), fold, zone key or null]
DATE: Final = 49609  # text (ISO 8601)
TIME: Final = 49610  # [text (ISO 8601), fold]
TIMEDELTA: Final = 49611  # [days, seconds, microseconds]
DECIMAL: Final = 49612  # text
FRACTION: Final = 49613  # [numerator, denominator]
RECORD: Final = 49614  # [class name, [field names], [values]]: a dataclass or a namedtuple
OPAQUE: Final = 49615  # [digest, bstr]: an object pickled by one guest for another; the host never unpickles it

READONLY: Final = 49616  # the tagged array: a read-only array
BODY_AT: Final = 49617  # [address, length]: the bytes of an array that lie elsewhere in linear memory
SHARED_AT: Final = 49618  # [address, length]: the bytes of an array in a buffer of the host; no guest sends it
NUMBERS: Final = 49619  # [0, bstr]: a list of integers; [1, bstr]: a list of floats; 64 bits each, little-endian
NUMBERS_FORMATS: Final = ("q", "d")

OWN_FIRST: Final = 49600
OWN_LAST: Final = 49619
