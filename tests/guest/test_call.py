"""CALL: any public method, and keyword arguments of process; and streams without input. In messages."""

from __future__ import annotations

import pytest

from cloche_wire import Op, Reply

NODE = """
import asyncio, functools

class Base:
    def inherited(self): return "base"

class N(Base):
    limit = 3
    def __init__(self):
        self.total = 0
        self.scale = functools.partial(pow, 2)
    def process(self, x, *, times=1): return x * times
    def add(self, *numbers, start=0):
        self.total += sum(numbers, start)
        return self.total
    async def later(self, x=1):
        await asyncio.sleep(0)
        return x
    def several(self, n):
        yield from range(n)
    async def aseveral(self, n):
        for i in range(n): yield i
    @staticmethod
    def still(): return "static"
    @classmethod
    def name(cls): return cls.__name__
    @property
    def twice(self): raise AssertionError("a property that lists methods must not run")
    def names(self, /, **names): return names
    def _private(self): return "private"
"""
CALLS = {
    "arguments": (("add", 1, 2), {"start": 10}, 13),
    "keywords alone": (("later",), {"x": 5}, 5),
    "async": (("later", 2), {}, 2),
    "generator": (("several", 3), {}, [0, 1, 2]),
    "async generator": (("aseveral", 3), {}, [0, 1, 2]),
    "static": (("still",), {}, "static"),
    "class method": (("name",), {}, "N"),
    "inherited": (("inherited",), {}, "base"),
    "attribute that can be called": (("scale", 5), {}, 32),
    "process": (("process", 4), {"times": 2}, 8),
    "names of the host's own parameters": (("names",), {"self": 1, "method": 2, "data": 3}, {"self": 1, "method": 2, "data": 3}),
}  # fmt: skip
METHODS = "it has add, aseveral, inherited, later, name, names, process, scale, several, still"
REFUSED = {
    "nearly right": ("ad", f"N has no method 'ad': did you mean 'add'? {METHODS}"),
    "absent": ("nothing", f"N has no method 'nothing': {METHODS}"),
    "attribute": ("limit", f"'limit' of N is int, not a method: get() reads it ({METHODS})"),
    "private": ("_private", f"'_private' is not a public method of N: {METHODS}"),
    "constructor": ("__init__", f"'__init__' is not a public method of N: {METHODS}"),
    "dotted": ("scale.func", f"'scale.func' is not a public method of N: {METHODS}"),
}


def call(bench, method, /, *arguments, **keywords):
    """The result of one CALL, which must succeed."""
    kind, value = bench.send(Op.CALL, method, list(arguments), keywords)
    assert kind is Reply.RESULT, value
    return value


@pytest.mark.parametrize("case", CALLS)
def test_public_method(load, case):
    """Of every kind, as Python would call it."""
    (method, *arguments), keywords, expected = CALLS[case]
    assert call(load(NODE), method, *arguments, **keywords) == expected


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_public_method_lists_those_that_are(load, case):
    """And no property runs for the list."""
    method, message = REFUSED[case]
    kind, failure = load(NODE).send(Op.CALL, method, [], {})
    assert (kind, failure["type"], failure["message"]) == (Reply.FAILURE, "AttributeError", message)


def test_node_with_an_odd_dir_still_lists_its_methods(load):
    """`__dir__` is code of the node."""
    bench = load("class N:\n def process(self, x): return x\n def __dir__(self): return ['x', 3]")
    kind, failure = bench.send(Op.CALL, "nothing", [], {})
    assert (kind, failure["message"]) == (Reply.FAILURE, "N has no method 'nothing': it has process")


def test_function_has_no_methods_but_process(load):
    """The error says what to do instead."""
    bench = load("def double(x, times=2): return times * x")
    kind, failure = bench.send(Op.CALL, "reset", [], {})
    assert kind is Reply.FAILURE
    assert failure["message"] == "double is a function, which has no methods: call it with process()"
    assert call(bench, "process", 2) == 4
    assert call(bench, None, 2, times=5) == 10


def test_lifecycle_methods_are_methods(load):
    """A node that lacks one says so: the name was written out."""
    bench = load("class N:\n def process(self, x): return x\n def initialize(self, size): self.size = size")
    assert call(bench, "initialize", 7) is None
    assert bench.send(Op.GET, "size") == (Reply.RESULT, 7)
    assert bench.send(Op.CALL, "flush", [], {})[0] is Reply.FAILURE


KEYWORDS = {
    "function": "def N(x, y=0, **more): return [x, y, more]",
    "method": "class N:\n def process(self, x, y=0, **more): return [x, y, more]",
    "keyword only": "class N:\n def process(self, x, *, y=0, **more): return [x, y, more]",
    "coroutine": "class N:\n async def aprocess(self, x, y=0, **more): return [x, y, more]",
}


@pytest.mark.parametrize("shape", KEYWORDS)
def test_keyword_arguments_of_process(load, shape):
    """Every name is the node's, also those that Cloche uses for limits."""
    bench = load(KEYWORDS[shape], "N")
    assert call(bench, None, 1, y=2, deadline_s=3) == [1, 2, {"deadline_s": 3}]
    assert call(bench, None, x=1) == [1, 0, {}]


def test_keyword_arguments_that_do_not_fit(load):
    """Python's own words."""
    kind, failure = load("def N(x): return x").send(Op.CALL, None, [1], {"z": 2})
    assert (kind, failure["type"]) == (Reply.FAILURE, "TypeError")
    assert failure["message"] == "N() got an unexpected keyword argument 'z'"


def test_keyword_arguments_of_a_node_over_the_whole_input(load):
    """The positional ones are its stream."""
    source = "class N:\n is_streaming = True\n async def process(self, items, plus=0):\n  async for x in items: yield x + plus"
    assert call(load(source), None, 1, 2, plus=10) == [11, 12]
    assert call(load(source), "process", 1, 2, plus=10) == [11, 12]


def test_call_leaves_an_open_stream_open(load):
    """Also one that fails: it is no step of the stream."""
    bench = load("class N:\n def process(self, x):\n  yield x\n  yield x + 1\n def other(self): return 1 / 0")
    bench.send(Op.STREAM_OPEN)
    assert bench.send(Op.STREAM_FEED, 5) == (Reply.YIELD, 5)
    assert bench.send(Op.CALL, "other", [], {})[0] is Reply.FAILURE
    assert bench.send(Op.STREAM_NEXT) == (Reply.YIELD, 6)


ALONE = {
    "default": ("class N:\n def process(self, data=None): return 'made' if data is None else data", ["made"]),
    "generator with a default": ("class N:\n def process(self, data=None):\n  yield 1\n  yield 2", [1, 2]),
    "any arguments": ("class N:\n def process(self, *data, **more): return len(data)", [0]),
    "function": ("def N(data=5): return data", [5]),
    "streaming that takes nothing": ("class N:\n is_streaming = True\n async def process(self):\n  yield 1\n  yield 2", [1, 2]),
    "streaming, plain, that takes nothing": ("class N:\n is_streaming = True\n def process(self): return iter((1, 2))", [1, 2]),
    "streaming with a default": ("class N:\n is_streaming = True\n async def process(self, items=None): yield items is None", [True]),
    "flush": ("class N:\n def process(self, data=1): return data\n def flush(self): return 'end'", [1, "end"]),
    "needs an argument": ("class N:\n def process(self, data): return data\n def flush(self): return 'end'", ["end"]),
    "needs a keyword": ("class N:\n def process(self, *, data): return data\n def flush(self): return 'end'", ["end"]),
    "streaming over nothing": ("class N:\n is_streaming = True\n async def process(self, items):\n  async for x in items: yield x\n  yield 'end'", ["end"]),
}  # fmt: skip


def alone(bench):
    """The outputs of a stream without input."""
    outputs, (kind, value) = [], bench.send(Op.STREAM_OPEN, True)
    while kind is not Reply.END:
        assert kind is not Reply.FAILURE, value
        if kind is Reply.NEED:
            kind, value = bench.send(Op.STREAM_END)
            continue
        outputs.append(value)
        kind, value = bench.send(Op.STREAM_NEXT if kind is Reply.YIELD else Op.STREAM_END)
    return outputs


@pytest.mark.parametrize("shape", ALONE)
def test_stream_without_input(load, shape):
    """A process that can be called without an argument is called once; twice in two streams."""
    source, outputs = ALONE[shape]
    bench = load(source, "N")
    assert alone(bench) == outputs
    assert alone(bench) == outputs


def test_stream_of_no_items_is_not_a_stream_without_input(load):
    """Nothing is processed."""
    assert load("class N:\n def process(self, data=None): return 'made'").stream() == []


def test_single_call_of_a_streaming_node_that_takes_nothing(load):
    """As natively: without an argument."""
    source = "class N:\n is_streaming = True\n async def process(self):\n  yield 1"
    assert load(source).process() == [1]
    source = "class N:\n is_streaming = True\n async def process(self, items=None): yield items is None"
    assert load(source).process() == [True]
    assert load(source).process(1) == [False]
