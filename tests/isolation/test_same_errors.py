"""Errors are those of a node in the host's own process: class, message, and what they say of limits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

import cloche
from tests.limits import patient

NODE = cloche.Source("""
import os, sys
class N:
    def process(self, kind, *rest):
        if kind == "spin":
            while True: pass
        if kind == "exit": os._exit(3)
        if kind == "raise":
            try:
                1 / 0
            except ZeroDivisionError as error:
                raise KeyError("no \\x1b[2J key") from error
        if kind == "memory": return bytearray(1 << 31)
        if kind == "recursion": return self.process(kind)
        if kind == "output":
            while True: print("x" * 1000)
        if kind == "large": return bytes(2 << 20)
        if kind == "many": return [0] * 20_000 + [None]
        if kind == "deep":
            value = []
            for _ in range(100): value = [value]
            return value
        if kind == "object": return {"there": [object()]}
        if kind == "systemexit": sys.exit(4)
        if kind == "generator":
            def outputs():
                yield 1
                raise ValueError("after one")
            return outputs()
        return kind
""")
NEVER = cloche.Source("class N:\n    def __init__(self): 1 / 0\n    def process(self, x): return x\n")
BROKEN = cloche.Source("class N\n")
MISSING = cloche.Source("import no_such_package\ndef f(x): return x\n")
ENDLESS = cloche.Source(
    "class N:\n    def __init__(self):\n        while True: pass\n    def process(self, x): return x\n"
)
LIMITS = patient(
    grace_s=60.0,
    memory_bytes=128 << 20,
    stack_depth=200,
    output_bytes=10_000,
    reply_bytes=1 << 20,
    request_bytes=1 << 20,
    value_nodes=10_000,
    value_depth=32,
    stream_items=2,
)
SHORT = replace(LIMITS, deadline_s=1.0)
SHORT_LOAD = replace(LIMITS, load_s=1.0)
SLOW = patient(deadline_s=2.0, stream_s=1.0, grace_s=60.0)


@pytest.fixture(scope="module")
def both(recorder) -> Iterator[tuple[cloche.Runtime, cloche.Runtime]]:
    with (
        cloche.Runtime(logger=recorder) as here,
        cloche.Runtime(isolation="process", workers=1, logger=recorder) as there,
    ):
        yield here, there


def processing(*data: Any) -> Callable[[cloche.Runtime], object]:
    return lambda runtime: runtime.load(NODE, limits=LIMITS).process(*data)


def loading(
    source: cloche.Source, limits: cloche.Limits = LIMITS, **options: Any
) -> Callable[[cloche.Runtime], object]:
    return lambda runtime: runtime.load(source, limits=limits, **options)


def streaming(runtime: cloche.Runtime) -> object:
    return list(runtime.load(NODE, limits=LIMITS).stream(["a", "b", "c"]))


def streaming_failing(runtime: cloche.Runtime) -> object:
    return list(runtime.load(NODE, limits=LIMITS).stream(["a", "raise"]))


def streaming_slowly(runtime: cloche.Runtime) -> object:
    with runtime.load(NODE, limits=SLOW) as node:
        return list(node.stream(["a", "spin"]))


def streaming_too_long_for_its_stream(runtime: cloche.Runtime) -> object:
    with runtime.load(NODE, limits=replace(SLOW, deadline_s=None)) as node:
        return list(node.stream(["a", "spin"]))


def closed(runtime: cloche.Runtime) -> object:
    node = runtime.load(NODE, limits=LIMITS)
    node.close()
    return node.process(1)


def broken(runtime: cloche.Runtime) -> object:
    node = runtime.load(NODE, limits=LIMITS)
    with pytest.raises(cloche.BrokenInstanceError):
        node.process("exit")
    return node.process(1)


def snapshot_of_a_closed_one(runtime: cloche.Runtime) -> object:
    node = runtime.load(NODE, limits=LIMITS)
    node.close()
    return node.snapshot()


def too_large_a_buffer(runtime: cloche.Runtime) -> object:
    return runtime.load(NODE, limits=LIMITS).buffer(50 << 20)


def too_small_a_memory(runtime: cloche.Runtime) -> object:
    return runtime.load(NODE, limits=cloche.Limits(memory_bytes=32 << 20))


def restored_into_too_little(runtime: cloche.Runtime) -> object:
    snapshot = runtime.load(NODE, limits=cloche.Limits(memory_bytes=256 << 20)).snapshot()
    object.__setattr__(snapshot, "memory_bytes", 200 << 20)
    return runtime.restore(snapshot, limits=LIMITS)


CASES: dict[str, Callable[[cloche.Runtime], object]] = {
    "spin": lambda runtime: runtime.load(NODE, limits=SHORT).process("spin"),
    **{kind: processing(kind) for kind in ("exit", "raise", "recursion", "output", "large", "many", "deep")},
    **{kind: processing(kind) for kind in ("object", "systemexit", "generator", "memory")},
    "request-too-large": processing("x", bytes(2 << 20)),
    "request-too-large-in-the-frame": processing("x", list(range(1_000_000))),
    "request-of-an-object": processing("x", {"a": [object()]}),
    "request-too-deep": processing("x", eval("[" * 40 + "]" * 40)),
    "wrong-arguments": processing(),
    "request-that-does-not-fit": lambda runtime: runtime.load(
        NODE, limits=cloche.Limits(memory_bytes=48 << 20)
    ).process("x", bytes(40 << 20)),
    "init": loading(NEVER),
    "compile": loading(BROKEN),
    "import": loading(MISSING),
    "entry": loading(NODE, entry="Nothing"),
    "endless-init": loading(ENDLESS, SHORT_LOAD),
    "hard-spin": lambda runtime: runtime.load(NODE, limits=replace(SHORT, grace_s=0)).process("spin"),
    "hard-endless-init": loading(ENDLESS, replace(SHORT_LOAD, grace_s=0)),
    "stream-items": streaming,
    "stream-failure": streaming_failing,
    "stream-slow": streaming_slowly,
    "stream-without-deadline": streaming_too_long_for_its_stream,
    "closed": closed,
    "broken": broken,
    "snapshot-closed": snapshot_of_a_closed_one,
    "buffer-too-large": too_large_a_buffer,
    "memory-too-small": too_small_a_memory,
    "restore-too-small": restored_into_too_little,
}


def facts(case: Callable[[cloche.Runtime], object], runtime: cloche.Runtime) -> dict[str, Any]:
    """What a caller can tell of an error, without seconds, which no two runs have in common."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  # which, is what is compared
        case(runtime)
    error = caught.value
    names = ("item", "limit", "value", "node", "path", "code", "trap_code", "exc_type", "remedy", "data", "phase")
    found = {name: getattr(error, name, None) for name in names}
    found["remedy"] = masked(found["remedy"] or "")
    reached = getattr(error, "reached", None)
    found["reached"] = reached > 0 if isinstance(reached, float) else reached
    failure = getattr(error, "failure", None)
    return {
        **found,
        "class": type(error),
        "message": masked(str(error)),
        "args": len(error.args),
        "frames": [(frame.line, frame.function) for frame in failure.frames] if failure else [],
        "notes": getattr(error, "__notes__", []),
        "last_logs": len(getattr(error, "last_logs", ())),
        "context": error.__suppress_context__ or error.__context__ is None,
    }


def masked(text: str) -> str:
    """Without seconds, which no two runs have in common."""
    return re.sub(r"ran [0-9.]+ s", "ran N s", text)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_error_is_the_same_wherever_the_node_is(case, both):
    """Code that handles errors need not know of isolation."""
    here, there = (facts(case, runtime) for runtime in both)
    assert there == here
