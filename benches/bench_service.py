"""One call of a service: out of the guest, through the checks of the arguments, into a function of the host, and back.

Timed: `Node.process` of a node that calls a service CALLS times. `extra_info` has the time of one service call, a share of that
`process` included. Beside it stands a bare `process`, which is a call in the other direction. Not timed: loading. No native figure
stands beside: natively a service is a function call.
Level: an int through a plain service <= 15 us.
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

import cloche
from cloche import Grants, Service

CALLS = 200
SOURCE = f"""
from cloche_guest import services

def f(value):
    call = services.echo
    for _ in range({CALLS}):
        value = call(value)
    return value
"""


def plain(value: Any) -> Any:
    """A service that runs on the node's thread."""
    return value


def annotated(value: int) -> int:
    """A service whose argument is checked against its annotation."""
    return value


async def awaited(value: Any) -> Any:
    """A service that runs on Cloche's event loop."""
    await asyncio.sleep(0)
    return value


SERVICES: dict[str, Any] = {
    "plain": plain,
    "annotated": annotated,
    "gated": Service(plain, gate=lambda call: True, max_calls=CALLS),
    "deadline": Service(plain, deadline_s=5.0),
    "async": awaited,
}
VALUES: dict[str, Any] = {
    "int": 42,
    "5-key dict": {"a": 1, "b": 2.5, "c": "text", "d": True, "e": None},
    "64 KiB float32": np.ones(1 << 14, "f4"),
}


@pytest.mark.parametrize("kind", [*SERVICES, "process"])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def bench_service(
    benchmark: Any, runtime: cloche.Runtime, request: pytest.FixtureRequest, value: Any, kind: str
) -> None:
    """One value to a service and back, CALLS times."""
    if kind == "annotated" and not isinstance(value, int):
        pytest.skip("the service `annotated` takes ints only")
    benchmark.group = f"service {request.node.callspec.id.removesuffix('-' + kind)}"
    if kind == "process":
        with runtime.load(cloche.Source("def f(x): return x")) as node:
            np.testing.assert_equal(benchmark(node.process, value), value)
        return
    grants = Grants(services={"echo": SERVICES[kind]})
    with runtime.load(cloche.Source(SOURCE), grants=grants, limits=cloche.Limits(deadline_s=60)) as node:
        result = benchmark(node.process, value)
        if benchmark.stats is not None:
            benchmark.extra_info["us_per_call"] = benchmark.stats["median"] / CALLS * 1e6
    np.testing.assert_equal(result, value)
