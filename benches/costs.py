"""The work that a hostile message causes, beside the units that the decoder charges for that work: `python -m benches.costs`.

The exit code is 1 if a charge is too small. Timed: comparing keys, for each pair of kinds that the wire has (numbers, texts,
containers, numpy scalars); hashing a key of each kind; and building sets of keys that have one hash. Not timed: decoding. A unit is
the time that CPython's C code takes to compare two small keys, on this machine and in this run. tests/codec/test_cost.py measures the
same work in bytecode instructions and memory, which do not depend on the machine.
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
"""Work may take this many times the units that were charged. Charges are right within a factor of 2; the rest allows for a busy
machine. A pair of kinds without a rule of its own often takes a hundred times its charge."""
UNITS_AT_LEAST: Final = 100
"""Units that any work may take in addition, because it is started by a call of a Python function."""
FREE: Final = 1 << 62
"""Units of a budget that is never used up."""


class Cost(NamedTuple):
    """One piece of work.

    Attributes:
        what: its description.
        taken: units that it took.
        charged: units that the decoder charges.
    """

    what: str
    taken: float
    charged: int

    @property
    def ratio(self) -> float:
        """Units taken, as a share of the units that the work may take; above 1 the charge is too small."""
        return self.taken / (SLACK * self.charged + UNITS_AT_LEAST)


def shortest(function: Callable[[], Any], times: int) -> float:
    """Seconds of the quickest of several calls, which other work of the machine has slowed down least."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        function()
        taken.append(time.perf_counter() - began)
    return min(taken)


def seconds_of_a_unit() -> float:
    """Seconds that CPython's C code takes to compare two small keys."""
    one, other = tuple(range(10_000)), tuple(range(10_000))
    return shortest(lambda: one == other, 40) / 10_000


def measured(what: str, charged: int, function: Callable[[], Any], unit: float) -> Cost:
    """Time some work once; and, if it seems to take more than it may, fifteen times more, of which the quickest counts."""
    cost = Cost(what, shortest(function, 1) / unit, charged)
    return cost if cost.ratio <= 1 else Cost(what, shortest(function, 15) / unit, charged)


def of_comparing(pairs: list[tuple[Any, Any]], unit: float) -> Iterator[Cost]:
    """The cost of comparing the two keys of each pair."""
    for one, other in pairs:
        what = f"{hostile.shown(one)} == {hostile.shown(other)}"
        compare = lambda one=one, other=other: hostile.are_equal(one, other)  # noqa: E731
        yield measured(what, hostile.price(one, other), compare, unit)


def of_hashing(values: list[tuple[Any, int]], unit: float) -> Iterator[Cost]:
    """The cost of hashing each key. The decoder charges nothing for a hash itself: the key's bytes, already charged, pay for it."""
    for value, length in values:
        yield measured(f"hash of {hostile.shown(value)}", length, lambda value=value: hash(value), unit)


def of_meeting(codec: Codec, unit: float) -> Iterator[Cost]:
    """The cost of sets whose keys have one hash and two kinds. Before it was charged, 100 decimals among 200 fractions took 8 s."""
    for one, other in itertools.product(hostile.HEAVY, repeat=2):
        made = [*(one(i) for i in range(8)), *(other(i + 8) for i in range(8))]
        keys = [codec.decode(hostile.frame(key))[1] for key in made]
        try:
            distinct = len(set(keys)) == len(keys)
        except hostile.UNCOMPARABLE:  # the decoder refuses such a message at the first comparison
            continue
        if distinct:
            budget = Budget()
            budget.left = FREE
            hash_floods.charge_set(keys, budget)
            what = f"8 like {hostile.shown(keys[0])} among 8 like {hostile.shown(keys[-1])}"
            yield measured(what, FREE - budget.left, lambda keys=keys: set(keys), unit)


def main() -> int:
    """Print the costliest pieces of work of each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the pairs, and no failure: shows only that the program runs"
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
        print(f"{title}: {len(dearest)} measured, the costliest")
        for cost in dearest[:5]:
            print(f"  {cost.ratio:6.2f}  {cost.taken:12,.0f} units for {cost.charged:12,}  {cost.what}")
    return int(worst > 1 and not quick)


if __name__ == "__main__":
    sys.exit(main())
