"""The states of a guest's two random generators, left out of what is stored: 32 bytes of seed stand for five kilobytes.

`random` and `numpy.random` are Mersenne Twisters, seeded alike from the instance's seed (guest/cloche_guest/reseed.py). Their
states are numbers that no compression makes smaller, and most of what distinguishes the clones of one node. A state that is still
the seeded one, or the one after the first draw, can be computed here. Any other is stored like the rest of the memory.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from cloche.errors import ClocheError

__all__ = ["with_generators", "without_generators"]

_WORDS: Final = 623
"""Words of 4 bytes of a state: all but the first, which is the same in each one that was just seeded."""
_BYTES: Final = 4 * _WORDS
_PACKED: Final = struct.Struct(f"<{_WORDS}I")
_MOST: Final = 1 << 20
"""Bytes of words above which five kilobytes are not worth a search."""
_KINDS: Final = 4
"""`random` as seeded, and after the first draw; numpy's likewise."""


def _state(seed: bytes, kind: int) -> bytes:
    """The words of one of the four states."""
    import _random  # a C class: the module `random` seeds one from the system when it is imported

    generator = _random.Random(int.from_bytes(seed if kind < 2 else seed[::-1], "little"))
    if kind % 2:
        generator.random()
    state: Any = generator.getstate()
    return _PACKED.pack(*state[1 : _WORDS + 1])


def without_generators(words: bytes, seed: bytes) -> tuple[bytes, list[list[int]]]:
    """Cut the states of generators out of a snapshot's words.

    Args:
        words: the words.
        seed: 32 bytes, with which the instance was seeded last.

    Returns:
        the other words; and for each state its number and its place, for `with_generators`.
    """
    cuts: list[list[int]] = []
    if len(words) > _MOST:
        return words, cuts
    for first in (0, 2):
        for kind in (first, first + 1):
            at = words.find(_state(seed, kind))
            if at >= 0:
                cuts.append([kind, at])
                words = words[:at] + words[at + _BYTES :]
                break
    return words, cuts


def with_generators(words: bytes, seed: Any, cuts: Any) -> bytes:
    """Put back what `without_generators` has cut out.

    Args:
        words: the other words.
        seed: as there. It may be a stranger's, and anything.
        cuts: likewise.

    Raises:
        ClocheError: they are malformed.
    """
    if type(seed) is not bytes or len(seed) != 32 or type(cuts) is not list or len(cuts) > _KINDS:
        raise ClocheError("the random generators of a parked node are malformed")
    for cut in reversed(cuts):
        match cut:
            case [int(kind), int(at)] if 0 <= kind < _KINDS and 0 <= at <= len(words):
                words = words[:at] + _state(seed, kind) + words[at:]
            case _:
                raise ClocheError("the random generators of a parked node are malformed")
    return words
