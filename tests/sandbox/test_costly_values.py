"""A value that would cost the host too much: the node's failure and no more, whatever it was sent for, in both isolations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import cloche
from cloche import Grants, Source
from cloche.testing import LocalGuest

FLOOD = """
P = (1 << 61) - 1
def flood(n=3000):
    return {1 + i * P for i in range(n)}
"""
NODE = (
    FLOOD
    + """
import itertools
from cloche_guest import services

class N:
    kept = flood(2000)

    def process(self, what):
        if what == "flood":
            return {"x": [0, flood()]}
        if what == "ask":
            try:
                services.take([flood()])
            except ValueError as error:
                return str(error)
        if what == "grid":
            return set(itertools.product(range(-2, 3), repeat=4))
        return what
"""
)
STREAM = (
    FLOOD
    + """
class S:
    def process(self, what):
        try:
            yield 1
            yield flood() if what == "flood" else what
        finally:
            self.ended = True
"""
)


@pytest.fixture(scope="module", params=["none", "process", "local"])
def make(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Load a node, in each of the places where one can live."""
    if request.param == "local":
        yield lambda text, **options: LocalGuest(Source(text, "node.py"), **options)
        return
    with cloche.Runtime(isolation=request.param, limits=cloche.Limits(deadline_s=20)) as runtime:
        yield lambda text, **options: runtime.load(Source(text, "node.py"), **options)


def test_a_result_is_refused_as_the_nodes_own_failure(make: Any) -> None:
    """With its place; the node is usable afterwards."""
    with make(NODE) as node:
        with pytest.raises(
            cloche.NodeRaisedError, match=r"ValueError: result\.x\[1\]: .*keys .* would cost the host more"
        ) as caught:
            node.process("flood")
        assert (caught.value.exc_type, caught.value.failure.phase) == ("ValueError", "encode")
        assert node.process("fine") == "fine"
        assert not node.broken


def test_honest_collisions_arrive(make: Any) -> None:
    """hash(-1) is hash(-2): 625 grid points have 256 hashes."""
    with make(NODE) as node:
        assert len(node.process("grid")) == 625


def test_arguments_of_a_service_are_refused_in_the_node(make: Any) -> None:
    """As a ValueError where it called; the service does not run."""
    taken: list[Any] = []
    with make(NODE, grants=Grants(services={"take": taken.append})) as node:
        assert "would cost the host more" in node.process("ask")
        assert taken == []
        assert node.process("fine") == "fine"


def test_an_output_ends_its_stream(make: Any) -> None:
    """After the outputs before it; the node's generator is closed, and the next stream can begin."""
    with make(STREAM) as node:
        stream = node.stream(["flood"])
        assert next(stream) == 1
        with pytest.raises(cloche.NodeRaisedError, match="would cost the host more"):
            next(stream)
        assert node.get("ended") is True
        assert list(node.stream(["fine"])) == [1, "fine"]


def test_a_nodes_names_are_cleaned_and_cut(make: Any) -> None:
    """Its class may have any name."""
    with make("class X:\n def process(self, d): return d\nX.__qualname__ = 'a\\n\\x1b[2J' + 'q' * 100_000\n") as node:
        assert node.name.startswith("a\\n\\x1b[2Jqqq")
        assert len(node.name) == len(node.info["entry"]) == 200


def test_names_of_services_asked_for_are_cut(make: Any) -> None:
    """They are kept with the node's last calls."""
    text = "from cloche_guest.asking import ask\ndef f(n):\n try: ask([1, 'x' * n, [], {}])\n except LookupError as e: return len(str(e))\n"
    with make(text, grants=Grants(services={"take": print})) as node:
        assert node.process(1_000_000) < 1000
        assert [len(call.service) for call in node.service_calls] == [200]
