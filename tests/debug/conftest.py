"""`debugged`: a node under a debugger, with a client, and its calls on threads of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

import cloche
from tests.debug.client import PATIENCE_S, Client

PROGRAM = '''\
import random, time
def square(i):
    result = i * i
    return result

class Sums:
    """Adds squares."""
    def __init__(self):
        self.seen = []
    def process(self, n):
        total = 0
        for i in range(n):
            total += square(i)
        self.seen.append(total)
        return total
'''


class Debugged:
    """A node, and a client of its debugger."""

    def __init__(self, node: cloche.Node, client: Client, address: tuple[str, int], pool: ThreadPoolExecutor) -> None:
        self.node = node
        self.client = client
        self.address = address
        self._pool = pool

    def call(self, *data: Any) -> Future[Any]:
        """Call the node on another thread."""
        return self._pool.submit(self.node.process, *data)


def result(call: Future[Any]) -> Any:
    """What a call has returned, or raised."""
    return call.result(PATIENCE_S)


@pytest.fixture
def debugged(load: Callable[..., cloche.Node]) -> Iterator[Callable[..., Debugged]]:
    """Load a program, and attach a client; all of it ends with the test."""
    with ExitStack() as stack:

        def make(program: str = PROGRAM, *, debug: dict[str, Any] | None = None, **options: Any) -> Debugged:
            node = load(program, **options)
            found = stack.enter_context(node.debug(port=0, wait=False, **(debug or {})))
            assert found.address is not None
            client = Client(found.address)
            stack.callback(client.close)
            pool = ThreadPoolExecutor(2)
            stack.callback(pool.shutdown)
            stack.callback(node.interrupt)
            return Debugged(node, client, found.address, pool)

        yield make
