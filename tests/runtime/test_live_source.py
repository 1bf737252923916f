"""`Source.of`: a class or function of this program as a node."""

from __future__ import annotations

import functools
import linecache
import types
from typing import Any

import numpy as np
import pytest

import cloche
from cloche import Source

from . import live_module as live


def run(runtime: cloche.Runtime, source: Source, entry: str, *data: Any) -> Any:
    """The node's answer. The entry need not be named."""
    with runtime.load(source) as node:
        assert node.info["entry"] == entry
        return node.process(*data)


def test_a_class_brings_what_it_uses_and_nothing_else(runtime):
    """Imports of three kinds, constants, a base class, a dataclass, helpers of helpers."""
    source = Source.of(live.Gain)
    with runtime.load(source) as node:
        assert node.process(4) == live.Gain().process(4)
        assert node.process(4) == (15, [4, 4], '{"a": 3, "b": "a"}', "b", True)
        assert node.call("sums", 4) == 6.0
    assert source.filename == "<Gain>"
    assert "HANDLE" not in source.text and "wraps" not in source.text
    assert source.text.startswith("from __future__ import annotations\n")
    assert "from collections.abc" not in source.text, "annotations are not evaluated"


@pytest.mark.parametrize("name", ["decorated", "awaited", "recursive", "helper"])
def test_functions(runtime, name):
    """Decorators and their imports come along."""
    import asyncio

    native = getattr(live, name)(4)
    assert run(runtime, Source.of(getattr(live, name)), name, 4) == (
        asyncio.run(native) if name == "awaited" else native
    )


def test_generators(runtime):
    """A local name hides a constant of the module: that is not taken along."""
    source = Source.of(live.counts)
    assert run(runtime, source, "counts", 3) == [0.0, 1.0, 2.0]
    assert "FACTOR = 3" not in source.text


def test_a_class_inside_of_a_function_that_needs_nothing_of_it(runtime):
    """Its indentation is taken off."""
    assert run(runtime, Source.of(live.local_class()), "Free", 5) == 15


@pytest.mark.parametrize(
    ("target", "kind", "text"),
    [
        (live.function, TypeError, "a lambda has no name to load it by: write it as a function, with def"),
        (live.closure(1)[0], cloche.ClocheError, "closure.<locals>.inner uses 'step' of the function around it"),
        (
            live.closure(1)[1],
            cloche.ClocheError,
            "closure.<locals>.Inner.process uses 'step' of the function around it",
        ),
        (live.uses_a_handle, cloche.ClocheError, "uses_a_handle uses 'HANDLE', a object of its module"),
        (
            live.uses_nothing_that_exists,
            cloche.ClocheError,
            "uses_nothing_that_exists uses 'no_such_name', which is not defined",
        ),
        (3, TypeError, "Source.of takes a class or a function, not int"),
        (live.Gain().process, TypeError, "Source.of takes a class or a function, not method: give its class"),
        (functools.partial(live.helper, 1), TypeError, "Source.of takes a class or a function, not partial"),
        (len, TypeError, "Source.of takes a class or a function, not builtin_function_or_method"),
        (int, cloche.ClocheError, "int has no source that could be read"),
        (np.ndarray, cloche.ClocheError, "ndarray has no source that could be read"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_cannot_be_taken_along_is_named(target, kind, text):
    """At once, not in the sandbox."""
    with pytest.raises(kind) as caught:
        Source.of(target)
    assert str(caught.value).startswith(text)


def cell(module: types.ModuleType, number: int, text: str) -> None:
    """Run a cell of a notebook as IPython does: its text is in linecache, under a name that is no file."""
    name = f"/tmp/ipykernel_1/{number}.py"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec"), module.__dict__)


def test_a_notebook_s_cells(runtime):
    """Imports and helpers in cells of their own; a class that is defined again."""
    notebook = types.ModuleType("__main__")
    cell(notebook, 1, "import numpy as np\nimport os.path as p\nfrom math import sqrt\nLIMIT = 7\n")
    cell(notebook, 2, "def clip(x):\n    return min(x, LIMIT)\n")
    for number, factor in ((3, 2), (4, 3)):
        text = f"class N:\n    def process(self, x):\n        return clip(x) * {factor}, sqrt(4), p.basename('a/b'), int(np.int8(1))\n"
        cell(notebook, number, text)
    assert run(runtime, Source.of(notebook.N), "N", 100) == (21, 2.0, "b", 1)
    cell(notebook, 5, "LIMIT = open(__import__('os').devnull)\n")
    with pytest.raises(cloche.ClocheError, match="clip uses 'LIMIT', a TextIOWrapper of its module"):
        Source.of(notebook.N)
    notebook.LIMIT.close()


def test_what_exec_defines_has_no_source():
    """Nor has what is typed into a plain interpreter."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("def f(x): return x", space)
    with pytest.raises(cloche.ClocheError, match="f has no source that could be read"):
        Source.of(space["f"])


def test_a_hostile_class_of_this_process_is_only_read():
    """Nothing of it is run to make its source."""

    class Odd:
        def __init__(self) -> None:
            raise AssertionError

        def process(self, x):
            return x

    assert "raise AssertionError" in Source.of(Odd).text
