"""What the host charges for a hostile message, beside what that takes: `python -m benches.costs`; ends with 1 if a charge is too small.

Timed: comparing each pair of key kinds that the wire has (numbers, texts, containers, numpy scalars), hashing each of them, and sets
of keys of one hash. Not timed: decoding. The measure is a unit: comparing two small keys as CPython does it in C, on this
machine, in this run. tests/codec/test_cost.py counts the same by bytecode instructions and memory, which no machine changes.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from cloche import Limits
from cloche._codec import hash_floods
from cloche._codec.codec import Codec
from cloche_wire.cost import Budget
from tests.codec import hostile

SLACK: Final = 5
"""Times that work may take what was charged for it. The charges are within a factor of 2, the rest is for a busy machine. A pair of kinds
that nobody has thought of is often a hundred times as dear."""
UNITS_AT_LEAST: Final = 100
"""Units that a comparison may take whatever was charged: it has to call something."""
FREE: Final = 1 << 62


class Cost(NamedTuple):
    """Units that something took, and units charged."""

    what: str
    taken: float
    charged: int

    @property
    def ratio(self) -> float:
        return self.taken / (SLACK * self.charged + UNITS_AT_LEAST)


def shortest(function: Callable[[], Any], times: int) -> float:
    """Seconds of the quickest of some calls: whatever else the machine does makes none quicker."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        function()
        taken.append(time.perf_counter() - began)
    return min(taken)


def seconds_of_a_unit() -> float:
    one, other = tuple(range(10_000)), tuple(range(10_000))
    return shortest(lambda: one == other, 40) / 10_000


def measured(what: str, charged: int, function: Callable[[], Any], unit: float) -> Cost:
    """Once; if that seems too much, at leisure."""
    cost = Cost(what, shortest(function, 1) / unit, charged)
    return cost if cost.ratio <= 1 else Cost(what, shortest(function, 15) / unit, charged)


def of_comparing(pairs: list[tuple[Any, Any]], unit: float) -> Iterator[Cost]:
    for one, other in pairs:
        what = f"{hostile.shown(one)} == {hostile.shown(other)}"
        compare = lambda one=one, other=other: hostile.are_equal(one, other)  # noqa: E731
        yield measured(what, hostile.price(one, other), compare, unit)


def of_hashing(values: list[tuple[Any, int]], unit: float) -> Iterator[Cost]:
    """Each key is hashed before anything is charged: its bytes are the price."""
    for value, length in values:
        yield measured(f"hash of {hostile.shown(value)}", length, lambda value=value: hash(value), unit)


def of_meeting(codec: Codec, unit: float) -> Iterator[Cost]:
    """Sets of keys of one hash and two kinds: 100 decimals among 200 fractions took 8 s."""
    for one, other in itertools.product(hostile.HEAVY, repeat=2):
        made = [*(one(i) for i in range(8)), *(other(i + 8) for i in range(8))]
        keys = [codec.decode(hostile.frame(key))[1] for key in made]
        try:
            distinct = len(set(keys)) == len(keys)
        except hostile.UNCOMPARABLE:  # the message is refused at the first
            continue
        if distinct:
            budget = Budget()
            budget.left = FREE
            hash_floods.charge_set(keys, budget)
            what = f"8 like {hostile.shown(keys[0])} among 8 like {hostile.shown(keys[-1])}"
            yield measured(what, FREE - budget.left, lambda keys=keys: set(keys), unit)


def main() -> int:
    """Print the dearest of each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the pairs: shows that it runs, and measures little"
    )
    quick = parser.parse_args().quick
    codec = Codec(Limits(), lambda _: 0, lambda _, length: memoryview(hostile.BLOB)[:length])
    unit = seconds_of_a_unit()
    print(
        f"A unit takes {unit * 1e9:.1f} ns here. Ratio: units taken / ({SLACK} x units charged + {UNITS_AT_LEAST}).\n"
    )
    step = 10 if quick else 1
    worst = 0.0
    for title, costs in {
        "comparing two keys": of_comparing(list(hostile.pairs(codec))[::step], unit),
        "hashing": of_hashing(list(hostile.hashable(codec))[::step], unit),
        "sets of keys of one hash": of_meeting(codec, unit),
    }.items():
        dearest = sorted(costs, key=lambda cost: -cost.ratio)
        worst = max(worst, dearest[0].ratio)
        print(f"{title}: {len(dearest)} measured, the dearest")
        for cost in dearest[:5]:
            print(f"  {cost.ratio:6.2f}  {cost.taken:12,.0f} units for {cost.charged:12,}  {cost.what}")
    return int(worst > 1 and not quick)


if __name__ == "__main__":
    sys.exit(main())
