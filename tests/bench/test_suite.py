"""A run: its time is limited, what it lacks is noted, what a user measures in it fits a line."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cloche_bench import cases, own
from cloche_bench.case import Case
from cloche_bench.measure import Settings
from cloche_bench.native import Native
from cloche_bench.operations import Call, Operation
from cloche_bench.pace import SITS_OUT, Pace
from cloche_bench.suite import Suite


def suite(count: int, **options: Any) -> Suite:
    made = [Case(id=f"python/{index}", title="made", make=lambda _: Operation(lambda: 1)) for index in range(count)]
    return Suite(made, [Native()], Settings(seconds=0.004, warmup_s=0.001), **options)


def test_without_a_limit_every_case_is_measured() -> None:
    made = suite(3)
    made.run()
    assert [entry["id"] for entry in made.entries] == ["python/0", "python/1", "python/2"]
    assert made.notes == []


def test_when_the_time_is_over_the_rest_is_left_out_with_a_note() -> None:
    made = suite(3, total_s=0.0)
    made.run()
    assert made.entries == []
    assert made.notes == ["3 cases were left out, because the time was over: python/0, python/1, python/2"]


def test_when_time_runs_short_cases_get_less_of_it() -> None:
    """So that the last ones are measured at all."""
    made = suite(10, total_s=1.0)
    assert made._affordable(0.0, 10) == Settings(seconds=0.004, warmup_s=0.001)
    brief = made._affordable(0.99, 10)
    assert brief is not None
    assert brief.seconds == pytest.approx(0.01 / 10 / 1.5)
    assert made._affordable(1.01, 10) is None


def test_an_interruption_keeps_what_was_measured() -> None:
    made = suite(3)

    def stop(case: Case) -> None:
        if case.id == "python/2":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.run(stop)
    results = made.results()
    assert results["interrupted"] is True
    assert [case["id"] for case in results["cases"]] == ["python/0", "python/1"]


def test_every_case_belongs_to_a_group_and_has_one_name() -> None:
    """The report draws groups in order; ids are what --only and --compare go by."""
    everything, missing = cases.catalogue()
    assert missing == []
    groups = [group.id for group in cases.groups()]
    assert {case.group for case in everything} | {"node"} == set(groups)
    assert len({case.id for case in everything}) == len(everything)
    assert len({case.group for case in cases.select(everything, [], True)}) == len(groups) - 1
    assert sum(case.group == "pyperformance" for case in everything) >= 12


def test_without_pyperformance_and_numpy_the_rest_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what to install is said."""
    import importlib.util

    from cloche_bench import programs

    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    programs._folder.cache_clear()
    try:
        everything, missing = cases.catalogue()
    finally:
        programs._folder.cache_clear()
    assert not {"numpy", "arrays", "cold", "pyperformance"} & {case.group for case in everything}
    assert {"passthrough", "python", "library"} <= {case.group for case in everything}
    assert [note.partition(":")[2] for note in missing] == [
        " numpy is not installed here", " pip install 'cloche[bench]'",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("points", "line"),
    [
        ([(100.0, 3.0), (200.0, 5.0)], (1.0, 0.02)),
        ([(100.0, 2.0), (200.0, 4.0), (1000.0, 20.0)], (0.0, 0.02)),
        ([(100.0, 1.0), (200.0, 4.0)], (0.0, 0.012)),
        ([(100.0, 4.0), (200.0, 3.0)], (3.36, 0.0)),
        ([(100.0, 4.0)], (4.0, None)),
        ([(100.0, 4.0), (100.0, 6.0)], (5.0, None)),
    ],
    ids=["line", "proportional", "steep", "falling", "one", "one size"],
)
def test_the_cost_of_a_call_and_of_a_byte(points: list[tuple[float, float]], line: tuple[float, float | None]) -> None:
    """Never a negative one: noise can tilt a line, but no call is paid back."""
    assert own.linear_fit(points) == (pytest.approx(line[0]), line[1] and pytest.approx(line[1]))


@pytest.mark.parametrize(
    ("value", "size"),
    [(None, 0), (1, 8), ("é", 2), (b"abc", 3), ([1, "ab"], 10), ({"k": 1.0}, 9), ((True, {"a": [1]}), 17)],
)
def test_the_size_of_a_value(value: Any, size: int) -> None:
    assert own.payload_bytes(value) == size


def test_the_size_of_an_array_is_that_of_its_numbers() -> None:
    np = pytest.importorskip("numpy")
    assert own.payload_bytes({"samples": np.zeros(100, np.float32)}) == 407


class Slow(Native):
    """Takes a minute to load a node, by a clock of its own."""

    id = "slow"
    now = 0.0

    def load(self, module: str, entry: str, **params: Any) -> Any:
        Slow.now += 60
        return super().load(module, entry, **params)


@pytest.mark.thorough
def test_a_slow_contender_sits_out_cases_of_a_short_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not cost the others their cases: all of them are measured natively, and a few are measured in it too."""
    monkeypatch.setattr(Slow, "now", 0.0)
    monkeypatch.setattr(time, "monotonic", lambda: Slow.now)
    monkeypatch.setattr(time, "perf_counter", lambda began=time.perf_counter: began() + Slow.now)
    made = [Case(id=f"python/{index}", title="made", make=Call("plain", "Multiply", index)) for index in range(20)]
    contenders = [Native(), Slow()]
    run = Suite(made, contenders, Settings(seconds=0.004, warmup_s=0.001), total_s=600.0)
    run.run()
    for contender in contenders:
        contender.close()
    assert [entry["id"] for entry in run.entries] == [case.id for case in made]
    assert all(entry["contenders"]["native"]["median"] > 0 for entry in run.entries)
    slow = [entry["contenders"]["slow"] for entry in run.entries]
    assert sum("error" not in figures for figures in slow) == 8
    assert {figures.get("error", SITS_OUT) for figures in slow} == {SITS_OUT}
    assert Slow.now == 480.0


@pytest.mark.parametrize(
    ("elapsed_s", "spent_s", "out"),
    [(40.0, 39.0, set()), (41.0, 21.0, {"slow"}), (41.0, 19.0, set())],
    ids=["in time", "late, and over its share", "late, for another reason"],
)
def test_who_sits_out(elapsed_s: float, spent_s: float, out: set[str]) -> None:
    """Only in a run that is late, and only who has taken more than its share; native never, for all ratios refer to it."""
    pace = Pace(100.0, 10, ["native", "slow"])
    pace.spend("native", 90.0)
    pace.spend("slow", spent_s)
    assert pace.sitting_out(elapsed_s, 5) == out
