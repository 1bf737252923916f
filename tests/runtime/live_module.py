"""A module whose classes and functions become nodes, for test_live_source."""

from __future__ import annotations

import json as j
import os.path
import xml.etree.ElementTree
from collections import OrderedDict, deque
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING

try:
    import numpy as np
except ImportError:
    np = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

FACTOR = 3
TABLE = {"a": [1, 2.5, None], "b": (True, b"x")}
HANDLE = object()


def logged(function):
    """A decorator that leaves a trail."""

    @wraps(function)
    def inner(*args):
        return ["logged", function(*args)]

    return inner


def helper(x):
    """Uses a constant, and a helper of its own."""
    return deeper(x) * FACTOR


def deeper(x):
    return x + 1


@dataclass
class Point:
    x: int
    y: int = FACTOR


class Base:
    """Inherited."""

    def process(self, x):
        return helper(x)


class Gain(Base):
    """Uses what its module imports and defines."""

    table = TABLE

    def __init__(self, start: int = FACTOR):
        self.seen: deque[int] = deque([start], maxlen=2)

    def process(self, x: Iterator[int] | int):
        self.seen.append(x)
        tree = xml.etree.ElementTree.fromstring("<a/>")
        order = OrderedDict(a=Point(1).y, b=tree.tag)
        return super().process(x), list(self.seen), j.dumps(order), os.path.normcase("b"), self.table["b"][0]

    @staticmethod
    def sums(n):
        return float(np.arange(n).sum()) if __name__ else None


@logged
def decorated(x):
    return x * FACTOR


def counts(n):
    """A generator, with a comprehension and a local import."""
    import math

    local = [FACTOR + 0 for FACTOR in range(n)]
    yield from (math.sqrt(x * x) for x in local)


async def awaited(x):
    import asyncio

    await asyncio.sleep(0)
    return helper(x)


def uses_a_handle(x):
    return HANDLE, x


def uses_nothing_that_exists(x):
    return no_such_name + x  # noqa: F821


def recursive(n):
    return n * recursive(n - 1) if n else 1


def closure(step):
    """Makes functions that cannot be taken along."""

    class Inner:
        def process(self, x):
            return x + step

    def inner(x):
        return x + step

    return inner, Inner


def local_class():
    """A class in a function that needs nothing of it."""

    class Free:
        def process(self, x):
            return x * FACTOR

    return Free


function = lambda x: x  # noqa: E731
