"""`Pipeline`: nodes that work on a stream of items together, some in sandboxes and some natively."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal, Self, overload

from cloche._arguments import check_text, checked, checked_count
from cloche._runtime.runtime import Runtime
from cloche._sandbox import logs as _logs
from cloche.errors import ClocheError
from cloche.pipeline import _places
from cloche.pipeline._channel import Barrier
from cloche.pipeline._run import Output, Run, StageStatus
from cloche.pipeline._stage import Rejected
from cloche.pipeline.checkpoint import Checkpoint
from cloche.pipeline.graph import Graph
from cloche.pipeline.spec import Connection, NodeSpec

__all__ = ["Pipeline"]


class Pipeline:
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

    Raises:
        TypeError: something is of the wrong class.
        ValueError: the connections do not fit the nodes; the message says where.
        PlacementError: a node cannot run where it was asked to.
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
    ) -> None:
        check_text("Pipeline name", name, "a name for logs")
        if runtime is not None:
            checked("runtime", runtime, Runtime, "a cloche.Runtime, or None")
        self.name = name
        self.graph = Graph.of(nodes, connections)
        self._logger = logger if logger is not None else _logs.DefaultLogger()
        self._places = _places.Places(self.graph, runtime, self._logger, allow_native=allow_native)
        self._runs: set[Run] = set()
        self._closed = False

    @overload
    def run(
        self,
        items: Iterable[Any],
        *,
        numbered: Literal[False] = False,
        session_id: str | None = None,
        checkpoint_every: int | None = None,
        on_checkpoint: Callable[[Checkpoint], object] | None = None,
        dead_letters: Callable[[Rejected], object] | None = None,
    ) -> Iterator[Any]: ...
    @overload
    def run(
        self,
        items: Iterable[Any],
        *,
        numbered: Literal[True],
        session_id: str | None = None,
        checkpoint_every: int | None = None,
        on_checkpoint: Callable[[Checkpoint], object] | None = None,
        dead_letters: Callable[[Rejected], object] | None = None,
    ) -> Iterator[Output]: ...
    def run(
        self,
        items: Iterable[Any],
        *,
        numbered: bool = False,
        session_id: str | None = None,
        checkpoint_every: int | None = None,
        on_checkpoint: Callable[[Checkpoint], object] | None = None,
        dead_letters: Callable[[Rejected], object] | None = None,
    ) -> Iterator[Any]:
        """Run the items through the pipeline, and yield its outputs as they are made.

        Closing the iterator early ends the run: calls under way are interrupted, and every node's ``cleanup`` is called.

        Args:
            items: an iterable, which may be endless. It is iterated on a thread of its own, so that outputs do not wait for the
                next item.
            numbered: whether to yield an `Output` for each, with the number of the output and of its item, instead of the value.
            session_id: passed to the nodes, as for `Runtime.load`.
            checkpoint_every: save the states of all nodes each time that so many items have passed; None: never.
            on_checkpoint: gets each checkpoint, when all outputs before it have been taken.
            dead_letters: gets the items of nodes with ``on_error=DeadLetter()`` that failed, on the node's thread.

        Yields:
            the outputs of the last nodes, in the order of the items.

        Raises:
            PipelineError: a node failed, and its specification ends the pipeline. All outputs before have been yielded.
            Exception: what `items` raised; the outputs of the items before have been yielded.
            ExceptionGroup: everything was processed, but nodes could not be stopped cleanly.
        """
        return self._outputs(items, None, numbered, session_id, checkpoint_every, on_checkpoint, dead_letters)

    def resume(
        self,
        checkpoint: Checkpoint,
        items: Iterable[Any],
        *,
        numbered: bool = False,
        session_id: str | None = None,
        checkpoint_every: int | None = None,
        on_checkpoint: Callable[[Checkpoint], object] | None = None,
        dead_letters: Callable[[Rejected], object] | None = None,
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

        Raises:
            ClocheError: the checkpoint is of a pipeline with other nodes. Other errors as for `run`.
        """
        checked("checkpoint", checkpoint, Checkpoint, "one that on_checkpoint got, or Checkpoint.from_bytes(...)")
        return self._outputs(items, checkpoint, numbered, session_id, checkpoint_every, on_checkpoint, dead_letters)

    def _outputs(
        self,
        items: Iterable[Any],
        checkpoint: Checkpoint | None,
        numbered: bool,
        session_id: str | None,
        every: int | None,
        on_checkpoint: Callable[[Checkpoint], object] | None,
        dead_letters: Callable[[Rejected], object] | None,
    ) -> Iterator[Any]:
        if every is not None:
            checked_count("checkpoint_every", every)
            if on_checkpoint is None:
                raise ValueError("checkpoint_every makes checkpoints for on_checkpoint: give that as well")
        elif on_checkpoint is not None:
            raise ValueError("on_checkpoint gets checkpoints: give checkpoint_every as well")
        iter(items)  # raises here for what is no iterable
        return self._run(items, checkpoint, numbered, session_id, every, on_checkpoint, dead_letters)

    def _run(
        self,
        items: Iterable[Any],
        checkpoint: Checkpoint | None,
        numbered: bool,
        session_id: str | None,
        every: int | None,
        on_checkpoint: Callable[[Checkpoint], object] | None,
        dead_letters: Callable[[Rejected], object] | None,
    ) -> Iterator[Any]:
        run = self._started(checkpoint, session_id, dead_letters)
        failed: BaseException | None = None
        try:
            count = 0 if checkpoint is None else checkpoint.outputs
            run.feed(items, 0 if checkpoint is None else checkpoint.items, every)
            while (got := run.take()) is not None:
                if isinstance(got, Barrier):
                    if on_checkpoint is not None:
                        on_checkpoint(Checkpoint(self._places.identity, got.items, count, got.states))
                    continue
                for number, node, value in got:
                    output = Output(count, None if number < 0 else number, node, value) if numbered else value
                    count += 1
                    yield output
        except BaseException as error:
            failed = error
            raise
        finally:
            self._end(run, failed)

    def _started(
        self, checkpoint: Checkpoint | None, session_id: str | None, dead_letters: Callable[[Rejected], object] | None
    ) -> Run:
        if self._closed:
            raise ClocheError("the pipeline is closed")
        if checkpoint is not None and checkpoint.pipeline != self._places.identity:
            raise ClocheError("the checkpoint is of a pipeline with other nodes: resume it with the one that made it")
        states: Mapping[str, Any] | None = None if checkpoint is None else checkpoint.states
        run = Run(self.graph, self._places.made(session_id), self._warn, dead_letters or self._letter_lost)
        self._runs.add(run)
        try:
            run.start(states)
        except BaseException:
            self._runs.discard(run)
            raise
        return run

    def _end(self, run: Run, failed: BaseException | None) -> None:
        try:
            run.stop()
        except ExceptionGroup as error:
            if failed is None:
                raise
            failed.add_note(f"and {error}: {'; '.join(map(str, error.exceptions))}")
        finally:
            self._runs.discard(run)

    def _warn(self, node: str, message: str, **facts: Any) -> None:
        told = f"node {node!r} {message}"
        self._logger.warning(told, pipeline=self.name, node=node, **facts)

    def _letter_lost(self, rejected: Rejected) -> None:
        self._warn(rejected.node, f"item {rejected.item} is a dead letter, and run() was given no dead_letters")

    @property
    def status(self) -> tuple[StageStatus, ...]:
        """How each node of the run under way is doing; empty if there is none. Any thread may ask."""
        run = next(iter(self._runs), None)
        return () if run is None else run.status()

    def close(self) -> None:
        """End the runs under way, and close the runtime that the pipeline made."""
        self._closed = True
        for run in list(self._runs):
            run.stop()
        self._places.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<cloche.Pipeline {self.name!r} of {', '.join(self.graph.nodes)}>"
