"""`Places`: makes the placements of a pipeline's nodes. What was asked to be sandboxed is, or the pipeline is refused."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cloche._runtime.runtime import Runtime
from cloche._runtime.tracing import Tracing
from cloche._sandbox import Snapshot
from cloche.isolation import Isolation
from cloche.limits import Limits
from cloche.pipeline._placements.native import Native, found_target
from cloche.pipeline._placements.process import Separate
from cloche.pipeline._placements.sandboxed import Sandboxed
from cloche.pipeline.elsewhere import Loaded
from cloche.pipeline.errors import PlacementError
from cloche.pipeline.graph import Graph
from cloche.pipeline.placement import Placement
from cloche.pipeline.spec import NodeSpec
from cloche.source import Source

if TYPE_CHECKING:
    from cloche._recording import Record

__all__ = ["Places", "RuntimeOptions"]


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """Options of the runtime that a pipeline makes, as `Runtime` describes them."""

    logger: Any
    isolation: Isolation = "none"
    progress: Callable[[str], None] | None = None
    telemetry: Tracing | None = None


class Places:
    """Makes placements for each run of a pipeline.

    Args:
        graph: the nodes.
        runtime: makes the sandboxes; None: one is made when it is needed.
        options: of that runtime.
        allow_native: whether nodes may run outside of a sandbox.
        record: how sandboxed nodes are recorded that do not say it themselves, as for `Runtime.load`.
        prepared: snapshots of sandboxed nodes that were loaded in another process, by `loaded`; they take the place of the code.
        labels: the names of nodes in logs, if they are not their ids.

    Raises:
        PlacementError: a node cannot run where it was asked to.
    """

    def __init__(
        self,
        graph: Graph,
        runtime: Runtime | None,
        options: RuntimeOptions,
        *,
        allow_native: bool,
        record: Any = None,
        prepared: Mapping[str, Snapshot] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self._graph = graph
        self._labels = labels or {}
        self._runtime = runtime
        self._own: Runtime | None = None
        self._options = options
        for name, spec in graph.nodes.items():
            if spec.placement != "wasm" and not allow_native:
                raise PlacementError(
                    f"node {name!r} asks for the placement {spec.place!r}, which runs its code with all your rights: "
                    "give allow_native=True if you trust it, or placement='wasm'",
                    node=name,
                )
        self._sources = {name: _code(name, spec) for name, spec in graph.nodes.items()} | dict(prepared or {})
        self._records = _records(graph, record)

    @property
    def identity(self) -> str:
        """A digest of what a checkpoint depends on: the nodes' ids, code, parameters, copies and places, and the connections."""
        described = [
            [
                name,
                _described(self._sources[name]),
                spec.entry,
                repr(sorted(spec.params.items())),
                spec.workers,
                spec.place,
            ]
            for name, spec in self._graph.nodes.items()
        ]
        edges = [[edge.source, edge.key, edge.target, edge.port] for edge in self._graph.edges]
        return hashlib.sha256(json.dumps([described, edges]).encode()).hexdigest()

    def loaded(self, session_id: str | None) -> Loaded:
        """Load each sandboxed node for a run in other processes, check what it needs, and take its state.

        Raises:
            PlacementError: a node is to be recorded, which other processes cannot do; or it needs what a sandbox has not.
            ClocheError: a node could not be loaded.
        """
        if self._records:
            raise PlacementError(
                f"node {next(iter(self._records))!r} is to be recorded, which a cluster cannot do: leave record out"
            )
        found = {}
        for name, spec in self._graph.nodes.items():
            if spec.placement == "wasm":
                place = Sandboxed(self._sandboxes, spec, self._sources[name], name, session_id)
                try:
                    place.prepare()
                    found[name] = place.loaded()
                except Exception as error:
                    error.add_note(f"node {name!r} of the pipeline could not be started")
                    raise
                finally:
                    place.discard()
        given = self._runtime
        if given is None:
            return Loaded(found, Limits(), self._options.isolation, None)
        return Loaded(found, given.limits, given.isolation, given.metering)

    def made(self, session_id: str | None) -> Mapping[str, Sequence[Placement]]:
        """The placements of a new run, not started: id -> one for each copy."""
        return {
            name: [self._made(name, spec, copy, session_id) for copy in range(spec.workers)]
            for name, spec in self._graph.nodes.items()
        }

    def _made(self, name: str, spec: NodeSpec, copy: int, session_id: str | None) -> Placement:
        source = self._sources[name]
        label = self._labels.get(name, name) if spec.workers == 1 else f"{name}.{copy}"
        if not isinstance(spec.placement, str):
            return spec.placement(spec, label, session_id)
        if spec.placement == "wasm":
            return Sandboxed(self._sandboxes, spec, source, label, session_id, self._records.get(name))
        if spec.placement == "process":
            return Separate(spec, source, label, session_id)
        return Native(spec, found_target(spec, source), label, session_id)

    @property
    def _sandboxes(self) -> Runtime:
        if self._runtime is not None:
            return self._runtime
        if self._own is None:
            given = self._options
            self._own = Runtime(
                logger=given.logger,
                isolation=given.isolation,
                progress=given.progress,
                telemetry=given.telemetry,
            )
        return self._own

    def close(self) -> None:
        """Close the runtime that was made here."""
        own, self._own = self._own, None
        if own is not None:
            own.close()


def _records(graph: Graph, record: Any) -> dict[str, Record]:
    """How each of the recorded nodes is recorded, with an object for each: a node that fails takes no file from another."""
    found: dict[str, Record] = {}
    if not record and not any(spec.record for spec in graph.nodes.values()):
        return found
    from cloche._recording import record_of  # few programs record

    common = record_of(record)
    for name, spec in graph.nodes.items():
        settings = common if spec.record is None else record_of(spec.record)
        if settings is not None and spec.placement == "wasm":
            found[name] = replace(settings)
    if common is not None and not found:
        raise PlacementError(
            "record is given, and no node of the pipeline runs in a sandbox: only those are recorded. "
            "Give placement='wasm' to one, or leave record out"
        )
    return found


def _code(name: str, spec: NodeSpec) -> Any:
    """The code of a node as its place takes it: a class or function by its source text for a sandbox."""
    source = spec.source
    if isinstance(source, (str, os.PathLike, Source)):
        return source
    if not callable(source):
        raise TypeError(
            f"the source of node {name!r} is of type {type(source).__name__}: give a path, a cloche.Source, a class or a function"
        )
    if spec.placement != "wasm":
        return source
    return Source.of(source)


def _described(source: Any) -> str:
    if isinstance(source, Source):
        return hashlib.sha256(source.text.encode("utf-8", "surrogatepass")).hexdigest()
    if callable(source):
        return f"{getattr(source, '__module__', '')}.{getattr(source, '__qualname__', '')}"
    return str(source)
