"""One sample of every public value of Cloche, and every handle, which refuses to be pickled."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cloche
from cloche import pipeline, repl
from cloche._profiling.call_tree import Function, Tree
from cloche._profiling.profile import Collected
from cloche._profiling.sampling import Reading
from cloche._wasm.prune import Pruned
from cloche._wasm.sampler import LANES, NO_PARENT, Found, FoundFunction, FoundLane, FoundNode, FoundPlace
from cloche.image import Image
from cloche.profiling import (
    CallPhases,
    FunctionTime,
    Phase,
    Profile,
    ProfiledCall,
    SampledFunction,
    SampledLine,
    SampledProfile,
)
from cloche.remedies import Surroundings
from cloche_wire import Failure, Frame, dtypes

FAILURE = Failure(
    "call", "lib.Broken", "no such value", (Frame("node.py", 3, "process", "raise Broken"),), 0,
    Failure("call", "KeyError", "'a'"), True, ("noted",),
)  # fmt: skip
RECORD = cloche.LogRecord("info", "node", "half done", 3, {"share": 0.5, "tags": ["a"]}, "Traceback ...", 17)


def serve(number: int) -> int:
    """A service that can be pickled, as a function at the top of a module."""
    return number + 1


def allow(call: cloche.ServiceCall) -> bool:
    """A gate."""
    return call.node != "stranger"


def profile() -> Profile:
    """A profile of one call, without a node."""
    collected, tree = Collected(), Tree(90)
    tree.add(tree.add(-1, 0, 1, 80), 1, 3, 40)
    collected.functions += [Function("process", "node.py", 1), Function("inner", "node.py", 4)]
    collected.calls.append(ProfiledCall(phases(), tree))
    collected.count = 1
    collected.total = tree
    return Profile("meter", collected)


def sampled() -> SampledProfile:
    """A sampled profile of two functions, without a node."""
    functions = [FoundFunction("node.py", "process", 1), FoundFunction("node.py", "inner", 4)]
    nodes = [FoundNode(NO_PARENT, NO_PARENT, 0, 0)] * LANES + [FoundNode(0, 0, 1, 9), FoundNode(LANES, 1, 3, 40)]
    found = Found(functions, [FoundPlace(0, 2), FoundPlace(1, 5)], nodes, [FoundLane(4, 2, 1, 0, 0, 0)])
    return SampledProfile(["meter"], 100.0, Reading([(found, [0])], ["meter"]))


def phases() -> CallPhases:
    """The phases of one call."""
    return CallPhases("process", 1, 0.0, 0.5, (Phase("guest", 0.1, 0.4),), {"guest": 0.3})


def snapshot() -> cloche.Snapshot:
    """A small snapshot, which no image can restore."""
    info = {"entry": "f", "kind": "function", "methods": []}
    page, mask, word = (1).to_bytes(4, "little"), (2).to_bytes(64, "little"), b"a word!!"
    return cloche.Snapshot("ab" * 32, "f", info, 1 << 20, page, mask, word, 64, 3, cloche.StreamPosition(1, 2, True))


def grants() -> cloche.Grants:
    """Grants with every field set."""
    return cloche.Grants(
        packages=["lib.whl"], opaque=True, services={"plain": serve, "gated": cloche.Service(serve, gate=allow, max_calls=3)},
        mounts={"/data": cloche.Mount("/srv", writable=True)}, env={"TOKEN": "hidden word"},
        clock=cloche.Clock("virtual", start=datetime(2030, 1, 1, tzinfo=UTC)), seed=b"hidden seed",
    )  # fmt: skip


VALUES: dict[str, Callable[[], Any]] = {
    "Array": lambda: cloche.Array("<i4", (2, 3), bytearray(range(24)), "F"),
    "CallPhases": phases,
    "Clock": lambda: cloche.Clock("frozen", start=12.5),
    "FunctionTime": lambda: FunctionTime("process", "node.py", 1, 3, 0.5, 0.75),
    "Grants": grants,
    "Image": lambda: Image("folder", {"abi": 1}),  # type: ignore[arg-type]  # any path
    "Limits": lambda: cloche.Limits(deadline_s=None, fuel=9),
    "LogRecord": lambda: RECORD,
    "Modules": lambda: importlib.import_module("cloche.source").Modules("m", {"m": ("m.py", "", False)}, b"a tree"),
    "Mount": lambda: cloche.Mount("/srv", writable=True, quota_bytes=1),
    "Opaque": lambda: cloche.Opaque(b"digest", b"pickle"),
    "Phase": lambda: Phase("guest", 0.0, 1.0),
    "Profile": profile,
    "ProfiledCall": lambda: profile().calls[0],
    "Record": lambda: cloche.Record("lib.Point", ["x", "y"], [1, (2, 3)]),
    "SampledFunction": lambda: SampledFunction("process", "node.py", 1, 3, 0.5, 0.75),
    "SampledLine": lambda: SampledLine("node.py", 2, "process", 3, 0.5),
    "SampledProfile": sampled,
    "Service": lambda: cloche.Service(serve, deadline_s=2, gate=allow, max_calls=1),
    "ServiceCall": lambda: cloche.ServiceCall("plain", "meter", 2, ([1],), {"a": {}}, 9),
    "ServiceRecord": lambda: cloche.ServiceRecord("plain", "meter", 2, 9, 0.25, "returned"),
    "Snapshot": snapshot,
    "Source": lambda: cloche.Source("def f(x): return x", "f.py"),
    "Execution": lambda: repl.Execution("out", "1", 1, "", repl.Failure("raised", "KeyError", "'a'")),
    "Failure": lambda: repl.Failure("broken", "GuestTrapError", "crashed", "T", "before"),
    "Pruned": lambda: Pruned("image", Path("images/ab"), 41, 2.5),
    "Checkpoint": lambda: pipeline.Checkpoint("ab" * 32, 3, 4, {"a": snapshot(), "b": b"state"}),
    "CircuitBreaker": lambda: pipeline.CircuitBreaker(failures=2, reset_s=1.5),
    "Connection": lambda: pipeline.Connection("a.left", "b"),
    "DeadLetter": pipeline.DeadLetter,
    "Fail": pipeline.Fail,
    "NodeSpec": lambda: pipeline.NodeSpec(
        cloche.Source(""), "f", {"a": 1}, id="a", on_error=pipeline.Retry(2), grants=grants()
    ),
    "Output": lambda: pipeline.Output(3, None, "a", [1]),
    "Rejected": lambda: pipeline.Rejected("a", 3, [1], ValueError("x")),
    "Restore": lambda: pipeline.Restore(pipeline.DeadLetter()),
    "Retry": lambda: pipeline.Retry(2, 0.5, then=pipeline.Restore()),
    "Skip": pipeline.Skip,
    "StageCounts": lambda: pipeline.StageCounts(1, 2),
    "StageStatus": lambda: pipeline.StageStatus("a", "wasm", 3, 128, pipeline.StageCounts(1), 0.5, 0.75, 41),
    "Graph": lambda: pipeline.Graph.of([pipeline.NodeSpec(cloche.Source(""), id="a")], None),
    "BatchResult": lambda: pipeline.BatchResult([[1], []], True),
    "Stats": lambda: cloche.Stats(1, 0.5, 41, 0, breaks=2),
    "BudgetStats": lambda: cloche.BudgetStats(
        processor_s=0.5, processor_left_s=None, memory_bytes=41, nodes=1, calls=2, refused=0
    ),
    "PoolStats": lambda: cloche.PoolStats(2, 1, 1, 0, 5, 0, 0, 0, 0, 0.5, 0.25),
    "RuntimeStats": lambda: cloche.RuntimeStats(
        nodes=1, loads=2, calls=3, seconds=0.5, breaks=0, idle_stores=1, workers=0
    ),
    "SessionStats": lambda: cloche.parking.SessionStats(awake=1, in_use=0, begun=2, woken=3, parked=4, failed=0),
    "CallRecord": lambda: cloche.CallRecord(
        node="n",
        session_id=None,
        op="process",
        method="process",
        call=2,
        seconds=0.5,
        error="",
        bytes_in=1,
        bytes_out=2,
    ),
    "BreakRecord": lambda: cloche.BreakRecord(
        node="n", session_id="s", op="process", call=2, error="GuestExitError", exception=ValueError("x")
    ),
    "StreamPosition": lambda: cloche.StreamPosition(3, 4, False),
    "Surroundings": lambda: Surroundings("m", frozenset({"m"}), {"lib.whl": frozenset({"lib"})}, True, "m.py"),
    "WorkerInfo": lambda: cloche.WorkerInfo(7, 1, ("rlimits",), {"seccomp": "not on this kernel"}),
}
HANDLES = {
    "Budget": "a Budget cannot be pickled or copied, because it belongs to this process: make one in the other process",
    "Node": "the node 'f' cannot be pickled or copied, because it belongs to this process: take its `snapshot`",
    "LocalGuest": "the node 'f' cannot be pickled or copied, because it belongs to this process: take its `snapshot`",
    "Pipeline": "a Pipeline cannot be pickled or copied, because it belongs to this process: make one in the other process",
    "MemoryStore": "a MemoryStore cannot be pickled or copied, because it belongs to this process: give the other process a",
    "Pool": "a Pool cannot be pickled or copied, because it belongs to this process: make one in the other process",
    "Sessions": "a Sessions cannot be pickled or copied, because it belongs to this process: make one in the other process",
    "Runtime": "a Runtime cannot be pickled or copied, because it belongs to this process: make one in the other process",
}
"""Each refuses with a TypeError that begins so."""
NEITHER = {
    "FolderStore": "it is pickled as the path of its folder, and compares as itself",
    "MappingStore": "it is pickled if its mapping is",
    "Parked": "it is pickled as its bytes, and two are two nodes: tests/parking",
    "Store": "it is an interface",
    "CoveredLines": "it grows while nodes run; its lines are a dict",
    "Placement": "it is an interface",
    "Recorder": "it has callbacks of the program that records, and is pickled if they are",
    "Repl": "it holds a node, which refuses",
}


def public_classes() -> Iterator[type]:
    """The classes that a user can import from the public modules, each once."""
    modules = [cloche, *(getattr(cloche, name) for name in cloche._MODULES), importlib.import_module("cloche.testing")]
    found = {
        getattr(module, name)
        for module in modules
        for name in module.__all__
        if isinstance(getattr(module, name), type)
    }
    yield from sorted(found, key=lambda kind: kind.__name__)


def facts(value: Any) -> Any:
    """What two equal values have in common, also for classes without an equality of their own."""
    match value:
        case cloche.Array():
            return (
                value.dtype,
                value.shape,
                bytes(value.data),
                value.order,
                value.readonly,
                dtypes.item_size(value.dtype),
            )
        case Tree():
            return value.parents, value.functions, value.calls, value.spent, value.total, value._children
        case Profile() | Collected() | SampledProfile() | Reading() | BaseException():
            return {name: facts(one) for name, one in vars(value).items()}
        case ProfiledCall():
            return value.phases, facts(value.tree)
        case list():
            return [facts(one) for one in value]
        case _:
            return value
