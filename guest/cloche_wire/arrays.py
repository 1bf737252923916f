"""Arrays to and from tag and content, on host and guest. numpy is used if it is loaded already, and never imported here.

To *lower* is to prepare a value for the wire, to *lift* is to make a value of received content. As in `values`, lowering trusts its
argument, and lifting trusts nothing.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any, Final

from cloche_wire import dtypes, tags
from cloche_wire.array import Array
from cloche_wire.cost import Budget
from cloche_wire.tagged import Tagged

ARRAY_TAGS: Final = frozenset({*tags.TYPED_DTYPES, tags.ROW_MAJOR, tags.COLUMN_MAJOR, tags.NDARRAY, tags.READONLY})

_KINDS: Final = {**dict.fromkeys("bhilq", "i"), **dict.fromkeys("BHILQ", "u"), **dict.fromkeys("efd", "f"), "?": "b"}
_BYTES_PER_UNIT: Final = 16
"""Bytes that can be checked in the time of one unit of `Budget`."""
_ORDER: Final = "<" if sys.byteorder == "little" else ">"


def lower_numpy(value: Any) -> tuple[int | None, Any] | None:
    """Tag and content of a numpy array or scalar; None for any other value. Tag None: send the content in place of the value.

    Raises:
        TypeError: the dtype cannot be sent.
    """
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return None
    kind = type(value)  # `isinstance` believes an object's `__class__`
    if issubclass(kind, numpy.ndarray):
        typed = _typed_tag(value.dtype)
        if typed and value.size and value.flags.carray and kind is numpy.ndarray:
            # a fast path for the commonest arrays; `_lower_ndarray` gives the same
            return (typed, value) if value.ndim == 1 else (tags.ROW_MAJOR, [list(value.shape), Tagged(typed, value)])
        return _lower_ndarray(numpy, value)
    if issubclass(kind, numpy.generic):
        if value.dtype.kind in "SU" and (not value.nbytes or value[-1:] in ("\0", b"\0")):
            return None, value[:]  # numpy counts no NULs at the end of its own texts
        return tags.SCALAR, [dtypes.to_wire(value.dtype), value.tobytes()]
    return None


@lru_cache(64)
def _typed_tag(dtype: Any) -> int:
    """The tag of a dtype in native byte order, or 0 if the dtype has no tag of its own (RFC 8746)."""
    return tags.TYPED_ARRAYS.get(dtype.str, 0) if dtype.isnative else 0


def lower_exporter(value: Any) -> tuple[int, Any] | None:
    """Tag and content of an object that exports its memory as an array (buffer protocol, DLPack, ...); None for any other value.

    Raises:
        TypeError: the dtype cannot be sent, or the memory cannot be reached.
    """
    kind = type(value)
    if kind is Array:
        return _pack(value.dtype, list(value.shape), value.order, value.data, value.readonly)
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and (hasattr(kind, "__array_interface__") or hasattr(kind, "__dlpack__")):
        convert = numpy.asarray if hasattr(kind, "__array_interface__") else numpy.from_dlpack
        try:
            array = convert(value)
        except Exception as error:  # e.g. a tensor on another device, or one that tracks gradients
            from cloche_wire import remedies  # only here: few values are refused

            remedy = remedies.of(value)
            raise TypeError(
                f"cannot encode {kind.__module__}.{kind.__qualname__}: {error}{f': pass {remedy}' if remedy else ''}"
            ) from error
        _check_no_palette(value)
        return _lower_ndarray(numpy, array)
    try:
        view = memoryview(value)
    except (TypeError, BufferError):
        return None
    return _lower_view(view) if numpy is None else _lower_ndarray(numpy, numpy.asarray(view))


def _check_no_palette(value: Any) -> None:
    """Refuse an image (of PIL) whose array has the numbers of colours, without the colours."""
    if getattr(value, "mode", None) in ("P", "PA") and any(
        base.__module__ == "PIL.Image" for base in type(value).__mro__
    ):
        raise TypeError('cannot encode an image with a palette: pass numpy.asarray(x.convert("RGBA"))')


def _lower_ndarray(numpy: Any, value: Any) -> tuple[int, Any]:
    if type(value) is not numpy.ndarray:
        masked = sys.modules.get("numpy.ma")
        if masked is not None and isinstance(value, masked.MaskedArray):
            raise TypeError("cannot encode a masked array: send .filled(), or .data and .mask")
        if getattr(value, "__dict__", None) and not type(value).__module__.startswith("numpy"):
            kind = type(value)
            raise TypeError(
                f"cannot encode {kind.__module__}.{kind.__qualname__}: it is more than an array: pass numpy.asarray(x)"
            )
        value = value.view(numpy.ndarray)
    flags, dtype = value.flags, value.dtype
    wire = dtype.str if dtype.str in tags.TYPED_ARRAYS else dtypes.to_wire(dtype)
    order, body = "C", value
    if not flags.c_contiguous:
        order, body = ("F", value.T) if flags.f_contiguous else ("C", numpy.ascontiguousarray(value))
    body = body.reshape(-1).view(numpy.uint8) if value.size else b""
    return _pack(wire, list(value.shape), order, body, not flags.writeable)


def _lower_view(view: memoryview) -> tuple[int, Any]:
    """Tag and content of a buffer of a native format, for use without numpy. A buffer that is not contiguous is copied."""
    kind = _KINDS.get(view.format)
    if kind is None:
        raise TypeError(f"cannot encode a buffer of format {view.format!r} without numpy")
    wire = f"{'|' if view.itemsize == 1 else _ORDER}{kind}{view.itemsize}"
    return _pack(wire, list(view.shape or ()), "C", view if view.c_contiguous else view.tobytes(), view.readonly)


def _pack(wire: dtypes.Wire, dims: list[int], order: str, body: Any, readonly: bool) -> tuple[int, Any]:
    typed = tags.TYPED_ARRAYS.get(wire) if type(wire) is str else None
    if typed is None:
        tag, content = tags.NDARRAY, [wire, dims, order, body]
    elif len(dims) == 1:
        tag, content = typed, body
    else:
        tag, content = tags.ROW_MAJOR if order == "C" else tags.COLUMN_MAJOR, [dims, Tagged(typed, body)]
    return (tags.READONLY, Tagged(tag, content)) if readonly else (tag, content)


def lift(tag: int, content: Any, budget: Budget | None = None) -> Any:
    """Lift an array: a numpy array if numpy is loaded, else an `Array`.

    Args:
        tag: one of ARRAY_TAGS.
        content: its content, already lifted. A body is bytes, which are copied, or another contiguous buffer, which the array
            shares.
        budget: charged for checks that are not linear; None: the sender is trusted.

    Raises:
        ValueError: dtype, dims and bytes do not match.
        TooCostly: fields overlap, and the budget does not suffice to check each of them.
    """
    if tag in tags.TYPED_DTYPES:
        return _lift_typed(tags.TYPED_DTYPES[tag], content)
    if type(content) is list and len(content) == 2 and tag in (tags.ROW_MAJOR, tags.COLUMN_MAJOR):
        return _reshape(content[1], content[0], "C" if tag == tags.ROW_MAJOR else "F")
    if type(content) is list and len(content) == 4 and tag == tags.NDARRAY and content[2] in ("C", "F"):
        wire, dims, order, body = content
        return _make(wire, dims, order, body, budget)
    if tag == tags.READONLY:
        return _freeze(content)
    raise ValueError("an array has content of the wrong type")


def lift_scalar(content: Any, budget: Budget | None = None) -> Any:
    """Lift a numpy scalar. Without numpy: the Python value if the dtype has one, else an `Array` without dimensions.

    Args:
        content: ``[dtype, bytes]``, already lifted.
        budget: charged for checks that are not linear; None: the sender is trusted.

    Raises:
        ValueError: the dtype is not of the protocol, or the number of bytes does not match.
    """
    if type(content) is not list or len(content) != 2 or type(content[1]) is not bytes:
        raise ValueError("a scalar is [dtype, bytes]")
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and type(content[0]) is str:
        dtype = dtypes.from_text(numpy, content[0])
        if dtype.kind not in "bUV" and dtype.itemsize == len(content[1]):
            return numpy.frombuffer(content[1], dtype)[0]
    array = _make(content[0], [], "C", content[1], budget)
    if type(array) is not Array:
        return array[()]
    try:
        return array.tolist()
    except TypeError:
        return array


def _lift_typed(wire: str, body: Any) -> Any:
    numpy: Any = sys.modules.get("numpy")
    count, rest = divmod(_size(body), dtypes.item_size(wire))
    if numpy is None or rest:
        return _make(wire, [count], "C", body)
    return numpy.ndarray(count, dtypes.from_text(numpy, wire), bytearray(body) if type(body) is bytes else body)


def _size(body: Any) -> int:
    if type(body) is bytes or type(body) is bytearray:
        return len(body)
    try:
        return memoryview(body).nbytes
    except TypeError:
        raise ValueError("an array's body is bytes") from None


def _make(wire: Any, dims: Any, order: str, body: Any, budget: Budget | None = None) -> Any:
    item, size = dtypes.item_size(wire), _size(body)
    if not item or dtypes.element_count(dims) * item != size:
        raise ValueError(f"{size} bytes do not make an array of {_shown(wire)} and {len(dims)} dimensions")
    if type(body) is bytes:
        body = bytearray(body)  # bytes are immutable, and the array must be writable
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return Array(wire, tuple(dims), body, order)
    dtype = dtypes.from_wire(numpy, wire)
    array = numpy.ndarray(dims, dtype, body, order=order)
    if dtype.kind in "bUV":
        _Check(numpy, size, budget).items(array)
    return array


def _shown(wire: Any) -> str:
    return f"dtype {wire[:80]!r}" if type(wire) is str else "a structure"


class _Check:
    """Checks that bools are 0 or 1 and characters are Unicode, which numpy assumes without checking.

    numpy counts the true items of a mask by adding up bytes, and relies on the sum when it writes the selected items: other bytes
    would let a guest write beyond an array of the host. Reading a character above U+10FFFF raises SystemError.

    Args:
        numpy: the module.
        size: bytes of the array; checking each byte once is free.
        budget: charged for bytes that are checked again because fields overlap; None: the sender is trusted.
    """

    def __init__(self, numpy: Any, size: int, budget: Budget | None) -> None:
        self._numpy = numpy
        self._free = size
        self._budget = budget

    def items(self, array: Any) -> None:
        """Check all items of an array, field by field.

        Raises:
            ValueError: a byte is not a bool, or a number is not a character.
            TooCostly: the budget does not suffice for fields that overlap.
        """
        dtype = array.dtype
        if dtype.names is not None:
            for name in dtype.names:
                self.items(array[name])
        elif array.size and dtype.kind in "bU":
            self._free -= array.nbytes
            if self._free < 0 and self._budget is not None:
                self._budget.charge(-self._free // _BYTES_PER_UNIT + 1, "the fields of a structure overlap many times")
                self._free = 0
            kind, highest = ("u1", 1) if dtype.kind == "b" else (f"{dtype.byteorder}u4", 0x10FFFF)
            if self._numpy.ravel(array, order="K").view(kind).max() > highest:
                raise ValueError("a bool is a byte 0 or 1" if dtype.kind == "b" else "a character is at most U+10FFFF")


def _reshape(array: Any, dims: Any, order: str) -> Any:
    count = dtypes.element_count(dims)
    if type(array) is Array and len(array.shape) == 1 and array.shape[0] == count:
        return Array(array.dtype, tuple(dims), array.data, order)
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and type(array) is numpy.ndarray and array.shape == (count,):
        return array.reshape(dims, order=order)
    raise ValueError("dims do not fit the array")


def _freeze(array: Any) -> Any:
    if type(array) is Array:
        return Array(array.dtype, array.shape, array.data, array.order, readonly=True)
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or type(array) is not numpy.ndarray:
        raise ValueError("only an array can be read-only")
    array.flags.writeable = False
    return array
