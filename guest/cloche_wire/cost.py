"""What lifting one message may cost: the rule, and the budget that enforces it.

The rule: whatever the bytes, the receiver spends on a message no more than a fixed multiple of its size, in time and
in memory. Most of it holds by construction: each item of a message becomes one object, made in time linear in the
item's bytes. Three things are not linear by themselves, and are paid for out of a `Budget`:

- *Comparing.* A set or dict compares keys of equal hash, and nested keys multiply the comparisons. `cloche._floods`
  charges an upper bound of them before the set or dict is built.
- *Probing.* Keys of different hashes can want the same slots of a table. `cloche._floods` walks the tables, and charges
  each step.
- *Looking at the bytes of an array again.* Fields of a structure can overlap; `cloche_wire.arrays` charges the bytes
  beyond the first look.

An ordinary value spends next to nothing of its budget: see tests/wire/test_floods.py for what must pass. docs/reference/wire.md
has the rule in figures.
"""

from __future__ import annotations

from typing import Any, Final

UNITS_PER_BYTE: Final = 64
"""A unit is the comparison of two small keys, some 10 ns."""
UNITS_AT_LEAST: Final = 1 << 18
"""What the smallest message may spend: a few milliseconds."""
COUNTED_BYTES: Final = 1 << 20
"""Bytes of a message that count: a budget has at most about a second, however large the message is."""


class TooCostly(Exception):
    """A value is well-formed, and would cost its receiver more than the rule allows. Only that value is refused.

    Attributes:
        steps: indexes and keys that lead from the message to the value, outermost first.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.steps: list[Any] = []


class Budget:
    """What one message may still spend beyond the linear cost of its items.

    Attributes:
        left: units.
        widest: the most keys of one hash that any set or dict of the message has so far.
        lifted: values lifted so far that may spend units; it tells which one was refused.
    """

    __slots__ = ("left", "lifted", "widest")

    def __init__(self, size: int = 0) -> None:
        self.renew(size)

    def renew(self, size: int) -> None:
        """A message of `size` bytes begins."""
        self.left = UNITS_AT_LEAST + UNITS_PER_BYTE * min(size, COUNTED_BYTES)
        self.widest = 1
        self.lifted = 0

    def charge(self, units: int, what: str) -> None:
        """Spend units.

        Args:
            units: how many.
            what: what they are for, as the error says it.

        Raises:
            TooCostly: the message has not so many left.
        """
        self.left -= units
        if self.left < 0:
            raise TooCostly(f"{what}: that would cost the host more than a value of this size may")
