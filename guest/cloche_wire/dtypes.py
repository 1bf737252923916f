"""dtypes on the wire: numpy's ``dtype.str``; for a structure ``[itemsize, [[name, offset, dtype, dims], ...]]``.

Received dtypes are checked by `item_size` without numpy. No dtype of the protocol has objects, pointers or a platform-dependent
size.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

MAX_FIELDS: Final = 1024
MAX_NESTING: Final = 8
MAX_NAME: Final = 256

_UNITS = r"\[(?:\d{1,9})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\]"
_GRAMMAR: Final = re.compile(
    rf"[<>](?:[iu]([248])|f([248])|c(8|16)|[mM](8)(?:{_UNITS})?|U(\d{{1,9}}))|\|(?:b(1)|[iu](1)|[SV](\d{{1,9}}))"
)

_SURROGATE: Final = re.compile("[\ud800-\udfff]")

Wire = str | list[Any]


def item_size(dtype: Any, depth: int = MAX_NESTING) -> int:
    """Check a received dtype, and return the bytes of one item.

    Args:
        dtype: text, or ``[itemsize, fields]``.
        depth: levels of structures allowed.

    Raises:
        ValueError: not a dtype of the protocol.
    """
    if type(dtype) is str:
        return _text_size(dtype)
    if type(dtype) is not list or len(dtype) != 2 or not depth:
        raise ValueError("a dtype is text, or [itemsize, fields]")
    size, fields = dtype
    if not _is_natural(size) or type(fields) is not list or not 1 <= len(fields) <= MAX_FIELDS:
        raise ValueError(f"a structure has a size and 1 to {MAX_FIELDS} fields")
    for field in fields:
        if type(field) is not list or len(field) != 4:
            raise ValueError("a field is [name, offset, dtype, dims]")
        name, offset, inner, dims = field
        if type(name) is not str or len(name) > MAX_NAME or not _is_natural(offset):
            raise ValueError(f"a field has a name of at most {MAX_NAME} characters and an offset")
        if offset + element_count(dims) * item_size(inner, depth - 1) > size:
            raise ValueError("a field lies outside of its structure")
    if len({field[0] for field in fields}) != len(fields):
        raise ValueError("two fields of a structure have the same name")
    return int(size)


@lru_cache(256)
def _text_size(dtype: str) -> int:
    match = _GRAMMAR.fullmatch(dtype)
    if not match:
        raise ValueError(f"{dtype[:40]!r} is not a dtype of the protocol")
    size = int(next(group for group in match.groups() if group))
    return 4 * size if dtype[1] == "U" else size


def element_count(dims: Any) -> int:
    """The product of an array's dimensions: its number of items.

    Raises:
        ValueError: not a list of at most 32 natural numbers.
    """
    if type(dims) is not list or len(dims) > 32 or not all(map(_is_natural, dims)):
        raise ValueError("dims are at most 32 natural numbers")
    count = 1
    for size in dims:
        count *= size
    return count


def _is_natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def to_wire(dtype: Any) -> Wire:
    """Convert a numpy dtype to its form on the wire.

    Raises:
        TypeError: the dtype has objects, pointers, or a layout that depends on the machine.
    """
    if dtype.names is not None:
        fields = []
        for name in dtype.names:
            inner, offset = dtype.fields[name][:2]
            if len(name) > MAX_NAME or _SURROGATE.search(name):
                raise TypeError(f"cannot encode a structure with a field named {name[:80]!r}")
            fields.append([name, offset, to_wire(inner.base), list(inner.shape)])
        return [dtype.itemsize, fields]
    return _to_text(dtype)


@lru_cache(256)
def _to_text(dtype: Any) -> str:
    text: str = dtype.str
    # a dtype of another library, as bfloat16, can look like one of numpy
    if dtype.kind not in "biufcmMSUV" or dtype.isbuiltin == 2 or not _GRAMMAR.fullmatch(text) or not dtype.itemsize:
        from cloche_wire import remedies  # only here: few values are refused

        remedy = remedies.of_dtype(dtype)
        raise TypeError(f"cannot encode an array of dtype {dtype}{f': pass {remedy}' if remedy else ''}")
    return text


@lru_cache(256)
def from_text(numpy: Any, dtype: str) -> Any:
    """The numpy dtype of a received text.

    Raises:
        ValueError: the text is not a dtype of the protocol.
    """
    item_size(dtype)
    return numpy.dtype(dtype)


def from_wire(numpy: Any, dtype: Wire) -> Any:
    """The numpy dtype of a received dtype that `item_size` has accepted."""
    if isinstance(dtype, str):
        return from_text(numpy, dtype)
    size: int = dtype[0]
    fields: list[Any] = dtype[1]
    return numpy.dtype(
        {
            "names": [field[0] for field in fields],
            "formats": [(from_wire(numpy, inner), tuple(dims)) for _, _, inner, dims in fields],
            "offsets": [field[1] for field in fields],
            "itemsize": size,
        }
    )
