"""Whose fault it is, what the error carries, and what survives it."""

from __future__ import annotations

import pytest

import cloche

RAISING = """
def inner(x):
    return 1 / x

class N:
    def process(self, x):
        if x == "chain":
            try:
                inner(0)
            except ZeroDivisionError as error:
                raise ValueError("no such value") from error
        if x == "exit":
            raise SystemExit(3)
        if x == "note":
            error = RuntimeError("noted")
            error.add_note("seen on Monday")
            raise error
        return inner(x)
"""


def test_frames_are_the_nodes_own_with_source_text(load):
    """File, line, function and text of each; nothing of the guest runtime."""
    with pytest.raises(cloche.NodeRaisedError) as caught:
        load(RAISING).process(0)
    error = caught.value
    assert (error.exc_type, error.message) == ("ZeroDivisionError", "division by zero")
    assert [(f.file, f.line, f.function, f.text) for f in error.frames] == [
        ("node.py", 18, "process", "return inner(x)"),
        ("node.py", 3, "inner", "return 1 / x"),
    ]
    assert error.guest_traceback.splitlines()[0] == "Traceback (most recent call last):"
    assert error.guest_traceback.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_node_is_usable_after_its_own_exception(load):
    """The instance is not touched by it."""
    node = load(RAISING)
    with pytest.raises(cloche.NodeRaisedError):
        node.process(0)
    assert node.process(4) == 0.25
    assert not node.broken


def test_cause_chain(load):
    """`raise ... from` and its frames."""
    with pytest.raises(cloche.NodeRaisedError) as caught:
        load(RAISING).process("chain")
    error = caught.value
    assert error.exc_type == "ValueError"
    assert error.cause is not None
    assert (error.cause.exc_type, error.failure.explicit) == ("ZeroDivisionError", True)
    assert "direct cause" in error.guest_traceback


def test_notes(load):
    """PEP 678."""
    with pytest.raises(cloche.NodeRaisedError) as caught:
        load(RAISING).process("note")
    assert caught.value.failure.notes == ("seen on Monday",)


def test_system_exit_is_the_nodes_exception(load):
    """sys.exit is an exception like any other here: the node stays usable."""
    node = load(RAISING)
    with pytest.raises(cloche.NodeRaisedError) as caught:
        node.process("exit")
    assert caught.value.exc_type == "SystemExit"
    assert node.process(1) == 1.0


@pytest.mark.parametrize("body", ["os._exit(5)", "os.abort()"], ids=["exit", "abort"])
def test_ending_the_interpreter_breaks_the_instance(load, body):
    """The host and the other nodes go on."""
    other = load(RAISING)
    node = load(f"import os\nclass N:\n    def process(self, x):\n        {body}\n")
    with pytest.raises((cloche.GuestExitError, cloche.GuestTrapError)):
        node.process(0)
    assert node.broken
    with pytest.raises(cloche.ClosedError):
        node.process(0)
    assert other.process(2) == 0.5


def test_value_that_cannot_be_encoded_names_path_and_type(load):
    """A result is not silently turned into text."""
    node = load("class N:\n    def process(self, x):\n        return {'items': [1, {'fn': len}]}\n")
    with pytest.raises(cloche.NodeRaisedError, match=r"result\.items\[1\]\.fn.*builtin_function_or_method") as caught:
        node.process(0)
    assert caught.value.failure.phase == "encode"
    assert not node.broken


def test_cyclic_result_is_refused(load):
    """Not an endless recursion."""
    node = load("class N:\n    def process(self, x):\n        a = []\n        a.append(a)\n        return a\n")
    with pytest.raises(cloche.NodeRaisedError, match="result"):
        node.process(0)


def test_unencodable_argument_never_enters_the_guest(load):
    """The node is as it was."""
    node = load("class N:\n    n = 0\n    def process(self, x):\n        self.n += 1\n        return self.n\n")
    with pytest.raises(cloche.EncodeError, match=r"data\.a\[0\]"):
        node.process({"a": [object()]})
    assert node.process(0) == 1


@pytest.mark.parametrize(
    "body",
    ["class E(Exception):\n        def __str__(self): raise RuntimeError\n    raise E",
     "class E(Exception):\n        def __str__(self): return 'x' * 10**8\n    raise E",
     "class E(Exception): pass\n    E.__name__ = E.__qualname__ = 'MemoryError'; E.__module__ = 'builtins'\n    raise E('forged')",
     "raise BaseException('base')", "raise KeyboardInterrupt", "raise GeneratorExit", "raise StopIteration(3)",
     "raise ExceptionGroup('many', [ValueError('a'), TypeError('b')])"],
    ids=["str raises", "huge str", "forged", "base", "interrupt", "generator exit", "stop", "group"],
)  # fmt: skip
def test_odd_exceptions_arrive_as_node_errors(load, body):
    """Whatever the class does, the host gets a bounded message and the node lives."""
    node = load(f"def f(x):\n    if x: return x\n    {body}\n")
    with pytest.raises(cloche.NodeRaisedError) as caught:
        node.process(0)
    assert len(caught.value.message) < 20_000
    assert node.process(1) == 1


def test_deep_recursion_is_an_ordinary_error(load):
    """RecursionError, with a bounded traceback."""
    node = load("def f(x):\n    return x if x == 1 else f(x - 1)\n")
    with pytest.raises(cloche.NodeRaisedError) as caught:
        node.process(10**6)
    assert caught.value.exc_type == "RecursionError"
    assert len(caught.value.frames) <= 64
    assert node.process(1) == 1
