"""Pipelines: nodes that work on a stream of items together, some in sandboxes and some natively.

>>> import cloche
>>> from cloche.pipeline import NodeSpec, Pipeline
>>> double = cloche.Source("def double(x): return 2 * x")
>>> with Pipeline([NodeSpec(double), NodeSpec(lambda x: x + 1, placement="native")]) as pipeline:
...     list(pipeline.run([1, 2, 3]))
[3, 5, 7]
"""

from cloche.pipeline._rejected import Rejected
from cloche.pipeline._run import Output
from cloche.pipeline._status import StageCounts, StageStatus
from cloche.pipeline.checkpoint import Checkpoint
from cloche.pipeline.errors import BrokenError, CircuitOpenError, PipelineError, PlacementError
from cloche.pipeline.graph import Graph
from cloche.pipeline.pipeline import Pipeline
from cloche.pipeline.placement import BatchResult, Placement, State
from cloche.pipeline.spec import (
    CircuitBreaker,
    Connection,
    DeadLetter,
    Fail,
    NodeSpec,
    OnBreak,
    OnError,
    Place,
    PlaceFactory,
    Restore,
    Retry,
    Skip,
)

__all__ = [
    "BatchResult",
    "BrokenError",
    "Checkpoint",
    "CircuitBreaker",
    "CircuitOpenError",
    "Connection",
    "DeadLetter",
    "Fail",
    "Graph",
    "NodeSpec",
    "OnBreak",
    "OnError",
    "Output",
    "Pipeline",
    "PipelineError",
    "Place",
    "PlaceFactory",
    "Placement",
    "PlacementError",
    "Rejected",
    "Restore",
    "Retry",
    "Skip",
    "StageCounts",
    "StageStatus",
    "State",
]
