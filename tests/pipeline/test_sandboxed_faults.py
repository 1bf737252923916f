"""Whatever a stranger's node does, at each place of a pipeline and in both isolations: the other items are worked on, once, and it is told."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

import cloche
from cloche.pipeline import NodeSpec, Pipeline, PipelineError, PlacementError, Rejected
from tests.limits import patient

pytestmark = pytest.mark.timeout(250)

SUM = cloche.Source(
    """
import logging, os

class Sum:
    def __init__(self): self.sum = 0
    def process(self, x):
        if isinstance(x, int):
            if x == 100: raise ValueError("raised")
            if x == 101:
                while True: pass
            if x == 102: os._exit(3)
            if x == 103: return [bytearray(1 << 28) for _ in range(100)]
            if x == 104: return lambda: x
            if x == 105:
                while True:
                    try:
                        while True: pass
                    except BaseException: pass
            if x == 106: return (i for i in range(10**9))
            if x == 107:
                while True: print("x" * 1000)
            if x == 108:
                nested = []
                for _ in range(10**5): nested = [nested]
                return nested
            if x == 109: raise SystemExit("left")
            if x == 110:
                def deeper(n): return deeper(n + 1) + 1
                return deeper(0)
            if x == 111:
                for _ in range(10_000): logging.warning("flood")
                return None
        self.sum += x
        return x
    def flush(self): return ("sum", self.sum)
"""
)
PASS = cloche.Source("def hand_on(x): return x")
LIMITS = patient(deadline_s=0.5, grace_s=0.1, memory_bytes=256 << 20, value_nodes=10_000)
FAULTS = {
    "raises": (100, "raised"),
    "hangs": (101, "deadline_s=0.5"),
    "exits": (102, "ended its own process"),
    "eats memory": (103, "MemoryError"),
    "cannot be sent": (104, "cannot encode function"),
    "hangs and catches": (105, "grace"),
    "floods outputs": (106, "value_nodes"),
    "floods stdout": (107, "output_bytes"),
    "nested": (108, "result"),
    "leaves": (109, "SystemExit: left"),
    "recursion": (110, "RecursionError"),
    "unsendable": (threading.Lock(), "cannot encode"),
}


def nodes(position: int, **options: Any) -> list[NodeSpec]:
    made = [NodeSpec(PASS, id=name) for name in "abc"]
    made[position] = NodeSpec(SUM, id="sum", limits=LIMITS, **options)
    return made


@pytest.mark.sampled
@pytest.mark.parametrize("isolation", ["none", "process"])
@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_its_item_alone(fault: str, position: int, isolation: Any, runtimes: Any) -> None:
    """In a batch too: what the fault took with it is worked on again, and its outputs are not doubled."""
    bad, text = FAULTS[fault]
    if position and fault == "unsendable":
        position = 0  # no node can hand it on
    rejected: list[Rejected] = []
    made = nodes(position, on_error="dead_letter", on_break="restore")
    with Pipeline(made, runtime=runtimes(isolation)) as pipeline:
        found = list(pipeline.run([1, 2, 3, bad, 4, 5, 6, 7], dead_letters=rejected.append))
    assert found == [1, 2, 3, 4, 5, 6, 7, ("sum", 28)]
    assert [(one.node, one.item) for one in rejected] == [("sum", 3)]
    assert text in str(rejected[0].error)


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_many_breaks_in_a_row_are_not_too_many(isolation: Any, runtimes: Any) -> None:
    """Each is an item that the rules decide about; a node that breaks each time is for a circuit breaker."""
    rejected: list[Rejected] = []
    with Pipeline(nodes(1, on_error="dead_letter", on_break="restore"), runtime=runtimes(isolation)) as pipeline:
        found = list(pipeline.run([1, *[102] * 7, 2], dead_letters=rejected.append))
    assert found == [1, 2, ("sum", 3)]
    assert [one.item for one in rejected] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("isolation", ["none", "process"])
@pytest.mark.parametrize("backend", ["sync", "asyncio", "trio"])
def test_a_break_ends_the_run_and_the_next_run_is_whole(backend: str, isolation: Any, runtimes: Any) -> None:
    found: list[Any] = []
    with Pipeline(nodes(1), runtime=runtimes(isolation)) as pipeline:

        async def main() -> None:
            async for output in pipeline.arun([1, 2, 102, 3]):
                found.append(output)

        with pytest.raises(PipelineError) as caught:
            if backend == "sync":
                found.extend(pipeline.run([102]))
            else:
                anyio.run(main, backend=backend)
        assert caught.value.node == "sum"
        assert isinstance(caught.value.__cause__, cloche.BrokenInstanceError)
        assert list(pipeline.run([1, 2])) == [1, 2, ("sum", 3)]


def test_an_early_end_interrupts_a_call_that_hangs(runtimes: Any) -> None:
    """Also a call that has just begun when the run ends."""
    limits = patient(deadline_s=100)
    for _ in range(10):
        made = [NodeSpec(SUM, limits=limits, id="a"), NodeSpec(SUM, limits=limits, id="b")]
        with Pipeline(made, runtime=runtimes("none")) as pipeline:
            outputs = pipeline.run([1, 101, 101])
            assert next(outputs) == 1
            outputs.close()  # type: ignore[attr-defined]  # a generator


def test_a_node_may_close_its_own_pipeline_by_a_service(runtimes: Any) -> None:
    source = cloche.Source(
        "def node(x):\n    from cloche_guest import services\n    if x == 2: services.close()\n    return x\n"
    )
    spec = NodeSpec(source, grants=cloche.Grants(services={"close": lambda: pipeline.close()}))
    pipeline = Pipeline([NodeSpec(PASS), spec], runtime=runtimes("none"))
    with pytest.raises(cloche.ClosedError, match="closed while it ran"):
        list(pipeline.run(range(100)))


def test_an_items_place_in_the_logs_is_that_of_the_pipeline(runtimes: Any) -> None:
    """In batches, in those that had to be sent again because an item could not be sent, and after a retry."""
    records: list[dict[str, Any]] = []

    class Logger:
        def log(self, level: str, message: str, **fields: Any) -> None:
            records.append({"message": message, **fields})

        def info(self, message: str, **fields: Any) -> None:
            self.log("info", message, **fields)

        debug = warning = error = critical = info

    source = cloche.Source(
        "import logging\nlogging.getLogger().setLevel('INFO')\ntried = set()\ndef node(x):\n    logging.info('work on %s', x)\n"
        "    if x == 5 and x not in tried:\n        tried.add(x)\n        raise ValueError('once')\n    return x\n"
    )
    rule = cloche.pipeline.Retry(1, 0, then=cloche.pipeline.Skip())
    items: list[Any] = [0, 1, 2, 3, 4, 5, 6, threading.Lock(), 8, 9]
    with Pipeline([NodeSpec(source, on_error=rule)], logger=Logger(), name="p") as pipeline:
        assert list(pipeline.run(items, session_id="s")) == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    worked = [one for one in records if one["message"].startswith("work on")]
    assert {(one["message"], one["item"]) for one in worked} == {
        (f"work on {x}", x) for x in items if isinstance(x, int)
    }
    assert all((one["pipeline"], one["session"]) == ("p", "s") for one in worked)
    assert [one["item"] for one in records if "left out" in one["message"]] == [7]


@pytest.mark.parametrize("placement", ["wasm", "native", "process"])
def test_what_a_node_says_that_it_needs_is_checked_before_it_starts(placement: Any, runtimes: Any) -> None:
    def node(needs: str) -> NodeSpec:
        source = cloche.Source(
            f"class Node:\n    def get_capabilities(self): return {needs}\n    def initialize(self): raise OSError('started')\n"
            "    def process(self, x): return x\n"
        )
        return NodeSpec(source, "Node", placement=placement)

    def error(needs: str) -> str:
        with Pipeline([node(needs)], runtime=runtimes("none")) as pipeline, pytest.raises(PlacementError) as caught:
            list(pipeline.run([1]))
        return str(caught.value)

    assert "GiB of memory" in error("{'memory_gb': 1e6}")
    if placement == "process":
        return  # the same code; a process takes long to start
    assert "malformed" in error("{'memory_gb': float('nan')}")
    assert "malformed" in error("[1]")
    assert "malformed" in error("{'memory': 1}")
    if placement == "wasm":
        assert "GPU" in error("{'gpu': {'type': 'any'}}")
    pipeline = Pipeline([node("{'gpu': None, 'memory_gb': 0.1}")], runtime=runtimes("none"))
    with pytest.raises((OSError, cloche.NodeError), match="started"):
        list(pipeline.run([1]))


def test_what_all_nodes_need_is_checked_before_one_of_them_works(capsys: Any) -> None:
    """Those that were loaded clean up, as they do whenever they are closed."""
    says = "def initialize(self): print('begun')\n    def cleanup(self): print('cleaned up')\n    def process(self, x): return x\n"
    one = cloche.Source(f"class One:\n    {says}")
    two = cloche.Source(f"class Two:\n    def get_capabilities(self): return {{'memory_gb': 1e6}}\n    {says}")
    heard: list[str] = []

    class Logger:
        def info(self, message: str, **_: Any) -> None:
            heard.append(message)

        warning = error = debug = info

    specs = [NodeSpec(one), NodeSpec(one, placement="native"), NodeSpec(two, id="two")]
    with (
        cloche.Runtime(logger=Logger()) as runtime,
        Pipeline(specs, runtime=runtime) as pipeline,
        pytest.raises(PlacementError, match="node 'two' cannot run as 'wasm'"),
    ):
        list(pipeline.run([1]))
    assert [message for message in heard if "begun" in message or "cleaned" in message] == ["cleaned up"] * 2
    assert capsys.readouterr().out == "cleaned up\n"
