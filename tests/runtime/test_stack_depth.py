"""`Limits.stack_depth` counts every kind of Python call: CPython 3.13 itself forgets some."""

from __future__ import annotations

import pytest

import cloche
from tests.limits import patient

pytestmark = pytest.mark.isolation("none", reason="a worker has the same image")

RECURSIONS = {
    "plain": "def r(n): return r(n)",
    "default": "def r(n, a=1): return r(n)",
    "keyword only": "def r(n, *, a=1): return r(n)",
    "variable": "def r(*n): return r(*n)",
    "mapping": "def r(n, **k): return r(n, b=1)",
    "method": "class C:\n    def m(self, n, a=1): return self.m(n)\nr = C().m",
    "constructor": "class C:\n    def __init__(self, n): C(n)\nr = C",
    "generator": "def g(n):\n    for x in g(n): yield x\ndef r(n): return list(g(n))",
}


@pytest.mark.parametrize("source", RECURSIONS.values(), ids=RECURSIONS)
def test_recursion_ends_at_the_limit(runtime, source):
    """Not at the deadline, nor with the memory."""
    text = f"{source}\nclass N:\n    def process(self, n):\n        return r(n)\n"
    with runtime.load(cloche.Source(text), "N", limits=patient(stack_depth=200)) as node:
        with pytest.raises(cloche.NodeRaisedError, match="RecursionError"):
            node.process(1)
        assert not node.broken
