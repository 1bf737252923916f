"""The catalogue of cases. Each case is written once: it makes its nodes through the contender that it is given."""

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
    """Nodes that are made, used and closed: groups 1, 2, 4 and 8 of the node contract."""

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
    """Single calls with values of several types: groups 3, 5 and 6, and the scenarios that are one call."""
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
    """Nodes whose outputs are the next node's inputs: group 7, and the scenarios that are pipelines."""

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
    """Streams, coroutines of the node, and calls that the host awaits."""

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
    """Arrays of float32 that a node returns as they are: copied both ways, or in a shared buffer with a leased result."""

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
    """Cold starts, clones and pools."""
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
    """Computing without data from the host: the interpreter, the standard library, numpy."""
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
    """The groups, in the order of the report: the eight groups and the scenarios of the node contract come first."""
    return [
        Group("create", "1 Create", "A node is made, multiplies 42 by 3 and is closed."),
        Group("counter", "2 Counter", "One stateful node, reused."),
        Group("passthrough", "3 Pass-through", "A node that returns what it gets: only the boundary is timed."),
        Group("lifecycle", "4 Whole life", "Create, initialize, process, close."),
        Group("transform", "5 Dict transform", "Top-level numbers times three, and a _metadata key."),
        Group("yields", "6 Generator", "One call of a node that yields five items."),
        Group("chain", "7 Chain", "Three nodes, each in a sandbox of its own."),
        Group("reuse", "8 Reuse or recreate", "The same work with the node kept, and made anew for each call."),
        Group("scenarios", "Scenarios", "The six scenarios of the node contract."),
        Group("streaming", "Streaming", "Items go in when the node asks for them, outputs come when it yields them."),
        Group("async", "Async", "Coroutines in the node, and awaited calls from the host."),
        Group(
            "arrays",
            "Arrays by size",
            "An array of float32 goes in and comes back: copied, or in a shared buffer with a leased result.",
        ),
        Group(
            "cold",
            "Cold start",
            "A new sandbox gives its first result and is closed. Native: a new interpreter process.",
        ),
        Group("clone", "Clone", "A second node with the same state gives its first result. Native: copy.deepcopy."),
        Group(
            "pools", "Pools", "Jobs of a tenth of a millisecond on one and two workers. Native: one after the other."
        ),
        Group("python", "Pure Python", "Work of the interpreter itself: one call each, without data from the host."),
        Group("library", "Standard library", "Work of its C code."),
        Group("numpy", "numpy", "One operation on arrays that the node holds already."),
        Group("node", "Your node", "One call with each of the inputs."),
        Group(
            "pyperformance",
            "pyperformance",
            "Programs of the pyperformance suite, unchanged, under a stand-in for pyperf.",
        ),
    ]


def catalogue() -> tuple[list[Case], list[str]]:
    """All cases that can run here; and for each package that is missing, a line that says what was left out."""
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
    """The cases to measure.

    Args:
        cases: all there are.
        patterns: the cases whose id contains one of these; none: all cases.
        quick: without patterns, the quick cases only.
    """
    if patterns:
        return [case for case in cases if any(pattern in case.id for pattern in patterns)]
    return [case for case in cases if case.quick or not quick]
