"""`Pipeline`: nodes that work on a stream of items together, some in sandboxes and some natively."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, overload

from cloche._arguments import check_text, checked, checked_count
from cloche._pickles import handle
from cloche._runtime.closing import ClosedByWith
from cloche._runtime.runtime import Runtime
from cloche._runtime.tracing import RunTrace, Tracing, chosen
from cloche.errors import ClocheError, ClosedError
from cloche.isolation import Isolation
from cloche.pipeline import _places
from cloche.pipeline._channel import Barrier
from cloche.pipeline._log import PipelineLogger
from cloche.pipeline._places import RuntimeOptions
from cloche.pipeline._rejected import Rejected
from cloche.pipeline._run import Output, Run
from cloche.pipeline._status import StageStatus
from cloche.pipeline.checkpoint import Checkpoint
from cloche.pipeline.elsewhere import Elsewhere
from cloche.pipeline.graph import Graph
from cloche.pipeline.spec import Connection, NodeSpec, check_seconds

if TYPE_CHECKING:
    from cloche._recording import Record, Recording

__all__ = ["Pipeline"]


class Pipeline(ClosedByWith):
    """Nodes, and how they are connected.

    A pipeline runs each node in a thread of its own, so that they work at the same time; queues between them are bounded, and
    outputs keep the order of the items. Each run has nodes of its own, with a fresh state.

    Args:
        nodes: the nodes.
        connections: pairs of ids, or `Connection`s; None: each node with the next one. Nodes without a connection to them get the
            pipeline's items, and the outputs of those without one from them are the pipeline's.
        name: the pipeline's name in logs.
        runtime: makes the sandboxes; None: one of the pipeline's own, made when it is needed. A pipeline does not close a runtime
            that it was given.
        allow_native: whether nodes may run outside of a sandbox ("process", "native", "inline"). False: a pipeline with such a node
            is refused. It is for pipelines whose nodes were not written here, but read.
        logger: gets the nodes' log records and the pipeline's warnings, as `Runtime` describes; None: the runtime's.
        isolation: of the pipeline's own runtime, as `Runtime` describes.
        progress: likewise.
        telemetry: a `cloche.telemetry.Telemetry`, which makes spans and metrics of runs and batches, and is given to the
            pipeline's own runtime; None: that of the runtime that the pipeline was given.
        stop_s: seconds that a node may take to come back when a run ends: from its call, and from its ``cleanup``. The call of a
            sandboxed node is interrupted, and that of a "process" is ended. A "native" one that takes longer goes on in its thread,
            as Python cannot end it, and the run's end tells of it.
        record: record the calls of the nodes that run in sandboxes, unless `NodeSpec.record` says otherwise: a folder, which gets a
            file for each call that fails (its path is in the error's attribute ``recording``), a `cloche.replay.Record`, or True
            for `recordings` only. Nodes outside of sandboxes are not recorded.

    Raises:
        TypeError: something is of the wrong class.
        ValueError: the connections do not fit the nodes; the message says where.
        PlacementError: a node cannot run where it was asked to; or it is to be recorded, and cannot be there.
    """

    def __init__(
        self,
        nodes: Iterable[NodeSpec],
        connections: Iterable[Connection | tuple[str, str]] | None = None,
        *,
        name: str = "pipeline",
        runtime: Runtime | None = None,
        allow_native: bool = True,
        logger: Any = None,
        isolation: Isolation = "none",
        progress: Callable[[str], None] | None = None,
        telemetry: Tracing | None = None,
        stop_s: float = 30.0,
        record: Record | str | os.PathLike[str] | bool | None = None,
    ) -> None:
        if runtime is not None and (isolation != "none" or progress is not None or telemetry is not None):
            raise ValueError(
                "isolation, progress and telemetry are the own runtime's: give them to the runtime that you pass"
            )
        check_text("Pipeline name", name, "a name for logs")
        if runtime is not None:
            checked("runtime", runtime, Runtime, "a cloche.Runtime, or None")
        check_seconds("Pipeline stop_s", stop_s)
        self.name = name
        self._stop_s = stop_s
        self.graph = Graph.of(nodes, connections)
        self._logger = PipelineLogger(name, logger)
        self._telemetry = chosen(telemetry) if runtime is None else runtime.telemetry
        options = RuntimeOptions(self._logger, isolation, progress, telemetry)
        self._places = _places.Places(self.graph, runtime, options, allow_native=allow_native, record=record)
        self._recordings: dict[str, Recording] = {}
        self._last: tuple[StageStatus, ...] = ()
        self._runs: list[Run] = []
        self._closed = False

    @overload
    def run(
        self,
        items: Iterable[Any] | None = None,
        *,
        numbered: Literal[False] = False,
        session_id: str | None = None,
        checkpoint_every: int | None = None,
        on_checkpoint: Callable[[Checkpoint], object] | None = None,
        dead_letters: Callable[[Rejected], object] | None = None,
        on: Elsewhere | None = None,
    ) -> Iterator[Any]: ...
    @overload
    def run(
        self,
        items: Iterable[Any] | None = None,
        *,
        numbered: Literal[True],
        session_id: str | None = None,
        checkpoint_every: int | None = None,
        on_checkpoint: Callable[[Checkpoint], object] | None = None,
        dead_letters: Callable[[Rejected], object] | None = None,
        on: Elsewhere | None = None,
    ) -> Iterator[Output]: ...
    def run(
        self,
        items: Iterable[Any] | None = None,
        *,
        numbered: bool = False,
        session_id: str | None = None,
        checkpoint_every: int | None = None,
        on_checkpoint: Callable[[Checkpoint], object] | None = None,
        dead_letters: Callable[[Rejected], object] | None = None,
        on: Elsewhere | None = None,
    ) -> Iterator[Any]:
        """Run the items through the pipeline, and yield its outputs as they are made.

        Closing the iterator early ends the run: calls under way are interrupted, and every node's ``cleanup`` is called.

        Args:
            items: an iterable, which may be endless. It is iterated on a thread of its own, so that outputs do not wait for the
                next item. None: there are none, and the first nodes are sources, whose outputs take the place of items: the
                first one has the number 0.
            numbered: whether to yield an `Output` for each, with the number of the output and of its item, instead of the value.
            session_id: passed to the nodes, as for `Runtime.load`.
            checkpoint_every: save the states of all nodes each time that so many items have passed; None: never.
            on_checkpoint: gets each checkpoint, when all outputs before it have been taken.
            dead_letters: gets the items of nodes with ``on_error=DeadLetter()`` that failed, on the node's thread.
            on: where the nodes run: a `cloche.cluster.Cluster` (`LocalCluster`, `cloche.ray.Cluster`, `cloche.dask.Cluster`); None:
                here. See docs/how-to/clusters.md.

        Yields:
            the outputs of the last nodes, in the order of the items.

        Raises:
            PipelineError: a node failed, and its specification ends the pipeline. All outputs before have been yielded.
            Exception: what `items` raised; the outputs of the items before have been yielded.
            ClosedError: the pipeline was closed while it ran.
            ExceptionGroup: everything was processed, but nodes could not be stopped cleanly.
        """
        iter(() if items is None else items)  # raises here for what is no iterable
        return self._run(_Taking(None, numbered, session_id, checkpoint_every, on_checkpoint, dead_letters, on), items)

    def resume(
        self,
        checkpoint: Checkpoint,
        items: Iterable[Any] | None = None,
        *,
        numbered: bool = False,
        session_id: str | None = None,
        checkpoint_every: int | None = None,
        on_checkpoint: Callable[[Checkpoint], object] | None = None,
        dead_letters: Callable[[Rejected], object] | None = None,
        on: Elsewhere | None = None,
    ) -> Iterator[Any]:
        """Go on from a checkpoint. All else is as for `run`.

        Args:
            checkpoint: from a run of a pipeline with the same nodes, of this process or another.
            items: the items after the first `Checkpoint.items`. Outputs after the first `Checkpoint.outputs` come a second time,
                with the same numbers, if the interrupted run had given them already.
            numbered: as for `run`.
            session_id: as for `run`.
            checkpoint_every: as for `run`.
            on_checkpoint: as for `run`.
            dead_letters: as for `run`.
            on: as for `run`.

        Raises:
            ClocheError: the checkpoint is of a pipeline with other nodes. Other errors as for `run`.
        """
        checked("checkpoint", checkpoint, Checkpoint, "one that on_checkpoint got, or Checkpoint.from_bytes(...)")
        iter(() if items is None else items)  # raises here for what is no iterable
        return self._run(
            _Taking(checkpoint, numbered, session_id, checkpoint_every, on_checkpoint, dead_letters, on), items
        )

    def arun(
        self,
        items: AsyncIterable[Any] | Iterable[Any] | None = None,
        *,
        numbered: bool = False,
        session_id: str | None = None,
        checkpoint_every: int | None = None,
        on_checkpoint: Callable[[Checkpoint], object] | None = None,
        dead_letters: Callable[[Rejected], object] | None = None,
        on: Elsewhere | None = None,
    ) -> AsyncIterator[Any]:
        """As `run`, for ``async for``, under asyncio and trio. To be able to leave the loop early, use `contextlib.aclosing`.

        Args:
            items: an async iterable, which is iterated on the event loop, or a plain one, which is on a thread of its own.
            numbered: as for `run`.
            session_id: as for `run`.
            checkpoint_every: as for `run`.
            on_checkpoint: as for `run`; called on the event loop.
            dead_letters: as for `run`.
            on: as for `run`.
        """
        return self._arun(_Taking(None, numbered, session_id, checkpoint_every, on_checkpoint, dead_letters, on), items)

    def aresume(
        self,
        checkpoint: Checkpoint,
        items: AsyncIterable[Any] | Iterable[Any] | None = None,
        *,
        numbered: bool = False,
        session_id: str | None = None,
        checkpoint_every: int | None = None,
        on_checkpoint: Callable[[Checkpoint], object] | None = None,
        dead_letters: Callable[[Rejected], object] | None = None,
        on: Elsewhere | None = None,
    ) -> AsyncIterator[Any]:
        """As `resume`, for ``async for``; all else is as for `arun`."""
        checked("checkpoint", checkpoint, Checkpoint, "one that on_checkpoint got, or Checkpoint.from_bytes(...)")
        return self._arun(
            _Taking(checkpoint, numbered, session_id, checkpoint_every, on_checkpoint, dead_letters, on), items
        )

    def _run(self, taking: _Taking, items: Iterable[Any] | None) -> Iterator[Any]:
        run = self._made(taking)
        failed: BaseException | None = None
        try:
            try:
                self._start(run, taking.checkpoint, items is not None)
                run.feed(() if items is None else items, taking.begin, taking.every)
                while (got := run.take()) is not None:
                    yield from taking.outputs(got, self._places.identity)
            except BaseException as error:
                failed = error
                raise
            finally:
                self._end(run, failed)
        finally:
            self._end(run, failed)  # again: an interrupt may have prevented the first call

    async def _arun(self, taking: _Taking, items: AsyncIterable[Any] | Iterable[Any] | None) -> AsyncIterator[Any]:
        from cloche._runtime.async_calls import on_a_thread  # late: these import anyio, which is slow
        from cloche.pipeline._awaited import feedable, in_thread

        source = feedable(() if items is None else items)
        run = self._made(taking) if taking.on is None else await in_thread(self._made, taking)
        failed: BaseException | None = None
        try:
            await in_thread(self._start, run, taking.checkpoint, items is not None)
            run.feed(source, taking.begin, taking.every)
            while (got := await in_thread(run.take)) is not None:
                for output in taking.outputs(got, self._places.identity):
                    yield output
        except BaseException as error:
            failed = error
            raise
        finally:
            if isinstance(items, AsyncIterable):
                source.close()  # type: ignore[attr-defined]  # a bridge
            await on_a_thread(partial(self._end, run, failed))

    def _made(self, taking: _Taking) -> Run:
        """A run, not started. `_end` undoes it."""
        checkpoint = taking.checkpoint
        if self._closed:
            raise ClosedError("the pipeline is closed")
        if checkpoint is not None and checkpoint.pipeline != self._places.identity:
            raise ClocheError("the checkpoint is of a pipeline with other nodes: resume it with the one that made it")
        reject = taking.dead_letters or self._letter_lost
        make = partial(self._run_of, taking, reject)
        if self._telemetry is None:
            return make(None)
        trace, context = self._telemetry.follow_run(self.name, taking.session_id), copy_context()
        context.run(trace.enter)
        run = context.run(make, trace)
        self._telemetry.follow_queues(self.name, run)
        return run

    def _run_of(self, taking: _Taking, reject: Callable[[Rejected], object], trace: RunTrace | None) -> Run:
        session = taking.session_id
        if taking.on is None:
            places = self._places.made(session)
            return Run(self.graph, places, self._warn, reject, session, self._stop_s, trace)
        placed = taking.on.place(self.name, self.graph, self._places.loaded(session), self._logger, session)
        try:
            run = Run(placed.graph, placed.places, self._warn, reject, session, self._stop_s, trace)
        except BaseException:
            placed.close()
            raise
        run.at_end = placed.close
        return run

    def _start(self, run: Run, checkpoint: Checkpoint | None, has_items: bool) -> None:
        self._runs.append(run)
        if self._closed:  # since `_made`, on another thread, which may have missed this run
            run.stop()
        run.start(None if checkpoint is None else checkpoint.states, has_items=has_items)

    def _end(self, run: Run, failed: BaseException | None) -> None:
        if run in self._runs:  # the first time: the nodes are there yet
            self._last = run.status()
        try:
            try:
                run.stop()
            finally:
                self._recordings = run.recordings()
        except ExceptionGroup as error:
            if failed is None or isinstance(failed, GeneratorExit):
                raise
            failed.add_note(f"and {error}: {'; '.join(map(str, error.exceptions))}")
        finally:
            if run.trace is not None:
                run.trace.ended(failed)
            with suppress(ValueError):
                self._runs.remove(run)
            if self._closed and not self._runs:  # closed by a node of the run, which could not wait for its end
                self._places.close()

    def _warn(self, node: str, message: str, **facts: Any) -> None:
        self._logger.tell(node, f"node {node!r} {message}", facts)

    def _letter_lost(self, rejected: Rejected) -> None:
        self._warn(rejected.node, f"item {rejected.item} is a dead letter, and run() was given no dead_letters")

    @property
    def status(self) -> tuple[StageStatus, ...]:
        """How each node of the run that was begun last is doing, or how it was at its end. Any thread may ask."""
        runs = self._runs[-1:]
        return runs[0].status() if runs else self._last

    @property
    def recordings(self) -> Mapping[str, Recording]:
        """The last calls of each recorded node of the run that has ended last: id -> recording; of copies, "id.0", "id.1" ...

        They are taken when a node is stopped, before its ``cleanup``. A recording is data: `Recording.save` writes it to a file,
        `cloche.replay.replay` makes its calls again.
        """
        return MappingProxyType(self._recordings)

    def close(self) -> None:
        """End the runs under way, and close the runtime that the pipeline made. Who takes their outputs gets a `ClosedError`.

        Any thread may close a pipeline. A node of it, or a service of a node, only begins to: the run then ends when the call of
        that node has returned.

        Raises:
            ExceptionGroup: one or more nodes could not be stopped cleanly.
        """
        self._closed = True
        failures: list[Exception] = []
        runs = list(self._runs)
        for run in runs:
            try:
                run.stop()
            except ExceptionGroup as error:
                failures += error.exceptions
        if not any(run.is_current for run in runs):
            self._places.close()
        if failures:
            raise ExceptionGroup("not all nodes of the pipeline could be stopped cleanly", failures)

    def __reduce__(self) -> NoReturn:
        raise TypeError(handle("a Pipeline", "make one in the other process, from the same NodeSpecs or manifest"))

    def __repr__(self) -> str:
        return f"<cloche.Pipeline {self.name!r} of {', '.join(self.graph.nodes)}>"


class _Taking:
    """The options of one run, which `Pipeline.run` describes; and what they make of its outputs and barriers.

    Args:
        checkpoint: where the run begins; None: at the beginning.
        numbered: whether outputs are given as `Output`.
        session_id: passed to the nodes.
        every: items between two checkpoints.
        on_checkpoint: gets them.
        dead_letters: gets the rejected items.
        on: where the nodes run; None: here.

    Raises:
        ValueError: one of `every` and `on_checkpoint` is missing.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        numbered: bool,
        session_id: str | None,
        every: int | None,
        on_checkpoint: Callable[[Checkpoint], object] | None,
        dead_letters: Callable[[Rejected], object] | None,
        on: Elsewhere | None,
    ) -> None:
        if every is not None:
            checked_count("checkpoint_every", every)
        if (every is None) != (on_checkpoint is None):
            raise ValueError("checkpoint_every makes checkpoints, and on_checkpoint gets them: give both, or neither")
        self.checkpoint = checkpoint
        self.begin = 0 if checkpoint is None else checkpoint.items
        self.session_id = session_id
        self.every = every
        self.dead_letters = dead_letters
        self.on = on
        self._numbered = numbered
        self._on_checkpoint = on_checkpoint
        self._count = 0 if checkpoint is None else checkpoint.outputs

    def outputs(self, got: list[tuple[int, str, Any]] | Barrier, pipeline: str) -> Iterator[Any]:
        """The outputs for the caller, of what `Run.take` has given; at a barrier a checkpoint is made, and there is none."""
        if isinstance(got, Barrier):
            if self._on_checkpoint is not None:
                self._on_checkpoint(Checkpoint(pipeline, got.items, self._count, got.states))
            return
        for number, node, value in got:
            output = Output(self._count, None if number < 0 else number, node, value) if self._numbered else value
            self._count += 1
            yield output
