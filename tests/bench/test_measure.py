"""Taking turns, refusing what computes something else, going on without what fails. With operations that take no time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from cloche_bench import measure
from cloche_bench.measure import Lane, Settings
from cloche_bench.operations import Operation
from cloche_bench.suite import close_to

BRIEF = Settings(seconds=0.003, warmup_s=0.0005)


def lane(name: str, run: Callable[[], Any], **options: Any) -> Lane:
    return Lane(name, Operation(run, **options))


def test_every_contender_is_in_every_round() -> None:
    lanes = [lane("a", lambda: 1), lane("b", lambda: 1)]
    measure.measure(lanes, BRIEF, random.Random(1))
    assert len(lanes[0].rounds) == len(lanes[1].rounds) >= measure.MIN_ROUNDS
    assert all(sample > 0 for each in lanes for samples in each.rounds for sample in samples)


def test_turns_alternate() -> None:
    """No contender runs all its samples in one stretch."""
    order: list[str] = []
    lanes = [lane(name, lambda name=name: order.append(name)) for name in "ab"]
    measure.measure(lanes, BRIEF, random.Random(1))
    changes = sum(x != y for x, y in itertools.pairwise(order))
    assert changes >= measure.MIN_ROUNDS


def test_short_operations_are_timed_many_at_once() -> None:
    short = lane("a", lambda: None)
    measure.measure([short], BRIEF, random.Random(1))
    assert short.loops > 10


def test_what_runs_elsewhere_is_timed_there() -> None:
    """The seconds are those that it says."""
    far = lane("far", lambda: None, timed=lambda loops: 0.25 * loops)
    measure.measure([far], BRIEF, random.Random(1))
    assert {sample for samples in far.rounds for sample in samples} == {0.25}


def test_the_cleaning_up_follows_each_run() -> None:
    events: list[str] = []
    once = lane("a", lambda: events.append("run"), after=lambda: events.append("after"))
    measure.verify([once], lambda a, b: a == b)
    measure.measure([once], BRIEF, random.Random(1))
    assert events == ["run", "after"] * (len(events) // 2)


def test_preempted_samples_are_left_out_while_there_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other sample loses the processor, and takes a thousand times as long."""
    lost = 0
    turns = itertools.count()

    def timed(loops: int) -> float:
        nonlocal lost
        preempted = next(turns) % 2
        lost += preempted
        return (1.0 if preempted else 0.001) * loops

    monkeypatch.setattr(measure, "_preemptions", lambda: lost)
    each = lane("a", lambda: None, timed=timed)
    measure.measure([each], Settings(seconds=0.05, warmup_s=0.0005), random.Random(1))
    kept = [sample for samples in each.rounds for sample in samples]
    assert kept.count(1.0) <= 3 < kept.count(0.001)  # a burst that a busy machine cut short may have no other
    assert each.preempted > 100


def test_a_burst_without_a_clean_sample_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = itertools.count()
    monkeypatch.setattr(measure, "_preemptions", lambda: next(counts))
    each = lane("a", lambda: None)
    measure.measure([each], BRIEF, random.Random(1))
    assert all(each.rounds) and each.preempted == sum(map(len, each.rounds))


def test_a_contender_that_computes_something_else_is_refused() -> None:
    """A fast wrong answer is no result."""
    lanes = [lane("native", lambda: 1.0), lane("liar", lambda: 2.0), lane("honest", lambda: 1.0)]
    measure.verify(lanes, lambda a, b: close_to(a, b, exact=True))
    assert [each.operation is None for each in lanes] == [False, True, False]
    assert lanes[1].error == "ValueError: refused, for its result differs: [2.0, 2.0] instead of [1.0, 1.0]"


def test_the_second_result_counts_too() -> None:
    """A counter that does not count is found."""
    counts = iter([1, 2])
    lanes = [lane("native", lambda: next(counts)), lane("stuck", lambda: 1)]
    measure.verify(lanes, lambda a, b: a == b)
    assert "refused" in lanes[1].error


def test_a_contender_that_fails_does_not_stop_the_others() -> None:
    calls = iter(range(5))

    def fails_later() -> int:
        return 1 if next(calls, None) is not None else 1 // 0

    lanes = [lane("a", lambda: 1), lane("b", fails_later), lane("c", lambda: 1 // 0)]
    measure.verify(lanes, lambda a, b: a == b)
    measure.measure(lanes, BRIEF, random.Random(1))
    assert lanes[0].rounds
    assert [each.error for each in lanes[1:]] == ["ZeroDivisionError: integer division or modulo by zero"] * 2
    assert [each.rounds for each in lanes[1:]] == [[], []]


@pytest.mark.parametrize(
    ("a", "b", "exact", "same"),
    [
        (1, 1, True, True),
        (1, 1.0, True, False),
        (True, 1, True, False),
        (1.0, 1.0 + 1e-9, True, False),
        (1.0, 1.0 + 1e-9, False, True),
        (1.0, 1.1, False, False),
        ((1, 2), [1, 2], True, False),
        ([1, 2], [1, 2, 3], True, False),
        ({"a": 1.0}, {"a": 1.0 + 1e-9}, False, True),
        ({"a": 1}, {"b": 1}, True, False),
        (None, 0, True, False),
    ],
)
def test_results_are_compared_by_type_and_value(a: Any, b: Any, exact: bool, same: bool) -> None:
    assert close_to(a, b, exact=exact) is same


def test_arrays_are_compared_by_dtype_shape_and_content() -> None:
    np = pytest.importorskip("numpy")
    ones = np.ones(3, np.float32)
    assert close_to(ones, ones.copy(), exact=True)
    assert not close_to(ones, ones.astype(np.float64), exact=False)
    assert not close_to(ones, np.ones((3, 1), np.float32), exact=False)
    assert not close_to(ones, ones + 1, exact=False)
