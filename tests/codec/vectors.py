"""RFC 8949, appendix A: every example, and what becomes of it here.

The third column is REFUSED for what the protocol leaves out, and then says why.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple


class Refused(NamedTuple):
    why: str


_INDEFINITE = Refused("indefinite length")
_SIMPLE = Refused("a simple value that the protocol does not use")
_TAG = Refused("a foreign tag")
_KEY = Refused("a plain map has text keys; others come under the tag MAP")

NESTED = [1, [2, 3], [4, 5]]
TEXT = "abcde"

VECTORS: list[tuple[str, Any]] = [
    ("00", 0),
    ("01", 1),
    ("0a", 10),
    ("17", 23),
    ("1818", 24),
    ("1819", 25),
    ("1864", 100),
    ("1903e8", 1000),
    ("1a000f4240", 1000000),
    ("1b000000e8d4a51000", 1000000000000),
    ("1bffffffffffffffff", 18446744073709551615),
    ("c249010000000000000000", 18446744073709551616),
    ("3bffffffffffffffff", -18446744073709551616),
    ("c349010000000000000000", -18446744073709551617),
    ("20", -1),
    ("29", -10),
    ("3863", -100),
    ("3903e7", -1000),
    ("f90000", 0.0),
    ("f98000", -0.0),
    ("f93c00", 1.0),
    ("fb3ff199999999999a", 1.1),
    ("f93e00", 1.5),
    ("f97bff", 65504.0),
    ("fa47c35000", 100000.0),
    ("fa7f7fffff", 3.4028234663852886e38),
    ("fb7e37e43c8800759c", 1.0e300),
    ("f90001", 5.960464477539063e-8),
    ("f90400", 0.00006103515625),
    ("f9c400", -4.0),
    ("fbc010666666666666", -4.1),
    ("f97c00", math.inf),
    ("f97e00", math.nan),
    ("f9fc00", -math.inf),
    ("fa7f800000", math.inf),
    ("fa7fc00000", math.nan),
    ("faff800000", -math.inf),
    ("fb7ff0000000000000", math.inf),
    ("fb7ff8000000000000", math.nan),
    ("fbfff0000000000000", -math.inf),
    ("f4", False),
    ("f5", True),
    ("f6", None),
    ("f7", _SIMPLE),
    ("f0", _SIMPLE),
    ("f8ff", _SIMPLE),
    ("c074323031332d30332d32315432303a30343a30305a", _TAG),
    ("c11a514b67b0", _TAG),
    ("c1fb41d452d9e20f5c29", _TAG),
    ("d74401020304", _TAG),
    ("d818456449455446", _TAG),
    ("d82076687474703a2f2f7777772e6578616d706c652e636f6d", _TAG),
    ("40", b""),
    ("4401020304", b"\x01\x02\x03\x04"),
    ("60", ""),
    ("6161", "a"),
    ("6449455446", "IETF"),
    ("62225c", '"\\'),
    ("62c3bc", "\u00fc"),
    ("63e6b0b4", "\u6c34"),
    ("64f0908591", "\U00010151"),
    ("80", []),
    ("83010203", [1, 2, 3]),
    ("8301820203820405", NESTED),
    ("98190102030405060708090a0b0c0d0e0f101112131415161718181819", list(range(1, 26))),
    ("a0", {}),
    ("a201020304", _KEY),
    ("a26161016162820203", {"a": 1, "b": [2, 3]}),
    ("826161a161626163", ["a", {"b": "c"}]),
    ("a56161614161626142616361436164614461656145", {letter: letter.upper() for letter in TEXT}),
    ("5f42010243030405ff", _INDEFINITE),
    ("7f657374726561646d696e67ff", _INDEFINITE),
    ("9fff", _INDEFINITE),
    ("9f018202039f0405ffff", _INDEFINITE),
    ("9f01820203820405ff", _INDEFINITE),
    ("83018202039f0405ff", _INDEFINITE),
    ("83019f0203ff820405", _INDEFINITE),
    ("9f0102030405060708090a0b0c0d0e0f101112131415161718181819ff", _INDEFINITE),
    ("bf61610161629f0203ffff", _INDEFINITE),
    ("826161bf61626163ff", _INDEFINITE),
    ("bf6346756ef563416d7421ff", _INDEFINITE),
]
