"""`Run`: one run of a pipeline: its stages, the channels between them, and the threads in which they work.

A thread feeds the items, each stage has a thread of its own (or works in that of the stage before it, "inline"), and the caller
takes the outputs. Every channel is bounded, so whoever is faster waits; nothing is collected.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cloche.pipeline._channel import Barrier, Channel, End, Failed, Inbox, Joined, Packet
from cloche.pipeline._partition import Joiner, Splitter
from cloche.pipeline._stage import Outlet, Rejected, Stage, StageCounts
from cloche.pipeline._times import percentile
from cloche.pipeline.graph import Edge, Graph
from cloche.pipeline.placement import Measured, Placement, State
from cloche.pipeline.spec import NodeSpec

__all__ = ["Output", "Run", "StageStatus"]

_OUT: Final = 256
"""Outputs that may wait for the caller."""


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a pipeline.

    Attributes:
        number: number of the output in the run, from 0. A run that goes on from a checkpoint gives each output the number that it
            would have had without the interruption: a sink drops those that it has seen.
        item: number of the input's item that it was made of, from 0; None: it was made at the end of the input.
        node: id of the node that made it.
        value: the output.
    """

    number: int
    item: int | None
    node: str
    value: Any = field(hash=False)


@dataclass(frozen=True, slots=True)
class StageStatus:
    """How a node of a running pipeline is doing.

    Attributes:
        node: its id.
        place: where it runs.
        waiting: items that wait for it.
        room: how many may wait (`NodeSpec.queue`).
        counts: what it has done so far, all copies together.
        p50_s: seconds that half of its last items did not exceed; None: there were none.
        p99_s: seconds that 99 of 100 of them did not exceed.
        memory_bytes: memory that is its own, all copies together; None: it is a part of this process.
    """

    node: str
    place: str
    waiting: int
    room: int
    counts: StageCounts = field(hash=False)
    p50_s: float | None = None
    p99_s: float | None = None
    memory_bytes: int | None = None


class Run:
    """A run of a pipeline.

    Args:
        graph: the nodes and connections.
        places: id -> the placements of the node, one for each copy, not started.
        warn: logs a warning of a node.
        reject: takes the items that are handed to ``dead_letters``.
        session_id: the session that the items are of, for logs.
    """

    def __init__(
        self,
        graph: Graph,
        places: Mapping[str, Sequence[Placement]],
        warn: Callable[..., None],
        reject: Callable[[Rejected], object],
        session_id: str | None = None,
    ) -> None:
        self.stopping = threading.Event()
        self.warn = warn
        self.reject = reject
        self.session_id = session_id
        self._graph = graph
        self._places = places
        self._threads: list[threading.Thread] = []
        self._stages: dict[str, list[Stage]] = {name: [] for name in graph.nodes}
        self._inboxes: dict[str, Inbox] = {}
        self._closed: list[Channel] = []
        self._entries: list[Channel] = []
        self._started: list[Placement] = []
        self._feeder: threading.Thread | None = None
        self._out: Inbox | None = None

    def start(self, states: Mapping[str, State] | None = None) -> None:
        """Start every node, then the threads.

        Args:
            states: the states of a checkpoint, with which the nodes begin; None: they begin anew.

        Raises:
            ClocheError: a node could not be started; those that were are stopped.
        """
        first: dict[str, list[list[Any]]] = {}
        try:
            for name in self._graph.nodes:
                first[name] = [
                    self._begin(place, copy, states) for copy, place in _named_copies(name, self._places[name])
                ]
        except BaseException:
            self._stop_places([])
            raise
        self._connect(first)
        for thread in self._threads:
            thread.start()

    def _begin(self, place: Placement, copy: str, states: Mapping[str, State] | None) -> list[Any]:
        self._started.append(place)  # before: what is half started is stopped as well
        if states is None:
            outcome = place.start().outcomes[0]
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        place.restore(states[copy])
        return []

    def _connect(self, first: Mapping[str, list[list[Any]]]) -> None:
        """Make the stages from the last to the first, because each needs those behind it."""
        exits = self._graph.exits
        out = {name: self._channel(_OUT) for name in exits}
        self._out = out[exits[0]] if len(exits) == 1 else Joined([out[name] for name in exits], _tagged(exits))
        if len(exits) == 1:
            self._names: Callable[[Any], tuple[str, Any]] = lambda value: (exits[0], value)
        else:
            self._names = lambda value: value
        outlets: dict[Edge, Outlet] = {}
        for name, spec in reversed(self._graph.nodes.items()):
            behind: list[Outlet] = [outlets[edge] for edge in self._graph.out_of(name)] or [out[name]]
            into = self._graph.into(name)
            stages = self._stages[name]
            copies = list(_named_copies(name, self._places[name]))
            if len(copies) == 1:
                stage = Stage(name, name, spec, copies[0][1], behind, self, first[name][0])
                stages.append(stage)
                if spec.placement == "inline" and len(into) == 1 and not spec.inputs:
                    outlets[into[0]] = stage if not into[0].key else _Selected(stage, _by_key(into[0].key))
                    continue
                self._inboxes[name] = inbox = self._inbox(name, spec, into, outlets)
                self._thread(name, stage.run, inbox)
                continue
            self._inboxes[name] = inbox = self._inbox(name, spec, into, outlets)
            inner = [self._channel(spec.queue) for _ in copies]
            outer = [self._channel(spec.queue) for _ in copies]
            splitter = Splitter(inner, spec.key)
            joiner = Joiner(splitter, outer, behind)
            self._closed.append(splitter.order)
            for number, (copy, place) in enumerate(copies):
                stage = Stage(name, copy, spec, place, [outer[number]], self, first[name][number])
                stages.append(stage)
                self._thread(copy, stage.run, inner[number])
            self._thread(f"{name}-split", splitter.run, inbox)
            self._thread(f"{name}-join", joiner.run)

    def _inbox(self, name: str, spec: NodeSpec, into: Sequence[Edge], outlets: dict[Edge, Outlet]) -> Inbox:
        if not into:
            channel = self._channel(spec.queue)
            self._entries.append(channel)
            return channel
        channels = []
        for edge in into:
            channel = self._channel(spec.queue, _by_key(edge.key) if edge.key else None)
            outlets[edge] = channel
            channels.append(channel)
        if spec.inputs:
            ports = [edge.port for edge in into]
            return Joined(channels, _zipped(name, spec.inputs, ports))
        return channels[0] if len(channels) == 1 else Joined(channels)

    def _channel(self, room: int, select: Callable[[list[Any]], list[Any]] | None = None) -> Channel:
        channel = Channel(room, select)
        self._closed.append(channel)
        return channel

    def _thread(self, name: str, target: Callable[..., None], *args: Any) -> None:
        context = contextvars.copy_context()
        self._threads.append(
            threading.Thread(target=context.run, args=(target, *args), name=f"cloche-{name}", daemon=True)
        )

    def feed(self, items: Iterable[Any], begin: int = 0, checkpoint_every: int | None = None) -> None:
        """Start the thread that takes the items.

        Args:
            items: the items.
            begin: number of the first one.
            checkpoint_every: items between two barriers; None: there are none.
        """
        context = contextvars.copy_context()
        self._feeder = threading.Thread(
            target=context.run, args=(self._feed, items, begin, checkpoint_every), name="cloche-feed", daemon=True
        )
        self._feeder.start()

    def _feed(self, items: Iterable[Any], begin: int, every: int | None) -> None:
        iterator: Iterator[Any] = iter(())
        try:
            iterator = iter(items)
            for number, item in enumerate(iterator, begin):
                if not self.put(number, item):
                    return
                if every is not None and (number + 1 - begin) % every == 0:
                    self.mark(Barrier(number + 1))
        except BaseException as error:
            self.mark(Failed(error))
        else:
            self.mark(End([]))
        finally:
            close = getattr(iterator, "close", None)
            if close is not None and not isinstance(items, Iterator):  # made here, of the caller's iterable
                close()

    def put(self, number: int, item: Any) -> bool:
        """Give the nodes at the beginning an item. Returns False if none of them wants more."""
        packet: list[Packet] = [(number, [item])]
        is_wanted = False
        for channel in self._entries:
            is_wanted = channel.put(packet) or is_wanted
        return is_wanted

    def mark(self, marker: Barrier | End | Failed) -> None:
        """Give the nodes at the beginning a marker."""
        for channel in self._entries:
            channel.mark(marker)

    def take(self) -> list[tuple[int, str, Any]] | Barrier | None:
        """The next outputs, as (number of the item or -1, node, value); a barrier that all nodes have passed; None at the end.

        Raises:
            BaseException: the error that has ended the run.
        """
        if self._out is None:
            return None
        got = self._out.take(_OUT)
        if isinstance(got, list):
            return [(number, *self._names(value)) for number, values in got for value in values]
        if isinstance(got, Failed):
            raise got.error
        if isinstance(got, End):
            self._out = None
            return [(-1, *self._names(value)) for value in got.values]
        return got

    def status(self) -> tuple[StageStatus, ...]:
        """How each node is doing. Any thread may ask. It takes a look at each node's memory, which is no business of each item."""
        found = []
        for name, stages in self._stages.items():
            total = StageCounts()
            for stage in stages:
                for key, count in vars(stage.counts).items():
                    setattr(total, key, getattr(total, key) + count)
            inbox = self._inboxes.get(name)
            waiting = 0 if inbox is None else len(inbox)
            times = [time for stage in stages for time in stage.times.read()]
            spec = self._graph.nodes[name]
            found.append(
                StageStatus(
                    name,
                    spec.placement,
                    waiting,
                    spec.queue,
                    total,
                    percentile(times, 0.5),
                    percentile(times, 0.99),
                    _memory(self._places[name]),
                )
            )
        return tuple(found)

    def stop(self) -> None:
        """End the run: calls under way are interrupted, every node's ``cleanup`` is called. A second time it does nothing.

        Raises:
            ExceptionGroup: one or more nodes could not be stopped cleanly.
        """
        self.stopping.set()
        for channel in self._closed:
            channel.close()
        for place in self._started:
            place.interrupt()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        failures: list[Exception] = []
        self._stop_places(failures)
        if failures:
            raise ExceptionGroup("not all nodes of the pipeline could be stopped cleanly", failures)

    def _stop_places(self, failures: list[Exception]) -> None:
        while self._started:
            try:
                self._started.pop().stop()
            except Exception as error:
                failures.append(error)


def _memory(places: Sequence[Placement]) -> int | None:
    """What the copies of a node have of their own, if their place can say it."""
    sizes = [place.memory_bytes() for place in places if isinstance(place, Measured)]
    return sum(sizes) if sizes else None


class _Selected:
    """An outlet to a stage in the same thread, through a connection with a key."""

    def __init__(self, stage: Stage, select: Callable[[list[Any]], list[Any]]) -> None:
        self._stage = stage
        self._select = select

    def put(self, packets: Sequence[Packet]) -> bool:
        return self._stage.put([(number, self._select(values)) for number, values in packets])

    def mark(self, marker: Any) -> bool:
        return self._stage.mark(End(self._select(marker.values)) if isinstance(marker, End) else marker)


def _named_copies(name: str, places: Sequence[Placement]) -> Iterator[tuple[str, Placement]]:
    for number, place in enumerate(places):
        yield (name if len(places) == 1 else f"{name}.{number}"), place


def _by_key(key: str) -> Callable[[list[Any]], list[Any]]:
    """The values of a key of outputs that are dicts; other outputs, and dicts without it, have none."""
    return lambda values: [value[key] for value in values if isinstance(value, dict) and key in value]


def _tagged(names: Sequence[str]) -> Callable[[list[list[Any]]], list[Any]]:
    return lambda lists: [(name, value) for name, values in zip(names, lists, strict=True) for value in values]


def _zipped(node: str, inputs: Sequence[str], ports: Sequence[str]) -> Callable[[list[list[Any]]], list[Any]]:
    """Joins the values of the ports to tuples, in the order of `inputs`."""

    def combine(lists: list[list[Any]]) -> list[Any]:
        by_port: dict[str, list[Any]] = {name: [] for name in inputs}
        for port, values in zip(ports, lists, strict=True):
            by_port[port] += values
        counts = {name: len(values) for name, values in by_port.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} has {count}" for name, count in counts.items())
            raise ValueError(
                f"node {node!r} needs one value at each of its ports for each call, and of one item {told}"
            )
        return list(zip(*by_port.values(), strict=True))

    return combine
