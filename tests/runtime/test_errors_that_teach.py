"""What a newcomer reads when something goes wrong: the node's own lines, the item, and what to do."""

from __future__ import annotations

import copy
import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloche
from cloche.testing import LocalGuest

Load = Callable[..., cloche.Node]

FAILING = """
def inner(x):
    return 1 / x

class N:
    def process(self, x):
        if x == "long":
            raise ValueError("\\x1b[31m" + "m" * 100_000)
        if x == "deep":
            return deep()
        if x == "crash":
            import os
            os._exit(1)
        while x == "endless":
            pass
        return inner(x)

def deep():
    return deep()
"""


def printed(error: BaseException) -> str:
    """What Python prints for an error that nobody catches."""
    return "".join(traceback.format_exception(error))


def failed(node: cloche.Node, *data: Any) -> cloche.ClocheError:
    with pytest.raises(cloche.ClocheError) as caught:
        node.process(*data)
    return caught.value


def test_an_uncaught_error_shows_the_nodes_own_lines(load: Load) -> None:
    """The host's traceback alone ends in Cloche: it says nothing about the node."""
    text = printed(failed(load(FAILING), 0))
    assert text.count("return 1 / x") == text.count("return inner(x)") == 1
    assert "In node 'N':\nTraceback (most recent call last):\n  File" in text
    assert text.endswith("ZeroDivisionError: division by zero\n")


def test_a_copy_shows_them_once(load: Load) -> None:
    """Process pools pickle errors, some several times."""
    error = failed(load(FAILING), 0)
    for made in (pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(error)))), copy.copy(error), copy.deepcopy(error)):
        assert printed(made).count("return 1 / x") == 1


def test_hostile_and_long_tracebacks_are_made_harmless(load: Load) -> None:
    """A node chooses its message, and how many frames there are."""
    node = load(FAILING)
    for what in ("long", "deep"):
        notes = failed(node, what).__notes__
        assert len(notes) == 1
        assert len(notes[0]) < 17_000
        assert "\x1b" not in notes[0]
    assert "Traceback" in notes[0]
    assert notes[0].endswith("RecursionError: maximum recursion depth exceeded")


def test_loading_shows_them_too(runtime: cloche.Runtime) -> None:
    with pytest.raises(cloche.NodeLoadError) as caught:
        runtime.load(cloche.Source("import jsn\n", "mine.py"), name="mine")
    assert printed(caught.value).count('File "mine.py", line 1, in <module>') == 1


def test_a_deadline_shows_where_the_node_was(load: Load) -> None:
    node = load(FAILING, limits=cloche.Limits(deadline_s=0.2, grace_s=10))
    text = printed(failed(node, "endless"))
    assert text.count('while x == "endless":') == 1


# ---- which item, of which node
def test_an_error_of_chained_streams_names_the_node_and_item_that_failed(load: Load) -> None:
    """B takes A's outputs. What A could not do is not an error of B's."""
    first, second = load(FAILING, name="first"), load("def f(x): return [x]", name="second")
    with pytest.raises(cloche.NodeRaisedError) as caught:
        list(second.stream(value for value in first.stream([1, 2, 0, 4])))
    assert (caught.value.node, caught.value.item) == ("first", 2)
    assert "It was item 2, counted from 0." in caught.value.__notes__
    first, second = load("def f(x): return [x, x]", name="first"), load(FAILING, name="second")
    with pytest.raises(cloche.NodeRaisedError) as caught:
        list(second.stream(value for value in first.stream([1, 2])))
    assert (caught.value.node, caught.value.item) == ("second", 0)


def test_a_pool_that_is_fed_by_a_stream_keeps_the_item_of_the_stream(runtime: cloche.Runtime, load: Load) -> None:
    first = load(FAILING, name="first")
    with runtime.pool(cloche.Source("def f(x): return x"), size=1) as pool:
        with pytest.raises(cloche.NodeRaisedError) as caught:
            list(pool.map(first.stream([1, 2, 0])))
        assert (caught.value.node, caught.value.item) == ("first", 2)
        inner = pool.map([1, 2, object()])
        with pytest.raises(cloche.EncodeError) as refused:
            list(load("def f(x): return x").stream(inner))
        assert refused.value.item == 2


def test_a_pool_does_not_say_load_it_again(runtime: cloche.Runtime) -> None:
    """There is nothing to load: the pool goes on."""
    with runtime.pool(cloche.Source(FAILING), size=1) as pool:
        error = pool.submit("crash").exception()
        assert isinstance(error, cloche.GuestExitError)
        assert error.in_pool
        assert str(error).endswith("; its instance is closed, and the pool makes a new one for the next item")
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
        assert pool.submit(4).result() == 0.25


def test_a_node_says_load_it_again(load: Load) -> None:
    assert str(failed(load(FAILING), "crash")).endswith("load it again")


# ---- wrong arguments
class Mine:
    """A class that somebody writes in a notebook."""

    def process(self, x: object) -> object:
        """Return the argument."""
        return x


def function(x: object) -> object:
    """A function that somebody writes in a notebook."""
    return x


SOURCES: dict[str, tuple[Any, str]] = {
    "class": (
        Mine,
        "the class Mine: give a cloche.Source, or the path of a .py file or of a package folder. For a class or function of",
    ),
    "object": (Mine(), "For the class of the object: cloche.Source.of(Mine), with params for its __init__"),
    "function": (function, "cloche.Source.of(function)"),
    "lambda": (lambda x: x, "cloche.Source.of(...)"),
    "method": (Mine().process, "For the class of the method: cloche.Source.of(Mine)"),
    "module": (copy, "the module copy: give a cloche.Source, or the path"),
    "bytes": (b"def f(x): return x", "For source text: cloche.Source(text.decode())"),
    "nothing": (None, "source is None: give a cloche.Source"),
    "number": (5, "source is of type int: give a cloche.Source"),
}


@pytest.mark.isolation("none", reason="arguments are checked before anything goes to a worker")
@pytest.mark.parametrize(("source", "said"), SOURCES.values(), ids=SOURCES)
def test_what_is_no_source_is_named(runtime: cloche.Runtime, source: Any, said: str) -> None:
    for wrong in (lambda: runtime.load(source), lambda: runtime.pool(source), lambda: LocalGuest(source)):
        with pytest.raises(TypeError) as caught:
            wrong()
        assert said in str(caught.value)


@pytest.mark.isolation("none", reason="arguments are checked before anything goes to a worker")
def test_what_is_loaded_already_says_how_to_get_another(runtime: cloche.Runtime, load: Load) -> None:
    node = load("def f(x): return x")
    for source, said in ((node, "node.clone() makes another one"), (node.snapshot(), "runtime.restore(snapshot)")):
        with pytest.raises(TypeError, match="source is of type") as caught:
            runtime.load(source)
        assert said in str(caught.value)


@pytest.mark.isolation("none", reason="arguments are checked before anything goes to a worker")
def test_code_in_place_of_a_path_is_recognised(runtime: cloche.Runtime) -> None:
    """Also if it is too long for a path."""
    for text in ("def f(x): return x", "def f(x): return x\n" * 1000):
        with pytest.raises(FileNotFoundError, match=r"for source text use cloche\.Source\(text\)"):
            runtime.load(text)


def test_a_source_is_text() -> None:
    for given, said in ((Mine, "the class Mine: give Python source as a text. For a class"), (b"x", "of type bytes")):
        with pytest.raises(TypeError, match=r"Source\.text is") as caught:
            cloche.Source(given)
        assert said in str(caught.value)
    with pytest.raises(TypeError, match=r"Source\.filename is of type int"):
        cloche.Source("", 5)


OPTIONS: dict[str, tuple[Callable[[cloche.Runtime, Any], object], str]] = {
    "load": (lambda r, s: r.load(s, limit=3), "Runtime.load has no option 'limit': did you mean limits?"),
    "restore": (lambda r, s: r.restore(s, resed=3), "Runtime.restore has no option 'resed': did you mean reseed?"),
    "pool": (lambda r, s: r.pool(s, sizes=3), "Runtime.pool has no option 'sizes': did you mean size?"),
    "pool's": (lambda r, s: r.pool(s, grant=3), "Runtime.pool has no option 'grant': did you mean grants?"),
    "break": (
        lambda r, s: r.pool(s, on_break="restart"),
        "Runtime.pool has no option 'on_break': a pool always replaces a clone that breaks",
    ),
    "limit": (
        lambda r, s: r.load(s, deadline_s=3),
        "Runtime.load has no option 'deadline_s': it is a limit: give limits=cloche.Limits(deadline_s=...)",
    ),
    "grant": (
        lambda r, s: r.load(s, env={}),
        "Runtime.load has no option 'env': it is a grant: give grants=cloche.Grants(env=...)",
    ),
    "runtime": (lambda r, s: cloche.Runtime(loger=3), "Runtime has no option 'loger': did you mean logger?"),
    "limits": (lambda r, s: cloche.Limits(deadlin_s=3), "Limits has no option 'deadlin_s': did you mean deadline_s?"),
    "grants": (lambda r, s: cloche.Grants(mount={}), "Grants has no option 'mount': did you mean mounts?"),
    "mount": (lambda r, s: cloche.Mount("/", write=True), "Mount has no option 'write': did you mean writable?"),
    "service": (
        lambda r, s: cloche.Service(len, max_call=1),
        "Service has no option 'max_call': did you mean max_calls?",
    ),
    "clock": (lambda r, s: cloche.Clock("real", step=1), "Clock has no option 'step': did you mean step_ns?"),
    "source": (lambda r, s: cloche.Source("", name="x"), "Source has no option 'name': did you mean filename?"),
    "local": (lambda r, s: LocalGuest(s, entri="x"), "LocalGuest has no option 'entri': did you mean entry?"),
    "by position": (
        lambda r, s: cloche.Limits(3),
        "Limits takes its options by name: give Limits(deadline_s=...), and the others",
    ),
    "long": (
        lambda r, s: r.load(s, **{"q" * 10**6: 1}),
        f"Runtime.load has no option '{'q' * 60}...': it has budget",
    ),
}


@pytest.mark.isolation("none", reason="arguments are checked before anything goes to a worker")
@pytest.mark.parametrize(("wrong", "said"), OPTIONS.values(), ids=OPTIONS)
def test_a_misspelt_option_is_named_with_the_one_that_was_meant(
    runtime: cloche.Runtime, wrong: Callable[[cloche.Runtime, Any], object], said: str
) -> None:
    with pytest.raises(TypeError) as caught:
        wrong(runtime, cloche.Source("def f(x): return x"))
    assert str(caught.value).startswith(said)


@pytest.mark.isolation("none", reason="arguments are checked before anything goes to a worker")
def test_a_refusal_of_grants_shows_no_secret(runtime: cloche.Runtime) -> None:
    """They are passed as a dict by mistake, and errors end up in logs."""
    with pytest.raises(TypeError, match=r"give cloche\.Grants\(env=\.\.\.\)") as caught:
        runtime.load(cloche.Source("x = 1"), grants={"env": {"TOKEN": "hunter2"}})
    assert "hunter2" not in str(caught.value)


def test_an_option_of_a_call_that_was_given_to_process_is_recognised(load: Load) -> None:
    """All keyword arguments of `process` are the node's own."""
    node = load("class N:\n    def process(self, x): return x\n")
    for name in ("deadline_s", "on_log"):
        with pytest.raises(cloche.NodeRaisedError) as caught:
            node.process(1, **{name: 3})
        assert caught.value.remedy == (
            f"Keyword arguments are the node's own. For an option of the call: node.with_options({name}=...)."
        )
    with pytest.raises(cloche.NodeRaisedError) as caught:
        node.process(1, speed=3)
    assert caught.value.remedy == ""


# ---- values
class Plain:
    """Two attributes."""

    def __init__(self) -> None:
        self.a = 1


class Arrays:
    """What other array libraries have."""

    def __array__(self) -> None: ...


VALUES: dict[str, tuple[Any, str]] = {
    "object": (
        Plain(),
        "cannot encode tests.runtime.test_errors_that_teach.Plain: pass vars(x), or make its class a dataclass",
    ),
    "function": (function, "cannot encode function: pass its result: x(...)"),
    "class": (Plain, "cannot encode type: pass x.__name__"),
    "arrays": (Arrays(), "cannot encode tests.runtime.test_errors_that_teach.Arrays: pass numpy.asarray(x)"),
    "path": (Path("a"), f"cannot encode {type(Path()).__module__}.{type(Path()).__qualname__}: pass str(x)"),
    "node": (cloche.Runtime, "cannot encode type: pass x.__name__"),
}


@pytest.mark.parametrize(("value", "said"), VALUES.values(), ids=VALUES)
def test_a_value_that_cannot_be_sent_says_what_to_pass_and_names_the_path_once(
    load: Load, value: Any, said: str
) -> None:
    node = load("class N:\n    def process(self, *x, **k): return x\n    def other(self, *x, **k): return x\n")
    ways: dict[str, Callable[[], object]] = {
        "data.a[1]": lambda: node.process({"a": [0, value]}),
        "arguments.k": lambda: node.process(k=value),
        "arguments[1]": lambda: node.call("other", 0, value),
        "item[0]": lambda: list(node.stream([[value]])),
    }
    for path, way in ways.items():
        with pytest.raises(cloche.EncodeError) as caught:
            way()
        assert str(caught.value).count(said) == 1
        assert str(caught.value) == f"{path}: {said}"


def test_the_modules_of_an_error_are_not_imported(load: Load) -> None:
    with pytest.raises(cloche.EncodeError):
        load("def f(x): return x").process(Plain())
    assert "pandas" not in sys.modules
