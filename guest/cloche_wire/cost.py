"""`Budget`: bounds what lifting one message may cost its receiver, in time and memory.

The rule: whatever its bytes, a message costs its receiver at most a fixed multiple of its size. Most of that holds by construction,
since each item becomes one object, in time linear in the item's bytes. Three operations are not linear, and are charged to a
`Budget`:

- *Comparing.* A set or dict compares keys of equal hash, and nesting multiplies the comparisons. `cloche._codec.hash_floods`
charges
  an upper bound before the set or dict is built.
- *Probing.* Keys of different hashes can collide in a table. `cloche._codec.hash_floods` simulates the table, and charges each
probe.
- *Checking the bytes of an array again.* Fields of a structure can overlap. `cloche_wire.arrays` charges each byte that is checked
  more than once.

An ordinary value spends next to nothing of its budget; tests/codec/test_floods.py has the values that must pass.
docs/reference/wire.md states the rule in figures.
"""

from __future__ import annotations

from typing import Any, Final

UNITS_PER_BYTE: Final = 64
"""Units that a message may spend for each of its bytes. A unit is the time to compare two small keys, some 10 ns."""
UNITS_AT_LEAST: Final = 1 << 18
"""Units that any message may spend in addition: a few milliseconds."""
COUNTED_BYTES: Final = 1 << 20
"""Bytes of a message that count. So a budget is at most about one second, however large the message."""


class TooCostly(Exception):
    """A value is well-formed, but lifting it would cost more than the rule allows. Only that value is refused.

    Attributes:
        steps: indexes and keys that lead from the message to the value, outermost first.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.steps: list[Any] = []


class Budget:
    """Units that one message may still spend beyond the linear cost of its items.

    Args:
        size: bytes of the message.

    Attributes:
        left: units left.
        widest: comparisons that one lookup in a frozenset of the message can take, at most.
        lifted: number of values so far that may spend units; when one is refused, this number tells which.
    """

    __slots__ = ("left", "lifted", "widest")

    def __init__(self, size: int = 0) -> None:
        self.renew(size)

    def renew(self, size: int) -> None:
        """Start over for a message of `size` bytes."""
        self.left = UNITS_AT_LEAST + UNITS_PER_BYTE * min(size, COUNTED_BYTES)
        self.widest = 1
        self.lifted = 0

    def charge(self, units: int, what: str) -> None:
        """Spend units.

        Args:
            units: how many.
            what: the reason, which begins the message of the error.

        Raises:
            TooCostly: fewer units are left.
        """
        self.left -= units
        if self.left < 0:
            raise TooCostly(f"{what}: that would cost the host more than a value of this size may")
