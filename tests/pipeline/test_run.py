"""A pipeline's outputs are those of a plain loop over its nodes: order, numbers, failures, checkpoints. With native nodes."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

import anyio
import pytest

import cloche
from cloche import _container
from cloche.pipeline import (
    Checkpoint,
    CircuitBreaker,
    DeadLetter,
    NodeSpec,
    Output,
    Pipeline,
    PipelineError,
    PlacementError,
    Rejected,
    Restore,
    Retry,
)


def double(x: int) -> int:
    return 2 * x


def repeat(x: int) -> Iterator[tuple[int, int]]:
    """So many outputs as x says, none for 0."""
    for number in range(x % 3):
        yield x, number


class Sum:
    """Keeps a sum, which it gives once more at the end."""

    def __init__(self, first: int = 0) -> None:
        self.sum = first

    def process(self, x: int) -> int:
        if x == 13:
            self.sum += 1000  # half done
            raise ValueError("thirteen")
        self.sum += x
        return self.sum

    def flush(self) -> tuple[str, int]:
        return "flushed", self.sum


class Pairs:
    """Takes the whole stream."""

    is_streaming = True

    async def process(self, items: Any) -> Any:
        yield "begin"
        before = None
        async for item in items:
            if before is not None:
                yield before, item
                before = None
            else:
                before = item
        yield "end", before


class Later:
    async def process(self, x: int) -> int:
        return x + 1


def spec(source: Any, /, *arguments: Any, **options: Any) -> NodeSpec:
    options.setdefault("placement", "native")
    return NodeSpec(source, *arguments, **options)


def run(*nodes: NodeSpec, items: Any = range(6), connections: Any = None, **options: Any) -> list[Any]:
    with Pipeline(nodes, connections) as pipeline:
        return list(pipeline.run(items, **options))


@pytest.mark.parametrize("placement", ["native", "inline", "process"])
def test_a_chain_gives_what_a_loop_gives(placement: Any) -> None:
    nodes = [NodeSpec(kind, placement=placement, on_error="skip") for kind in (double, Sum, Later)]
    got = run(*nodes, items=[1, 2, 3], numbered=True)
    assert [(output.number, output.item, output.value) for output in got[:3]] == [(0, 0, 3), (1, 1, 7), (2, 2, 13)]
    assert got[0].node == "Later"


def test_what_comes_at_the_end_goes_through_the_nodes_behind() -> None:
    assert run(spec(Sum), spec(lambda x: [x]), items=[1, 2]) == [[1], [3], [("flushed", 3)]]
    got = run(spec(Sum), spec(lambda x: [x]), items=[], numbered=True)
    assert got == [Output(0, None, "lambda", [("flushed", 0)])] or got[0].item is None


def test_a_generator_has_any_number_of_outputs() -> None:
    assert run(spec(repeat)) == [(1, 0), (2, 0), (2, 1), (4, 0), (5, 0), (5, 1)]


def test_a_node_over_the_whole_stream() -> None:
    assert run(spec(double), spec(Pairs), items=[1, 2, 3]) == ["begin", (2, 4), ("end", 6)]


def test_branches_are_joined_by_item_and_by_the_order_of_the_connections() -> None:
    nodes = [
        spec(double, id="a"),
        spec(repeat, id="b"),
        spec(lambda x: x, id="c", placement="inline"),
        spec(repr, id="d"),
    ]
    got = run(*nodes, connections=[("a", "b"), ("a", "c"), ("c", "d"), ("b", "d")], items=[1, 2, 3])
    assert got == ["2", "(2, 0)", "(2, 1)", "4", "(4, 0)", "6"]


def test_several_last_nodes() -> None:
    got = run(spec(double, id="a"), spec(repeat, id="b"), connections=[], items=[1, 2], numbered=True)
    assert [(output.item, output.node, output.value) for output in got] == [
        (0, "a", 2),
        (0, "b", (1, 0)),
        (1, "a", 4),
        (1, "b", (2, 0)),
        (1, "b", (2, 1)),
    ]


def test_a_key_selects_and_ports_are_joined() -> None:
    nodes = [
        spec(lambda x: {"even": x} if x % 2 == 0 else {"odd": x}, id="sort"),
        spec(lambda x: ("even", x), id="even"),
        spec(lambda x: x, id="left"),
        spec(lambda a, b: (a, b), id="pair", inputs=("a", "b")),
    ]
    connections = [("sort.even", "even"), ("left", "pair.b"), ("left", "pair.a")]
    got = run(*nodes, connections=connections, items=[1, 2])
    assert got == [(1, 1), ("even", 2), (2, 2)]


def test_ports_with_different_numbers_of_values_are_an_error() -> None:
    nodes = [spec(double, id="a"), spec(repeat, id="b"), spec(lambda a, b: (a, b), id="c", inputs=("a", "b"))]
    with pytest.raises(PipelineError, match=r"of item 1 c\.a has 1, c\.b has 2: have process .* as many") as caught:
        run(*nodes, connections=[("a", "c.a"), ("b", "c.b")], items=[1, 2])
    assert (caught.value.node, caught.value.item) == ("c", 1)


def test_ports_with_different_numbers_of_values_at_the_end_are_an_error() -> None:
    nodes = [spec(double, id="a"), spec(Sum, id="b"), spec(lambda a, b: (a, b), id="c", inputs=("a", "b"))]
    with pytest.raises(PipelineError, match=r"at the end of the input c\.a has 0, c\.b has 1: have flush") as caught:
        run(*nodes, connections=[("a", "c.a"), ("b", "c.b")], items=[])
    assert (caught.value.node, caught.value.item) == ("c", None)


@pytest.mark.parametrize("workers", [2, 3, 7])
def test_copies_keep_the_order(workers: int) -> None:
    assert run(spec(repeat, workers=workers), items=range(50)) == run(spec(repeat), items=range(50))


@pytest.mark.parametrize("key", ["user", lambda item: item["user"]])
def test_items_of_a_key_meet_the_same_copy(key: Any) -> None:
    class PerUser:
        def __init__(self) -> None:
            self.counts: dict[Any, int] = {}

        def process(self, item: dict[str, Any]) -> tuple[Any, int]:
            user = item["user"]
            self.counts[user] = self.counts.get(user, 0) + 1
            return user, self.counts[user]

    items = [{"user": user} for user in ["ann", "bob", 3, ("c", 1), "ann", None] * 20]
    assert run(spec(PerUser, workers=4, key=key), items=items) == run(spec(PerUser), items=items)


def test_a_key_that_cannot_be_hashed_is_an_error() -> None:
    with pytest.raises(PipelineError, match="none for item 0 .*: the key of an item is of type list"):
        run(spec(repr, workers=2, key=lambda item: [item]))


def test_an_item_without_the_key_is_named() -> None:
    with pytest.raises(PipelineError, match="item 1 .*it has no key 'user'") as caught:
        run(spec(repr, id="r", workers=2, key="user"), items=[{"user": 1}, {}])
    assert (caught.value.node, caught.value.item, len(caught.value.digest)) == ("r", 1, 16)


def outputs_until_an_error(iterator: Iterator[Any]) -> tuple[list[Any], BaseException | None]:
    found: list[Any] = []
    try:
        for value in iterator:
            found.append(value)
    except Exception as error:
        return found, error
    return found, None


@pytest.mark.parametrize("before", [(), (double,), (Pairs, double)], ids=["first", "second", "third"])
def test_an_item_that_fails_ends_the_run_after_the_outputs_before(before: tuple[Any, ...]) -> None:
    def thirteen(x: Any) -> Any:
        if x in (13, 26, (26, 26) * 2):
            raise ValueError("thirteen")
        return x

    items = [1, 2, 13, 4]
    nodes = [spec(kind) for kind in before if kind is not Pairs]
    with Pipeline([*nodes, spec(thirteen), spec(Sum, placement="inline")]) as pipeline:
        found, error = outputs_until_an_error(pipeline.run(items))
    factor = 2 if double in before else 1
    assert found == [factor, 3 * factor]
    assert isinstance(error, PipelineError)
    assert (error.node, error.item) == ("thirteen", 2)
    assert isinstance(error.__cause__, ValueError)
    assert len(error.digest) == 16
    assert error.digest in str(error)


def test_the_inputs_error_comes_after_the_outputs_before() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("input")

    with Pipeline([spec(double), spec(double)]) as pipeline:
        found, error = outputs_until_an_error(pipeline.run(items()))
    assert found == [4, 8]
    assert isinstance(error, KeyError)


def test_rules_for_items_that_fail() -> None:
    items = [1, 13, 2]
    rejected: list[Rejected] = []
    assert run(spec(Sum, on_error="skip"), items=items) == [1, 1003, ("flushed", 1003)]
    assert run(spec(Sum, on_error=Restore()), items=items) == [1, 3, ("flushed", 3)]
    assert run(spec(Sum, on_error=Restore(DeadLetter())), items=items, dead_letters=rejected.append)[:2] == [1, 3]
    assert [(one.node, one.item, one.value, str(one.error)) for one in rejected] == [("Sum", 1, 13, "thirteen")]
    with pytest.raises(PipelineError, match="thirteen"):
        run(spec(Sum, on_error=Retry(2, 0)), items=items)
    assert run(spec(Sum, on_error=Retry(2, 0, then=Restore())), items=items)[:2] == [1, 3]


def test_a_retry_may_succeed() -> None:
    class Flaky:
        def __init__(self) -> None:
            self.calls = 0

        def process(self, x: int) -> tuple[int, int]:
            self.calls += 1
            if self.calls % 3:
                raise OSError("not yet")
            return x, self.calls

    with Pipeline([spec(Flaky, on_error=Retry(5, 0))]) as pipeline:
        assert list(pipeline.run([1, 2])) == [(1, 3), (2, 6)]


def test_a_node_that_fails_each_time_is_not_called_for_a_while() -> None:
    calls: list[int] = []

    def broken(x: int) -> None:
        calls.append(x)
        raise OSError("down")

    breaker = CircuitBreaker(failures=3, reset_s=1000)
    rejected: list[Rejected] = []
    node = spec(broken, on_error="dead_letter", breaker=breaker)
    assert run(node, items=range(10), dead_letters=rejected.append) == []
    assert calls == [0, 1, 2]
    assert [type(one.error).__name__ for one in rejected] == ["OSError"] * 3 + ["CircuitOpenError"] * 7
    calls.clear()
    run(spec(broken, on_error="skip", breaker=CircuitBreaker(failures=3, reset_s=0)), items=range(10))
    assert calls == list(range(10))


def test_the_consumer_may_stop_early() -> None:
    stopped: list[str] = []

    class Endless:
        def process(self, x: int) -> Iterator[int]:
            yield x

        def cleanup(self) -> None:
            stopped.append("cleanup")

    def items() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    pipeline = Pipeline([spec(Endless), spec(Endless, id="second")])
    for output in pipeline.run(items()):
        if output == 5:
            break
    pipeline.close()
    assert stopped == ["cleanup", "cleanup"]


def test_nothing_is_taken_ahead_without_bound() -> None:
    """Who waits for the caller makes the input wait."""
    taken: list[int] = []
    full = threading.Event()

    def items() -> Iterator[int]:
        for number in range(1_000_000):
            taken.append(number)
            if number > 3 * (128 + 64) + 256 + 100:
                full.set()  # more than all queues hold together
            yield number

    with Pipeline([spec(double), spec(double), spec(double)]) as pipeline:
        outputs = pipeline.run(items())
        assert next(outputs) == 0
        assert not full.is_set()
        outputs.close()  # type: ignore[attr-defined]  # a generator
    assert len(taken) < 1_000_000


def interrupted(make: Callable[[], Pipeline], items: list[Any], at: int, every: int) -> list[Any]:
    """The outputs of a run that is broken off and resumed from its last checkpoint, without those that came twice."""
    kept: list[bytes] = []
    found: dict[int, Any] = {}
    with make() as pipeline:
        outputs = pipeline.run(
            items, numbered=True, checkpoint_every=every, on_checkpoint=lambda point: kept.append(point.to_bytes())
        )
        for output in outputs:
            found[output.number] = output.value
            if len(found) == at:
                break
        outputs.close()  # type: ignore[attr-defined]  # a generator
    if not kept:
        return []
    point = Checkpoint.from_bytes(kept[-1])
    with make() as pipeline:
        for output in pipeline.resume(point, items[point.items :], numbered=True):
            assert found.setdefault(output.number, output.value) == output.value
    return [found[number] for number in range(len(found))]


@pytest.mark.parametrize("at", [3, 7, 11, 15])
@pytest.mark.parametrize("every", [1, 3])
def test_a_run_goes_on_from_a_checkpoint(at: int, every: int) -> None:
    def make() -> Pipeline:
        nodes = [
            spec(Sum, id="a"),
            spec(Sum, id="b", workers=2, key=lambda x: x % 2 if isinstance(x, int) else 0),
            spec(repr, id="c"),
        ]
        return Pipeline(nodes[:1] + nodes[2:], None) if at == 7 else Pipeline([nodes[0], nodes[2]])

    items = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    with make() as pipeline:
        whole = list(pipeline.run(items))
    assert interrupted(make, items, at, every) in (whole, [])


def test_a_checkpoint_that_is_damaged_or_anothers_is_refused() -> None:
    kept: list[Checkpoint] = []
    with Pipeline([spec(Sum)]) as pipeline:
        list(pipeline.run([1, 2], checkpoint_every=1, on_checkpoint=kept.append))
    data = kept[0].to_bytes()
    for wrong in (b"", data[:-1], data[:-1] + b"x", b"x" + data, data + data):
        with pytest.raises(cloche.ClocheError, match="no checkpoint|checkpoint is truncated or altered"):
            Checkpoint.from_bytes(wrong)
    with pytest.raises(cloche.ClocheError, match="another key"):
        Checkpoint.from_bytes(data, key=b"k")
    assert Checkpoint.from_bytes(kept[0].to_bytes(key=b"k"), key=b"k") == kept[0]
    with pytest.raises(cloche.ClocheError, match="max_bytes"):
        Checkpoint.from_bytes(data, max_bytes=10)
    with Pipeline([spec(double)]) as other, pytest.raises(cloche.ClocheError, match="other nodes"):
        list(other.resume(kept[0], []))


FORGED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no states": {"states": 5},
    "negative": {"items": -1},
    "a text for a number": {"items": "1"},
    "a state without a section": {"states": [["a", False], ["b", False]]},
    "a snapshot that is none": {"states": [["a", True]]},
    "a state that is no pair": {"states": ["a"]},
    "a name that is no text": {"states": [[1, False]]},
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_checkpoint_is_refused(case: str) -> None:
    """The digest only tells damage; without a key anybody can make one."""
    about = {"pipeline": "ab", "items": 1, "outputs": 1, "states": [["a", False]]}
    good = _container.write("checkpoint", 2, {"about": _container.json_bytes(about), "state 0": b"x"})
    assert Checkpoint.from_bytes(good) == Checkpoint("ab", 1, 1, {"a": b"x"})
    text = _container.json_bytes(FORGED[case] and {**about, **FORGED[case]})
    with pytest.raises(cloche.ClocheError, match="checkpoint|snapshot"):
        Checkpoint.from_bytes(_container.write("checkpoint", 2, {"about": text, "state 0": b"x"}))


def test_native_nodes_have_to_be_allowed() -> None:
    with pytest.raises(PlacementError, match="allow_native=True"):
        Pipeline([spec(double)], allow_native=False)


@pytest.mark.usefixtures("no_thread_is_left")
def test_a_node_that_cannot_start_stops_the_others() -> None:
    stopped: list[str] = []

    class First:
        def process(self, x: int) -> int:
            return x

        def cleanup(self) -> None:
            stopped.append("first")

    class Second(First):
        def __init__(self) -> None:
            raise OSError("no device")

    with Pipeline([spec(First), spec(Second)]) as pipeline, pytest.raises(OSError, match="no device"):
        list(pipeline.run([1]))
    assert stopped == ["first"]


def test_a_cleanup_that_raises_is_told() -> None:
    class Bad:
        def process(self, x: int) -> int:
            return x

        def cleanup(self) -> None:
            raise OSError("stuck")

    pipeline = Pipeline([spec(Bad)])
    with pytest.raises(ExceptionGroup, match="stopped cleanly"):
        list(pipeline.run([1]))


def test_a_process_that_dies_is_an_error_or_comes_back() -> None:
    source = cloche.Source(
        "import os\nclass Dies:\n    def __init__(self): self.sum = 0\n    def process(self, x):\n"
        "        if x == 13: os._exit(3)\n        self.sum += x\n        return self.sum\n"
    )
    node = {"placement": "process"}
    with pytest.raises(PipelineError, match="exit code 3"):
        run(NodeSpec(source, "Dies", **node), items=[1, 13])  # type: ignore[arg-type]
    restored = NodeSpec(source, "Dies", on_break="restore", on_error="skip", **node)  # type: ignore[arg-type]
    assert run(restored, items=[1, 2, 13, 4]) == [1, 3, 7]
    restarted = NodeSpec(source, "Dies", on_break="restart", on_error="skip", **node)  # type: ignore[arg-type]
    assert run(restarted, items=[1, 2, 13, 4])[-1] == 4


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await anyio.sleep(0)
        yield number


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_run_can_be_awaited(backend: str) -> None:
    async def main() -> tuple[list[Any], list[Any], list[Any]]:
        with Pipeline([spec(double), spec(Later)]) as pipeline:
            awaited = [output async for output in pipeline.arun(numbers(5))]
            plain = [output async for output in pipeline.arun(range(5), numbered=True)]
            some = []
            async with aclosing(pipeline.arun(numbers(10**9))) as outputs:  # type: ignore[type-var]  # a generator
                async for output in outputs:
                    some.append(output)
                    if len(some) == 3:
                        break
            return awaited, [output.value for output in plain], some

    awaited, plain, some = anyio.run(main, backend=backend)
    assert awaited == plain == [1, 3, 5, 7, 9]
    assert some == [1, 3, 5]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_awaited_run_can_be_cancelled(backend: str) -> None:
    """While it waits for an output, and its input for an item."""
    cleaned: list[str] = []

    class Node:
        def process(self, x: int) -> int:
            return x

        def cleanup(self) -> None:
            cleaned.append("cleanup")

    async def main() -> None:
        asked = anyio.Event()

        async def items() -> AsyncIterator[int]:
            yield 1
            asked.set()
            await anyio.sleep_forever()

        async def consume() -> None:
            with Pipeline([spec(Node)]) as pipeline:
                async with aclosing(pipeline.arun(items())) as outputs:  # type: ignore[type-var]  # a generator
                    async for _ in outputs:
                        pass

        async with anyio.create_task_group() as group:
            group.start_soon(consume)
            await asked.wait()
            group.cancel_scope.cancel()

    anyio.run(main, backend=backend)
    assert cleaned == ["cleanup"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_awaited_runs_errors(backend: str) -> None:
    async def bad() -> AsyncIterator[int]:
        yield 1
        raise KeyError("input")

    async def main(items: Any) -> list[Any]:
        found: list[Any] = []
        with Pipeline([spec(Sum)]) as pipeline:
            try:
                async for output in pipeline.arun(items):
                    found.append(output)
            except Exception as error:
                found.append(type(error).__name__)
        return found

    assert anyio.run(main, bad(), backend=backend) == [1, "KeyError"]
    assert anyio.run(main, [1, 13, 2], backend=backend) == [1, "PipelineError"]
