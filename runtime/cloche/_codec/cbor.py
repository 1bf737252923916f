"""Writes CBOR so that no exception of a signal's handler is lost.

cbor2 asks abstract base classes whether a list, a tuple or a tag is a mapping or a sequence (pyo3's `PyMapping` and `PySequence`).
That is Python code, in which handlers of signals run, and cbor2 drops what they raise (Ctrl-C). It asks nothing of a type for
which it is given an encoder, and nothing of atoms and dicts. What an encoder raises, it hands on.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from cbor2 import CBOREncoder, CBORTag, dumps

__all__ = ["write", "write_listless"]


def _write_tag(encoder: CBOREncoder, tag: CBORTag) -> None:
    encoder.encode_semantic(tag.tag, tag.value)


def _write_none(encoder: CBOREncoder, _: None) -> None:
    encoder.encode_none()


_ENCODERS: Final[dict[type, Any]] = {
    list: CBOREncoder.encode_array,
    tuple: CBOREncoder.encode_array,
    dict: CBOREncoder.encode_map,
    CBORTag: _write_tag,
    # these are not needed, but a type that cbor2 does not find here costs it a KeyError
    int: CBOREncoder.encode_int,
    str: CBOREncoder.encode_string,
    float: CBOREncoder.encode_float,
    bytes: CBOREncoder.encode_bytes,
    bool: CBOREncoder.encode_bool,
    type(None): _write_none,
}

write: Final = partial(dumps, encoders=_ENCODERS)
"""The CBOR of any value made of the types above."""

write_listless: Final = dumps
"""As `write`, in half the time, for atoms, texts, bytes, and dicts of these or of such dicts: cbor2 runs no Python there."""
