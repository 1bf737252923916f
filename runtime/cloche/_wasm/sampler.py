"""Samplers of the native core (runtime/native/sampler.c): threads that note where guests are in their Python code."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from cloche._wasm.core import Sampled, Status, core
from cloche._wasm.scarce import no_thread
from cloche.errors import ClocheError
from cloche_wire import abi

__all__ = ["LANES", "NO_PARENT", "Found", "FoundFunction", "FoundLane", "FoundNode", "FoundPlace", "Sampler"]

LANES: Final = 256
"""Guests that one sampler tells apart. They are its tree's first nodes: its roots."""
NO_PARENT: Final = 0xFFFF_FFFF
"""Parent and place of a root."""
_TEXT_BYTES: Final = 800
_AT_ONCE: Final = 256
"""Items that are copied at once: the core holds the lock of the deadlines meanwhile."""


class _Function(ctypes.Structure):
    """``struct cloche_sampled_function``."""

    _fields_ = (
        ("first_line", ctypes.c_int32),
        ("file_bytes", ctypes.c_uint32),
        ("name_bytes", ctypes.c_uint32),
        ("file", ctypes.c_uint8 * _TEXT_BYTES),  # not c_char, whose value would end at a zero
        ("name", ctypes.c_uint8 * _TEXT_BYTES),
    )


class _Place(ctypes.Structure):
    """``struct cloche_sampled_place``."""

    _fields_ = (("function", ctypes.c_uint32), ("offset", ctypes.c_uint32), ("line", ctypes.c_int32))


class _Node(ctypes.Structure):
    """``struct cloche_sampled_node``."""

    _fields_ = (
        ("parent", ctypes.c_uint32),
        ("place", ctypes.c_uint32),
        ("samples", ctypes.c_uint64),
        ("spent_ns", ctypes.c_uint64),
    )


class _Lane(ctypes.Structure):
    """``struct cloche_sampled_lane``."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("samples", "rested", "torn", "cut", "lost", "full"))


class FoundFunction(NamedTuple):
    """A function: untrusted texts, "" if they could not be read, and its first line."""

    file: str
    name: str
    first_line: int


class FoundPlace(NamedTuple):
    """A place in the code of a function; line 0: unknown."""

    function: int
    line: int


class FoundNode(NamedTuple):
    """A place under the place of its caller, and how often and how long it was the innermost one."""

    parent: int
    place: int
    samples: int
    spent_ns: int


class FoundLane(NamedTuple):
    """The samples of one guest: counts, explained in cloche.h."""

    samples: int
    rested: int
    torn: int
    cut: int
    lost: int
    full: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a sampler has found so far. In `nodes` callers come before their callees; the first `LANES` are the roots."""

    functions: list[FoundFunction]
    places: list[FoundPlace]
    nodes: list[FoundNode]
    lanes: list[FoundLane]


class Sampler:
    """A thread of the core that samples the guests whose `Word.SAMPLER` is one of `word`. It ends with `end`, or with this object.

    Args:
        layout: see `cloche._wasm.engine.Engine.layout`.
        period_s: average time between two samples.

    Raises:
        ClocheError: there are 16 samplers already; or the system has no thread or memory for one more.
    """

    def __init__(self, layout: Mapping[str, int], period_s: float) -> None:
        self._number = 0
        words = (ctypes.c_uint32 * len(abi.LAYOUT_WORDS))(*(layout[name] for name in abi.LAYOUT_WORDS))
        number = core().sampler_begin(words, len(words), round(period_s * 1e9))
        if number == Status.BUSY:
            raise ClocheError("16 profiles are being sampled: end one of them first")
        if number == Status.NO_THREAD:
            raise no_thread("to sample nodes", OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)))
        if number < 0:
            raise ClocheError("this process has no memory left for a sampler")
        self._number = number

    def word(self, lane: int) -> int:
        """What `Word.SAMPLER` of a guest has to be, so that the guest is sampled in that lane."""
        return self._number << 16 | lane

    def read(self) -> Found:
        """What was found so far; empty after `end`."""
        nodes = self._items(Sampled.NODE, _Node)  # first: what it refers to is read later, and so is there
        places, functions = self._items(Sampled.PLACE, _Place), self._items(Sampled.FUNCTION, _Function)
        lanes = self._items(Sampled.LANE, _Lane)
        return Found(
            [FoundFunction(_text(one.file, one.file_bytes), _text(one.name, one.name_bytes), one.first_line) for one in functions],
            [FoundPlace(one.function, one.line) for one in places],
            [FoundNode(one.parent, one.place, one.samples, one.spent_ns) for one in nodes],
            [FoundLane(one.samples, one.rested, one.torn, one.cut, one.lost, one.full) for one in lanes],
        )  # fmt: skip

    def _items(self, kind: Sampled, form: Any) -> list[Any]:
        found: list[Any] = []
        while True:
            some = (form * _AT_ONCE)()
            count = core().sampled(self._number, kind, len(found), some, _AT_ONCE)
            found += some[: max(0, count)]
            if count < _AT_ONCE:
                return found

    def end(self) -> None:
        """End the thread, and drop what it has found. Again: does nothing."""
        number, self._number = self._number, 0
        if number:
            core().sampler_end(number)

    def __del__(self) -> None:
        self.end()


def _text(room: Any, size: int) -> str:
    return bytes(room[:size]).decode("utf-8", "replace")
