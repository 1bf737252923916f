"""A value that the host refuses to build: the node's failure and no more, whatever it was sent for, in both isolations."""

from __future__ import annotations

from typing import Any

import pytest

import cloche
from cloche import Grants

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


OBJECTS = """
from dataclasses import dataclass
from cloche_guest import services

@dataclass(eq=False)
class P:
    x: object

class S(str):
    __hash__ = object.__hash__
    __eq__ = object.__eq__

def make(what):
    return {
        "set": lambda: {P(1), P(1)},
        "frozenset": lambda: frozenset({P(1), P(1)}),
        "keys": lambda: {P(1): 1, P(1): 2},
        "nested": lambda: {frozenset({P(1)}), frozenset({P(1)})},
        "texts": lambda: {S("a"): 1, S("a"): 2},
        "text": lambda: {S("a"): 1, "a": 2},
        "no hash": lambda: {P([1])},
    }[what]()

class N:
    calls = 0

    def process(self, what):
        self.calls += 1
        if what == "calls":
            return self.calls
        if what[0] == "ask":
            try:
                services.take([make(what[1])])
            except (TypeError, ValueError) as error:
                return str(error)
        return {"x": [0, make(what)]}
"""
OBJECT_STREAM = (
    OBJECTS
    + """
class Stream:
    def process(self, what):
        yield 1
        yield make(what) if what in ("set", "no hash") else what
"""
)


def equal_objects() -> dict[str, Any]:
    """The same values on the host."""
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(OBJECTS.replace("from cloche_guest import services", ""), namespace)
    return namespace


WHATS = ["set", "frozenset", "keys", "nested", "texts", "text", "no hash"]


@pytest.mark.parametrize("what", WHATS)
def test_objects_that_arrive_as_equal_keys_fail_the_call_alone(make: Any, what: str) -> None:
    """Its state was lost for a set of two honest objects."""
    with make(OBJECTS) as node:
        with pytest.raises(
            cloche.NodeRaisedError, match=r"(Value|Type)Error: result\.x\[1\]: .*(arrive|side)"
        ) as caught:
            node.process(what)
        assert caught.value.failure.phase == "encode"
        assert node.process("calls") == 2
        assert not node.broken


def test_objects_that_arrive_as_equal_keys_end_a_stream_alone(make: Any) -> None:
    """The stream is over, the node is not."""
    with make(OBJECT_STREAM, entry="Stream") as node:
        for what in ("set", "no hash"):
            with pytest.raises(cloche.NodeRaisedError, match="Error: result"):
                list(node.stream([what]))
            assert list(node.stream(["fine"])) == [1, "fine"]


@pytest.mark.parametrize("what", WHATS)
def test_a_service_is_not_called_with_them(make: Any, what: str) -> None:
    """The node gets the error where it called the service."""
    taken: list[Any] = []
    with make(OBJECTS, grants=Grants(services={"take": taken.append})) as node:
        assert node.process(["ask", what]).startswith("take() argument [0][0]: ")
        assert not taken
        assert node.process("calls") == 2


@pytest.mark.parametrize("what", WHATS)
def test_a_node_is_not_called_with_them(make: Any, what: str) -> None:
    """The other way the host knows before it calls."""
    value = equal_objects()["make"](what)
    with make(OBJECTS) as node:
        with pytest.raises(cloche.EncodeError, match=r"on the other side") as caught:
            node.process({"a": [value]})
        assert caught.value.path.startswith("data.a[0]")
        assert node.process("calls") == 1


HEAVY = """
from cloche_wire import tags
from cloche_wire.tagged import Tagged
from cloche_guest import services
from decimal import Decimal
from fractions import Fraction
import sys
sys.set_int_max_str_digits(0)
P = (1 << 61) - 1

def heavy():
    items = [Tagged(tags.DECIMAL, str(Decimal((1 << 6640) // P * P + P * i + 5))) for i in range(100)]
    for i in range(200):
        d = (1 << 4095) + 2 * i + 1
        items.append(Fraction(5 * d % P + P * ((1 << 4030) + i), d))
    return Tagged(tags.SET, items)

class N:
    def process(self, what):
        if what == "ask":
            try:
                services.take(heavy())
            except ValueError as error:
                return str(error)
        return heavy() if what == "heavy" else what
"""


def test_decimals_among_fractions_are_refused(make: Any, request: pytest.FixtureRequest) -> None:
    """0.4 MB of them took 8.6 s in one call of C: as a result, and as the argument of a service."""
    if request.node.callspec.params["make"] == "local":
        pytest.skip("its node cannot write tags of its own")
    taken: list[Any] = []
    with make(HEAVY, grants=Grants(services={"take": taken.append})) as node:
        with pytest.raises(cloche.NodeRaisedError, match="300 keys have the same hash"):
            node.process("heavy")
        assert "300 keys have the same hash" in node.process("ask")
        assert not taken
        assert node.process("fine") == "fine"
