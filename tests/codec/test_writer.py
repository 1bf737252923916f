"""What writes CBOR loses no exception of a signal's handler (Ctrl-C), wherever in it the handler runs."""

from __future__ import annotations

import ast
import collections
import datetime
import decimal
import gc
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import cbor2
import numpy as np
import pytest

import cloche
from cloche import Limits
from cloche._codec.cbor import write, write_listless
from cloche._codec.codec import Codec
from tests.injection import every, within

HOST = Path(cloche.__file__).parent
TICKS = 200

Point = collections.namedtuple("Point", "x y")
OPERANDS = {
    "flat list": ["a", b"b", None, True, 1.5],
    "nested lists": [[[1], []], [[2]]],
    "list in a dict": {"a": {"b": [1, 2]}},
    "dicts": {"a": {"b": {"c": None}}},
    "tuples": ((1, ()), [(2,)]),
    "sets": [{1, 2}, frozenset({"a"})],
    "numbers": [float(number) for number in range(1000)],
    "a map": {1: [2], None: (3,)},
    "arrays": [np.arange(6).reshape(2, 3), np.float32(1), np.array(["a", "b"])],
    "a large body": [b"x" * 100_000, "y" * 100_000],
    "surrogates": ["\ud800", {"\ud800": []}],
    "a record": Point([1], {"a": [2]}),
    "many items": [["a"], *map(str, range(300))],
    "many others": [(1,), *map(str, range(300))],
    "others": [datetime.datetime(2026, 1, 1), decimal.Decimal("1.5"), 1 << 80, 1j, bytearray(b"a")],
}


@pytest.fixture
def own_codec() -> Codec:
    return Codec(Limits(), lambda _: 1 << 20, lambda *_: memoryview(b""))


def foreign_code(function: Any, *args: Any) -> list[str]:
    """Python code outside of Cloche that the modules of the codec lead to, be it through C code."""
    found: list[str] = []

    def look(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_back is not None:
            caller = Path(frame.f_back.f_code.co_filename)
            if caller in (HOST / "_codec/codec.py", HOST / "_codec/cbor.py"):
                code = frame.f_code
                if "/cloche/" not in code.co_filename and code.co_filename != __file__:
                    found.append(f"{code.co_filename} {code.co_qualname}")

    sys.setprofile(look)
    try:
        function(*args)
    finally:
        sys.setprofile(None)
    return found


@pytest.mark.parametrize("value", OPERANDS.values(), ids=OPERANDS.keys())
def test_cbor2_runs_no_python_code_of_others(own_codec: Codec, value: Any) -> None:
    """It drops what abstract base classes raise when it asks them what a list is."""
    assert foreign_code(own_codec.encode, [2, 7, value], "data") == []
    assert foreign_code(own_codec.encode, [True, value], "answer") == []


def test_the_look_at_foreign_code_finds_it() -> None:
    """The test above would be worth nothing if it could not fail."""
    code = compile(
        "import cbor2\ndef dumps(value):\n    return cbor2.dumps(value)", str(HOST / "_codec/cbor.py"), "exec"
    )
    names: dict[str, Any] = {}
    exec(code, names)
    assert any("__instancecheck__" in found for found in foreign_code(names["dumps"], [[1]]))


def test_an_exception_in_the_writers_own_code_arrives() -> None:
    """The encoders for what cbor2 has no native one for are Python code."""
    value = [None, cbor2.CBORTag(1, [cbor2.CBORTag(2, {"a": None})])]
    for injected in every(lambda: write(value), KeyboardInterrupt, within("/cloche/_codec/cbor.py")):
        assert type(injected.error) is KeyboardInterrupt, injected.place


@pytest.mark.parametrize(
    "value",
    [
        *({"a": value} for value in (0, -1, 1 << 70, 1.5, float("nan"), "ä", b"b", True, False, None)),
        [[1, [2]], (), {}, {"a": [None]}],
        cbor2.CBORTag(40_000, [cbor2.CBORTag(1, (1, 2))]),
        bytearray(b"a"),
    ],
    ids=repr,
)
def test_the_bytes_are_those_of_cbor2(value: Any) -> None:
    """The encoders change how it gets there, not what it writes."""
    assert write(value) == cbor2.dumps(value)
    if type(value) is dict and "a" in value and type(value["a"]) is not list:
        assert write_listless(value) == cbor2.dumps(value)


class Tick(Exception):
    """What the handler raises."""


@pytest.mark.parametrize("value", [[[number] for number in range(500)], [((number,), None) for number in range(300)]])
def test_each_exception_of_a_handler_arrives(own_codec: Codec, value: Any) -> None:
    """At random moments of encoding: cbor2 alone drops one in five, and prints "Exception ignored in"."""
    raised = arrived = 0

    def handler(*_: Any) -> None:
        nonlocal raised
        raised += 1
        raise Tick

    before = signal.signal(signal.SIGALRM, handler)
    gc.disable()  # what a finalizer of other tests' garbage raises is dropped, by the language
    try:
        while raised < TICKS:
            count = raised
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-4 + int.from_bytes(os.urandom(1)) * 4e-6)
                while raised == count:  # also if the exception was lost
                    own_codec.encode([2, 7, value], "data")
            except Tick:
                arrived += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
    assert arrived == raised


def calls_dumps(source: str) -> bool:
    """Whether a source uses cbor2's own writer."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in ("dumps", "dump") and ast.unparse(node.value) == "cbor2":
            return True
        if isinstance(node, ast.ImportFrom) and node.module == "cbor2":
            return bool({"dumps", "dump"} & {alias.name for alias in node.names})
    return False


def test_nothing_else_writes_cbor() -> None:
    """A list that is written elsewhere would lose a Ctrl-C again."""
    users = {path.relative_to(HOST).as_posix() for path in HOST.rglob("*.py") if calls_dumps(path.read_text())}
    assert users == {"_codec/cbor.py"}
