"""Where a node can run: the few methods of `cloche.Node` that cases use, so that each case is written once."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cloche_bench import nodes
from cloche_bench.operations import Call, Operation, Unsupported

if TYPE_CHECKING:
    from pathlib import Path

    from cloche.grants import Grants

__all__ = ["Contender"]


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
