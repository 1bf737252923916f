"""Time and randomness that depend on a start, a seed and what the node does, and on nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from cloche.clock import Clock
from cloche.errors import ClocheError
from cloche_wire import abi

if TYPE_CHECKING:
    from cloche.grants import Grants

__all__ = ["Outside", "Stream", "Time", "check_state", "child", "key"]

_MAX: Final = (1 << 63) - 1
_MONOTONIC_START: Final = 10**9
"""A monotonic clock that began at 0 would look like one that was never read."""

_CHUNK: Final = 512


@dataclass(frozen=True, slots=True)
class Outside:
    """What a guest's clocks and its random source start from, as plain data.

    Attributes:
        clock: of clocks that are not the host's: start, slept, stepped and step, in nanoseconds; None: the host's. A step of -1:
            they stand still.
        key: of a random source that is not the operating system's.
        drawn: words of 8 bytes that have been drawn from it.
    """

    clock: tuple[int, int, int, int] | None = None
    key: bytes | None = None
    drawn: int = 0

    @classmethod
    def of(cls, grants: Grants) -> Outside:
        """At the start of a node."""
        clock = grants.clock
        assert isinstance(clock, Clock)  # Grants has made it one
        times = None
        if clock.mode != "real":
            times = clock.start_ns(time.time_ns()), 0, 0, clock.step_ns if clock.mode == "virtual" else -1
        return cls(times, None if grants.seed is None else key(grants.seed))

    def resumed(self, state: Mapping[str, Any], *, stream: bool) -> Outside:
        """Where a snapshot has left off, as far as the grants still say so.

        Args:
            state: `Snapshot.outside`.
            stream: whether the random source goes on, too.
        """
        made = self
        if self.clock is not None and "clock" in state:
            made = replace(made, clock=(*state["clock"], self.clock[3]))
        if stream and self.key is not None and "drawn" in state:
            made = replace(made, drawn=state["drawn"])
        return made

    @property
    def seed(self) -> bytes:
        """32 bytes for the generators inside the guest."""
        return os.urandom(32) if self.key is None else _blake2b(b"guest", key=self.key)


def check_state(state: Any) -> None:
    """Whether it can be `Snapshot.outside`, which may come from anywhere.

    Raises:
        ClocheError: it cannot.
    """
    if not isinstance(state, Mapping):
        raise ClocheError("the snapshot's clocks or its random source are none")
    times, drawn = state.get("clock", [0, 0, 0]), state.get("drawn", 0)
    if (
        not {"clock", "drawn"}.issuperset(state)
        or not isinstance(times, (list, tuple))
        or len(times) != 3
        or not all(type(number) is int and 0 <= number <= _MAX for number in (*times, drawn))
    ):
        raise ClocheError("the snapshot's clocks or its random source are none")


def key(seed: int | bytes) -> bytes:
    """The key that a seed stands for; ints and bytes never stand for the same."""
    data = b"bytes:" + seed if isinstance(seed, bytes) else b"int:%d" % seed
    return _blake2b(data, person=b"cloche seed")


def child(seed: int | bytes, number: int) -> bytes:
    """A seed for that clone of a node: all different, and the same each time."""
    return _blake2b(b"%d" % number, key=key(seed), person=b"cloche clone")


def _blake2b(data: bytes, size: int = 32, **options: bytes) -> bytes:
    import hashlib  # slow to import: it loads OpenSSL

    return hashlib.blake2b(data, digest_size=size, **options).digest()  # type: ignore[arg-type]  # key and person


class Time:
    """Clocks that stand still, or advance by sleeping and by being read."""

    __slots__ = ("_moving", "_sleeps", "_start", "_step", "_steps")

    def __init__(self, start: int, slept: int, stepped: int, step: int) -> None:
        self._start = start
        self._sleeps = slept
        self._steps = stepped
        self._step = max(0, step)
        self._moving = step >= 0

    def read(self, clock: int) -> int:
        """Nanoseconds of that clock (``abi.CLOCK_*``)."""
        steps = self._steps
        self._steps = steps + self._step
        if clock == abi.CLOCK_REALTIME:
            return min(_MAX, self._start + self._sleeps + steps)
        if clock == abi.CLOCK_MONOTONIC:
            return min(_MAX, _MONOTONIC_START + self._sleeps + steps)
        return min(_MAX, steps)

    def sleep(self, nanoseconds: int) -> None:
        """Let so much time pass, in no time."""
        if self._moving:
            self._sleeps = min(_MAX, self._sleeps + max(0, nanoseconds))

    @property
    def state(self) -> list[int]:
        """What `Outside.clock` begins with."""
        return [self._start, self._sleeps, min(_MAX, self._steps)]


class Stream:
    """Words of 8 random bytes: blake2b in counter mode under a key, or the operating system's.

    Attributes:
        drawn: how many so far.
    """

    __slots__ = ("_bytes", "_more", "drawn")

    def __init__(self, key: bytes | None = None, drawn: int = 0) -> None:
        self._bytes = b""
        self.drawn = drawn
        self._more: Callable[[], bytes] = (lambda: os.urandom(_CHUNK)) if key is None else (lambda: self._block(key))
        if key is not None and drawn % 8:
            self._bytes = self._block(key)[8 * (drawn % 8) :]

    def _block(self, key: bytes) -> bytes:
        return _blake2b((self.drawn // 8).to_bytes(16, "little"), 64, key=key)

    def word(self) -> int:
        """The next one, as a signed number."""
        if not self._bytes:
            self._bytes = self._more()
        word = int.from_bytes(self._bytes[:8], "little", signed=True)
        self._bytes = self._bytes[8:]
        self.drawn += 1
        return word
