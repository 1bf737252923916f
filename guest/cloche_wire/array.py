"""An array for those who have no numpy."""

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
"""dtypes that `memoryview` can read, and the format characters for them."""


class Array:
    """Bytes with a shape and a dtype. ``numpy.asarray(array)`` makes a numpy array of it, without a copy.

    On Python 3.12 and later the array itself offers the buffer protocol; on 3.11 `view` does.

    Attributes:
        dtype: as numpy's ``dtype.str``, e.g. "<f4"; for a structure ``[itemsize, [[name, offset, dtype, dims], ...]]``.
        shape: items along each dimension.
        order: "C" (last index fastest) or "F" (first index fastest).
        data: all the bytes.
        readonly: whether the sender's array was.

    Raises:
        ValueError: the bytes are more or fewer than dtype and shape ask for.
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
        """The items, with shape and format, if the dtype has a native format and the order is "C"; else the bytes."""
        return self.data if (view := self._formatted()) is None else view

    def _formatted(self) -> memoryview | None:
        code = _FORMATS.get(self.dtype) if type(self.dtype) is str else None
        if code is None or (self.order == "F" and len(self.shape) > 1):
            return None
        cast: Callable[..., memoryview] = self.data.cast
        return cast(code, list(self.shape)) if self.data.nbytes else cast(code)  # no shape with a zero is cast to

    def tolist(self) -> Any:
        """The items as nested lists, where `view` has them.

        Raises:
            TypeError: it has not: only the bytes are there.
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
            raise BufferError(
                "memoryview has no such format or shape; `data` has the bytes"
            )  # numpy then asks __array__
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        numpy = sys.modules["numpy"]  # who else would ask
        view = numpy.ndarray(self.shape, dtypes.from_wire(numpy, self.dtype), self.data, order=self.order)
        if copy is False and dtype is not None and numpy.dtype(dtype) != view.dtype:
            raise ValueError("another dtype needs a copy")
        return view.astype(dtype or view.dtype, order="K", copy=bool(copy))

    def __repr__(self) -> str:
        return f"Array(dtype={self.dtype!r}, shape={self.shape}, {self.data.nbytes} bytes)"
