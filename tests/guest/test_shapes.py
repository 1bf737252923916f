"""Every shape of node that people write, called once and streamed: NODE_CONTRACT's list, in messages."""

from __future__ import annotations

import pytest

from cloche_wire import Op, Reply

SHAPES = {
    "function": ("def N(x): return x + 1", [11]),
    "method": ("class N:\n def process(self, x): return x + 1", [11]),
    "coroutine": ("class N:\n async def process(self, x): return x + 1", [11]),
    "suspending coroutine": ("import asyncio\nclass N:\n async def process(self, x):\n  await asyncio.sleep(0)\n  return x + 1", [11]),
    "aprocess": ("class N:\n def process(self, x): raise AssertionError\n async def aprocess(self, x): return x + 1", [11]),
    "aprocess only": ("class N:\n async def aprocess(self, x): return x + 1", [11]),
    "sync aprocess": ("class N:\n def aprocess(self, x): return x + 1", [11]),
    "generator": ("class N:\n def process(self, x):\n  yield x + 1\n  yield x + 2", [11, 12]),
    "empty generator": ("class N:\n def process(self, x): yield from ()", []),
    "async generator": ("import asyncio\nclass N:\n async def process(self, x):\n  yield x + 1\n  await asyncio.sleep(0)\n  yield x + 2", [11, 12]),
    "coroutine of a generator": ("class N:\n async def process(self, x): return (x + i for i in (1, 2))", [11, 12]),
    "coroutine of an async generator": ("class N:\n async def _all(self, x):\n  yield x + 1\n async def process(self, x): return self._all(x)", [11]),
    "iterator": ("class N:\n def process(self, x): return map(int, (x + 1, x + 2))", [11, 12]),
    "future": ("import asyncio\nclass N:\n async def _one(self, x): return x + 1\n def process(self, x): return self._one(x)", [11]),
    "awaitable object": ("class A:\n def __init__(self, x): self.x = x\n def __await__(self):\n  return self.x + 1\n  yield\nclass N:\n def process(self, x): return A(x)", [11]),
    "streaming": ("class N:\n is_streaming = True\n async def process(self, items):\n  async for x in items: yield x + 1", [11]),
    "streaming property": ("class N:\n @property\n def is_streaming(self): return True\n async def process(self, items):\n  async for x in items: yield x + 1", [11]),
    "streaming by annotation": ("from collections.abc import AsyncIterator\nclass N:\n is_streaming = True\n async def _run(self, items):\n  async for x in items: yield x + 1\n def process(self, items: AsyncIterator): return self._run(items)", [11]),
    "streaming flag on a per-item node": ("class N:\n is_streaming = True\n def process(self, x): yield x + 1", [11]),
    "callable object": ("class C:\n def __call__(self, x): return x + 1\nN = C()", [11]),
    "static method": ("class N:\n @staticmethod\n def process(x): return x + 1", [11]),
    "nested class": ("class O:\n class N:\n  def process(self, x): return x + 1\nN = O.N", [11]),
}  # fmt: skip
ONE_RESULT = {"function", "method", "coroutine", "suspending coroutine", "aprocess", "aprocess only", "sync aprocess",
              "future", "awaitable object", "callable object", "static method", "nested class"}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_single_call(load, shape):
    """A value as it is; of a node that yields, the list of all that it yields."""
    source, outputs = SHAPES[shape]
    assert load(source, "N").process(10) == (outputs[0] if shape in ONE_RESULT else outputs)


@pytest.mark.parametrize("shape", SHAPES)
def test_stream(load, shape):
    """Each output by itself, for each item, and again in a second stream."""
    source, outputs = SHAPES[shape]
    bench = load(source, "N")
    twice = outputs + [x + 10 for x in outputs]
    assert bench.stream(10, 20) == twice
    assert bench.stream(10, 20) == twice


@pytest.mark.parametrize(
    "process",
    ["def process(self):\n  yield 1\n  yield 2", "async def process(self):\n  yield 1\n  yield 2", "def process(self): return iter((1, 2))"],
    ids=["generator", "async generator", "iterator"],
)  # fmt: skip
def test_source(load, process):
    """No argument, no input."""
    bench = load(f"class N:\n {process}")
    assert bench.process() == [1, 2]
    assert bench.stream() == [1, 2]


def test_source_by_flag(load):
    """is_source, where process has an argument that may be left out."""
    bench = load("class N:\n is_source = True\n def process(self, data=None): yield data")
    assert bench.stream() == []
    bench = load("class N:\n is_source = True\n def process(self, data='made'): yield data")
    assert bench.stream() == ["made"]


def test_source_that_returns_gives_one_output(load):
    """There is no other sign of its end."""
    assert load("class N:\n def process(self): return [1, 2]").stream() == [[1, 2]]


def test_several_positional_arguments(load):
    """In a call as they come; in a stream a tuple is spread over them."""
    bench = load("class N:\n def process(self, a, b, c=0): return a - b + c")
    assert bench.process(5, 3) == 2
    assert bench.process(5, 3, 10) == 12
    assert bench.stream((5, 3), (1, 1, 1)) == [2, 1]


def test_tuple_stays_one_argument_where_process_takes_one(load):
    """Sessions travel in the last dict of a tuple."""
    source = "class N:\n def process(self, data):\n  value, meta = data\n  return value, {**meta, 'seen': True}"
    bench = load(source)
    assert bench.process((1, {"session_id": "s"})) == (1, {"session_id": "s", "seen": True})
    assert bench.stream((1, {})) == [(1, {"seen": True})]


def test_none_is_no_output_in_a_stream(load):
    """And None from a single call."""
    bench = load("class N:\n def process(self, x): return x or None")
    assert bench.process(0) is None
    assert bench.stream(0, 1, 0, 2) == [1, 2]
    assert load("class N:\n def process(self, x):\n  yield None\n  yield x").stream(1) == [1]


def test_generator_in_a_single_call_is_bounded(load):
    """value_nodes is what a reply may hold; the generator is closed."""
    source = "class N:\n def process(self, x):\n  try:\n   while True: yield x\n  finally: self.closed = True"
    bench = load(source)
    assert (
        bench.failure(1)["message"]
        == "one call yielded more than 1000 outputs (value_nodes): use stream(), which takes any number"
    )
    assert bench.send(Op.GET, "closed") == (Reply.RESULT, True)


LIFECYCLES = {
    "sync": "def initialize(self): self.log.append('init')\n def cleanup(self): return 'clean'",
    "async": "async def initialize(self): self.log.append('init')\n async def cleanup(self): return 'clean'",
    "async over sync base": "async def initialize(self): super().initialize()\n async def cleanup(self): return super().cleanup()",
    "sync over async base": "def initialize(self): return super().initialize()\n def cleanup(self): return super().cleanup()",
}


@pytest.mark.parametrize("style", LIFECYCLES)
def test_lifecycle_in_every_style(load, style):
    """Subclasses mix plain and async methods."""
    word = "async def" if style == "sync over async base" else "def"
    base = f"class B:\n def __init__(self): self.log = []\n {word} initialize(self): self.log.append('init')\n {word} cleanup(self): return 'clean'\n"
    bench = load(f"{base}class N(B):\n {LIFECYCLES[style]}\n def process(self, x): return x", "N")
    assert bench.send(Op.INVOKE, "initialize") == (Reply.RESULT, None)
    assert bench.send(Op.GET, "log") == (Reply.RESULT, ["init"])
    assert bench.send(Op.INVOKE, "cleanup") == (Reply.RESULT, "clean")


def test_absent_lifecycle_methods_answer_none(load):
    """They are optional, also for functions."""
    for source in ("class N:\n def process(self, x): return x", "def N(x): return x"):
        bench = load(source)
        assert [bench.send(Op.INVOKE, name) for name in ("initialize", "flush", "cleanup")] == [
            (Reply.RESULT, None)
        ] * 3


def test_other_methods_can_be_invoked_and_absent_ones_fail(load):
    """get_config and its like."""
    bench = load("class N:\n def process(self, x): return x\n def get_config(self): return {'a': 1}")
    assert bench.send(Op.INVOKE, "get_config") == (Reply.RESULT, {"a": 1})
    kind, failure = bench.send(Op.INVOKE, "get_capabilities")
    assert (kind, failure["type"], failure["message"]) == (
        Reply.FAILURE,
        "AttributeError",
        "N has no method 'get_capabilities'",
    )


def test_description(bench):
    """LOAD's result."""
    source = """
        class N:
            is_sink = True
            def process(self, x): return x
            def flush(self): pass
            get_config = None
    """
    assert bench.load(source) == (
        Reply.RESULT,
        {"entry": "N", "kind": "class", "is_streaming": False, "is_source": False, "is_sink": True, "methods": ["process", "flush"]},
    )  # fmt: skip


def test_state_lives_across_calls_and_is_readable(load):
    """Instance attributes."""
    bench = load("class N:\n count = 0\n def process(self, x):\n  self.count += x\n  return self.count")
    assert [bench.process(2), bench.process(3)] == [2, 5]
    assert bench.send(Op.GET, "count") == (Reply.RESULT, 5)
    kind, failure = bench.send(Op.GET, "cuont")
    assert (kind, failure["type"]) == (Reply.FAILURE, "AttributeError")


def test_flag_that_raises_is_not_set(load):
    """A property of the node is the node's code."""
    source = "class N:\n @property\n def is_streaming(self): raise RuntimeError\n def process(self, x): return x"
    assert load(source).stream(1) == [1]
