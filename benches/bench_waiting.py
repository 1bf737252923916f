"""A plain function on anyio's shared threads (an endpoint of FastAPI that is no coroutine), beside 100 requests to a pool of 2.

Timed: from the event loop to one of the shared threads and back, as `anyio.to_thread.run_sync` does it. Meanwhile 100 tasks await a
pool of two nodes, each of which computes for some 5 ms a request; or, for comparison without Cloche, sleep as long as such a request
takes. Not timed: loading, the requests themselves.
Level: 99 in 100 <= 50 ms later than beside tasks that sleep.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

import cloche

REQUESTS, NODES = 100, 2
SOURCE = cloche.Source("def work(n):\n    total = 0\n    for i in range(n):\n        total += i * i\n    return total")
ITEM = 50_000


@contextmanager
def crowd(portal: Any, request: Any) -> Iterator[None]:
    """A hundred tasks on the portal's loop, each of which makes one request after the other."""
    ended, ready = threading.Event(), threading.Barrier(2)

    async def one() -> None:
        while not ended.is_set():
            await request()

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(REQUESTS):
                tasks.start_soon(one)
            await anyio.to_thread.run_sync(ready.wait)

    future = portal.start_task_soon(main)
    ready.wait()
    try:
        yield
    finally:
        ended.set()
        future.result()


@pytest.mark.parametrize("beside", ["nobody", "tasks that sleep", "a pool"])
def bench_shared_thread(benchmark: Any, runtime: cloche.Runtime, beside: str) -> None:
    """One function on a shared thread."""
    benchmark.group = "a plain function on a shared thread"

    async def function() -> None:
        await anyio.to_thread.run_sync(int)

    with anyio.from_thread.start_blocking_portal() as portal, runtime.pool(SOURCE, size=NODES) as pool:
        began = time.perf_counter()
        pool.submit(ITEM).result()
        item_s = time.perf_counter() - began
        requests = {
            "tasks that sleep": lambda: anyio.sleep(item_s * REQUESTS / NODES),
            "a pool": lambda: pool.asubmit(ITEM),
        }
        if beside == "nobody":
            benchmark(portal.call, function)
        else:
            with crowd(portal, requests[beside]):
                benchmark(portal.call, function)
