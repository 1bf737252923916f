"""What an instance lives in: a store with the image instantiated, at rest. A closed one is made pristine and used again.

Most of the price of a new sandbox is the kernel's: mapping the image, a fault and a fresh page for each page that is written, and
giving all of it back. A cell whose guest ended at rest is worth keeping: the pages that it wrote to (the kernel knows
which, see `Memory.dirty_runs`) are overwritten with the image's own, and nothing of its guest is left. A cell whose guest
was stopped, trapped, exited or grew its memory is freed at once, as is every cell beyond a few.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

import wasmtime

from cloche import _ffi
from cloche._guard import Guard, GuardedCall
from cloche._memory import Memory

if TYPE_CHECKING:
    from cloche._engine import Engine

__all__ = ["Cell", "Cells"]

KEPT: Final = 8
"""Idle cells that an engine keeps: about 0.7 MB each."""


class Cell:
    """One store, its instance, and the exports that the host uses.

    Args:
        engine: what to instantiate.
    """

    __slots__ = ("_stack", "_stack_top", "alloc", "check", "free", "guard", "memory", "node_call", "ring", "store")

    def __init__(self, engine: Engine) -> None:
        self.store = store = wasmtime.Store(engine.wasmtime)
        if engine.metering == "fuel":
            store.set_fuel(1 << 62)
        exports = engine.template.instantiate(store).exports(store)
        # the types of all exports are those of the ABI: check_abi has seen to it
        self.guard = Guard() if engine.metering == "guard" else None
        call = _ffi.Call if self.guard is None else partial(GuardedCall, guard=self.guard)
        self.node_call: _ffi.Call = call(store, exports["node_call"], 4)  # type: ignore[arg-type]
        self.alloc: _ffi.Call = call(store, exports["node_alloc"], 1)  # type: ignore[arg-type]
        self.free: _ffi.Call = call(store, exports["node_free"], 1)  # type: ignore[arg-type]
        self.check: _ffi.Call = call(store, exports["node_check"], 4)  # type: ignore[arg-type]
        self.memory: wasmtime.Memory = exports["memory"]  # type: ignore[assignment]
        self.ring: int = exports["cloche_ring"].value(store)  # type: ignore[union-attr]
        self._stack: wasmtime.Global = exports["__stack_pointer"]  # type: ignore[assignment]
        self._stack_top = self._stack.value(store)

    def view(self) -> Memory:
        """Access to its memory, for one guest."""
        return Memory(self.store, self.memory, self.ring, self.alloc, self.free, self.check)

    @property
    def at_rest(self) -> bool:
        """Whether the one mutable global has its initial value, and no guard has ever locked the memory."""
        unharmed = self.guard is None or not self.guard.used
        return unharmed and bool(self._stack.value(self.store) == self._stack_top)


class Cells:
    """The idle cells of one engine, each as pristine as a new one. Thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._idle: deque[Cell] = deque()
        self._image: tuple[Cell, Memory] | None = None
        self._closed = False

    def take(self) -> Cell:
        """An idle cell, or a new one."""
        try:
            return self._idle.pop()
        except IndexError:
            return Cell(self._engine)

    def give_back(self, cell: Cell, memory: Memory) -> bool:
        """Make a cell pristine and keep it; False if it has to be freed instead."""
        if self._closed or len(self._idle) >= KEPT or not cell.at_rest:
            return False
        image = self._pristine()
        if memory.size != image.size:
            return False
        try:
            memory.reset(image)
        except OSError:  # no pagemap to read
            return False
        self._idle.append(cell)
        return True

    def _pristine(self) -> Memory:
        """The image's memory, from a cell whose guest never runs."""
        if self._image is None:
            cell = Cell(self._engine)
            self._image = cell, cell.view()
        return self._image[1]

    def close(self) -> None:
        """Free them all."""
        self._closed = True
        while self._idle:
            self._idle.pop().store.close()
        if self._image is not None:
            cell, memory = self._image
            self._image = None
            memory.close()
            cell.store.close()
