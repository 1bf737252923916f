"""Nodes in another native process, asked over a pipe: what isolation costs without WebAssembly."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from cloche_bench import native, nodes
from cloche_bench.contender import Contender
from cloche_bench.operations import Unsupported

__all__ = ["Pipe"]


class Pipe(Contender):
    """Calls of a native process, over a pipe."""

    id = "pipe"
    label = "subprocess"
    note = "native CPython in another process, pickle over a multiprocessing pipe: no limits, and unpickling trusts the node"

    def __init__(self) -> None:
        super().__init__()
        self._worker = _Worker()
        self._pools: list[ProcessPoolExecutor] = []

    def _load(self, source: str, filename: str, entry: str, params: dict[str, Any]) -> Any:
        return _PipeNode(self._worker, self._worker.ask("load", 0, (source, filename, entry, params)))

    def first_result(self, module: str, entry: str, value: Any) -> Callable[[], Any]:
        def run() -> Any:
            worker = _Worker()
            try:
                node = _PipeNode(worker, worker.ask("load", 0, (nodes.text(module), f"{module}.py", entry, {})))
                return node.process(value)
            finally:
                worker.close()

        return run

    def pool(self, module: str, entry: str, workers: int) -> Callable[[list[Any]], list[Any]]:
        spawn = multiprocessing.get_context("spawn")
        made = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_leave_interrupts)
        self._pools.append(made)
        job = partial(_pool_job, nodes.text(module), entry)
        return lambda jobs: list(made.map(job, jobs))

    def release(self) -> None:
        super().release()
        while self._pools:
            self._pools.pop().shutdown()

    def close(self) -> None:
        super().close()
        self._worker.close()


class _Worker:
    """A native process that keeps nodes, and this process's end of the pipe to it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, method: str, key: int, args: tuple[Any, ...]) -> Any:
        """Send one call, and wait for its result.

        Raises:
            Unsupported: the call raised an exception in the other process.
        """
        self._pipe.send((method, key, args))
        done, value = self._pipe.recv()
        if not done:
            raise Unsupported(value)
        return value

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


class _PipeNode:
    """A node in the other process."""

    def __init__(self, worker: _Worker, key: int) -> None:
        self._worker = worker
        self._key = key

    def process(self, *data: Any) -> Any:
        return self._worker.ask("process", self._key, data)

    async def aprocess(self, *data: Any) -> Any:
        return self._worker.ask("process", self._key, data)

    def initialize(self) -> Any:
        return self._worker.ask("initialize", self._key, ())

    def stream(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            yield from self._worker.ask("outputs", self._key, (item,))

    def close(self) -> None:
        self._worker.ask("close", self._key, ())

    def __getattr__(self, name: str) -> Any:
        if name in ("info", "is_streaming"):
            raise AttributeError(name)
        raise Unsupported(f"a process over a pipe has no {name}")

    def __enter__(self) -> _PipeNode:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _leave_interrupts() -> None:
    """In the other process: ignore Ctrl-C, which reaches the whole process group. The parent ends this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _serve(pipe: Connection) -> None:
    """In the other process: answer calls until the pipe is closed."""
    _leave_interrupts()
    loop = asyncio.new_event_loop()
    kept: dict[int, native.NativeNode] = {}
    while True:
        try:
            method, key, args = pipe.recv()
        except EOFError:
            return
        try:
            if method == "load":
                result: Any = len(kept) + 1
                source, filename, entry, params = args
                kept[result] = native.load(source, filename, entry, params, loop)
            elif method == "outputs":
                result = list(kept[key].stream(args))
            else:
                result = getattr(kept[key], method)(*args)
            pipe.send((True, result))
        except Exception as error:
            pipe.send((False, f"{type(error).__name__}: {error}"))


_POOL_NODES: dict[tuple[str, str], native.NativeNode] = {}


def _pool_job(source: str, entry: str, job: Any) -> Any:
    """In a worker of a process pool: run one job. The worker keeps its node for the next ones."""
    key = source, entry
    if key not in _POOL_NODES:
        _POOL_NODES[key] = native.load(source, "node.py", entry, {}, asyncio.new_event_loop())
    return _POOL_NODES[key].process(job)
