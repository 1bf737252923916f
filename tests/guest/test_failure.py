"""Exceptions as data: true where the node is honest, bounded and harmless where it is not."""

from __future__ import annotations

import gc
import json
import sys

import pytest

from cloche_guest.failure import describe
from cloche_wire import Failure, Op, Reply
from cloche_wire.failure import MAX_CAUSES, MAX_FRAMES, MAX_MESSAGE, MAX_NOTES
from tests.guest.conftest import LIMITS


def test_frames_are_the_nodes_own_with_their_text(load):
    """File, line, function, text; nothing of the guest runtime or of the import machinery."""
    bench = load("""\
        def inner(x):
            return 1 / x

        class N:
            def process(self, x):
                return inner(x)
    """)
    assert bench.failure(0) == {
        "phase": "call", "type": "ZeroDivisionError", "message": "division by zero",
        "frames": [["node.py", 6, "process", "return inner(x)"], ["node.py", 2, "inner", "return 1 / x"]],
        "omitted": 0, "cause": None, "explicit": False, "notes": [],
    }  # fmt: skip
    assert bench.process(4) == 0.25


@pytest.mark.parametrize("shape", ["async def process(self, x): raise KeyError(x)", "async def process(self, x):\n  yield x\n  raise KeyError(x)",
                                   "def process(self, x):\n  yield x\n  raise KeyError(x)"])  # fmt: skip
def test_frames_of_coroutines_and_generators(load, shape):
    """What awaits and collects them is not shown."""
    assert [frame[2] for frame in load(f"class N:\n {shape}").failure(1)["frames"]] == ["process"]


def test_frames_in_a_library_are_shown(load):
    """The node's bug may show there."""
    frames = load("import json\ndef N(x): return json.loads(x)").failure("{")["frames"]
    assert frames[0][:3] == ["node.py", 2, "N"]
    assert frames[-1][2] == "raw_decode" or frames[-1][2] == "decode"


def test_chain(load):
    """raise from, a plain context, and a suppressed one."""
    bench = load("""
        def N(x):
            try:
                {}["k"]
            except KeyError as error:
                if x == "from": raise ValueError("v") from error
                if x == "none": raise ValueError("v") from None
                raise ValueError("v")
    """)
    failure = bench.failure("from")
    assert (failure["explicit"], failure["cause"]["type"], failure["cause"]["message"]) == (True, "KeyError", "'k'")
    failure = bench.failure("context")
    assert (failure["explicit"], failure["cause"]["type"]) == (False, "KeyError")
    assert bench.failure("none")["cause"] is None


def _items(value) -> int:
    """Items on the wire, those of the reply around a failure included."""
    if isinstance(value, dict):
        return 1 + sum(1 + _items(item) for item in value.values())
    return 1 + sum(map(_items, value)) if isinstance(value, list) else 1


def _depth(value) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(_depth, inside), default=0)


@pytest.mark.parametrize("depth", [4, 6, 64])
@pytest.mark.parametrize("size", [1024, 4000, 100_000])
@pytest.mark.parametrize("items", [50, 200, 5000])
def test_a_failure_fits_small_limits(load, items, size, depth):
    """The exception itself always arrives: what led to it goes first."""
    bench = load("""
        def f(n): return f(n - 1) if n else 1 / 0
        def N(n):
            try:
                f(20) if not n else N(n - 1)
            except Exception as cause:
                error = ValueError("\u00e9" * 3000)
                for note in range(20): error.add_note(f"note {note}")
                raise error from cause
    """, "N", limits=LIMITS | {"value_nodes": items, "reply_bytes": size, "value_depth": depth})  # fmt: skip
    failure = bench.failure(5)
    reply = [int(Reply.FAILURE), failure]
    assert _items(reply) <= items
    assert len(json.dumps(reply, ensure_ascii=False).encode()) < size * 1.2
    assert _depth(reply) <= depth
    assert Failure.from_wire(failure).to_wire() == failure
    assert failure["type"] == "ValueError"
    assert "\u00e9" * 10 in failure["message"]


def test_ample_limits_leave_a_failure_whole(load):
    """And the innermost frame is the last to go."""
    source = "def f(n): return f(n - 1) if n else 1 / 0\ndef N(x): return f(x)"
    whole = load(source, "N").failure(9)
    assert load(source, "N", limits=LIMITS | {"value_nodes": 4000}).failure(9) == whole
    cut = load(source, "N", limits=LIMITS | {"value_nodes": 50}).failure(9)
    assert (cut["frames"][-1], cut["frames"][0]) == (whole["frames"][-1], whole["frames"][0])
    assert (len(cut["frames"]), cut["omitted"]) == (6, 5)


def test_long_and_cyclic_chains_are_cut():
    """A chain is bounded, and one that bites its tail ends."""
    first = error = ValueError(0)
    for i in range(100):
        error.__cause__ = ValueError(i)
        error = error.__cause__
    failure, length = describe(first, "call"), 1
    assert Failure.from_wire(failure.to_wire()) == failure
    while failure.cause is not None:
        failure, length = failure.cause, length + 1
    assert length == MAX_CAUSES + 1
    one, two = ValueError(1), ValueError(2)
    one.__cause__, two.__cause__ = two, one
    assert describe(one, "call").cause.cause is None


def test_deep_recursion_keeps_both_ends(load):
    """The outermost and the innermost half."""
    failure = load("def N(x): return N(x + 1)").failure(0)
    assert failure["type"] == "RecursionError"
    assert len(failure["frames"]) == MAX_FRAMES
    assert failure["omitted"] > 500


def test_recursion_limit_that_the_node_lowered_does_not_break_the_guest(load):
    """The guest must still be able to answer."""
    limit = sys.getrecursionlimit()
    try:
        bench = load("import sys\ndef N(x):\n if x: sys.setrecursionlimit(x)\n return N(0) if x else 1 / 0")
        assert bench.failure(limit // 2)["type"] == "ZeroDivisionError"
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize(
    ("body", "message"),
    [("def __str__(self): raise RuntimeError('no')", "<str() of it raised RuntimeError>"),
     ("def __str__(self): return 5", "<str() of it raised TypeError>"),
     ("def __str__(self): raise SystemExit", "<str() of it raised SystemExit>"),
     ("def __str__(self): return 'x' * 10**6", "x" * MAX_MESSAGE + f" [{10**6 - MAX_MESSAGE} characters cut]"),
     ("def __str__(self): return '\\udc80'", "\\udc80"),
     ("def __str__(self): return type('S', (str,), {'__getitem__': None, '__len__': None})('sub')", "sub")],
    ids=["raises", "no text", "exits", "huge", "surrogate", "subclass"],
)  # fmt: skip
def test_message_of_a_hostile_exception(load, body, message):
    """str() is the node's code: its outcome is bounded plain text."""
    bench = load(f"class E(Exception):\n {body}\ndef N(x): raise E")
    failure = bench.failure(0)
    assert (failure["type"], failure["message"]) == ("node.E", message)
    assert type(failure["message"]) is str


@pytest.mark.parametrize(
    "forgery",
    ["E.__module__ = 'builtins'; E.__qualname__ = 'MemoryError'", "E.__module__ = 5", "E.__qualname__ = 'x' * 10**5"],
)
def test_forged_class_names_are_only_text(load, forgery):
    """The host decides nothing by them."""
    failure = load(f"class E(Exception): pass\n{forgery}\ndef N(x): raise E('m')", "N").failure(0)
    assert failure["message"] == "m"
    assert len(failure["type"]) < 300


def test_metaclass_that_raises(load):
    """The name comes from `type` itself then."""
    source = "class M(type):\n def __getattribute__(cls, name): raise RuntimeError\nclass E(Exception, metaclass=M): pass\ndef N(x): raise E"
    assert load(source, "N").failure(0)["type"] == "E"


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("exception", "name", "message"),
    [("SystemExit(3)", "SystemExit", "3"), ("KeyboardInterrupt", "KeyboardInterrupt", ""), ("GeneratorExit", "GeneratorExit", ""),
     ("BaseException('b')", "BaseException", "b"), ("StopIteration(1)", "StopIteration", "1"), ("MemoryError", "MemoryError", ""),
     ("__import__('asyncio').CancelledError('c')", "asyncio.exceptions.CancelledError", "c")],
)  # fmt: skip
@pytest.mark.parametrize("shape", ["def", "async def"])
def test_every_exception_is_a_failure_and_the_node_stays_usable(load, exception, name, message, shape):
    """Also those that would end a process."""
    bench = load(f"{shape} N(x):\n if x: return x\n raise {exception}")
    failure = bench.failure(0)
    if shape == "async def" and name == "StopIteration":
        name, message = "RuntimeError", "coroutine raised StopIteration"  # PEP 479
    assert (failure["type"], failure["message"]) == (name, message)
    gc.collect()
    assert bench.messages() == []
    assert bench.process(1) == 1


def test_notes(load):
    """PEP 678, bounded; what is no text becomes text."""
    bench = load("def N(x):\n error = ValueError()\n error.__notes__ = x\n raise error")
    assert bench.failure(["a", 5])["notes"] == ["a", "5"]
    assert len(bench.failure(list(range(100)))["notes"]) == MAX_NOTES
    assert bench.failure(7)["notes"] == []


def test_members_of_a_group_are_notes_with_their_frames(load):
    """Failure has no other place for them."""
    bench = load(
        "def f(): raise ValueError('a')\ndef N(x):\n try: f()\n except ValueError as error: one = error\n raise ExceptionGroup('many', [one, ExceptionGroup('inner', [TypeError('b')])])",
        "N",
    )
    failure = bench.failure(0)
    assert failure["message"] == "many (2 sub-exceptions)"
    assert failure["notes"][0].splitlines()[0] == "[1 of 2] Traceback (most recent call last):"
    assert failure["notes"][0].endswith(
        "File \"node.py\", line 1, in f\n    def f(): raise ValueError('a')\nValueError: a"
    )
    assert failure["notes"][1] == "[2 of 2] ExceptionGroup: inner (1 sub-exception)"


def test_syntax_error_shows_where(bench):
    """As the last frame, and the column as a note."""
    kind, failure = bench.load("class N:\n    def process(self, x)\n        return x\n")
    assert kind is Reply.FAILURE
    assert (failure["phase"], failure["type"], failure["message"]) == ("compile", "SyntaxError", "expected ':'")
    assert failure["frames"] == [["node.py", 2, "<module>", "def process(self, x)"]]
    assert failure["notes"] == ["at line 2, column 25"]


def test_syntax_error_at_run_time_keeps_its_phase(load):
    """eval of bad text is a failure of the call."""
    failure = load("def N(x): return eval(x)").failure("1 +")
    assert (failure["phase"], failure["type"]) == ("call", "SyntaxError")
    assert [frame[:2] for frame in failure["frames"]] == [["node.py", 1], ["<string>", 1]]


@pytest.mark.parametrize("encoding", ["hex", "rot13", "undefined", "none-such", "punycode"])
def test_a_file_whose_encoding_is_none(load, tmp_path, encoding):
    """Its line cannot be shown; what was raised is."""
    file = tmp_path / "lib.py"
    file.write_text(f"# coding: {encoding}\nx = (\n")
    failure = load("""
        def N(path):
            with open(path, "rb") as file:
                exec(compile(file.read(), path, "exec"))
    """).failure(str(file))
    assert (failure["phase"], failure["type"]) == ("call", "SyntaxError")
    assert "cannot be described" not in failure["message"]
    assert failure["frames"][-1][0] == str(file)


def test_memory_error_lets_go_of_the_call_that_filled_memory(load):
    """Its locals are dropped before anything else is allocated."""
    bench = load("""
        import weakref
        class Big: pass
        class N:
            def process(self, x):
                big = Big()
                self.big = weakref.ref(big)
                self.error = MemoryError()
                raise self.error
            def alive(self): return self.big() is not None
    """)
    assert bench.failure(0)["type"] == "MemoryError"
    assert bench.send(Op.INVOKE, "alive") == (Reply.RESULT, False)


def test_failures_survive_the_wire(load):
    """What describe makes, from_wire takes, at its largest."""
    bench = load("def N(x):\n error = ValueError('m' * 10**6)\n error.__notes__ = ['n' * 10**6] * 100\n raise error")
    failure = bench.failure(0)
    assert Failure.from_wire(failure).to_wire() == failure
