"""One call of a node that returns its argument, for several values: the cost of the way into the guest and back.

The way: encode the value, lower the message, enter the guest, decode, run, encode, validate the reply, lift it, decode it, drain
the log ring. Timed: `Node.process`, with logs on and none written; natively, a call of the same class, and two round trips through
pickle, which two processes would pay before a pipe moves a byte. Not timed: loading. Levels: 5-key dict <= 8 us, 1000 ints <= 120
us, nested 9 KB <= 600 us, 1 MiB float32 <= 0.4 ms, 1 MiB str <= 0.5 ms.
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import cloche

SOURCE = "class Echo:\n    def process(self, x):\n        return x\n"


class Echo:
    """The same node, run by native CPython."""

    def process(self, x: Any) -> Any:
        return x


VALUES: dict[str, Any] = {
    "int": 42,
    "5-key dict": {"a": 1, "b": 2.5, "c": "text", "d": True, "e": None},
    "1000 ints": list(range(1000)),
    "nested 9 KB": {
        f"key{i}": {"id": i, "tags": ["a", "b", "c"], "v": [1.5, 2.5], "name": f"node {i}"} for i in range(150)
    },
    "1 MiB bytes": bytes(1 << 20),
    "1 MiB str": "x" * (1 << 20),
    "4 KiB float32": np.ones(1 << 10, np.float32),
    "1 MiB float32": np.ones(1 << 18, np.float32),
    "16 MiB float32": np.ones(1 << 22, np.float32),
}


@pytest.mark.parametrize("contender", ["cloche", "native", "pickle"])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def bench_echo(
    benchmark: Any, runtime: cloche.Runtime, request: pytest.FixtureRequest, value: Any, contender: str
) -> None:
    """One value into the guest and out again."""
    benchmark.group = f"echo {request.node.callspec.id.removesuffix('-' + contender)}"
    if contender == "native":
        benchmark(Echo().process, value)
    elif contender == "pickle":
        benchmark(lambda: pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(value, 5)), 5)))
    else:
        with runtime.load(cloche.Source(SOURCE), "Echo") as node:
            result = benchmark(node.process, value)
        np.testing.assert_equal(result, value)
