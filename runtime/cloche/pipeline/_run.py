"""`Run`: one run of a pipeline: its stages, the channels between them, and the threads in which they work.

A thread feeds the items, each stage has a thread of its own (or works in that of the stage before it, "inline"), and the caller
takes the outputs. Every channel is bounded, so whoever is faster waits; nothing is collected.

Only the caller's thread starts and stops the nodes, one after the other, each on its stage's thread. What happens on the other
threads, and `stop` when it is called there, only signals it.
"""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from cloche._runtime.tracing import RunTrace
from cloche._times import percentile
from cloche.errors import ClocheError, ClosedError
from cloche.pipeline._ahead import AheadStage
from cloche.pipeline._channel import Barrier, Channel, End, Failed, Inbox, Joined, Packet
from cloche.pipeline._partition import Joiner, Splitter
from cloche.pipeline._rejected import Rejected
from cloche.pipeline._stage import Outlet, Stage
from cloche.pipeline._status import StageStatus, joined, total
from cloche.pipeline._worker import Worker
from cloche.pipeline.elsewhere import Ahead
from cloche.pipeline.errors import PipelineError
from cloche.pipeline.graph import Edge, Graph
from cloche.pipeline.placement import Discardable, Measured, Placement, Recorded, State
from cloche.pipeline.spec import NodeSpec

if TYPE_CHECKING:
    from cloche._recording import Recording

__all__ = ["Output", "Run"]

AnyPlacement: TypeAlias = Placement | Ahead
AnyStage: TypeAlias = Stage | AheadStage
T = TypeVar("T")

_OUT: Final = 256
"""Outputs that may wait for the caller."""
_INPUT_S: Final = 0.1
"""Seconds for which the end of a run waits for an input that is about to give an item."""
_AGAIN_S: Final = 0.05
"""Seconds after which calls that have not ended are interrupted once more: one may have begun just after the last time."""


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


class Run:
    """A run of a pipeline.

    Args:
        graph: the nodes and connections.
        places: id -> the placements of the node, one for each copy, not started.
        warn: logs a warning of a node.
        reject: takes the items that are handed to ``dead_letters``.
        session_id: the session that the items are of, for logs.
        stop_s: seconds that a node may take to come back from its call when the run ends, and from its ``cleanup``.
        trace: follows the run for the telemetry; None: there is none.
        entry_room: items that may wait for the first nodes; None: as their specifications say.

    Its threads begin with copies of the context in which it is made.
    """

    def __init__(
        self,
        graph: Graph,
        places: Mapping[str, Sequence[AnyPlacement]],
        warn: Callable[..., None],
        reject: Callable[[Rejected], object],
        session_id: str | None = None,
        stop_s: float = 30.0,
        trace: RunTrace | None = None,
        entry_room: int | None = None,
    ) -> None:
        self.stopping = threading.Event()
        self.warn = warn
        self.reject = reject
        self.session_id = session_id
        self.trace = trace
        self.at_end: Callable[[], object] | None = None
        """Called when the run has been stopped."""
        self._context = contextvars.copy_context()
        self._graph = graph
        self._exits = graph.exits
        self._stop_s = stop_s
        self._entry_room = entry_room
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._workers: list[Worker] = []
        self._working: list[tuple[Worker, Callable[[], None]]] = []
        """What each worker does while the run goes on."""
        self._stages: dict[str, list[AnyStage]] = {name: [] for name in graph.nodes}
        self._owners: dict[AnyStage, Worker] = {}
        self._begun: list[AnyStage] = []
        self._inboxes: dict[str, Inbox] = {}
        self._closed: list[Channel] = []
        self._entries: list[Channel] = []
        self._feeder: threading.Thread | None = None
        self._is_in_input = True
        self._is_prepared = False
        self._is_alone = False
        """Whether the first nodes are sources, which take no items."""
        self._out: Inbox | None = None
        self._connect(places)

    def start(self, states: Mapping[str, State] | None = None, *, has_items: bool = True) -> None:
        """Load every node, one after the other, then start them, then the work.

        Args:
            states: the states of a checkpoint, with which the nodes begin; None: they begin anew.
            has_items: whether there are items. Without them, the first nodes have to be sources.

        Raises:
            ClocheError: a node could not be started. `stop` stops those that were.
        """
        if states is None:
            self.prepare(has_items=has_items)
        else:
            self._start_workers()
        self._each(lambda stage: stage.start(states))
        if states is not None:
            self._check_sources(has_items)
        with self._lock:
            self._check_open()
            for worker, work in self._working:
                worker.do(work)

    def prepare(self, *, has_items: bool = True) -> None:
        """Load every node that can be loaded before it is started. `start` does it, unless it was done before.

        Raises:
            ClocheError: as for `start`.
        """
        if self._is_prepared:
            return
        self._is_prepared = True
        self._start_workers()
        self._each(lambda stage: stage.prepare())
        self._check_sources(has_items)

    def _start_workers(self) -> None:
        for worker in self._workers:
            worker.start()

    @property
    def has_source(self) -> bool:
        """Whether the first nodes are sources, once they are prepared or started."""
        return any(self._stages[name][0].makes_items for name in self._graph.entries)

    def _each(self, function: Callable[[AnyStage], object]) -> None:
        """Have each stage do something, on its own thread, one after the other."""
        for name, stages in self._stages.items():
            for stage in stages:
                try:
                    self._do(stage, function)
                except Exception as error:
                    if not self.stopping.is_set():
                        error.add_note(f"node {name!r} of the pipeline could not be started")
                    raise

    def _do(self, stage: AnyStage, function: Callable[[AnyStage], T]) -> T:
        with self._lock:
            self._check_open()
            if stage not in self._begun:
                self._begun.append(stage)  # before: what is half started is stopped as well
            future = self._owners[stage].do(function, stage)
        return future.result()

    def _check_sources(self, has_items: bool) -> None:
        """Check that sources, and they alone, are where no items come."""
        sources = {
            name for name, stages in self._stages.items() if self._do(stages[0], lambda stage: stage.is_source())
        }
        first = self._graph.entries
        for name in self._graph.nodes:
            if name not in sources:
                continue
            if name not in first:
                raise ClocheError(f"node {name!r} is a source, which takes no items, and connections lead to it")
            if len(self._stages[name]) > 1:
                raise ClocheError(
                    f"node {name!r} is a source: each of its copies would make all outputs; leave workers out"
                )
        taking = [name for name in first if name not in sources and not self._stages[name][0].is_over]
        self._is_alone = bool(sources) or not has_items
        if taking and sources:
            raise ClocheError(
                f"of the first nodes, {min(sources)!r} is a source and {taking[0]!r} takes items: give one a pipeline of its own"
            )
        if taking and not has_items:
            raise ClocheError(
                f"node {taking[0]!r} takes items: give them to run (on the command line: --input FILE, or - for stdin)"
            )

    def _check_open(self) -> None:
        if self.stopping.is_set():
            raise ClosedError("the pipeline was closed while it ran")

    def _connect(self, places: Mapping[str, Sequence[AnyPlacement]]) -> None:
        """Make the stages from the last to the first, because each needs those behind it."""
        exits = self._exits
        out = {name: self._channel(_OUT) for name in exits}
        if len(exits) == 1:
            self._out = out[exits[0]]
        else:
            self._out = Joined([out[name] for name in exits], _tagged(exits))
        outlets: dict[Edge, Outlet] = {}
        carried: dict[str, list[Stage]] = {name: [] for name in self._graph.nodes}
        for name, spec in reversed(self._graph.nodes.items()):
            behind: list[Outlet] = [outlets[edge] for edge in self._graph.out_of(name)] or [out[name]]
            into = self._graph.into(name)
            if len(places[name]) > 1:
                inbox = self._inbox(name, spec, into, outlets)
                joiner = self._connect_copies(name, spec, places[name], inbox, behind)
                self._carry(self._worker(f"{name}-join", _opened(carried[name], joiner.run)), carried[name])
                continue
            stage = self._stage(name, name, spec, places[name][0], behind)
            if isinstance(stage, AheadStage):
                self._connect_ahead(stage, self._inbox(name, spec, into, outlets))
                continue
            if spec.placement == "inline" and len(into) == 1 and not spec.inputs:
                carried[into[0].source] += [stage, *carried[name]]
                outlets[into[0]] = stage if not into[0].key else _Selected(stage, _by_key(into[0].key))
                continue
            inbox = self._inbox(name, spec, into, outlets)
            worker = self._worker(name, _opened([stage, *carried[name]], stage.run, inbox))
            self._carry(worker, [stage, *carried[name]])

    def _connect_copies(
        self, name: str, spec: NodeSpec, places: Sequence[AnyPlacement], inbox: Inbox, behind: Sequence[Outlet]
    ) -> Joiner:
        inner = [self._channel(spec.queue) for _ in places]
        outer = [self._channel(spec.queue) for _ in places]
        splitter = Splitter(name, inner, spec.key)
        self._closed.append(splitter.order)
        for number, place in enumerate(places):
            copy = f"{name}.{number}"
            stage = self._stage(name, copy, spec, place, [outer[number]])
            if isinstance(stage, AheadStage):
                self._connect_ahead(stage, inner[number])
            else:
                self._carry(self._worker(copy, _opened([stage], stage.run, inner[number])), [stage])
        self._worker(f"{name}-split", lambda: splitter.run(inbox))
        return Joiner(splitter, outer, behind)

    def _stage(
        self, name: str, state_name: str, spec: NodeSpec, placement: AnyPlacement, behind: Sequence[Outlet]
    ) -> AnyStage:
        stage: AnyStage
        if isinstance(placement, Ahead):
            stage = AheadStage(name, state_name, spec, placement, behind, self)
        else:
            stage = Stage(name, state_name, spec, placement, behind, self)
        self._stages[name].append(stage)
        return stage

    def _connect_ahead(self, stage: AheadStage, inbox: Inbox) -> None:
        """A thread that sends, which is the stage's own, and one that takes the answers."""
        self._carry(self._worker(stage.state_name, _opened([stage], stage.run, inbox)), [stage])
        self._worker(f"{stage.state_name}-answers", stage.deliver)

    def _carry(self, worker: Worker, stages: Sequence[AnyStage]) -> None:
        for stage in stages:
            self._owners[stage] = worker

    def _worker(self, name: str, work: Callable[[], None]) -> Worker:
        worker = Worker(name)
        self._workers.append(worker)
        self._working.append((worker, work))
        return worker

    def _inbox(self, name: str, spec: NodeSpec, into: Sequence[Edge], outlets: dict[Edge, Outlet]) -> Inbox:
        self._inboxes[name] = inbox = self._made_inbox(name, spec, into, outlets)
        return inbox

    def _made_inbox(self, name: str, spec: NodeSpec, into: Sequence[Edge], outlets: dict[Edge, Outlet]) -> Inbox:
        if not into:
            channel = self._channel(self._entry_room or spec.queue)
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

    def feed(self, items: Iterable[Any], begin: int = 0, checkpoint_every: int | None = None) -> None:
        """Start the thread that takes the items.

        Args:
            items: the items.
            begin: number of the first one.
            checkpoint_every: items between two barriers; None: there are none.
        """
        self._feeder = threading.Thread(
            target=self._context.copy().run,
            args=(self._feed, items, begin, checkpoint_every),
            name="cloche-feed",
            daemon=True,
        )
        self._feeder.start()

    def _feed(self, items: Iterable[Any], begin: int, every: int | None) -> None:
        iterator: Iterator[Any] = iter(())
        number = begin
        try:
            iterator = iter(_none_of(items) if self._is_alone else items)
            for item in iterator:
                self._is_in_input = False
                if not self.put(number, item):
                    return
                number += 1
                if every is not None and (number - begin) % every == 0:
                    self.mark(Barrier(number))
                self._is_in_input = True  # before the look: `stop` sets the one, and then looks at the other
                if self.stopping.is_set():
                    return
        except BaseException as error:
            self.mark(Failed(error))
        else:
            self.mark(End([]))
        finally:
            self._is_in_input = True
            close = getattr(iterator, "close", None)
            if close is not None and not isinstance(items, Iterator):  # made here, of the caller's iterable
                close()

    def put(self, number: int, item: Any) -> bool:
        """Give the nodes at the beginning an item. Returns False if none of them wants more."""
        if self.trace is not None:
            self.trace.fed(number)
        return self.put_packets([(number, [item])])

    def put_packets(self, packets: Sequence[Packet]) -> bool:
        """As `put`, for several items, each with the values that were made of it."""
        wanted = [channel.put(packets) for channel in self._entries]
        return any(wanted)

    def mark(self, marker: Barrier | End | Failed) -> None:
        """Give the nodes at the beginning a marker."""
        for channel in self._entries:
            channel.mark(marker)

    def take(self) -> list[tuple[int, str, Any]] | Barrier | None:
        """The next outputs, as (number of the item or -1, node, value); a barrier that all nodes have passed; None at the end.

        Raises:
            BaseException: the error that has ended the run.
        """
        got = self.take_packets()
        if isinstance(got, list):
            return self._named(got)
        return self._named([(-1, got.values)]) if isinstance(got, End) else got

    def take_packets(self) -> list[Packet] | Barrier | End | None:
        """The next outputs by the items that they were made of, those without outputs as well; or a barrier that all nodes have
        passed; or what was made at the end of the input; then None.

        Raises:
            BaseException: the error that has ended the run.
        """
        if self._out is None:
            return None
        if os.getpid() != self._process:
            raise ClocheError("this run belongs to the process that has begun it, and not to its children by fork")
        got = self._out.take(_OUT)
        if got is None:
            raise ClosedError("the pipeline was closed while it ran")
        if isinstance(got, Failed):
            raise got.error
        if isinstance(got, End):
            self._out = None
        return got

    def _named(self, packets: Sequence[Packet]) -> list[tuple[int, str, Any]]:
        """Outputs with the node that made each; those of several last nodes have it already."""
        if len(self._exits) > 1:
            return [(number, name, value) for number, values in packets for name, value in values]
        (name,) = self._exits
        return [(number, name, value) for number, values in packets for value in values]

    def status(self) -> tuple[StageStatus, ...]:
        """How each node is doing. Any thread may ask. It takes a look at each node's memory, which is no business of each item."""
        found, waiting = [], self.waiting()
        for name, all_stages in self._stages.items():
            stages = [stage for stage in all_stages if isinstance(stage, Stage)]
            if not stages:
                told = [stage.placement.status() for stage in all_stages if isinstance(stage, AheadStage)]
                found += joined(told, waiting[name])
                continue
            times = [time for stage in stages for time in stage.times.read()]
            spec = self._graph.nodes[name]
            found.append(
                StageStatus(
                    name,
                    spec.place,
                    waiting[name],
                    spec.queue,
                    total([stage.counts for stage in stages]),
                    percentile(times, 0.5),
                    percentile(times, 0.99),
                    _memory([stage.placement for stage in stages]),
                )
            )
        return tuple(found)

    def waiting(self) -> dict[str, int]:
        """Items that wait for each node. Any thread may ask."""
        inboxes = self._inboxes
        return {name: len(inboxes[name]) if name in inboxes else 0 for name in self._stages}

    @property
    def is_over(self) -> bool:
        """Whether the first nodes want no items at all, once they have started."""
        return all(stage.is_over for name in self._graph.entries for stage in self._stages[name])

    @property
    def is_ending(self) -> bool:
        """Whether a node wants no more items: then the end comes, even if no more items do."""
        return any(stage.is_over for stages in self._stages.values() for stage in stages)

    def stop(self, *, cleanup: bool = True) -> None:
        """End the run: calls under way are interrupted, every node's ``cleanup`` is called. A second time it does nothing.

        Args:
            cleanup: whether nodes are told; False: they go on somewhere else.

        On a thread of the run itself (a node or a service of it has closed the pipeline) it only begins that: whoever takes the
        outputs does the rest. In a child by fork it does nothing, as the threads are not there.

        Raises:
            ExceptionGroup: one or more nodes could not be stopped cleanly.
        """
        if os.getpid() != self._process:
            return
        self.stopping.set()
        for channel in self._closed:
            channel.close()
        if self.is_current:
            self.interrupt()
            return
        failures: list[Exception] = []
        with self._lock:
            self._wait_for_workers()
            while self._begun:
                self._stop_node(self._begun[-1], failures, cleanup=cleanup)
                self._begun.pop()  # after: what an interruption leaves is done by the next call
            while self._workers:
                self._end_worker(self._workers[-1], failures)
                self._workers.pop()
        feeder = self._feeder
        if feeder is not None and feeder.ident not in (None, threading.get_ident()):
            feeder.join(_INPUT_S if self._is_in_input else None)
        at_end, self.at_end = self.at_end, None
        if at_end is not None:
            at_end()
        if failures:
            raise ExceptionGroup("not all nodes of the pipeline could be stopped cleanly", failures)

    def recordings(self) -> dict[str, Recording]:
        """The last calls of the recorded nodes that are stopped: the name of each copy -> its recording."""
        made = {
            stage.state_name: stage.placement.recording()
            for stages in self._stages.values()
            for stage in stages
            if isinstance(stage.placement, Recorded)
        }
        return {name: recording for name, recording in made.items() if recording is not None}

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on a thread of this run."""
        return any(worker.is_current for worker in list(self._workers))

    def interrupt(self) -> None:
        """Interrupt the calls that are under way."""
        for stage in list(self._begun):
            stage.placement.interrupt()

    def _wait_for_workers(self) -> None:
        until = time.monotonic() + self._stop_s
        for worker in self._workers:
            if worker.rests(0):
                continue  # with a thousand nodes, each of them would be interrupted a thousand times
            self.interrupt()
            while not worker.rests(max(0.0, min(_AGAIN_S, until - time.monotonic()))):
                if time.monotonic() >= until:
                    break
                self.interrupt()

    def _stop_node(self, stage: AnyStage, failures: list[Exception], *, cleanup: bool) -> None:
        worker = self._owners[stage]
        is_back = worker.rests(0)
        place = stage.placement
        stop = place.discard if not cleanup and isinstance(place, Discardable) else place.stop
        stopped = worker.do(stop)  # if the thread comes back later, the cleanup is called then
        with suppress(TimeoutError):
            error = stopped.exception(self._stop_s if is_back else 0)
            if isinstance(error, ExceptionGroup):  # of several nodes, at a host
                failures.extend(error.exceptions)
            elif error is not None:
                failures.append(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    def _end_worker(self, worker: Worker, failures: list[Exception]) -> None:
        is_back = worker.rests(0)
        worker.end()
        if is_back:
            worker.join()
            return
        failures.append(
            ClocheError(
                f"node {worker.name!r} has not come back within {self._stop_s} s (Pipeline(stop_s=)). Python cannot end it: its "
                "thread goes on, and its cleanup waits for that. With placement='process' it could be ended"
            )
        )


def _opened(stages: Sequence[AnyStage], work: Callable[..., None], *arguments: Any) -> Callable[[], None]:
    """The work of a thread: open its stages, the last one first, and go on with the first one's."""

    def run() -> None:
        for stage in reversed(stages):
            stage.open()
        work(*arguments)

    return run


def _memory(places: Sequence[AnyPlacement]) -> int | None:
    """What the copies of a node have of their own, if their place can say it."""
    sizes = [place.memory_bytes() for place in places if isinstance(place, Measured)]
    return sum(sizes) if sizes else None


def _none_of(items: Iterable[Any]) -> Iterator[None]:
    """What sources get instead of items: a None for each output, without end."""
    for _ in items:
        raise ClocheError(
            "the first nodes of the pipeline are sources, which take no items: call run without items (--input)"
        )
    yield from repeat(None)


class _Selected:
    """An outlet to a stage in the same thread, through a connection with a key."""

    def __init__(self, stage: Stage, select: Callable[[list[Any]], list[Any]]) -> None:
        self._stage = stage
        self._select = select

    def put(self, packets: Sequence[Packet]) -> bool:
        return self._stage.put([(number, self._select(values)) for number, values in packets])

    def mark(self, marker: Any) -> bool:
        return self._stage.mark(End(self._select(marker.values)) if isinstance(marker, End) else marker)


def _by_key(key: str) -> Callable[[list[Any]], list[Any]]:
    """The values of a key of outputs that are dicts; other outputs, and dicts without it, have none."""
    return lambda values: [value[key] for value in values if isinstance(value, dict) and key in value]


def _tagged(names: Sequence[str]) -> Callable[[list[list[Any]], int | None], list[Any]]:
    return lambda lists, _number: [(name, value) for name, values in zip(names, lists, strict=True) for value in values]


def _zipped(
    node: str, inputs: Sequence[str], ports: Sequence[str]
) -> Callable[[list[list[Any]], int | None], list[Any]]:
    """Joins the values of the ports to tuples, in the order of `inputs`."""

    def combine(lists: list[list[Any]], number: int | None) -> list[Any]:
        by_port: dict[str, list[Any]] = {name: [] for name in inputs}
        for port, values in zip(ports, lists, strict=True):
            by_port[port] += values
        counts = {name: len(values) for name, values in by_port.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{node}.{name} has {count}" for name, count in counts.items())
            of, made_by = ("at the end of the input", "flush") if number is None else (f"of item {number}", "process")
            raise PipelineError(
                f"node {node!r} needs as many values at each of its ports, and {of} {told}: have {made_by} of the nodes before it "
                "give as many, or leave NodeSpec.inputs out, so that it gets them one by one",
                node=node,
                item=number,
            )
        return list(zip(*by_port.values(), strict=True))

    return combine
