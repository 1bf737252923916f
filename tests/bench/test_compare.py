"""Verdicts: outside the noise only, and never on another machine without a word."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from cloche_bench import compare, results
from cloche_bench.case import Case
from cloche_bench.measure import Lane
from cloche_bench.operations import Operation

CASE = Case(id="python/made", title="made", make=lambda _: Operation(lambda: None))


def run(
    rng: random.Random, ratio: float, *, noise: float = 0.03, speed: float = 1.0, native: bool = True
) -> dict[str, Any]:
    """Results of one case as the bench makes them, from synthetic timings."""
    lanes = []
    weather = [rng.lognormvariate(0, 0.1) for _ in range(15)]
    for name, median in (("native", 1e-3), ("epoch", 1e-3 * ratio)) if native else (("epoch", 1e-3 * ratio),):
        rounds = [[speed * median * w * rng.lognormvariate(0, noise) for _ in range(20)] for w in weather]
        lanes.append(Lane(name, rounds=rounds))
    return {
        "machine": {"cpu": "c", "cores": 8, "kernel": "k", "load": [0, 0, 0]},
        "versions": {"python": "3.11"},
        "quick": False,
        "cases": [results.case_entry(CASE, lanes, rng)],
    }


def verdicts(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [change.verdict for change in compare.compare(old, new)]


def test_the_same_code_twice_shows_no_difference(thorough: bool) -> None:
    """Hundreds of pairs of runs of the same thing: hardly a verdict among them."""
    rng, pairs = random.Random(3), 200 if thorough else 40
    wrong = sum(verdicts(run(rng, 2.0), run(rng, 2.0)) != [compare.NO_DIFFERENCE] for _ in range(pairs))
    assert wrong <= pairs // 100


@pytest.mark.parametrize(("factor", "verdict"), [(0.7, "faster"), (1.4, "slower")])
def test_a_real_change_is_named(factor: float, verdict: str, thorough: bool) -> None:
    rng, pairs = random.Random(4), 50 if thorough else 10
    found = [verdicts(run(rng, 2.0), run(rng, 2.0 * factor)) for _ in range(pairs)]
    assert found.count([verdict]) >= pairs - pairs // 25


def test_a_slower_machine_is_no_slower_sandbox() -> None:
    """Native was slower by as much."""
    rng = random.Random(5)
    (change,) = compare.compare(run(rng, 2.0), run(rng, 2.0, speed=3.0))
    assert (change.basis, change.verdict) == ("ratio", compare.NO_DIFFERENCE)
    assert change.change == pytest.approx(1.0, abs=0.1)


def test_without_native_the_medians_are_compared() -> None:
    rng = random.Random(6)
    (change,) = compare.compare(run(rng, 2.0, native=False), run(rng, 1.0, native=False))
    assert (change.basis, change.verdict) == ("median", "faster")


def test_much_noise_hides_a_change() -> None:
    """A quarter more, in runs whose rounds differ by half: it cannot be told."""
    rng = random.Random(7)
    found = [verdicts(run(rng, 2.0, noise=1.5), run(rng, 2.5, noise=1.5)) for _ in range(20)]
    assert found.count([compare.NO_DIFFERENCE]) >= 15


def test_a_contender_that_failed_in_one_run_is_left_out() -> None:
    rng = random.Random(8)
    old, new = run(rng, 2.0), run(rng, 2.0)
    new["cases"][0]["contenders"]["epoch"] = {"error": "gone"}
    assert compare.compare(old, new) == []
    assert compare.compare(new, old) == []


def test_other_machines_versions_and_load_are_warned_of() -> None:
    rng = random.Random(9)
    old = run(rng, 2.0)
    assert compare.warnings(old, old) == []
    new = copy.deepcopy(old)
    new["machine"].update(cpu="d", load=[7.5, 1, 1])
    new["versions"]["python"] = "3.14"
    new["quick"] = True
    assert compare.warnings(old, new) == [
        "the machines differ: cpu was 'c', is 'd'",
        "native python was '3.11', is '3.14': the ratios refer to something else",
        "one of them is a quick run",
        "the machine was busy when the new run began: load 7.5",
    ]
