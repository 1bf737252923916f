"""Nodes in this CPython, without any sandbox: every other contender is compared with them.

The bench's own nodes run here, and a node of the user's only with ``cloche bench --native``.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import subprocess
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

from cloche_bench import nodes
from cloche_bench.contender import Contender

__all__ = ["Native", "NativeNode", "load"]

_MODULE = "cloche_bench_node"


def load(source: str, filename: str, entry: str, params: dict[str, Any], loop: asyncio.AbstractEventLoop) -> NativeNode:
    """Compile and run a source, and make its entry, as the sandbox does with the same text."""
    module = types.ModuleType(_MODULE)
    sys.modules[_MODULE] = module  # dataclasses look their module up
    exec(compile(source, filename, "exec"), module.__dict__)
    made = getattr(module, entry)
    return NativeNode(made(**params) if isinstance(made, type) else made, loop)


class Native(Contender):
    """Plain calls in this interpreter."""

    id = "native"
    label = "native"
    note = "the same source in this CPython, a plain call: no isolation, no copy, no deadline"

    def _load(self, source: str, filename: str, entry: str, params: dict[str, Any]) -> Any:
        return load(source, filename, entry, params, self.loop)

    def first_result(self, module: str, entry: str, value: Any) -> Callable[[], Any]:
        """A new interpreter process: the only isolation that CPython itself offers."""
        program = f"{nodes.text(module)}\nprint(repr({entry}().process({value!r})))"
        command = [sys.executable, "-c", program]
        return lambda: float(subprocess.run(command, capture_output=True, check=True).stdout)

    def pool(self, module: str, entry: str, workers: int) -> Callable[[list[Any]], list[Any]]:
        """The jobs one after the other: threads would only take turns, since they share the interpreter's lock."""
        process = self.load(module, entry).process
        return lambda jobs: [process(job) for job in jobs]


class NativeNode:
    """The methods of `cloche.Node` that cases use, on a plain object. `process` is the object's own method, unless its result is
    something to await or to iterate.
    """

    process: Callable[..., Any]

    def __init__(self, target: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._target = target
        self._loop = loop
        self.is_streaming = bool(getattr(target, "is_streaming", False))
        self._call = getattr(target, "aprocess", None) or getattr(target, "process", target)
        if inspect.iscoroutinefunction(self._call):
            self.process = lambda *data: loop.run_until_complete(self._call(*data))
        elif inspect.isgeneratorfunction(self._call):
            self.process = lambda *data: list(self._call(*data))
        elif inspect.isasyncgenfunction(self._call):
            self.process = lambda *data: loop.run_until_complete(_collect(self._call(*data)))
        else:
            self.process = self._call

    def initialize(self) -> None:
        """Call the node's ``initialize``, if it has one."""
        method = getattr(self._target, "initialize", None)
        result = method() if method else None
        if inspect.isawaitable(result):
            self._loop.run_until_complete(_result(result))

    async def aprocess(self, *data: Any) -> Any:
        """Call the node; await the result if it is awaitable."""
        result = self._call(*data)
        return await result if inspect.isawaitable(result) else result

    def stream(self, items: Iterable[Any]) -> Iterator[Any]:
        """Yield the node's outputs for all items."""
        if inspect.isasyncgenfunction(self._call):
            yield from self._loop.run_until_complete(_collect(self._call(_items(items))))
        elif inspect.isgeneratorfunction(self._call):
            for item in items:
                yield from self._call(item)
        else:
            for item in items:
                yield self.process(item)

    def buffer(self, shape: int | tuple[int, ...], dtype: Any) -> Any:
        """An ordinary array."""
        import numpy as np

        return np.empty(shape, dtype)

    def lease(self) -> AbstractContextManager[None]:
        """Do nothing: results are never copied here."""
        return nullcontext()

    def clone(self) -> NativeNode:
        """A deep copy: the same state, but no isolation between the two."""
        return NativeNode(copy.deepcopy(self._target), self._loop)

    def close(self) -> None:
        """Do nothing: the node is an ordinary object."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def _collect(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


async def _items(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


async def _result(awaitable: Any) -> Any:
    return await awaitable
