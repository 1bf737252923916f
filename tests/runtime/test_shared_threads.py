"""Requests that wait for a node hold none of the event loop's shared threads: plain functions of the program still find one.

FastAPI and others run plain endpoints on these threads (40 by default). benches/bench_waiting.py has the figures.
"""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.to_thread
import pytest

import cloche
from tests.limits import patient

REQUESTS = 100
SOURCE = cloche.Source("from cloche_guest import services\ndef held(x):\n    services.hold()\n    return x")


@pytest.mark.isolation("none", reason="what waits has not reached a node")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_hundred_requests_on_a_pool_of_two_hold_no_shared_thread(runtime: cloche.Runtime, backend: str) -> None:
    """Both nodes are held until the plain function has been answered; so it cannot have waited for a request."""
    begun, release = threading.Semaphore(0), threading.Event()

    def hold() -> None:
        begun.release()
        release.wait()

    async def main() -> tuple[int, list[Any], list[Any]]:
        answers: list[Any] = []

        async def request(number: int) -> None:
            answers.append(await pool.asubmit(number))

        async with anyio.create_task_group() as tasks:
            for number in range(REQUESTS):
                tasks.start_soon(request, number)
            for _ in range(2):
                await anyio.to_thread.run_sync(begun.acquire)
            while pool.stats.queued < REQUESTS - 2:
                await anyio.lowlevel.checkpoint()
            meanwhile = await anyio.to_thread.run_sync(lambda: list(answers))
            limiter = anyio.to_thread.current_default_thread_limiter()
            held = int(limiter.borrowed_tokens) + limiter.statistics().tasks_waiting
            release.set()
        return held, meanwhile, sorted(answers)

    grants = cloche.Grants(services={"hold": hold})
    with runtime.pool(SOURCE, size=2, grants=grants, limits=patient(deadline_s=None)) as pool:
        assert anyio.run(main, backend=backend) == (0, [], list(range(REQUESTS)))
