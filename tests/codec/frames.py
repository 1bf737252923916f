"""Frames by hand: well-formed ones that the protocol refuses, and malformed ones."""

from __future__ import annotations

import math

from cbor2 import CBORTag, dumps

from cloche_wire import tags


def tag(number: int, content: object) -> bytes:
    return dumps(CBORTag(number, content))


def nested(opening: bytes, depth: int) -> bytes:
    return opening * depth + b"\x00"


def structure(depth: int) -> object:
    """A dtype within a dtype within ..."""
    return [1, [["a", 0, structure(depth - 1), []]]] if depth else "|b1"


MALFORMED = {
    "nothing": b"",
    "truncated head": b"\x19\x01",
    "truncated text": b"\x63ab",
    "truncated array": b"\x83\x01\x02",
    "truncated map": b"\xa1\x61a",
    "truncated float": b"\xfb\x00\x00",
    "trailing byte": b"\x00\x00",
    "reserved length 28": b"\x1c",
    "reserved length 30": b"\x5e",
    "indefinite array": b"\x9f\x01\xff",
    "indefinite map": b"\xbf\xff",
    "indefinite text": b"\x7f\x61a\xff",
    "indefinite bytes": b"\x5f\x41a\xff",
    "break alone": b"\xff",
    "undefined": b"\xf7",
    "simple value 0": b"\xe0",
    "simple value 32": b"\xf8\x20",
    "two-byte true": b"\xf8\x15",
    "2**32 items": b"\x9a\xff\xff\xff\xff",
    "2**64-1 items": b"\x9b" + b"\xff" * 8,
    "2**63 items": b"\x9b\x80" + bytes(7),
    "2**32 pairs": b"\xba\xff\xff\xff\xff",
    "2**64-1 pairs": b"\xbb" + b"\xff" * 8,
    "2**63 pairs": b"\xbb\x80" + bytes(7),
    "2**64-1 bytes": b"\x5b" + b"\xff" * 8,
    "2**64-1 characters": b"\x7b" + b"\xff" * 8,
    "claims within claims": b"\x9a\x00\x00\x00\x10" * 40,
    "overlong utf-8": b"\x62\xc0\x80",
    "surrogate in utf-8": b"\x63\xed\xa0\x80",
    "above u+10ffff": b"\x64\xf4\x90\x80\x80",
    "lone continuation": b"\x61\x80",
    "cut sequence": b"\x62\xe2\x82",
    "tag without content": b"\xd9\xc1\xc0",
    "too deep array": nested(b"\x81", 300),
    "too deep map": nested(b"\xa1\x61a", 300),
    "too deep tuple": nested(b"\xd9\xc1\xc0\x81", 300),
    "far too deep": nested(b"\x81", 1_000_000),
}
"""Neither side may take these, nor spend memory or stack on them."""

_POINT = [0.0, 0.0]
REFUSED = {
    "int key": dumps({1: 2}),
    "bytes key": dumps({b"a": 2}),
    "null key": dumps({None: 2}),
    "array key": b"\xa1\x80\x00",
    "datetime text (tag 0)": b"\xc0\x74" + b"2013-03-21T20:04:00Z",
    "epoch (tag 1)": b"\xc1\x00",
    "decimal fraction (tag 4)": b"\xc4\x82\x1a\x3b\x9a\xca\x00\x01",
    "bigfloat (tag 5)": b"\xc5\x82\x00\x01",
    "shared reference": b"\xd8\x1c\x81\xd8\x1d\x00",
    "string reference": b"\xd9\x01\x00\x81\x61a",
    "regular expression": b"\xd8\x23\x61a",
    "mail": b"\xd8\x24\x61a",
    "ip address": tag(260, bytes(4)),
    "self-described": b"\xd9\xd9\xf7\x00",
    "foreign tag": tag(12345, 0),
    "huge tag": b"\xdb" + b"\xff" * 8 + b"\x00",
    "bignum of text": b"\xc2\x61a",
    "bignum of array": b"\xc2\x81\x01",
    "tuple of map": tag(tags.TUPLE, {}),
    "tuple of text": tag(tags.TUPLE, "ab"),
    "set of text": tag(tags.SET, "ab"),
    "map of odd length": tag(tags.MAP, [1]),
    "map of text": tag(tags.MAP, "ab"),
    "surrogates of text": tag(tags.SURROGATES, "a"),
    "bytes at one number": tag(tags.BYTES_AT, [1]),
    "bytes at three numbers": tag(tags.BYTES_AT, [1, 2, 3]),
    "bytes at negative": tag(tags.BYTES_AT, [-1, 2]),
    "bytes at float": tag(tags.TEXT_AT, [1.0, 2]),
    "bytes at bytes": tag(tags.BYTES_AT, b"ab"),
    "typed array of text": tag(64, "ab"),
    "typed array of array": tag(64, [1, 2]),
    "typed array of bytes at": tag(64, CBORTag(tags.BYTES_AT, [1, 2])),
    "clamped array": tag(68, b""),
    "reserved array": tag(76, b""),
    "float128 array": tag(83, bytes(16)),
    "matrix without dims": tag(40, [CBORTag(64, b"")]),
    "matrix with negative dims": tag(40, [[-1], CBORTag(64, b"")]),
    "matrix with float dims": tag(40, [[1.0], CBORTag(64, b"a")]),
    "matrix of matrix": tag(40, [[1], CBORTag(40, [[1], CBORTag(64, b"a")])]),
    "matrix of list": tag(40, [[1], [1]]),
    "ndarray of three": tag(tags.NDARRAY, ["|b1", [1], "C"]),
    "ndarray with order K": tag(tags.NDARRAY, ["|b1", [1], "K", b"\x01"]),
    "ndarray with order aC": tag(tags.NDARRAY, ["|b1", [1], "aC", b"\x01"]),
    "ndarray with number dtype": tag(tags.NDARRAY, [1, [1], "C", b"\x01"]),
    "ndarray with dtype too deep": tag(tags.NDARRAY, [structure(100), [1], "C", b"\x01"]),
    "scalar with array": tag(tags.SCALAR, ["<f4", [1]]),
    "readonly list": tag(tags.READONLY, [1]),
    "readonly of readonly": tag(tags.READONLY, CBORTag(tags.READONLY, CBORTag(64, b""))),
    "uuid of 15": tag(tags.UUID, bytes(15)),
    "uuid of text": tag(tags.UUID, "x" * 16),
    "complex of ints": tag(tags.COMPLEX, [1, 2]),
    "complex of three": tag(tags.COMPLEX, [*_POINT, 0.0]),
    "datetime of text": tag(tags.DATETIME, "2013-03-21"),
    "datetime with number zone": tag(tags.DATETIME, ["2013-03-21T00:00:00", 0, 1]),
    "date of number": tag(tags.DATE, 5),
    "timedelta of floats": tag(tags.TIMEDELTA, [1.0, 0, 0]),
    "timedelta of two": tag(tags.TIMEDELTA, [1, 0]),
    "timedelta with negative seconds": tag(tags.TIMEDELTA, [1, -1, 0]),
    "decimal of number": tag(tags.DECIMAL, 1),
    "fraction of floats": tag(tags.FRACTION, [1.0, 2.0]),
    "record without fields": tag(tags.RECORD, ["P", {}]),
    "record with number field": tag(tags.RECORD, ["P", [1], [2]]),
    "record with values map": tag(tags.RECORD, ["P", ["x"], {"x": 1}]),
    "numbers of text": tag(tags.NUMBERS, [0, "a" * 8]),
    "numbers without kind": tag(tags.NUMBERS, [bytes(8)]),
    "numbers elsewhere": tag(tags.NUMBERS, [0, CBORTag(tags.BODY_AT, [1, 8])]),
    "array in a shared buffer": tag(64, CBORTag(tags.SHARED_AT, [1, 2])),
    "opaque of text": tag(tags.OPAQUE, ["a", b"b"]),
    "body outside of an array": tag(tags.BODY_AT, [1, 2]),
}
"""Well-formed CBOR that is not of the protocol: the validator refuses it."""

REFUSED_BY_HOST = {
    "key twice": b"\xa2\x61a\x00\x61a\x01",
    "map key twice": tag(tags.MAP, [1, 2, 1, 3]),
    "map key twice in disguise": tag(tags.MAP, [1, 2, True, 3]),
    "set item twice": tag(tags.SET, [1, 1.0]),
    "unhashable set item": tag(tags.SET, [[1]]),
    "unhashable frozenset item": tag(tags.FROZENSET, [{}]),
    "unhashable map key": tag(tags.MAP, [[], 1]),
    "surrogates that are not": tag(tags.SURROGATES, b"\xff"),
    "text at wrong utf-8": tag(tags.TEXT_AT, [1, 2]),
    "array of the wrong size": tag(85, b"abc"),
    "dims that lie": tag(40, [[1000, 1000], CBORTag(85, bytes(16))]),
    "dims that overflow": tag(40, [[1 << 32, 1 << 32], CBORTag(64, b"")]),
    "dims of zero and much": tag(40, [[0, 1 << 62, 1 << 62], CBORTag(64, b"")]),
    "too many dims": tag(40, [[1] * 100, CBORTag(64, b"a")]),
    "object dtype": tag(tags.NDARRAY, ["|O", [1], "C", bytes(8)]),
    "object dtype in a structure": tag(tags.NDARRAY, [[8, [["a", 0, "|O", []]]], [1], "C", bytes(8)]),
    "float128 dtype": tag(tags.NDARRAY, ["<f16", [1], "C", bytes(16)]),
    "dtype that is code": tag(tags.NDARRAY, ["f4,f4", [1], "C", bytes(8)]),
    "dtype of size zero": tag(tags.NDARRAY, ["|S0", [1 << 60], "C", b""]),
    "unit that is none": tag(tags.NDARRAY, ["<M8[x]", [1], "C", bytes(8)]),
    "field outside": tag(tags.NDARRAY, [[4, [["a", 2, "<f4", []]]], [1], "C", bytes(4)]),
    "field twice": tag(tags.NDARRAY, [[8, [["a", 0, "<f4", []], ["a", 4, "<f4", []]]], [1], "C", bytes(8)]),
    "structure without fields": tag(tags.NDARRAY, [[8, []], [1], "C", bytes(8)]),
    "bool of two": tag(tags.NDARRAY, ["|b1", [3], "C", b"\0\1\2"]),
    "bool of two in a structure": tag(tags.NDARRAY, [[2, [["a", 1, "|b1", []]]], [2], "C", b"\0\1\0\2"]),
    "bool of two in a structure's array": tag(tags.NDARRAY, [[2, [["a", 0, "|b1", [2]]]], [1], "C", b"\0\2"]),
    "character above u+10ffff": tag(tags.NDARRAY, ["<U1", [1], "C", b"\0\0\x11\0"]),
    "big-endian character above u+10ffff": tag(
        tags.NDARRAY, [[8, [["a", 4, ">U1", []]]], [1], "F", bytes(4) + b"\0\x11\0\0"]
    ),
    "bool scalar of two": tag(tags.SCALAR, ["|b1", b"\2"]),
    "scalar of the wrong size": tag(tags.SCALAR, ["<f8", bytes(4)]),
    "scalar of an object": tag(tags.SCALAR, ["|O", bytes(8)]),
    "datetime that is none": tag(tags.DATETIME, ["yesterday", 0, None]),
    "datetime in another spelling": tag(tags.DATETIME, ["20130321T000000", 0, None]),
    "fold of two": tag(tags.DATETIME, ["2013-03-21T00:00:00", 2, None]),
    "zone that is a path": tag(tags.DATETIME, ["2013-03-21T00:00:00", 0, "../../etc/passwd"]),
    "zone that is absolute": tag(tags.TIME, ["00:00:00", 0, "/etc/passwd"]),
    "date in another spelling": tag(tags.DATE, "2013W121"),
    "timedelta out of range": tag(tags.TIMEDELTA, [1 << 40, 0, 0]),
    "timedelta with a day of seconds": tag(tags.TIMEDELTA, [0, 86400, 0]),
    "decimal that is none": tag(tags.DECIMAL, "one"),
    "decimal with underscores": tag(tags.DECIMAL, "1_0"),
    "denominator zero": tag(tags.FRACTION, [1, 0]),
    "denominator negative": tag(tags.FRACTION, [1, -2]),
    "huge fraction": tag(tags.FRACTION, [1 << 5000, 3]),
    "numbers of no kind": tag(tags.NUMBERS, [2, bytes(8)]),
    "numbers and a half": tag(tags.NUMBERS, [1, bytes(12)]),
    "record with too few values": tag(tags.RECORD, ["P", ["x", "y"], [1]]),
    "record with a field twice": tag(tags.RECORD, ["P", ["x", "x"], [1, 2]]),
    "record with a field that is no name": tag(tags.RECORD, ["P", ["x y"], [1]]),
    "record with a control character": tag(tags.RECORD, ["\x1b[2J", [], []]),
}
"""Passes the validator, which sees shapes alone; no value comes of it."""

NOT_KEYS = frozenset(
    {
        "map key twice",
        "map key twice in disguise",
        "set item twice",
        "unhashable set item",
        "unhashable frozenset item",
        "unhashable map key",
    }
)
"""What honest sets and dicts of a node's own objects can become: the host refuses the value, not the guest."""

HARMLESS_TO_HOST = {
    "trailing byte": "cbor2 stops behind the first item",
    "undefined": "a value of its own type",
    "simple value 0": "a value of its own type",
    "simple value 32": "a value of its own type",
    "bytes key": "hashed with a secret, like text",
    "typed array of bytes at": "bytes, wherever they lay",
    "matrix of matrix": "a matrix",
    "readonly of readonly": "a read-only array",
    "body outside of an array": "a bytearray",
}
"""The validator refuses these; the host's decoder, which runs behind it, would make something harmless of them."""

ACCEPTED = {
    "null": (b"\xf6", None),
    "long int": (b"\x1b" + bytes(7) + b"\x05", 5),
    "long text": (b"\x7b" + bytes(7) + b"\x01a", "a"),
    "float16": (b"\xf9\x3c\x00", 1.0),
    "float32": (b"\xfa\x7f\x80\x00\x00", math.inf),
    "small bignum": (b"\xc2\x41\x07", 7),
    "empty bignum": (b"\xc3\x40", -1),
    "-2**64": (b"\x3b" + b"\xff" * 8, -(1 << 64)),
    "zero dims": (tag(40, [[], CBORTag(64, b"\x05")]), 5),
}
"""Spellings that our encoders do not write, and that are of the profile all the same."""
