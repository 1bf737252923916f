"""Streams: outputs as they are produced, inputs as they are asked for, failures after the outputs before them."""

from __future__ import annotations

import itertools
import resource

import pytest

import cloche

SHAPES = {
    "value": "class N:\n    def process(self, x):\n        return x * 2\n",
    "coroutine": "import asyncio\nclass N:\n    async def process(self, x):\n        await asyncio.sleep(0)\n        return x * 2\n",
    "aprocess": "class N:\n    def process(self, x):\n        raise AssertionError\n    async def aprocess(self, x):\n        return x * 2\n",
    "generator": "class N:\n    def process(self, x):\n        yield x\n        yield x\n",
    "async generator": "import asyncio\nclass N:\n    async def process(self, x):\n        yield x\n        await asyncio.sleep(0)\n        yield x\n",
    "streaming": "class N:\n    is_streaming = True\n    async def process(self, items):\n        async for x in items:\n            yield x * 2\n",
}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("value", [2, 4, 6]), ("coroutine", [2, 4, 6]), ("aprocess", [2, 4, 6]), ("generator", [1, 1, 2, 2, 3, 3]),
     ("async generator", [1, 1, 2, 2, 3, 3]), ("streaming", [2, 4, 6])],
)  # fmt: skip
def test_every_shape_of_process_streams(load, shape, expected):
    """All of them are met in real nodes."""
    node = load(SHAPES[shape])
    assert list(node.stream([1, 2, 3])) == expected
    assert list(node.stream([1, 2, 3])) == expected, "a second stream starts afresh"


@pytest.mark.parametrize("shape", SHAPES)
def test_infinite_input_is_taken_on_demand(load, shape):
    """Backpressure: the host's iterator is asked only for what the node asked for."""
    taken = []

    def items():
        for i in itertools.count(1):
            taken.append(i)
            yield i

    stream = load(SHAPES[shape]).stream(items())
    first = next(stream)
    assert first in (1, 2)
    assert taken == [1]
    stream.close()


def test_infinite_output_arrives_at_once(load):
    """Nothing collects the generator first."""
    node = load("class N:\n    def process(self, x):\n        while True:\n            x += 1\n            yield x\n")
    stream = node.stream([0])
    assert list(itertools.islice(stream, 3)) == [1, 2, 3]
    stream.close()


def test_source_needs_no_input(load):
    """process() without argument."""
    node = load("class N:\n    is_source = True\n    def process(self):\n        yield from range(3)\n")
    assert list(node.stream()) == [0, 1, 2]


def test_none_is_no_output(load):
    """In a stream, as the contract says; a single call returns it."""
    node = load("class N:\n    def process(self, x):\n        return x if x % 2 else None\n")
    assert list(node.stream(range(5))) == [1, 3]
    assert node.process(2) is None


@pytest.mark.parametrize(
    "flush",
    ["def flush(self):\n        return 'end'", "async def flush(self):\n        return 'end'", "def flush(self):\n        yield 'end'",
     "async def flush(self):\n        yield 'end'"],
    ids=["value", "coroutine", "generator", "async generator"],
)  # fmt: skip
@pytest.mark.parametrize("shape", ["value", "streaming"])
def test_flush_runs_at_the_end(load, shape, flush):
    """On every kind of node; what it gives is output."""
    node = load(f"{SHAPES[shape]}    {flush}\n")
    assert list(node.stream([1])) == [2, "end"]


def test_closing_early_runs_the_nodes_finally_blocks(load):
    """And the node is usable afterwards."""
    node = load(
        "class N:\n    closed = 0\n    def process(self, x):\n        try:\n            while True:\n                yield x\n        finally:\n            self.closed += 1\n"
    )
    stream = node.stream([7])
    assert next(stream) == 7
    stream.close()
    assert node.get("closed") == 1
    stream = node.stream([8])
    assert next(stream) == 8
    stream.close()
    assert node.get("closed") == 2


def test_closing_early_unwinds_a_streaming_node(load):
    """`async with` and finally, also where they await."""
    node = load(
        "import asyncio\n"
        "class Guard:\n    async def __aenter__(self): return self\n    async def __aexit__(self, *a):\n        await asyncio.sleep(0)\n        N.log.append('exit')\n"
        "class N:\n    is_streaming = True\n    log = []\n    async def process(self, items):\n        async with Guard():\n            try:\n                async for x in items:\n                    yield x\n            finally:\n                await asyncio.sleep(0)\n                self.log.append('finally')\n"
    )
    stream = node.stream(itertools.count())
    assert [next(stream), next(stream)] == [0, 1]
    stream.close()
    assert node.get("log") == ["finally", "exit"]


@pytest.mark.sampled
@pytest.mark.parametrize("grace_s", [0.0, 60.0], ids=["hard", "soft"])
def test_finally_block_that_never_ends_meets_the_deadline(load, grace_s):
    """Closing is a call like any other. An interrupted one leaves the node usable, and no stream open."""
    node = load("class N:\n    def process(self, x):\n        try:\n            yield 1\n        finally:\n            while True: pass\n",
                limits=cloche.Limits(deadline_s=1.0, grace_s=grace_s))  # fmt: skip
    stream = node.stream([0])
    next(stream)
    with pytest.raises(cloche.DeadlineError):
        stream.close()
    assert node.broken is (not grace_s)
    if grace_s:
        again = node.stream([1])
        assert next(again) == 1
        with pytest.raises(cloche.DeadlineError):
            again.close()


@pytest.mark.parametrize("shape", ["generator", "streaming"])
def test_failure_comes_after_the_outputs_before_it(load, shape):
    """As an exception, not as an item; the node stays usable."""
    source = SHAPES[shape].replace("yield x", "yield 6 // x", 1)
    node = load(source)
    outputs = []
    with pytest.raises(cloche.NodeRaisedError) as caught:
        for output in node.stream([1, 0, 2]):
            outputs.append(output)
    assert caught.value.exc_type == "ZeroDivisionError"
    assert outputs[0] in (6, 12)
    assert next(node.stream([3])) in (2, 4)


def test_error_of_the_hosts_input_reaches_the_node_and_the_caller(load):
    """The node sees it at its `async for`; the caller gets the exception itself."""
    node = load(
        "class N:\n    is_streaming = True\n    seen = None\n    async def process(self, items):\n        try:\n            async for x in items:\n                yield x\n"
        "        except Exception as error:\n            self.seen = [type(error).__name__, str(error)]\n            yield 'goodbye'\n            raise\n"
    )

    def items():
        yield 1
        raise LookupError("tape ended")

    outputs = []
    with pytest.raises(LookupError, match="tape ended"):
        for output in node.stream(items()):
            outputs.append(output)
    assert outputs == [1, "goodbye"]
    assert node.get("seen")[1] == "tape ended" or "tape ended" in node.get("seen")[1]


def test_item_that_cannot_be_encoded_ends_the_stream(load):
    """It is the caller's error; the node's generator is closed."""
    node = load(SHAPES["streaming"])
    stream = node.stream([1, object()])
    assert next(stream) == 2
    with pytest.raises(cloche.EncodeError, match="item"):
        next(stream)
    assert list(node.stream([4])) == [8]


def test_second_stream_on_a_node_is_refused(load):
    """One at a time, said clearly."""
    node = load(SHAPES["value"])
    stream = node.stream([1, 2])
    next(stream)
    with pytest.raises(cloche.ClocheError, match="stream open"):
        next(node.stream([1]))
    assert list(stream) == [4]


def test_stream_that_is_never_started_costs_nothing(load):
    """A generator that nobody iterates leaves the node free."""
    node = load(SHAPES["value"])
    node.stream([1])
    assert list(node.stream([2])) == [4]


def test_process_of_a_generator_node_gives_all_it_yields(load):
    """A single call on a node that yields: a list."""
    assert load(SHAPES["generator"]).process(5) == [5, 5]
    assert load(SHAPES["async generator"]).process(5) == [5, 5]


@pytest.mark.isolation("none", reason="a minute of switching between processes")
def test_memory_is_flat_over_many_items(load, thorough):
    """Nothing accumulates on either side."""
    node = load(SHAPES["streaming"])
    total = 0
    items = range(100_000 if thorough else 20_000)
    stream = node.stream(items)
    for _ in range(len(items) // 4):
        total += next(stream)
    guest, host = node.stats.memory_bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total += sum(stream)
    assert total == 2 * sum(items)
    assert node.stats.memory_bytes == guest
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - host < 8 << 10


def test_logs_of_a_stream_arrive_step_by_step(load, logs):
    """With the output that they belong to, not at the end."""
    node = load(
        "import logging\nclass N:\n    def process(self, x):\n        for i in range(2):\n            logging.info('%d.%d', x, i)\n            yield i\n"
    )
    logs.take()
    seen = []
    for _ in node.stream([1, 2]):
        seen.append([event[1] for event in logs.take()])
    assert seen == [["1.0"], ["1.1"], ["2.0"], ["2.1"]]
