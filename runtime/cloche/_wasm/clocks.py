"""Time and randomness that depend on a start, a seed and what the node does, and on nothing else."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from cloche._wasm.core import ClockMode, Word
from cloche.clock import Clock
from cloche.errors import ClocheError

if TYPE_CHECKING:
    from cloche.grants import Grants

__all__ = ["Outside", "check_state", "child", "key", "set_words", "state_of"]

_MAX: Final = (1 << 63) - 1


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


def set_words(words: Any, outside: Outside) -> None:
    """Tell the core what a guest's clocks and its random source start from.

    Args:
        words: the guest's (`core.Word`).
        outside: what they start from.
    """
    if outside.clock is None:
        words[Word.CLOCK_MODE] = ClockMode.REAL
    else:
        start, slept, stepped, step = outside.clock
        words[Word.CLOCK_MODE] = ClockMode.MOVING if step >= 0 else ClockMode.STANDING
        words[Word.CLOCK_START], words[Word.CLOCK_SLEPT], words[Word.CLOCK_STEPPED] = start, slept, stepped
        words[Word.CLOCK_STEP] = max(0, step)
    words[Word.SEEDED] = outside.key is not None
    words[Word.DRAWN] = outside.drawn
    if outside.key is not None:
        for index, word in enumerate(struct.unpack("<4Q", outside.key)):
            words[Word.KEY + index] = word


def state_of(words: Any, outside: Outside) -> dict[str, Any]:
    """Where clocks and random source are, as far as they are not the host's: `Snapshot.outside`."""
    state: dict[str, Any] = {}
    if outside.clock is not None:
        state["clock"] = [words[Word.CLOCK_START], words[Word.CLOCK_SLEPT], words[Word.CLOCK_STEPPED]]
    if outside.key is not None:
        state["drawn"] = words[Word.DRAWN]
    return state
