"""A guest in this process, spoken to in messages: no codec, no WebAssembly."""

from __future__ import annotations

import copy
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cloche.testing._local import write_tree
from cloche.testing._surroundings import Surroundings
from cloche_guest.dispatch import Guest
from cloche_wire import Op, Reply

LIMITS = {"reply_bytes": 1 << 20, "output_bytes": 1 << 20, "value_depth": 64, "value_nodes": 1000, "log_bytes": 4096,
          "stack_depth": 1000}  # fmt: skip


class Bench:
    """One guest, the host that it sees, and every record that it emitted."""

    def __init__(self) -> None:
        self.records: list[list[Any]] = []
        self.held: dict[int, list[Any] | None] = {}
        self.output = 0
        self.configured: tuple[int, ...] = ()
        self.asked: list[list[Any]] = []
        self.answers: list[list[Any] | None] = []
        self.folder = tempfile.TemporaryDirectory()
        self.guest = Guest(self)
        self.surroundings = Surroundings(self.guest, frozenset({"node"}))

    def emit(self, record: list[Any]) -> None:
        """As `_cloche.emit`."""
        self.records.append(record)

    def hold(self, stream: int, record: list[Any] | None) -> bool:
        """As `_cloche.hold`: up to 4096 characters."""
        if record is not None and len(record[2]) > 4096:
            return False
        self.held[stream] = record
        return True

    def begin_item(self, number: int) -> None:
        """As `_cloche.begin_item`."""

    def written(self, output: Any) -> Any:
        """As `_cloche.written`."""
        return copy.deepcopy(output)

    def count_output(self, size: int) -> None:
        """As `_cloche.count_output`."""
        self.output += size

    def configure(self, *limits: int) -> None:
        """As `_cloche.configure`."""
        self.configured = limits

    def call(self, request: list[Any]) -> list[Any] | None:
        """As `_cloche.call`, with the next of `answers`."""
        self.asked.append(request)
        return self.answers.pop(0) if self.answers else None

    def tree(self, place: str, block: bytes) -> str:
        """As `_cloche.tree`, with real files."""
        return write_tree(Path(self.folder.name) / place, block)

    def send(self, op: Op, *operands: Any) -> tuple[Reply, Any]:
        """One message; the reply."""
        with self.surroundings.lent():
            kind, value = self.guest.handle([int(op), 1, *operands])
        assert type(kind) is int, "the C codec encodes exact types"
        return Reply(kind), value

    def load(
        self, source: str, entry: str | None = None, params: dict[str, Any] | None = None, **fields: Any
    ) -> tuple[Reply, Any]:
        """LOAD of one module of that source, or of what `fields` say."""
        message = {
            "name": "n", "modules": {"node": ["node.py", textwrap.dedent(source)]}, "main": "node", "entry": entry,
            "params": params or {}, "session_id": None, "log_level": 20, "seed": b"", "limits": LIMITS, "packages": {}, **fields,
        }  # fmt: skip
        return self.send(Op.LOAD, message)

    def process(self, *data: Any) -> Any:
        """The result of one PROCESS, which must succeed."""
        kind, value = self.send(Op.PROCESS, *data)
        assert kind is Reply.RESULT, value
        return value

    def failure(self, *data: Any) -> dict[str, Any]:
        """The failure of one PROCESS, which must fail."""
        kind, value = self.send(Op.PROCESS, *data)
        assert kind is Reply.FAILURE, value
        return value

    def stream(self, *items: Any) -> list[Any]:
        """All outputs of a stream over these items, fed as the guest asks for them. A failure is the last one, as a tuple."""
        source, outputs = iter(items), []
        kind, value = self.send(Op.STREAM_OPEN)
        while kind is not Reply.END:
            if kind is Reply.FAILURE:
                return [*outputs, (value["type"], value["message"])]
            if kind in (Reply.YIELD, Reply.YIELD_NEED):
                outputs.append(value)
            if kind is Reply.YIELD:
                kind, value = self.send(Op.STREAM_NEXT)
                continue
            item = next(source, self)
            kind, value = self.send(Op.STREAM_END) if item is self else self.send(Op.STREAM_FEED, item)
        return outputs

    def close(self) -> None:
        """Close its stream and its loop."""
        with self.surroundings.lent():
            self.guest.close()
        self.folder.cleanup()

    def messages(self) -> list[tuple[str, str]]:
        """Logger and message of each record so far; forgets them."""
        found = [(record[1], record[2]) for record in self.records]
        self.records.clear()
        return found


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A guest without a node."""
    made = Bench()
    yield made
    made.close()


@pytest.fixture
def load() -> Iterator[Callable[..., Bench]]:
    """A guest with a node of that source, loaded without failure."""
    with ExitStack() as stack:

        def make(source: str, entry: str | None = None, params: dict[str, Any] | None = None, **fields: Any) -> Bench:
            made = Bench()
            stack.callback(made.close)
            kind, value = made.load(source, entry, params, **fields)
            assert kind is Reply.RESULT, value
            return made

        yield make
