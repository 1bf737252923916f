"""What the tests of clusters look at: the outputs of a run with their numbers, and what was logged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cloche.pipeline import NodeSpec, Output, Pipeline


class Log:
    """A logger that keeps messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def __getattr__(self, level: str) -> Any:
        if level.startswith("_"):
            raise AttributeError(level)
        return lambda message, **fields: self.messages.append(message)


def facts(numbered: Iterable[Output]) -> list[tuple[int, int | None, str, Any]]:
    """All that there is of each output."""
    return [(one.number, one.item, one.node, one.value) for one in numbered]


def outputs(specs: list[NodeSpec], items: Any, edges: Any = None, **options: Any) -> list[Any]:
    """The outputs of a run with those options of `Pipeline.run`."""
    with Pipeline(specs, edges) as pipeline:
        return facts(pipeline.run(items, numbered=True, **options))
