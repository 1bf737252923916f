"""A node of the user's: what a call costs, and each byte in it; where the time goes; and what would save some of it.

The node runs in the sandbox only, unless the user asks for the comparison with native Python (``--native``).
"""

from __future__ import annotations

import copy
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

from cloche.grants import Grants
from cloche.source import Source
from cloche_bench import measure, nodes, timeline
from cloche_bench.case import Case
from cloche_bench.contender import Contender
from cloche_bench.measure import Lane, Settings
from cloche_bench.operations import Operation, Unsupported
from cloche_bench.sandboxes import ClocheContender
from cloche_wire import abi

if TYPE_CHECKING:
    from cloche import Limits, Node

__all__ = ["OwnNode", "Sample", "linear_fit", "payload_bytes"]

BATCH: Final = 16
PHASE_CALLS: Final = 100
_MODULE: Final = "benched_node"


@dataclass(frozen=True, slots=True)
class Sample:
    """Inputs of one size. The node is given them in turn."""

    title: str
    items: tuple[Any, ...]


def payload_bytes(value: Any) -> int:
    """About how many bytes of data a value has: those of arrays and texts, and eight for each number."""
    size = getattr(value, "nbytes", None)
    if isinstance(size, int):
        return size
    if isinstance(value, (bytes, bytearray)):
        return len(value)
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, dict):
        return sum(payload_bytes(key) + payload_bytes(item) for key, item in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return sum(map(payload_bytes, value))
    return 0 if value is None else 8


def linear_fit(points: Sequence[tuple[float, float]]) -> tuple[float, float | None]:
    """The line through some points, which are weighted by 1 / y**2, since errors grow with the figures.

    Returns:
        the line's value at 0, and its slope; neither is below 0. The slope is None if all points have the same x.
    """
    if len({x for x, _ in points}) < 2:
        return statistics.median([y for _, y in points]), None
    weights = [1 / (y * y) for _, y in points]
    total = sum(weights)
    mean_x = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    mean_y = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    spread = sum(w * (x - mean_x) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    slope = sum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weights, points, strict=True)) / spread
    if slope < 0:
        return mean_y, 0.0
    start = mean_y - slope * mean_x
    if start < 0:  # take the best line through the origin
        squares = sum(w * x * x for w, (x, _) in zip(weights, points, strict=True))
        return 0.0, sum(w * x * y for w, (x, y) in zip(weights, points, strict=True)) / squares
    return start, slope


@dataclass
class OwnNode:
    """The node, and what it is measured with.

    Attributes:
        path: a .py file or a package folder.
        entry: the class or function; None: the only one that the module defines.
        params: keyword arguments of its ``__init__``.
        grants: what it may use.
        samples: its inputs, by size. A node that is a source has one sample without items.
        limits: what it may use in the sandbox; None: the limits of the contender.
    """

    path: Path
    entry: str | None
    params: dict[str, Any]
    grants: Grants
    samples: Sequence[Sample]
    limits: Limits | None = None
    _memory: dict[str, int] = field(default_factory=dict)

    def cases(self) -> list[Case]:
        """A case for each size of input."""
        return [
            Case(
                id=f"node/{sample.title}",
                title=sample.title,
                make=lambda contender, sample=sample: Operation(self._run(self._loaded(contender), sample)),  # type: ignore[misc]
                bytes=sum(map(payload_bytes, sample.items)) // max(1, len(sample.items)),
                exact=False,
            )
            for sample in self.samples
        ]

    def try_out(self, contender: ClocheContender) -> None:
        """Run the node once on each input, so that a failure is reported before anything is measured, as ``cloche run`` reports it.

        Raises:
            ClocheError: the node does not load, or fails.
        """
        for sample in self.samples:
            node = self._loaded(contender)
            run = self._run(node, sample)
            for _ in sample.items:
                run()
            contender.release()

    def section(
        self, contender: ClocheContender, cases: Sequence[dict[str, Any]], settings: Settings
    ) -> dict[str, Any]:
        """The section ``node`` of the results: phases, memory, the cost of a call and of a byte, and advice.

        Args:
            contender: the sandbox that phases and advice are measured in.
            cases: the measured cases, in the order of `cases`.
            settings: how long to measure each piece of advice.
        """
        inputs, points, advice = [], [], []
        memory: dict[str, int] = {}
        for sample, case in zip(self.samples, cases, strict=True):
            node = self._loaded(contender)
            fresh = node.stats.memory_bytes
            run = self._run(node, sample)
            output = run()
            calls = timeline.recorded(node, run, PHASE_CALLS)
            figures = case["contenders"].get(contender.id, {})
            total = figures.get("median") or statistics.median([call.end - call.start for call in calls])
            bytes_in = sum(map(payload_bytes, sample.items))
            if not node.info["is_streaming"]:  # a stream takes all items in one operation
                bytes_in //= max(1, len(sample.items))
            bytes_out = payload_bytes(output)
            recorded = statistics.median([call.end - call.start for call in calls])
            inputs.append(
                {
                    "title": sample.title,
                    "bytes_in": bytes_in,
                    "bytes_out": bytes_out,
                    "phases": timeline.phases(calls),
                    "total": total,
                    "recorded_total": recorded,
                    "native": case["contenders"].get("native", {}).get("median"),
                }
            )
            points.append((float(bytes_in + bytes_out), total))
            memory = {
                "fresh_bytes": fresh,
                "after_bytes": max(memory.get("after_bytes", 0), node.stats.memory_bytes),
                "private_bytes": max(memory.get("private_bytes", 0), node.stats.private_bytes),
            }
            advice.append(self._advice(contender, node, sample, output, settings))
            contender.release()
        per_call, per_byte = linear_fit(points)
        return {
            "name": self._name(contender),
            "source": self.path.name,
            "contender": contender.id,
            "inputs": inputs,
            "memory": memory,
            "per_call": per_call,
            "per_byte": per_byte,
            "advice": advice[-1],
        }

    def _loaded(self, contender: Contender) -> Any:
        node = contender.load_own(self.path, self.entry, self.params, self.grants, self.limits)
        node.initialize()
        return node

    def _name(self, contender: ClocheContender) -> str:
        node = self._loaded(contender)
        contender.release()
        return str(node.info["entry"])

    def _run(self, node: Any, sample: Sample) -> Callable[[], Any]:
        """A function that calls the node with the next of the inputs."""
        info = getattr(node, "info", None) or {}
        if info.get("is_streaming") or getattr(node, "is_streaming", False):
            return lambda: list(node.stream(sample.items))
        process = node.process
        if not sample.items:
            return lambda: process()
        if len(sample.items) == 1:
            item = sample.items[0]
            return lambda: process(item)
        turn: Iterator[Any] = iter(())

        def run() -> Any:
            nonlocal turn
            for item in turn:
                return process(item)
            turn = iter(sample.items)
            return process(next(turn))

        return run

    def _advice(
        self, contender: ClocheContender, node: Node, sample: Sample, output: Any, settings: Settings
    ) -> list[dict[str, Any]]:
        """What batches, leases and buffers would save; each is measured."""
        if not sample.items or node.info["is_streaming"]:
            return []
        found = []
        try:
            found.append(self._batching(contender, node, sample, settings))
        except Exception as error:
            found.append({"what": f"batch {BATCH}", "saves": 0.0, "text": f"not measured: {error}"})
        item = sample.items[0]
        if _large_arrays(output):

            def leased() -> Any:
                with node.lease():
                    return node.process(item)

            saves = _saving(lambda: node.process(item), leased, settings)
            found.append({"what": "lease", "saves": saves, "text": _told(saves, "leased results (Node.lease)")})
        if (
            getattr(getattr(item, "dtype", None), "kind", "") in ("i", "u", "f")
            and item.nbytes >= abi.OUT_OF_LINE_BYTES
        ):
            buffer = node.buffer(item.shape, item.dtype)
            buffer[...] = item
            saves = _saving(lambda: node.process(item), lambda: node.process(buffer), settings)
            found.append(
                {
                    "what": "buffer",
                    "saves": saves,
                    "text": _told(saves, "an input buffer that is filled in place (Node.buffer)"),
                }
            )
        return found

    def _batching(self, contender: ClocheContender, node: Node, sample: Sample, settings: Settings) -> dict[str, Any]:
        items = [copy.deepcopy(sample.items[index % len(sample.items)]) for index in range(BATCH)]
        with tempfile.TemporaryDirectory() as folder:
            path = self.path.resolve()
            module = _MODULE
            if path.is_dir():
                module, granted = path.name, path
            else:
                granted = Path(folder)
                (granted / f"{_MODULE}.py").write_bytes(path.read_bytes())
            params = {"module": module, "entry": node.info["entry"], "params": self.params}
            grants = replace(self.grants, packages=(*self.grants.packages, granted))
            batch = contender.runtime.load(
                Source(nodes.text("batch"), "batch.py"), "Batch", params, grants=grants, limits=self.limits
            )
        with batch:
            batch.initialize()

            def single() -> list[Any]:
                return [node.process(item) for item in items]

            saves = _saving(single, lambda: batch.process(items), settings)
        return {
            "what": f"batch {BATCH}",
            "saves": saves,
            "text": _told(saves, f"one call with a list of {BATCH} inputs"),
        }


def _large_arrays(value: Any) -> bool:
    if getattr(value, "nbytes", 0) >= abi.OUT_OF_LINE_BYTES and hasattr(value, "dtype"):
        return True
    if isinstance(value, dict):
        return any(map(_large_arrays, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_large_arrays, value))


def _saving(before: Callable[[], Any], after: Callable[[], Any], settings: Settings) -> float:
    """The fraction of the time of `before` that `after` saves; not below 0."""
    lanes = [Lane("before", Operation(before)), Lane("after", Operation(after))]
    measure.measure(lanes, settings, Random(20))
    for lane in lanes:
        if lane.error:
            raise Unsupported(lane.error)
    medians = [statistics.median([sample for turn in lane.rounds for sample in turn]) for lane in lanes]
    return max(0.0, 1 - medians[1] / medians[0])


def _told(saves: float, what: str) -> str:
    if saves < 0.03:
        return f"{what}: saves nothing that could be measured"
    return f"{what}: saves {saves:.0%} of the time, as measured with this input"
