"""The interface of a place where nodes run. Its nodes have those methods of `cloche.Node` that cases use."""

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
    from cloche.limits import Limits

__all__ = ["Contender"]


class Contender(ABC):
    """One way to run a node.

    Attributes:
        id: its name in options and in the file of results.
        label: its name in tables.
        note: what it is, in a sentence for the reader of a report.
    """

    id: str
    label: str
    note: str

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """An event loop for cases that await something."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop

    def load(self, module: str, entry: str, **params: Any) -> Any:
        """A node from one of the modules in `nodes`. `release` closes it."""
        node = self._load(nodes.text(module), f"{module}.py", entry, params)
        self._nodes.append(node)
        return node

    def load_once(self, module: str, entry: str, **params: Any) -> Any:
        """As `load`, but the caller closes the node."""
        return self._load(nodes.text(module), f"{module}.py", entry, params)

    def call(self, call: Call) -> Operation:
        """The operation of calling one node with one value.

        Raises:
            Unsupported: the contender cannot run this node.
        """
        process = self.load(call.module, call.entry, **dict(call.params)).process
        value = call.value
        return Operation(lambda: process(value))

    def load_own(
        self, path: Path, entry: str | None, params: dict[str, Any], grants: Grants, limits: Limits | None
    ) -> Any:
        """A node of the user's. `release` closes it.

        Raises:
            Unsupported: the contender cannot run this node.
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
        """The cold start: a function that makes a new sandbox with a node, takes one result from it, and closes it."""

    @abstractmethod
    def pool(self, module: str, entry: str, workers: int) -> Callable[[list[Any]], list[Any]]:
        """A function that runs a list of jobs on `workers` copies of a node, and returns the results in order."""

    def release(self) -> None:
        """Close the nodes of a case that is over."""
        while self._nodes:
            self._nodes.pop().close()

    def close(self) -> None:
        """Close all nodes, and free what the contender itself holds."""
        self.release()
        if self._loop is not None:
            self._loop.close()
