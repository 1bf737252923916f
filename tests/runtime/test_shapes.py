"""Every shape of node in the image: the same table as natively."""

from __future__ import annotations

import pytest

from tests.guest.test_shapes import LIFECYCLES, ONE_RESULT, SHAPES

pytestmark = pytest.mark.isolation("none", reason="a worker has the same image")


@pytest.mark.parametrize("shape", SHAPES)
def test_single_call_and_stream(load, shape):
    """A value, or all that the node yields; in a stream one output at a time."""
    source, outputs = SHAPES[shape]
    node = load(source, "N")
    assert node.process(10) == (outputs[0] if shape in ONE_RESULT else outputs)
    assert list(node.stream([10, 20])) == outputs + [x + 10 for x in outputs]


@pytest.mark.parametrize("style", LIFECYCLES)
def test_lifecycle_in_every_style(load, style):
    """Plain and async, over either."""
    word = "async def" if style == "sync over async base" else "def"
    base = f"class B:\n def __init__(self): self.log = []\n {word} initialize(self): self.log.append('init')\n {word} cleanup(self): return 'clean'\n"
    node = load(f"{base}class N(B):\n {LIFECYCLES[style]}\n def process(self, x): return x", "N")
    assert (node.initialize(), node.get("log"), node.cleanup()) == (None, ["init"], "clean")


def test_several_positional_arguments(load):
    """In a call as they come; in a stream a tuple is spread over them."""
    node = load("class N:\n def process(self, a, b, c=0): return a - b + c")
    assert (node.process(5, 3), node.process(5, 3, 10), list(node.stream([(5, 3)]))) == (2, 12, [2])


def test_session_in_the_last_dict_of_a_tuple(load):
    """So a tuple must arrive as one."""
    source = "class N:\n def __init__(self): self.seen = {}\n def process(self, data):\n  value, meta = data\n  n = self.seen[meta['session_id']] = self.seen.get(meta['session_id'], 0) + 1\n  return value, {**meta, 'n': n}"
    node = load(source)
    assert node.process((1, {"session_id": "a"})) == (1, {"session_id": "a", "n": 1})
    assert node.process((2, {"session_id": "b"})) == (2, {"session_id": "b", "n": 1})
    assert list(node.stream([(3, {"session_id": "a"})])) == [(3, {"session_id": "a", "n": 2})]
