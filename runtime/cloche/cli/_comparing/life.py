"""`Side`: one of the two places where a node is run, and `lived`, which runs it there from its loading to its end.

What happens is returned as plain values, so that two of them can be compared like any others.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from time import perf_counter  # the real one also where `NativeClock` is installed
from typing import Any, Final, Literal, Protocol

from cloche import LogRecord, Node
from cloche.errors import BrokenInstanceError, ClocheError, EncodeError, NodeError
from cloche.texts import clean, name

__all__ = ["MOST_STREAMED", "Life", "LoadedSide", "Outcome", "Side", "Way", "lived", "timed"]

MOST_STREAMED: Final = 32
"""Items that are given to a stream."""
MOST_OUTPUTS: Final = 200
"""Outputs that are taken of one stream: it may be endless."""
_MOST_ATTRIBUTES: Final = 100
_MOST_FRAMES: Final = 20
_MOST_TIMED: Final = 1000

Way = Literal["call", "spread", "stream"]
"""How items are given to a node: one in each call, several arguments in each call, or all in a stream."""


@dataclass(slots=True)
class Outcome:
    """What one step of a node came to.

    Attributes:
        kind: "value"; "error": the node raised; "refused": the value cannot be sent to a sandbox; "encode": the node's result
            cannot be sent; "broken": its sandbox or process has ended, or did not answer.
        value: the result.
        error: class and text of what was raised.
        remedy: what can be done about it.
        at: the node's own lines that were running when it raised, the innermost first, as ``file:line``.
        logs: the records that the node logged meanwhile: level, logger, message, fields, last line of the traceback.
        seconds: how long it took.
    """

    kind: str
    value: Any = None
    error: tuple[str, str] = ("", "")
    remedy: str = ""
    at: list[str] = field(default_factory=list)
    logs: list[Any] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def told(self) -> str:
        """The error on one line."""
        kind, text = self.error
        return f"{kind}: {text}" if text else kind

    def plain(self) -> Any:
        """What is compared."""
        what = {"output": self.value} if self.kind == "value" else {"error": list(self.error)}
        return {**what, "logs": self.logs}


class Side(Protocol):
    """A place where nodes are run."""

    def begin(self) -> Outcome:
        """Make the node anew, and initialize it. The value is its `Node.info`."""

    def call(self, item: Any, *, spread: bool = False) -> Outcome:
        """Call its ``process``; with the items of a tuple if `spread`."""

    def stream(self, items: Sequence[Any] | None) -> Outcome:
        """Feed it a stream. The value is the list of outputs, also of one that failed."""

    def state(self, names: Sequence[str]) -> dict[str, Outcome]:
        """Its attributes of these names."""

    def names(self) -> list[str]:
        """The names of its public attributes."""

    def finish(self) -> Outcome:
        """Flush it, and clean it up. The value is what `flush` returned."""

    def seconds(self, items: Sequence[Any], most_s: float, way: Way) -> float | None:
        """Median time of a call with one of the items; None if one failed."""


class LoadedSide:
    """A side whose node is a `cloche.Node`.

    Args:
        load: loads the node.
    """

    def __init__(self, load: Callable[[], Node]) -> None:
        self._load = load
        self._node: Node | None = None
        self._records: list[Any] = []
        self.memory_bytes = 0

    def begin(self) -> Outcome:
        """See `Side`."""
        self.close()

        def begun() -> Any:
            self._node = node = self._load()
            self._viewed.initialize()
            return node.info

        return self._done(begun)

    def call(self, item: Any, *, spread: bool = False) -> Outcome:
        """See `Side`."""
        return self._done(lambda: self._viewed.process(*(item if spread else (item,))))

    def stream(self, items: Sequence[Any] | None) -> Outcome:
        """See `Side`."""
        outputs: list[Any] = []

        def streamed() -> list[Any]:
            outputs.extend(islice(self._viewed.stream(items), MOST_OUTPUTS))
            return outputs

        outcome = self._done(streamed)
        outcome.value = outputs
        return outcome

    def state(self, names: Sequence[str]) -> dict[str, Outcome]:
        """See `Side`."""
        return {one: self._done(partial(self._viewed.get, one)) for one in names}

    def names(self) -> list[str]:
        """See `Side`. A sandboxed node does not tell."""
        return []

    def finish(self) -> Outcome:
        """See `Side`."""

        def finished() -> Any:
            result = self._viewed.flush()
            self._viewed.cleanup()
            return result

        return self._done(finished)

    def seconds(self, items: Sequence[Any], most_s: float, way: Way) -> float | None:
        """See `Side`."""
        node = self._node
        return None if node is None else timed(node, items, most_s, way)

    def close(self) -> None:
        """Drop the node."""
        node, self._node = self._node, None
        if node is not None:
            try:
                self.memory_bytes = max(self.memory_bytes, node.stats.memory_bytes)
                node.close()
            except ClocheError:
                pass  # its cleanup failed, which `finish` has said, or it was broken

    @property
    def node(self) -> Node | None:
        """The node, if it is loaded."""
        return self._node

    @property
    def _viewed(self) -> Node:
        assert self._node is not None
        return self._node.with_options(on_log=self._take)

    def _take(self, record: LogRecord) -> None:
        text = (record.exception or "").strip()
        last = text.splitlines()[-1] if text else ""
        self._records.append([record.level, record.logger, record.message, dict(record.fields), last])

    def _done(self, function: Callable[[], Any]) -> Outcome:
        self._records = []
        began = perf_counter()
        try:
            outcome = Outcome("value", function())
        except NodeError as error:
            kind = "encode" if error.failure.phase == "encode" else "error"
            outcome = Outcome(kind, None, (error.exc_type, clean(error.message, 2000)), error.remedy)
            outcome.at = [f"{name(frame.file)}:{frame.line}" for frame in reversed(error.frames)][:_MOST_FRAMES]
        except EncodeError as error:
            outcome = Outcome("refused", None, (type(error).__name__, clean(str(error), 2000)))
        except BrokenInstanceError as error:
            outcome = Outcome("broken", None, (type(error).__name__, clean(str(error.args[0]), 2000)))
        except ClocheError as error:
            outcome = Outcome("error", None, (type(error).__name__, clean(str(error.args[0]), 2000)))
        outcome.seconds = perf_counter() - began
        outcome.logs, self._records = self._records, []
        if self._node is not None:
            self.memory_bytes = max(self.memory_bytes, self._node.stats.memory_bytes)
        return outcome


def timed(node: Any, items: Sequence[Any], most_s: float, way: Way) -> float | None:
    """Median time of a call, until the time is up; None if a call failed.

    Args:
        node: has the methods ``process`` and ``stream`` of a `cloche.Node`.
        items: what it is called with, in turn.
        most_s: seconds after which no call is begun.
        way: how it is called.
    """
    made: list[Callable[[], Any]]
    if way == "stream":
        made = [lambda: list(node.stream(items))]
    else:
        made = [partial(node.process, *(item if way == "spread" else (item,))) for item in items]
    calls = cycle(made)
    taken: list[float] = []
    end = perf_counter() + most_s
    try:
        next(calls)()  # the first call may import something
        while not taken or (len(taken) < _MOST_TIMED and perf_counter() < end):
            call = next(calls)
            began = perf_counter()
            call()
            taken.append(perf_counter() - began)
    except Exception:
        return None
    return statistics.median(taken) / (len(items) if way == "stream" else 1)


@dataclass(slots=True)
class Life:
    """All that a node did on one side.

    Attributes:
        load: loading and ``initialize``.
        calls: for each item that was tried.
        stream: a stream of the items that were accepted, by a new copy of the node, and its ``flush``; None: none was.
        finish: ``flush`` and ``cleanup`` after the calls.
        state: public attributes after the calls.
    """

    load: Outcome
    calls: list[Outcome] = field(default_factory=list)
    stream: Outcome | None = None
    finish: Outcome | None = None
    state: dict[str, Outcome] = field(default_factory=dict)

    def plain(self, names: Sequence[str] | None = None) -> dict[str, Any]:
        """What is compared.

        Args:
            names: the attributes; None: all.
        """
        wanted = self.state if names is None else names
        return {
            "load": self.load.logs,
            "call": [outcome.plain() for outcome in self.calls],
            "stream": None if self.stream is None else {"output": self.stream.value, **self.stream.plain()},
            "end": None if self.finish is None else self.finish.plain(),
            "state": {
                name: self.state[name].value
                for name in wanted
                if name in self.state and self.state[name].kind == "value"
            },
        }


def lived(
    side: Side,
    items: Sequence[Any],
    *,
    spread: bool,
    alone: bool,
    until: float,
    accepted: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
) -> Life:
    """Run a node from its loading to its end.

    Args:
        side: where.
        items: what it is called with, one after the other.
        spread: whether an item is a tuple of arguments.
        alone: whether the node is a source, which takes no items.
        until: the time (`time.monotonic`) after which no further item is tried.
        accepted: indices of the items for the stream; None: those for which the node did not raise.
        names: the attributes to read; None: all.
    """
    life = Life(side.begin())
    if life.load.kind != "value":
        return life
    for item in () if alone else items:
        if time.monotonic() > until and life.calls:
            break
        life.calls.append(outcome := side.call(item, spread=spread))
        if outcome.kind == "broken":
            return life
    if not alone:
        life.state = side.state(side.names()[:_MOST_ATTRIBUTES] if names is None else names)
        life.finish = side.finish()
    if accepted is None:
        accepted = [index for index, outcome in enumerate(life.calls) if outcome.kind == "value"][:MOST_STREAMED]
    if (accepted or alone) and time.monotonic() < until:
        begun = side.begin()
        if begun.kind == "value":
            life.stream = side.stream(None if alone else [items[index] for index in accepted])
    return life
