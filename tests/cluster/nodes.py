"""Nodes of the tests of clusters, in a module that hosts can import."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from cloche import Source

COUNTER = Source("""
from zlib import crc32
class Counter:
    '''A state that depends on each item before.'''
    def __init__(self, times=1): self.state, self.times = 7, times
    def process(self, x):
        for _ in range(self.times):
            self.state = (self.state * 1103515245 + crc32(repr(x).encode()) + 12345) % 2**31
        return x, self.state
    def flush(self): return 'end', self.state
""")
SPLITS = Source("""
def splits(x):
    number = x[0] if isinstance(x, tuple) else x
    if isinstance(number, int):
        for part in range(number % 3):
            yield {'user': number % 5, 'part': part, 'value': x}
""")
FAILS = Source("""
import logging
class Fails:
    def __init__(self): self.seen = 0
    def process(self, x):
        self.seen += 1
        if x % 7 == 3:
            logging.warning('seven %d', x)
            raise ValueError(f'no {x}')
        return x, self.seen
""")
PER_USER = Source("""
from collections import Counter
class PerUser:
    def __init__(self): self.seen = Counter()
    def process(self, x):
        self.seen[x['user']] += 1
        return x['user'], x['part'], self.seen[x['user']]
""")
ARRAYS = Source("""
import numpy as np
def arrays(x): return {'sum': float(np.sum(x)), 'twice': 2 * x}
""")
NUMBERS = Source("""
class Numbers:
    def __init__(self, count): self.count = count
    def process(self):
        yield from range(self.count)
""")

TAKE = Source("""
class Take:
    is_streaming = True
    def __init__(self, count=4): self.count = count
    async def process(self, items):
        left = self.count
        if not left: return
        async for x in items:
            yield x
            left -= 1
            if not left: return
""")
LOGS = Source("""
import logging
class Logs:
    def initialize(self): logging.warning('initialize')
    def process(self, x): logging.warning('item %d', x)
    def flush(self): logging.warning('flush')
    def cleanup(self): logging.warning('cleanup')
""")


class Untidy:
    """A native node that fails in its cleanup."""

    def process(self, x: int) -> int:
        return x

    def cleanup(self) -> None:
        raise ValueError("not clean")


GRANTED = Source("""
import os, random
from cloche_guest import services
class Granted:
    def __init__(self, session_id=None): self.session_id = session_id
    def process(self, x):
        with open('/data/told') as file:
            told = file.read()
        with open(f'/out/{x}', 'w') as file:
            file.write(told)
        return services.double(x), told, os.environ['A'], random.random(), self.session_id
""")


def double(x: int) -> int:
    """A service."""
    return 2 * x


class Native:
    """A native node with a state."""

    def __init__(self) -> None:
        self.sum = 0

    def process(self, x: int) -> tuple[int, int]:
        self.sum += x
        return x, self.sum


class Last:
    """A native node that remembers its last item."""

    def __init__(self) -> None:
        self.last: Any = None

    def process(self, x: Any) -> Any:
        last, self.last = self.last, x
        return last


def kills(x: int) -> int:
    """A native node that ends its host."""
    if x == 5:
        os._exit(3)
    return x


def with_handle(x: int) -> Any:
    """An output that cannot be sent."""
    return (lambda: x) if x == 3 else x


class Told:
    """Writes when it is cleaned up."""

    def __init__(self, path: str) -> None:
        self.path = path

    def process(self, x: int) -> Iterator[int]:
        yield x

    def cleanup(self) -> None:
        with open(self.path, "a") as file:
            file.write("cleaned up\n")
