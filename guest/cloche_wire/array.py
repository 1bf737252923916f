"""`Array`: a minimal array type, to which arrays are decoded where numpy is not installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from cloche_wire import dtypes

_NATIVE: Final = "<" if sys.byteorder == "little" else ">"
_FORMATS: Final = {
    "|b1": "?", "|i1": "b", "|u1": "B", "|S1": "c",
    **{f"{_NATIVE}{kind}{size}": code for kind, size, code in (
        ("i", 2, "h"), ("i", 4, "i"), ("i", 8, "q"), ("u", 2, "H"), ("u", 4, "I"), ("u", 8, "Q"),
        ("f", 2, "e"), ("f", 4, "f"), ("f", 8, "d"),
    )},
}  # fmt: skip
"""dtype -> format character of `memoryview`, for the dtypes that `memoryview` can read."""


class Array:
    """Bytes with a shape and a dtype. ``numpy.asarray(array)`` makes a numpy array that shares the bytes.

    On Python 3.12 and later the array itself supports the buffer protocol; on Python 3.11 use `view`.

    Attributes:
        dtype: numpy's ``dtype.str``, e.g. "<f4"; for a structure ``[itemsize, [[name, offset, dtype, dims], ...]]``.
        shape: number of items along each dimension.
        order: "C" (last index varies fastest) or "F" (first index varies fastest).
        data: the bytes of all items, as a one-dimensional view.
        readonly: whether the sender's array was read-only.

    Raises:
        ValueError: the number of bytes does not match dtype and shape.
    """

    __slots__ = ("data", "dtype", "order", "readonly", "shape")

    def __init__(
        self, dtype: dtypes.Wire, shape: tuple[int, ...], data: Any, order: str = "C", readonly: bool = False
    ) -> None:
        view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        if dtypes.item_size(dtype) * dtypes.element_count(list(shape)) != view.nbytes or order not in ("C", "F"):
            raise ValueError(f"{view.nbytes} bytes do not make an array of shape {shape}")
        self.dtype = dtype
        self.shape = shape
        self.data = view.toreadonly() if readonly else view
        self.order = order
        self.readonly = readonly

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes from one item to the next, along each dimension."""
        step, steps = dtypes.item_size(self.dtype), []
        for size in self.shape[:: -1 if self.order == "C" else 1]:
            steps.append(step)
            step *= size
        return tuple(steps[:: -1 if self.order == "C" else 1])

    def view(self) -> memoryview:
        """A view with shape and format if `memoryview` can read the dtype and the order is "C"; else a view of the bytes."""
        return self.data if (view := self._formatted()) is None else view

    def _formatted(self) -> memoryview | None:
        code = _FORMATS.get(self.dtype) if type(self.dtype) is str else None
        if code is None or (self.order == "F" and len(self.shape) > 1):
            return None
        cast: Callable[..., memoryview] = self.data.cast
        # `cast` refuses a shape that contains 0
        return cast(code, list(self.shape)) if self.data.nbytes else cast(code)

    def tolist(self) -> Any:
        """The items as nested lists.

        Raises:
            TypeError: `memoryview` cannot read this dtype or order; use numpy.
        """
        view = self._formatted()
        if view is None:
            raise TypeError(f"an array of dtype {self.dtype} and order {self.order} has no list without numpy")
        return view.tolist()

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an array without dimensions has no length")
        return self.shape[0]

    def __buffer__(self, flags: int) -> memoryview:
        view = self._formatted()
        if view is None or (0 in self.shape and len(self.shape) > 1):
            # numpy falls back to __array__ after this error
            raise BufferError("memoryview has no such format or shape; `data` has the bytes")
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        numpy = sys.modules["numpy"]  # only numpy calls this method
        view = numpy.ndarray(self.shape, dtypes.from_wire(numpy, self.dtype), self.data, order=self.order)
        if copy is False and dtype is not None and numpy.dtype(dtype) != view.dtype:
            raise ValueError("another dtype needs a copy")
        return view.astype(dtype or view.dtype, order="K", copy=bool(copy))

    def __reduce__(self) -> tuple[Any, ...]:
        data = bytes(self.data) if self.data.readonly else bytearray(self.data)
        return Array, (self.dtype, self.shape, data, self.order, self.readonly)

    def __repr__(self) -> str:
        return f"Array(dtype={self.dtype!r}, shape={self.shape}, {self.data.nbytes} bytes)"
