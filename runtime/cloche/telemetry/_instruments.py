"""`Instruments`: the metrics. Counters and histograms are written as things happen; sizes and queues are read at a collection."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from functools import partial
from typing import Final, TypeVar

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from cloche import _forks
from cloche._requests import hold
from cloche._runtime.tracing import PoolLike, RunLike, RuntimeLike
from cloche.telemetry._names import NODE, PIPELINE, POOL, Labels

__all__ = ["Instruments"]

_SECONDS: Final = (
    0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0,
)  # fmt: skip
"""Buckets: a small call takes ten microseconds, loading a large package seconds."""
T = TypeVar("T")
K = TypeVar("K")


class Instruments:
    """The metrics of one `Telemetry`.

    Args:
        meter: makes them.
        nodes: labels of nodes.
        pipelines: labels of pipelines.
        private_memory: whether ``cloche.memory.private`` is made.

    Attributes:
        duration: seconds of each call.
        errors: calls that ended with an error.
        deadlines: calls that met their deadline.
        breaks: breaks of nodes.
        restores: nodes that were brought back after a break.
        starts: nodes that began.
        batch_duration: seconds of each batch of a pipeline's node.
        items: items of pipelines.
        pool_items: items of pools.
        pool_wait: seconds that each item of a pool has waited for a node.
    """

    def __init__(self, meter: Meter, nodes: Labels, pipelines: Labels, *, private_memory: bool) -> None:
        self._nodes = nodes
        self._pipelines = pipelines
        self._runtimes: weakref.WeakSet[RuntimeLike] = weakref.WeakSet()
        self._pools: weakref.WeakKeyDictionary[PoolLike, str] = weakref.WeakKeyDictionary()
        self._runs: weakref.WeakKeyDictionary[RunLike, str] = weakref.WeakKeyDictionary()
        self.after_fork()
        _forks.watch(self)
        self.duration = meter.create_histogram(
            "cloche.call.duration",
            "s",
            "Time of a call on a node: encoding, the guest, the services that it called, decoding.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.errors = meter.create_counter("cloche.call.errors", "{error}", "Calls that ended with an error.")
        self.deadlines = meter.create_counter(
            "cloche.call.deadlines",
            "{deadline}",
            "Calls that met a deadline: soft (the node unwound) or hard (it was stopped).",
        )
        self.breaks = meter.create_counter("cloche.node.breaks", "{break}", "Breaks of nodes.")
        self.restores = meter.create_counter("cloche.node.restores", "{restore}", "Nodes brought back after a break.")
        self.starts = meter.create_counter(
            "cloche.node.starts", "{start}", "Nodes that began: cold (their code was loaded) or warm (from a snapshot)."
        )
        self.batch_duration = meter.create_histogram(
            "cloche.pipeline.batch.duration",
            "s",
            "Time of a batch of a node of a pipeline.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.items = meter.create_counter("cloche.pipeline.items", "{item}", "Items that nodes of pipelines worked on.")
        self.pool_items = meter.create_counter("cloche.pool.items", "{item}", "Items of pools that have ended.")
        self.pool_wait = meter.create_histogram(
            "cloche.pool.wait.duration",
            "s",
            "Time for which an item of a pool has waited for a node.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        live = meter.create_observable_up_down_counter
        live("cloche.node.count", [self._counts], "{node}", "Living nodes.")
        live("cloche.memory.linear", [self._linear], "By", "Linear memory of living nodes.")
        if private_memory:
            live("cloche.memory.private", [self._private], "By", "Memory that living nodes have written to.")
        live("cloche.pool.size", [self._pool_sizes], "{node}", "Items that a pool can run at the same time.")
        live("cloche.pool.busy", [self._pool_busy], "{item}", "Items of a pool that run.")
        live("cloche.pool.queue.length", [self._pool_queues], "{item}", "Items of a pool that wait for a node.")
        live("cloche.pipeline.queue.length", [self._run_queues], "{item}", "Items that wait for a node of a pipeline.")

    def after_fork(self) -> None:
        """Get a lock that no thread of the parent process holds."""
        self._lock = threading.RLock()

    def add_runtime(self, runtime: RuntimeLike) -> None:
        """Collect the figures of a runtime."""
        hold(self._lock, self._runtimes.add, runtime)

    def add_pool(self, name: str, pool: PoolLike) -> str:
        """Collect the figures of a pool. Returns its label."""
        label = self._nodes.of(name)
        hold(self._lock, self._set, self._pools, pool, label)
        return label

    def add_run(self, pipeline: str, run: RunLike) -> None:
        """Collect the queues of a run of a pipeline."""
        hold(self._lock, self._set, self._runs, run, self._pipelines.of(pipeline))

    @staticmethod
    def _set(followed: MutableMapping[K, str], key: K, name: str) -> None:
        followed[key] = name

    def _read(self, items: Callable[[], Iterable[T]]) -> list[T]:
        return hold(self._lock, lambda: list(items()))

    def _summed(self, attribute: str) -> Iterator[Observation]:
        totals: Counter[str] = Counter()
        for runtime in self._read(partial(iter, self._runtimes)):
            for node in runtime.nodes:
                totals[self._nodes.of(node.name)] += 1 if not attribute else getattr(node.stats, attribute)
        for name, total in totals.items():
            yield Observation(total, {NODE: name})

    def _counts(self, _options: CallbackOptions) -> Iterable[Observation]:
        return self._summed("")

    def _linear(self, _options: CallbackOptions) -> Iterable[Observation]:
        return self._summed("memory_bytes")

    def _private(self, _options: CallbackOptions) -> Iterable[Observation]:
        return self._summed("private_bytes")

    def _of_pools(self, attribute: str) -> Iterator[Observation]:
        totals: Counter[str] = Counter()
        for pool, name in self._read(self._pools.items):
            if not pool.is_closed:
                totals[name] += getattr(pool.stats(), attribute)
        for name, total in totals.items():
            yield Observation(total, {POOL: name})

    def _pool_sizes(self, _options: CallbackOptions) -> Iterable[Observation]:
        return self._of_pools("size")

    def _pool_busy(self, _options: CallbackOptions) -> Iterable[Observation]:
        return self._of_pools("busy")

    def _pool_queues(self, _options: CallbackOptions) -> Iterable[Observation]:
        return self._of_pools("queued")

    def _run_queues(self, _options: CallbackOptions) -> Iterator[Observation]:
        totals: Counter[tuple[str, str]] = Counter()
        for run, pipeline in self._read(self._runs.items):
            for node, waiting in run.waiting().items():
                totals[pipeline, self._nodes.of(node)] += waiting
        for (pipeline, node), total in totals.items():
            yield Observation(total, {PIPELINE: pipeline, NODE: node})
