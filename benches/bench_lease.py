"""Arrays without copies: the argument lies in a buffer of the node's memory, and the result is leased.

Timed: `Node.process` of a node that returns its argument, for arrays of three sizes: with a buffer in a lease, and with copies. Not
timed: loading, filling the array. No native figure stands beside: a native call passes a reference. Level: <= 20 us for a buffer in
a lease, whatever its size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cloche

SOURCE = cloche.Source("class N:\n    def process(self, x):\n        return x\n")
SIZES = {"64 KiB": 1 << 14, "1 MiB": 1 << 18, "16 MiB": 1 << 22}


@pytest.mark.parametrize("how", ["leased", "copied"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def bench_round_trip(benchmark: Any, runtime: cloche.Runtime, size: int, how: str) -> None:
    """One array into the guest and back."""
    benchmark.group = f"array {size * 4 >> 10} KiB"
    with runtime.load(SOURCE, "N") as node:
        if how == "copied":
            sent = np.ones(size, np.float32)
            result = benchmark(node.process, sent)
        else:
            sent = node.buffer(size, "float32")
            sent[:] = 1
            with node.lease():
                result = benchmark(node.process, sent)
        assert float(result[-1]) == 1.0
