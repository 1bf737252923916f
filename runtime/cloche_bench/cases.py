"""The catalogue: what is measured. A case makes its nodes with whatever contender it is given, and returns what to time."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from cloche_bench import programs
from cloche_bench.case import Case, Group
from cloche_bench.operations import Call, Operation

if TYPE_CHECKING:
    from cloche_bench.contender import Contender

__all__ = ["catalogue", "groups", "select"]


def _call(name: str, title: str, module: str, entry: str, value: Any, /, **options: Any) -> Case:
    params = tuple(options.pop("params", {}).items())
    return Case(id=name, title=title, make=Call(module, entry, value, params), **options)


_NESTED: Final = {
    "user": {"name": "Ada", "tags": ["a", "b"], "address": {"city": "London", "zip": "N1"}},
    "scores": [{"id": i, "value": i / 4} for i in range(5)],
}
_FLAT: Final = {"name": "Ada", "age": 36, "score": 9.5, "active": True, "note": None}


def _lives() -> Iterator[Case]:
    """A node made, used, closed: groups 1, 4 and half of 8."""

    def create(contender: Contender) -> Operation:
        def run() -> Any:
            with contender.load_once("create", "Multiply") as node:
                return node.process(42)

        return Operation(run)

    def whole(contender: Contender) -> Operation:
        def run() -> Any:
            with contender.load_once("create", "Add") as node:
                node.initialize()
                return node.process(32)

        return Operation(run)

    yield Case(id="create/x3", title="create, 42 x 3, close", make=create)
    yield _call("counter/reused", "Counter, the same node", "plain", "Counter", 7)
    yield Case(id="lifecycle/add", title="create, initialize, 32 + 10, close", make=whole)
    yield _call("reuse/reused", "the node kept", "plain", "Multiply", 42)
    yield Case(id="reuse/recreated", title="a new one for each call", make=create)


def _values() -> Iterator[Case]:
    """Groups 3 and 5, and the scenarios that are one call."""
    values: dict[str, tuple[str, Any]] = {
        "int": ("int", 42),
        "str": ("str of 11", "hello world"),
        "list5": ("list of 5", [1, 2, 3, 4, 5]),
        "list100": ("list of 100", list(range(100))),
        "list1000": ("list of 1000", list(range(1000))),
        "dict": ("flat dict of 5", _FLAT),
        "nested": ("nested dict", _NESTED),
    }
    for name, (title, value) in values.items():
        yield _call(f"passthrough/{name}", title, "plain", "PassThrough", value)
    yield _call("transform/dict", "dict of 5, numbers x 3", "plain", "DictTransform", _FLAT)
    yield _call("yields/5", "a generator of 5 items", "streaming", "Emit", 3, items=5)
    yield _call("scenarios/single", "single node", "plain", "Multiply", 14)
    yield _call("scenarios/counter", "counter", "plain", "Counter", 1)
    yield _call(
        "scenarios/statistics", "list statistics, range(100)", "plain", "Statistics", list(range(100)), exact=False
    )
    yield _call("scenarios/wrapped", "wrapped dict", "plain", "Wrapped", {"data": 21, "metadata": {"source": "bench"}})


def _chains() -> Iterator[Case]:
    """Group 7 and the pipelines."""

    def chain(length: int) -> Callable[[Contender], Operation]:
        def make(contender: Contender) -> Operation:
            steps = [
                ("Multiply", {"factor": 2}),
                ("Multiply", {"factor": 3}),
                ("PassThrough", {}),
                ("Multiply", {}),
                ("Format", {}),
            ]
            chosen = [*steps[: length - 1], steps[-1]]
            calls = [contender.load("plain", entry, **params).process for entry, params in chosen]

            def run() -> Any:
                value: Any = 5
                for call in calls:
                    value = call(value)
                return value

            return Operation(run)

        return make

    yield Case(id="chain/3", title="a chain of 3 nodes", make=chain(3), items=3)
    yield Case(id="scenarios/pipeline3", title="3-node pipeline", make=chain(3), items=3)
    yield Case(id="scenarios/pipeline5", title="5-node pipeline", make=chain(5), items=5)


def _streams() -> Iterator[Case]:
    def stream(entry: str, count: int) -> Callable[[Contender], Operation]:
        def make(contender: Contender) -> Operation:
            node = contender.load("streaming", entry)
            return Operation(lambda: sum(node.stream(range(count))))

        return make

    for name, entry in (("value", "Increment"), ("generator", "YieldIncrement"), ("async", "StreamIncrement")):
        title = {"value": "process returns", "generator": "process yields", "async": "async generator over the input"}[
            name
        ]
        yield Case(id=f"streaming/{name}", title=f"{title}, 200 items", make=stream(entry, 200), items=200)

    def awaited(entry: str, count: int) -> Callable[[Contender], Operation]:
        def make(contender: Contender) -> Operation:
            node = contender.load("streaming", entry)

            async def calls() -> Any:
                total = 0
                for item in range(count):
                    total += await node.aprocess(item)
                return total

            return Operation(lambda: contender.loop.run_until_complete(calls()))

        return make

    yield _call("async/await", "process is a coroutine", "streaming", "Await", 1)
    yield _call("async/switches", "100 switches of one task", "streaming", "Await", 1, params={"switches": 100})
    yield _call("async/gather", "gather of 100 tasks", "streaming", "Gather", 1)
    yield Case(id="async/aprocess", title="20 awaited calls from the host", make=awaited("Await", 20), items=20)


SIZES: Final = {"1 KiB": 1 << 10, "32 KiB": 1 << 15, "256 KiB": 1 << 18, "1 MiB": 1 << 20, "16 MiB": 1 << 24}


def _arrays() -> Iterator[Case]:
    """Float32 in and out again, copied, and with a buffer and a lease."""

    def copied(size: int) -> Callable[[Contender], Operation]:
        def make(contender: Contender) -> Operation:
            import numpy as np

            process = contender.load("arrays", "Same").process
            array = np.ones(size // 4, np.float32)
            return Operation(lambda: process(array))

        return make

    def leased(size: int) -> Callable[[Contender], Operation]:
        def make(contender: Contender) -> Operation:
            node = contender.load("arrays", "Same")
            buffer = node.buffer(size // 4, "float32")
            buffer[:] = 1

            def run() -> Any:
                with node.lease():
                    return node.process(buffer)

            return Operation(run)

        return make

    for title, size in SIZES.items():
        name = title.replace(" ", "")
        yield Case(id=f"arrays/copied-{name}", title=f"{title}, copied", make=copied(size), bytes=2 * size)
        yield Case(id=f"arrays/leased-{name}", title=f"{title}, buffer and lease", make=leased(size), bytes=2 * size)


def _sandboxes() -> Iterator[Case]:
    """Cold starts, clones, pools."""
    yield Case(
        id="cold/first-result",
        title="new sandbox, numpy ready, first result, close",
        make=lambda contender: Operation(contender.first_result("arrays", "Total", 10)),
    )

    def clone(contender: Contender) -> Operation:
        node = contender.load("arrays", "Holder")
        node.process(1)
        made: list[Any] = []

        def run() -> Any:
            made.append(node.clone())
            return made[-1].process(1)

        return Operation(run, lambda: made.pop().close())

    yield Case(id="clone/2MiB", title="clone with 2 MiB of state, first result", make=clone)

    def pool(workers: int) -> Callable[[Contender], Operation]:
        def make(contender: Contender) -> Operation:
            run_all = contender.pool("arrays", "job", workers)
            jobs = [2000 + 10 * index for index in range(50)]
            return Operation(lambda: run_all(jobs))

        return make

    for workers in (1, 2):
        yield Case(
            id=f"pools/{workers}",
            title=f"50 jobs on {workers} worker{'s' * (workers > 1)}",
            make=pool(workers),
            items=50,
        )


def _kernels() -> Iterator[Case]:
    for name, size in {
        "integers": 800, "floats": 600, "big_integers": 6000, "dicts": 5000, "strings": 1500, "classes": 1500,
        "generators": 10_000, "recursion": 17, "sorting": 3000, "exceptions": 5000, "comprehensions": 8000, "matching": 8000,
    }.items():  # fmt: skip
        yield _call(f"python/{name}", name.replace("_", " "), "kernels", name, size)
    for name, size in {
        "json_round_trip": 200, "regular_expressions": 40, "sha256": 256, "compress": 32, "random_numbers": 5000,
    }.items():  # fmt: skip
        yield _call(f"library/{name}", name.replace("_", " "), "library", name, size)
    numeric: list[tuple[str, int, str, bool]] = [
        ("add", 100_000, "float64", True), ("sum", 100_000, "float64", True), ("sin", 20_000, "float64", True),
        ("sort", 50_000, "float64", True), ("fft", 16_384, "float64", True), ("random", 50_000, "float64", True),
        ("inv", 128, "float64", True), ("matmul", 256, "float32", True), ("matmul", 256, "float64", True),
        ("matmul", 1024, "float32", False), ("matmul", 1024, "float64", False),
    ]  # fmt: skip
    for name, count, dtype, quick in numeric:
        shape = f"{count} x {count}" if name in ("matmul", "inv") else f"{count:,}"
        yield _call(
            f"numpy/{name}-{count}-{dtype}", f"{name} {shape} {dtype}", "numeric", "Operation", None,
            params={"name": name, "size": count, "dtype": dtype}, exact=False, quick=quick,
        )  # fmt: skip


def groups() -> list[Group]:
    """In the order of the report: the eight groups and six scenarios of the node contract first."""
    return [
        Group("create", "1 Create", "A node is made, multiplies 42 by 3 and is closed."),
        Group("counter", "2 Counter", "One stateful node, reused."),
        Group("passthrough", "3 Pass-through", "Identity: what is timed is the boundary."),
        Group("lifecycle", "4 Whole life", "Create, initialize, process, close."),
        Group("transform", "5 Dict transform", "Top-level numbers times three, and a _metadata key."),
        Group("yields", "6 Generator", "One call whose node yields five items."),
        Group("chain", "7 Chain", "Three nodes, each in a sandbox of its own."),
        Group("reuse", "8 Reuse or recreate", "The same work with the node kept, and made anew for each call."),
        Group("scenarios", "Scenarios", "The six scenarios of the node contract."),
        Group("streaming", "Streaming", "Items go in as the node asks for them, outputs come as it yields them."),
        Group("async", "Async", "Coroutines in the node, and awaited calls from the host."),
        Group(
            "arrays", "Arrays by size", "Float32 in and out again; copied, and in shared buffers with leased results."
        ),
        Group(
            "cold", "Cold start", "A new sandbox to its first result, and its end. Native: a new interpreter process."
        ),
        Group("clone", "Clone", "A second node with the same state, to its first result. Native: copy.deepcopy."),
        Group(
            "pools", "Pools", "Jobs of a tenth of a millisecond on one and two workers. Native: one after the other."
        ),
        Group("python", "Pure Python", "Kernels of the interpreter itself: one call each, no data across."),
        Group("library", "Standard library", "Kernels of its C code."),
        Group("numpy", "numpy", "One operation on arrays that are there already."),
        Group("node", "Your node", "One call with each of the inputs."),
        Group(
            "pyperformance",
            "pyperformance",
            "Programs of the pyperformance suite, unchanged, under a stand-in for pyperf.",
        ),
    ]


def catalogue() -> tuple[list[Case], list[str]]:
    """All cases that this machine can run, and a line for whatever it lacks."""
    cases = [*_lives(), *_values(), *_chains(), *_streams()]
    missing: list[str] = []
    if importlib.util.find_spec("numpy"):
        cases += _arrays()
    else:
        missing.append("arrays, cold, clone and numpy were left out: numpy is not installed here")
    cases += [*_sandboxes(), *_kernels()]
    if missing:
        cases = [case for case in cases if case.group not in ("arrays", "cold", "clone", "numpy", "pools")]
    found, note = programs.cases()
    if note:
        missing.append(note)
    order = {group.id: index for index, group in enumerate(groups())}
    return sorted(cases + found, key=lambda case: order[case.group]), missing


def select(cases: list[Case], patterns: list[str], quick: bool) -> list[Case]:
    """Those whose id contains one of the patterns; without any, all, or the quick ones."""
    if patterns:
        return [case for case in cases if any(pattern in case.id for pattern in patterns)]
    return [case for case in cases if case.quick or not quick]
