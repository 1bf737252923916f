"""A placement of the caller's own: five verbs are all that a pipeline needs of it, as for another machine."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest

from cloche.pipeline import (
    BatchResult,
    BrokenError,
    Checkpoint,
    NodeSpec,
    Pipeline,
    Placement,
    PlacementError,
    Retry,
    State,
)


class Elsewhere:
    """Another machine: what it is sent and what it sends are bytes."""

    made: ClassVar[list[Elsewhere]] = []

    def __init__(self, spec: NodeSpec, name: str, session_id: str | None) -> None:
        self.name = name
        self.session_id = session_id
        self.said: list[str] = []
        self.function: Callable[[Any], Any] = spec.source  # type: ignore[assignment]  # a function
        self.total = 0
        self.breaks = 1
        self.made.append(self)

    def start(self) -> BatchResult:
        self.said.append("start")
        return BatchResult([["hello"]])

    def call(self, items: Sequence[Any], *, end: bool = False) -> BatchResult:
        received = pickle.loads(pickle.dumps(list(items)))
        if 3 in received and self.breaks:
            self.breaks -= 1
            raise BrokenError("the line is dead", recovered=True)
        outcomes: list[list[Any] | Exception] = []
        for item in received:
            self.total += item
            outcomes.append([self.function(item), self.total])
        return BatchResult([*outcomes, ["bye"]] if end else outcomes)

    def snapshot(self) -> State:
        return str(self.total).encode()

    def restore(self, state: State) -> None:
        assert isinstance(state, bytes)
        self.said.append("restore")
        self.total = int(state)

    def stop(self) -> None:
        self.said.append("stop")

    def interrupt(self) -> None:
        pass


def negative(x: int) -> int:
    return -x


def spec() -> NodeSpec:
    place: Callable[[NodeSpec, str, str | None], Placement] = Elsewhere
    return NodeSpec(negative, placement=place, on_error=Retry(1, 0), id="far")


def test_a_place_of_the_callers_own_is_one_like_any_other() -> None:
    Elsewhere.made.clear()
    kept: list[bytes] = []
    with Pipeline([spec(), NodeSpec(lambda x: x, placement="native")]) as pipeline:
        options: dict[str, Any] = {"checkpoint_every": 2, "on_checkpoint": lambda point: kept.append(point.to_bytes())}
        whole = list(pipeline.run([1, 2, 3], session_id="s", **options))
        assert whole == ["hello", -1, 1, -2, 3, -3, 6, "bye"]
        rest = list(pipeline.resume(Checkpoint.from_bytes(kept[0]), [3]))
        assert rest == [-3, 6, "bye"]
        assert not pipeline._runs
    first, second = Elsewhere.made
    assert (first.name, first.session_id) == ("far", "s")
    assert first.said == ["start", "stop"]
    assert second.said == ["restore", "stop"]


def test_it_has_to_be_allowed_as_all_that_is_no_sandbox() -> None:
    with pytest.raises(PlacementError, match="'Elsewhere'"):
        Pipeline([spec()], allow_native=False)


def test_what_is_no_place_is_refused() -> None:
    with pytest.raises(ValueError, match="a function that makes a Placement"):
        NodeSpec(negative, placement="moon")  # type: ignore[arg-type]  # that is what the test is about
