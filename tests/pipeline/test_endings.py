"""However a run of native nodes ends, it ends soon, says why, and leaves nothing behind: no thread, no node without its cleanup."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import anyio
import pytest

import cloche
from cloche.pipeline import Checkpoint, CircuitBreaker, NodeSpec, Pipeline, PipelineError, Rejected, Retry
from tests.injection import every, within

from .run_threads import run_threads

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


def spec(source: Any, /, **options: Any) -> NodeSpec:
    options.setdefault("placement", "native")
    return NodeSpec(source, **options)


def same(x: Any) -> Any:
    return x


class Cleaned:
    """A node whose cleanups are counted."""

    count = 0

    def process(self, x: Any) -> Any:
        return x

    def cleanup(self) -> None:
        type(self).count += 1


def test_all_of_a_nodes_code_runs_on_one_thread() -> None:
    """Connections of databases, event loops and devices insist on that."""

    class Database:
        def initialize(self) -> None:
            self.connection = sqlite3.connect(":memory:")
            self.connection.execute("create table t (x)")

        def process(self, x: int) -> int:
            self.connection.execute("insert into t values (?)", (x,))
            return int(self.connection.execute("select sum(x) from t").fetchone()[0])

        def flush(self) -> str:
            return str(self.connection.total_changes)

        def cleanup(self) -> None:
            self.connection.close()

    for placement in ("native", "inline"):
        with Pipeline([spec(same), spec(Database, placement=placement)]) as pipeline:
            assert list(pipeline.run([1, 2, 3])) == [1, 3, 6, "3"]


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_node_that_does_not_come_back_is_told_and_does_not_hang_the_end(position: int) -> None:
    forever, entered = threading.Event(), threading.Event()

    class Hangs:
        def process(self, x: int) -> int:
            if x == 3:
                entered.set()
                forever.wait()
            return x

    Cleaned.count = 0
    nodes = [spec(Cleaned, id="a"), spec(Cleaned, id="b"), spec(Cleaned, id="c")]
    nodes[position] = spec(Hangs, id="hangs")
    pipeline = Pipeline(nodes, stop_s=0.05)
    outputs = pipeline.run(range(10))
    assert next(outputs) == 0
    entered.wait()
    with pytest.raises(ExceptionGroup) as caught:
        outputs.close()  # type: ignore[attr-defined]  # a generator
    assert "'hangs' has not come back within 0.05 s" in str(caught.value.exceptions[0])
    assert Cleaned.count == 2
    forever.set()


def test_a_cleanup_that_does_not_come_back_is_told() -> None:
    forever = threading.Event()

    class Hangs(Cleaned):
        def cleanup(self) -> None:
            forever.wait()

    Cleaned.count = 0
    with (
        Pipeline([spec(Cleaned), spec(Hangs), spec(Cleaned, id="last")], stop_s=0.05) as pipeline,
        pytest.raises(ExceptionGroup) as caught,
    ):
        list(pipeline.run([1]))
    assert "'Hangs' has not come back" in str(caught.value.exceptions[0])
    assert Cleaned.count == 2
    forever.set()


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_start_that_fails_stops_all_nodes(position: int) -> None:
    class Fails(Cleaned):
        def initialize(self) -> None:
            raise OSError("no device")

    Cleaned.count, Fails.count = 0, 0
    nodes = [spec(Cleaned, id=name) for name in "abc"]
    nodes[position] = spec(Fails, id="fails")
    with Pipeline(nodes) as pipeline, pytest.raises(OSError, match="no device") as caught:
        list(pipeline.run([1]))
    assert caught.value.__notes__ == ["node 'fails' of the pipeline could not be started"]
    assert (Cleaned.count, Fails.count) == (2, 1)  # all of them had been loaded


def test_an_early_end_tells_of_a_cleanup_that_raises() -> None:
    class Bad(Cleaned):
        def cleanup(self) -> None:
            raise OSError("stuck")

    outputs = Pipeline([spec(Bad)]).run([1, 2])
    next(outputs)
    with pytest.raises(ExceptionGroup, match="stopped cleanly"):
        outputs.close()  # type: ignore[attr-defined]  # a generator


def test_closing_on_another_thread_ends_the_run_and_the_consumer_is_told() -> None:
    """A loop over the outputs that just ended would look as if all items had been worked on."""
    Cleaned.count = 0
    pipeline = Pipeline([spec(Cleaned), spec(Cleaned, id="second")])
    never = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        never.wait()

    outputs = pipeline.run(items())
    assert next(outputs) == 1
    closer = threading.Thread(target=pipeline.close)
    closer.start()
    with pytest.raises(cloche.ClosedError, match="closed while it ran"):
        next(outputs)
    closer.join()
    assert Cleaned.count == 2
    never.set()


@pytest.mark.parametrize("where", ["node", "dead_letters", "on_checkpoint"])
def test_a_pipeline_can_be_closed_by_its_own_node_and_by_what_takes_its_checkpoints(where: str) -> None:
    Cleaned.count = 0

    def closes(x: int) -> int:
        if x == 2 and where == "node":
            pipeline.close()
        if x == 2 and where == "dead_letters":
            raise ValueError
        return x

    pipeline = Pipeline([spec(Cleaned), spec(closes, on_error="dead_letter"), spec(Cleaned, id="last")])
    options: dict[str, Any] = {"dead_letters": lambda _: pipeline.close()}
    if where == "on_checkpoint":
        options |= {"checkpoint_every": 1, "on_checkpoint": lambda _: pipeline.close()}
    with pytest.raises(cloche.ClosedError, match="closed while it ran"):
        list(pipeline.run(range(1000), **options))
    assert Cleaned.count == 2


def test_the_input_is_left_alone_after_the_end() -> None:
    """The caller may go on with it, which a thread that is still in it would break."""
    for _ in range(50):
        items = iter(range(10**9))
        numbers = (number for number in items)
        outputs = Pipeline([spec(same)]).run(numbers)
        next(outputs)
        outputs.close()  # type: ignore[attr-defined]  # a generator
        taken = next(numbers)
        assert [next(numbers), next(numbers)] == [taken + 1, taken + 2]


def test_an_input_that_blocks_does_not_hang_the_end() -> None:
    never = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        never.wait()

    outputs = Pipeline([spec(same)]).run(items())
    assert next(outputs) == 1
    outputs.close()  # type: ignore[attr-defined]  # a generator
    never.set()


@pytest.mark.parametrize(
    "kind", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, anyio.get_cancelled_exc_class]
)
def test_what_a_node_raises_is_an_error_of_the_node(kind: Any) -> None:
    """It ends neither the consumer's thread nor its loop."""

    def raises(x: int) -> int:
        if x == 1:
            raise (kind if isinstance(kind, type) else __import__("asyncio").CancelledError)("out")
        return x

    with Pipeline([spec(same), spec(raises)]) as pipeline:
        outputs = pipeline.run([0, 1])
        assert next(outputs) == 0
        with pytest.raises(PipelineError, match="out"):
            next(outputs)
    with Pipeline([spec(raises, on_error="skip")]) as pipeline:
        assert list(pipeline.run([0, 1, 2])) == [0, 2]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", [IndexError, RuntimeError, KeyError, LookupError])
def test_what_an_awaited_input_raises_is_never_taken_for_its_end(backend: str, kind: type[Exception]) -> None:
    async def items() -> AsyncIterator[int]:
        yield 1
        raise kind("input")

    async def main() -> list[int]:
        found: list[int] = []
        with Pipeline([spec(same)]) as pipeline, pytest.raises(kind, match="input"):
            async for output in pipeline.arun(items()):
                found.append(output)
        return found

    assert anyio.run(main, backend=backend) == [1]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_awaited_run_that_is_cancelled_while_it_starts_leaves_nothing(backend: str) -> None:
    entered, go_on = threading.Event(), threading.Event()
    Cleaned.count = 0

    class Slow(Cleaned):
        def initialize(self) -> None:
            entered.set()
            go_on.wait()

    async def main() -> None:
        async def consume() -> None:
            async with aclosing(pipeline.arun([1])) as outputs:  # type: ignore[type-var]  # a generator
                async for _ in outputs:
                    pass

        async with anyio.create_task_group() as group:
            group.start_soon(consume)
            await anyio.to_thread.run_sync(entered.wait)
            group.cancel_scope.cancel()
            go_on.set()

    Slow.count = 0
    with Pipeline([spec(Cleaned), spec(Slow)]) as pipeline:
        anyio.run(main, backend=backend)
    assert (Cleaned.count, Slow.count) == (1, 1)


def test_an_interrupt_at_any_moment_leaves_nothing(thorough: bool) -> None:
    """Ctrl-C in the consumer's thread, at each bytecode of the pipeline's own code."""
    opened: list[int] = []

    class Counted:
        def process(self, x: int) -> int:
            return x

        def __init__(self) -> None:
            opened.append(1)

        def cleanup(self) -> None:
            opened.append(-1)

    before = run_threads().keys()
    pipeline = Pipeline([spec(Counted), spec(Counted, id="second")])
    where = within("pipeline/pipeline.py", "pipeline/_run.py", "pipeline/_worker.py", "pipeline/_channel.py")
    for injected in every(lambda: list(pipeline.run([1, 2])), KeyboardInterrupt, where, step=1 if thorough else 23):
        for thread in [thread for ident, thread in run_threads().items() if ident not in before]:
            thread.join(60)
        assert run_threads().keys() <= before, injected.place
        assert sum(opened) == 0, injected.place
    assert not pipeline._runs


def test_a_fork_leaves_a_run_to_the_parent() -> None:
    Cleaned.count = 0
    pipeline = Pipeline([spec(Cleaned)])
    outputs = pipeline.run(iter(range(10_000)))
    assert next(outputs) == 0
    child = os.fork()
    if child == 0:
        status = 1
        try:
            try:
                for _ in outputs:
                    pass
            except cloche.ClocheError as error:
                status = 0 if "process" in str(error) else 2
            pipeline.close()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert list(outputs) == list(range(1, 10_000))
    assert Cleaned.count == 1


def test_many_runs_leave_nothing(thorough: bool) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    with Pipeline([spec(same), spec(same, id="b", workers=2), spec(Cleaned, placement="inline")]) as pipeline:
        for count in range(2000 if thorough else 50):
            outputs = pipeline.run(range(5))
            if count % 2:
                assert list(outputs) == [0, 1, 2, 3, 4]
            else:
                next(outputs)
                outputs.close()  # type: ignore[attr-defined]  # a generator
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def test_two_runs_at_once_share_nothing_but_the_pipeline() -> None:
    class Sum:
        def __init__(self) -> None:
            self.sum = 0

        def process(self, x: int) -> int:
            self.sum += x
            return self.sum

    with Pipeline([spec(Sum)]) as pipeline:
        one, other = pipeline.run([1, 2, 3]), pipeline.run([10, 20])
        assert [next(one), next(other), next(one), next(other), next(one)] == [1, 10, 3, 30, 6]
        assert len(pipeline.status) == 1
        assert [*one, *other] == []


def test_a_circuit_that_opens_between_retries_keeps_the_nodes_error() -> None:
    rejected: list[Rejected] = []

    def down(x: int) -> None:
        raise OSError("down")

    node = spec(down, on_error=Retry(5, 0, then=cloche.pipeline.DeadLetter()), breaker=CircuitBreaker(failures=3))
    with Pipeline([node]) as pipeline:
        assert list(pipeline.run([1, 2], dead_letters=rejected.append)) == []
    assert [str(one.error) for one in rejected] == [
        "down",
        "node 'down' was not called: it has failed 3 times in a row",
    ]


def test_an_item_that_fails_in_the_middle_gives_none_of_its_outputs() -> None:
    """Where branches meet, a part of an item's outputs would take the numbers that belong to others."""

    def thrice(x: int) -> Iterator[int]:
        yield from [10 * x, 10 * x + 1, 10 * x + 2]

    def bad(x: int) -> int:
        if x == 11:
            raise ValueError("eleven")
        return x

    nodes = [spec(thrice, id="a"), spec(bad, id="b"), spec(thrice, id="c"), spec(same, id="d")]
    found = []
    with (
        Pipeline(nodes, [("a", "b"), ("b", "d"), ("c", "d")]) as pipeline,
        pytest.raises(PipelineError, match="eleven"),
    ):
        for output in pipeline.run([0, 1], numbered=True):
            found.append((output.number, output.value))
    assert found == [(0, 0), (1, 1), (2, 2), (3, 0), (4, 1), (5, 2)]


def test_a_node_that_has_ended_has_ended_after_a_checkpoint_as_well() -> None:
    kept: list[Checkpoint] = []
    source = cloche.Source(
        "class Two:\n    is_streaming = True\n    async def process(self, items):\n        count = 0\n"
        "        async for item in items:\n            yield 'two', item\n            count += 1\n"
        "            if count == 2: return\n"
    )

    def make() -> Pipeline:
        return Pipeline([NodeSpec(source, id="two"), spec(same, id="all")], [])

    items = list(range(6))
    with make() as pipeline:
        whole = list(pipeline.run(items, numbered=True, checkpoint_every=1, on_checkpoint=kept.append))
    assert [output.value for output in whole if output.node == "two"] == [("two", 0), ("two", 1)]
    for point in kept:
        with make() as pipeline:
            rest = list(pipeline.resume(Checkpoint.from_bytes(point.to_bytes()), items[point.items :], numbered=True))
        assert rest == whole[point.outputs :], point


@pytest.mark.parametrize(
    "keys",
    [[1, 1.0, True], [0.0, -0.0, 0], ["a", "a"], [float("nan"), float("nan")], [(1, "a"), (1.0, "a")], [None, None]],
    ids=repr,
)
def test_equal_keys_meet_the_same_copy(keys: list[Any]) -> None:
    class Names:
        def process(self, x: Any) -> int:
            return id(self)

    with Pipeline([spec(Names, workers=5, key=lambda x: x)]) as pipeline:
        assert len(set(pipeline.run(keys * 3))) == 1


@pytest.mark.parametrize(
    "key", [object(), frozenset({1}), (1, object()), b"", [1], {1: 2}], ids=lambda key: type(key).__name__
)
def test_a_key_without_a_name_of_its_own_is_an_error(key: Any) -> None:
    """A hash of it would differ from process to process, and a run that is resumed would send its items elsewhere."""
    with Pipeline([spec(same, workers=2, key=lambda _: key)]) as pipeline:
        if key == b"":
            assert list(pipeline.run([1])) == [1]
        else:
            with pytest.raises(PipelineError, match="item 0 .*: the key of an item"):
                list(pipeline.run([1]))
