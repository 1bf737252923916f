"""Clocks and random source of a guest, if they are not the host's: set before the guest runs, read for a snapshot.

With `Grants.clock` and `Grants.seed`, time and random numbers depend only on a start, a seed and the node's own actions, so that a
run can be repeated. The native core implements both (runtime/native/imports.c, random.c); this module writes and reads the words
that they work with, and derives the seed of each clone (`clone_seed`).
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from cloche._wasm.core import ClockMode, Word
from cloche.clock import Clock, Mode
from cloche.errors import ClocheError

__all__ = ["ClockAndRandomState", "check_state", "clone_seed", "seed_key", "set_words", "state_of"]

_MAX: Final = (1 << 63) - 1
"""The largest number of nanoseconds or of drawn words: the core computes with signed 64-bit numbers."""


@dataclass(frozen=True, slots=True)
class ClockAndRandomState:
    """The state from which a guest's clocks and its random source start, as plain data.

    Attributes:
        clock: None for the host's clocks; otherwise four numbers of nanoseconds: the wall clock's time at the start of the node;
            how long the guest has slept; by how much readings have advanced the clocks; by how much each reading advances them
            (-1: the clocks stand still).
        key: 32 bytes, the key of the random source; None for the operating system's random source.
        drawn: number of 8-byte words that the guest has drawn from the random source.
    """

    clock: tuple[int, int, int, int] | None = None
    key: bytes | None = None
    drawn: int = 0

    @classmethod
    def of(cls, clock: Clock | Mode, seed: int | bytes | None) -> ClockAndRandomState:
        """The state of a node that is being loaded.

        Args:
            clock: the node's `Grants.clock`.
            seed: the node's `Grants.seed`.
        """
        if not isinstance(clock, Clock):
            clock = Clock(clock)
        times = None
        if clock.mode != "real":
            times = clock.start_ns(time.time_ns()), 0, 0, clock.step_ns if clock.mode == "virtual" else -1
        return cls(times, None if seed is None else seed_key(seed))

    def resumed(self, state: Mapping[str, Any], *, stream: bool) -> ClockAndRandomState:
        """The state of a node that is being restored.

        Clocks and random source are those of `self`, which the grants chose; the snapshot says how far they had advanced.

        Args:
            state: the snapshot's `Snapshot.outside`.
            stream: whether the random source continues where the snapshot left off; if not, it starts anew.
        """
        made = self
        if self.clock is not None and "clock" in state:
            made = replace(made, clock=(*state["clock"], self.clock[3]))
        if stream and self.key is not None and "drawn" in state:
            made = replace(made, drawn=state["drawn"])
        return made

    @property
    def seed(self) -> bytes:
        """32 bytes that seed the random generators inside the guest (`random` and `numpy.random`)."""
        return os.urandom(32) if self.key is None else _blake2b(b"guest", key=self.key)


def check_state(state: Any) -> None:
    """Check a value for `Snapshot.outside`. A snapshot that was read from a file may have anything there.

    Args:
        state: a mapping with, optionally, "clock" (three numbers of nanoseconds: start, slept, stepped) and "drawn" (a number).

    Raises:
        ClocheError: the value is anything else.
    """
    if not isinstance(state, Mapping):
        raise ClocheError("the snapshot's state of clocks or random source is malformed")
    times, drawn = state.get("clock", [0, 0, 0]), state.get("drawn", 0)
    if (
        not {"clock", "drawn"}.issuperset(state)
        or not isinstance(times, (list, tuple))
        or len(times) != 3
        or not all(type(number) is int and 0 <= number <= _MAX for number in (*times, drawn))
    ):
        raise ClocheError("the snapshot's state of clocks or random source is malformed")


def seed_key(seed: int | bytes) -> bytes:
    """The 32-byte key of a random source. An int and a bytes object never give the same key.

    Args:
        seed: `Grants.seed`.
    """
    data = b"bytes:" + seed if isinstance(seed, bytes) else b"int:%d" % seed
    return _blake2b(data, person=b"cloche seed")


def clone_seed(seed: int | bytes, number: int) -> bytes:
    """The seed of a clone: different for each clone of a node, and the same in each run.

    Args:
        seed: `Grants.seed` of the node that is cloned.
        number: number of the clone, counted from the node that was loaded.
    """
    return _blake2b(b"%d" % number, key=seed_key(seed), person=b"cloche clone")


def _blake2b(data: bytes, size: int = 32, **options: bytes) -> bytes:
    import hashlib  # slow to import: it loads OpenSSL

    return hashlib.blake2b(data, digest_size=size, **options).digest()  # type: ignore[arg-type]  # key and person


def set_words(words: Any, outside: ClockAndRandomState) -> None:
    """Tell the core from which state a guest's clocks and its random source start.

    Args:
        words: the guest's `cloche._wasm.slot.Slot.words`.
        outside: that state.
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


def state_of(words: Any, outside: ClockAndRandomState) -> dict[str, Any]:
    """The current state of a guest's clocks and random source, for `Snapshot.outside`. Those of the host are left out.

    Args:
        words: the guest's `cloche._wasm.slot.Slot.words`.
        outside: the state that they started from.
    """
    state: dict[str, Any] = {}
    if outside.clock is not None:
        state["clock"] = [words[Word.CLOCK_START], words[Word.CLOCK_SLEPT], words[Word.CLOCK_STEPPED]]
    if outside.key is not None:
        state["drawn"] = words[Word.DRAWN]
    return state
