"""The streaming state machine, message by message: who has the word after each, and what closing and failing leave behind."""

from __future__ import annotations

import pytest

from cloche_wire import Op, Reply

NEED, END = (Reply.NEED, None), (Reply.END, None)
DOUBLE = "class N:\n def process(self, x): return x * 2"
WHOLE = """
class N:
    is_streaming = True
    def __init__(self): self.log = []
    async def process(self, items):
        self.log.append("start")
        try:
            async for x in items:
                self.log.append(x)
                yield x * 2
            self.log.append("end")
        except BaseException as error:
            self.log.append(repr(error))
            raise
        finally:
            self.log.append("finally")
"""


def test_item_node_asks_with_its_output(load):
    """One round trip an item: the output and the wish for the next one come together."""
    bench = load(DOUBLE)
    assert bench.send(Op.STREAM_OPEN) == NEED
    assert bench.send(Op.STREAM_FEED, 1) == (Reply.YIELD_NEED, 2)
    assert bench.send(Op.STREAM_FEED, 2) == (Reply.YIELD_NEED, 4)
    assert bench.send(Op.STREAM_END) == END


def test_generator_of_an_item_node_advances_on_demand(load):
    """Each output is computed when it is asked for."""
    bench = load(
        "class N:\n log = []\n def process(self, x):\n  for i in range(2):\n   self.log.append(i)\n   yield x + i"
    )
    assert bench.send(Op.STREAM_OPEN) == NEED
    assert bench.send(Op.STREAM_FEED, 5) == (Reply.YIELD, 5)
    assert bench.send(Op.GET, "log") == (Reply.RESULT, [0])
    assert bench.send(Op.STREAM_NEXT) == (Reply.YIELD, 6)
    assert bench.send(Op.STREAM_NEXT) == NEED
    assert bench.send(Op.STREAM_END) == END


def test_streaming_node_gets_no_item_that_it_did_not_ask_for(load):
    """The generator rests at its yield until the host goes on, then asks."""
    bench = load(WHOLE)
    assert bench.send(Op.STREAM_OPEN) == NEED
    assert bench.send(Op.STREAM_FEED, 1) == (Reply.YIELD, 2)
    assert bench.send(Op.GET, "log") == (Reply.RESULT, ["start", 1])
    assert bench.send(Op.STREAM_NEXT) == NEED
    assert bench.send(Op.STREAM_FEED, 2) == (Reply.YIELD, 4)
    assert bench.send(Op.STREAM_NEXT) == NEED
    assert bench.send(Op.STREAM_END) == END
    assert bench.send(Op.GET, "log") == (Reply.RESULT, ["start", 1, 2, "end", "finally"])


def test_streaming_node_may_yield_before_it_asks_and_after_the_end(load):
    """Outputs and inputs need not alternate."""
    bench = load(
        "class N:\n is_streaming = True\n async def process(self, items):\n  yield 'a'\n  yield 'b'\n"
        "  total = 0\n  async for x in items: total += x\n  yield total\n  async for x in items: yield 'never'\n  yield 'z'"
    )
    assert bench.stream(1, 2, 3) == ["a", "b", 6, "z"]


def test_streaming_node_may_stop_asking(load):
    """It need not take all its input."""
    bench = load(
        "class N:\n is_streaming = True\n async def process(self, items):\n  async for x in items:\n   yield x\n   return"
    )
    assert bench.send(Op.STREAM_OPEN) == NEED
    assert bench.send(Op.STREAM_FEED, 1) == (Reply.YIELD, 1)
    assert bench.send(Op.STREAM_NEXT) == END


def test_tasks_of_the_node_may_ask_and_yield_at_once(load):
    """A reader task that asks ahead: output and wish come together, and both are answered by the next item."""
    bench = load("""
        import asyncio
        class N:
            is_streaming = True
            async def process(self, items):
                queue = asyncio.Queue()
                async def read():
                    async for x in items:
                        await queue.put(x)
                    await queue.put(None)
                task = asyncio.create_task(read())
                while (x := await queue.get()) is not None:
                    yield x * 2
                await task
    """)
    assert bench.send(Op.STREAM_OPEN) == NEED
    assert bench.send(Op.STREAM_FEED, 1) == (Reply.YIELD_NEED, 2)
    assert bench.send(Op.STREAM_FEED, 2) == (Reply.YIELD_NEED, 4)
    assert bench.send(Op.STREAM_END) == END
    assert bench.stream(1, 2, 3) == [2, 4, 6]


def test_streaming_node_lives_in_one_task(load):
    """So timeouts, task groups and context variables may span its yields."""
    bench = load("""
        import asyncio, contextvars
        var = contextvars.ContextVar("var")
        class N:
            is_streaming = True
            async def process(self, items):
                var.set("kept")
                task = asyncio.current_task()
                async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                    async for x in items:
                        yield [x, var.get(), asyncio.current_task() is task, await group.create_task(asyncio.sleep(0, x))]
    """)
    assert bench.stream(1, 2) == [[1, "kept", True, 1], [2, "kept", True, 2]]


@pytest.mark.parametrize("source", [DOUBLE, WHOLE], ids=["item", "whole"])
@pytest.mark.parametrize(
    ("flush", "expected"),
    [("def flush(self): return 'f'", ["f"]), ("async def flush(self): return 'f'", ["f"]),
     ("def flush(self):\n        yield 'f'\n        yield 'g'", ["f", "g"]),
     ("async def flush(self):\n        yield 'f'\n        yield 'g'", ["f", "g"]),
     ("def flush(self): return ['f', 'g']", [["f", "g"]]), ("def flush(self): pass", [])],
    ids=["value", "coroutine", "generator", "async generator", "list", "none"],
)  # fmt: skip
def test_flush_is_the_end_of_every_stream(load, source, flush, expected):
    """What it returns or yields is output; a list is one."""
    indent = " " if source is DOUBLE else "    "
    bench = load(f"{source}\n{indent}{flush}")
    assert bench.stream(1) == [2, *expected]
    assert bench.stream(1) == [2, *expected]


def test_flush_ends_a_source_as_well(load):
    """Without input there is still an end."""
    assert load("class N:\n def process(self): yield 1\n def flush(self): return 'f'").stream() == [1, "f"]


def test_failure_ends_the_stream_and_not_the_node(load):
    """After the outputs before it, as an exception; no flush."""
    bench = load("class N:\n def process(self, x):\n  yield x\n  yield 1 // x\n def flush(self): return 'flushed'")
    with pytest.raises(ZeroDivisionError) as native:
        _ = 1 // 0  # Python 3.14 words it otherwise
    assert bench.stream(1, 0, 5) == [1, 1, 0, ("ZeroDivisionError", str(native.value))]
    kind, failure = bench.send(Op.STREAM_NEXT)
    assert (kind, failure["message"]) == (Reply.FAILURE, "no stream is open on this node")
    assert bench.stream(2) == [2, 0, "flushed"]


@pytest.mark.parametrize("op", [Op.STREAM_NEXT, Op.STREAM_END])
def test_failure_of_a_streaming_node(load, op):
    """Its generator has ended by itself."""
    bench = load(
        "class N:\n is_streaming = True\n async def process(self, items):\n  async for x in items: yield x\n  raise KeyError('k')"
    )
    assert bench.stream(1) == [1, ("KeyError", "'k'")]
    kind, failure = bench.send(op)
    assert (kind, failure["message"]) == (Reply.FAILURE, "no stream is open on this node")


def test_failure_that_comes_of_another_request_leaves_the_stream_alone(load):
    """A missing attribute is no reason to lose one."""
    bench = load(DOUBLE)
    bench.send(Op.STREAM_OPEN)
    assert bench.send(Op.GET, "absent")[0] is Reply.FAILURE
    assert bench.send(Op.STREAM_FEED, 1) == (Reply.YIELD_NEED, 2)


def test_output_that_cannot_be_encoded_closes_the_stream(load):
    """The shim reports it after the guest has answered."""
    bench = load(WHOLE)
    bench.send(Op.STREAM_OPEN)
    bench.send(Op.STREAM_FEED, 1)
    kind, failure = bench.guest.fail(TypeError("result: no"), "encode")
    assert (kind, failure["phase"], failure["message"]) == (Reply.FAILURE, "encode", "result: no")
    assert bench.send(Op.GET, "log")[1][-1] == "finally"
    assert bench.stream(3) == [6]


def test_closing_at_an_output_closes_the_generator_there(load):
    """GeneratorExit at its yield, finally blocks, nothing flushed."""
    bench = load(f"{WHOLE}    def flush(self): raise AssertionError")
    bench.send(Op.STREAM_OPEN)
    bench.send(Op.STREAM_FEED, 1)
    assert bench.send(Op.STREAM_CLOSE) == (Reply.RESULT, None)
    assert bench.send(Op.GET, "log") == (Reply.RESULT, ["start", 1, "GeneratorExit()", "finally"])


def test_closing_at_a_wish_for_input_cancels_there(load):
    """As a task that is cancelled sees it."""
    bench = load(WHOLE)
    bench.send(Op.STREAM_OPEN)
    assert bench.send(Op.STREAM_CLOSE) == (Reply.RESULT, None)
    assert bench.send(Op.GET, "log") == (Reply.RESULT, ["start", "CancelledError()", "finally"])


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_closing_an_item_nodes_generator(load, kind):
    """Its finally block runs, and may await where it is async."""
    wait = "await __import__('asyncio').sleep(0)" if kind == "async def" else "pass"
    bench = load(
        f"class N:\n closed = 0\n {kind} process(self, x):\n  try:\n   while True: yield x\n  finally:\n   {wait}\n   self.closed += 1"
    )
    bench.send(Op.STREAM_OPEN)
    assert bench.send(Op.STREAM_FEED, 7) == (Reply.YIELD, 7)
    assert bench.send(Op.STREAM_CLOSE) == (Reply.RESULT, None)
    assert bench.send(Op.GET, "closed") == (Reply.RESULT, 1)
    assert bench.send(Op.STREAM_OPEN) == NEED


def test_closing_without_a_stream_does_nothing(load):
    """It can always be sent."""
    assert load(DOUBLE).send(Op.STREAM_CLOSE) == (Reply.RESULT, None)


def test_finally_block_that_raises_is_the_failure_of_closing(load):
    """And the stream is closed all the same."""
    for kind in ("def", "async def"):
        bench = load(f"class N:\n {kind} process(self, x):\n  try: yield x\n  finally: raise OSError('disk')")
        bench.send(Op.STREAM_OPEN)
        bench.send(Op.STREAM_FEED, 1)
        reply, failure = bench.send(Op.STREAM_CLOSE)
        assert (reply, failure["type"], failure["message"]) == (Reply.FAILURE, "OSError", "disk")
        assert bench.send(Op.STREAM_OPEN) == NEED


def test_generator_that_goes_on_when_closed_is_a_failure(load):
    """Python's own rule, and it does not hang."""
    for kind in ("def", "async def"):
        bench = load(f"class N:\n {kind} process(self, x):\n  try: yield x\n  except GeneratorExit: yield 'once more'")
        bench.send(Op.STREAM_OPEN)
        bench.send(Op.STREAM_FEED, 1)
        reply, failure = bench.send(Op.STREAM_CLOSE)
        assert (reply, failure["type"]) == (Reply.FAILURE, "RuntimeError")
        assert "ignored GeneratorExit" in failure["message"]


def test_streaming_node_that_swallows_its_cancellation_ends(load):
    """There is no more input behind it."""
    bench = load("""
        import asyncio
        class N:
            is_streaming = True
            async def process(self, items):
                while True:
                    try:
                        async for x in items: yield x
                        break
                    except asyncio.CancelledError: self.seen = True
                yield "after"
    """)
    bench.send(Op.STREAM_OPEN)
    assert bench.send(Op.STREAM_CLOSE) == (Reply.RESULT, None)
    assert bench.send(Op.GET, "seen") == (Reply.RESULT, True)


def test_error_of_the_hosts_input_is_raised_at_the_async_for(load):
    """A builtin exception as itself; uncaught it is the node's failure too."""
    bench = load(WHOLE)
    bench.send(Op.STREAM_OPEN)
    kind, failure = bench.send(Op.STREAM_THROW, "OSError", "tape torn")
    assert (kind, failure["type"], failure["message"]) == (Reply.FAILURE, "OSError", "tape torn")
    assert bench.send(Op.GET, "log") == (Reply.RESULT, ["start", "OSError('tape torn')", "finally"])


@pytest.mark.parametrize(
    ("name", "seen"),
    [("LookupError", "LookupError('m')"), ("builtins.ValueError", "ValueError('m')"), ("tape.TornError", "InputError('tape.TornError: m')"),
     ("UnicodeDecodeError", "InputError('UnicodeDecodeError: m')"), ("StopAsyncIteration", "InputError('StopAsyncIteration: m')"),
     ("KeyboardInterrupt", "InputError('KeyboardInterrupt: m')"), ("print", "InputError('print: m')")],
)  # fmt: skip
def test_error_of_the_hosts_input_can_be_survived(load, name, seen):
    """The node catches it and says goodbye; there is no input after it."""
    bench = load(
        "class N:\n is_streaming = True\n async def process(self, items):\n  try:\n   async for x in items: pass\n"
        "  except Exception as error: yield repr(error)\n  async for x in items: yield 'never'"
    )
    bench.send(Op.STREAM_OPEN)
    assert bench.send(Op.STREAM_THROW, name, "m") == (Reply.YIELD, seen)
    assert bench.send(Op.STREAM_NEXT) == END


def test_error_of_the_hosts_input_ends_an_item_nodes_stream(load):
    """It has no place where it could see it; nothing is flushed."""
    bench = load(f"{DOUBLE}\n def flush(self): raise AssertionError")
    bench.send(Op.STREAM_OPEN)
    assert bench.send(Op.STREAM_THROW, "OSError", "tape torn") == END
    assert bench.send(Op.STREAM_OPEN) == NEED


def test_second_stream_is_refused(load):
    """And the first one goes on."""
    bench = load(DOUBLE)
    bench.send(Op.STREAM_OPEN)
    kind, failure = bench.send(Op.STREAM_OPEN)
    assert (kind, failure["message"]) == (Reply.FAILURE, "a stream is open on this node: close it first")


def test_calls_between_the_steps_of_a_stream(load):
    """The node is an object; its stream is one of the things that it does."""
    bench = load(
        "import asyncio\nclass N:\n async def process(self, x):\n  for i in range(2):\n   await asyncio.sleep(0)\n   yield x + i\n async def flush(self): return 'f'"
    )
    bench.send(Op.STREAM_OPEN)
    assert bench.send(Op.STREAM_FEED, 1) == (Reply.YIELD, 1)
    assert bench.process(10) == [10, 11]
    assert bench.send(Op.STREAM_NEXT) == (Reply.YIELD, 2)
    assert bench.send(Op.STREAM_NEXT) == NEED
    assert bench.send(Op.STREAM_END) == (Reply.YIELD, "f")
    assert bench.send(Op.STREAM_NEXT) == END


def test_nothing_accumulates_over_a_long_stream(load, thorough):
    """Thousands of items leave no task, gate or handle behind."""
    count = 2000 if thorough else 100
    bench = load(WHOLE.replace("self.log.append(x)", "pass"))
    assert bench.stream(*range(count)) == [x * 2 for x in range(count)]
    assert not bench.guest.loop._ready
    assert not bench.guest.loop._scheduled
    assert not __import__("asyncio").all_tasks(bench.guest.loop)


def test_a_batch_of_single_outputs_is_answered_by_them_alone(load):
    """So numbers can be packed. Any other batch has a list of outputs for each item."""
    bench = load(
        "class N:\n"
        " def process(self, x):\n"
        "  if x == 'raise': raise ValueError(x)\n"
        "  if x == 'several': return iter([1, 2])\n"
        "  return None if x == 'none' else x\n"
        " def flush(self): return 'last'"
    )
    bench.send(Op.STREAM_OPEN)

    def batch(*items, end=False):
        kind, value = bench.send(Op.STREAM_BATCH, [list(items), end])
        assert kind == Reply.BATCH
        return value

    assert batch(1, 2.5, [3]) == [[1, 2.5, [3]]]
    assert batch() == [[]]
    assert batch(1, "none", 2) == [[[1], [], [2]], None, False]
    assert batch("none", 1) == [[[], [1]], None, False]
    assert batch(1, "several", 2) == [[[1], [1, 2], [2]], None, False]
    outcomes, failure, ended = batch(1, 2, "raise", 3)
    assert (outcomes, failure["type"], ended) == ([[1], [2]], "ValueError", False)
    assert [bench.send(Op.STREAM_TAKE, 1, number)[1] for number in range(2)] == [[1], [2]]
    assert bench.send(Op.STREAM_TAKE, 1, 2)[0] == Reply.FAILURE
    assert batch(1, end=True) == [[[1], ["last"]], None, True]


def test_what_a_node_changes_after_it_has_given_it_is_sent_as_it_was(load):
    """The outputs of a batch are sent together, when the node has worked on the last item. They are those of single calls."""
    bench = load(
        "class N:\n"
        " def __init__(self): self.window, self.seen = [], {'window': []}\n"
        " def process(self, x):\n"
        "  self.window = self.window[:0] if not self.window else self.window\n"
        "  self.window.append(x)\n"
        "  self.seen['window'] = self.window\n"
        "  if x == 'both': return iter([self.window, self.seen])\n"
        "  return self.window if x % 2 else self.seen"
    )
    bench.send(Op.STREAM_OPEN)
    assert bench.send(Op.STREAM_BATCH, [[1, 2, 3], False])[1] == [[[1], {"window": [1, 2]}, [1, 2, 3]]]
    kind, value = bench.send(Op.STREAM_BATCH, [["both", 5], False])
    assert kind == Reply.BATCH
    assert value[0] == [[[1, 2, 3, "both"], {"window": [1, 2, 3, "both"]}], [[1, 2, 3, "both", 5]]]
