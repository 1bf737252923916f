"""The arithmetic behind every figure, against values that are known or that another implementation computes."""

from __future__ import annotations

import math
import random
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche_bench import stats

NUMBERS = st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=60)


@given(numbers=NUMBERS, q=st.floats(0, 1))
def test_quantiles_are_numpys(numbers: list[float], q: float) -> None:
    """Type 7, so that anyone can recompute a P95 from the samples."""
    assert stats.quantile(sorted(numbers), q) == pytest.approx(float(np.quantile(numbers, q)), rel=1e-9)


def test_quantiles_of_known_numbers() -> None:
    ordered = [1.0, 2.0, 3.0, 4.0, 100.0]
    assert stats.quantile(ordered, 0.5) == 3.0
    assert stats.quantile(ordered, 0.95) == pytest.approx(80.8)
    assert (stats.quantile(ordered, 0), stats.quantile(ordered, 1)) == (1.0, 100.0)


@given(numbers=NUMBERS)
def test_thinned_samples_keep_the_extremes_and_the_order(numbers: list[float]) -> None:
    ordered = sorted(numbers)
    thinned = stats.thinned(ordered, 20)
    assert len(thinned) == min(20, len(ordered))
    assert (thinned[0], thinned[-1]) == (ordered[0], ordered[-1])
    assert thinned == sorted(thinned)


def test_the_interval_covers_the_true_ratio_as_often_as_it_says() -> None:
    """A hundred measurements of a ratio that is 2, in rounds that are noisy and share their noise: about 95 intervals hold it."""
    rng = random.Random(1)
    covered = 0
    for _ in range(100):
        shared = [rng.lognormvariate(0, 0.3) for _ in range(15)]
        base = [1.0 * weather * rng.lognormvariate(0, 0.05) for weather in shared]
        other = [2.0 * weather * rng.lognormvariate(0, 0.05) for weather in shared]
        picks = stats.picks(15, rng, 300)
        ratio = statistics.median(other) / statistics.median(base)
        low, high = stats.ratio_interval(
            stats.bootstrap_medians(other, picks), stats.bootstrap_medians(base, picks), ratio
        )
        covered += low <= 2.0 <= high
    assert covered >= 88


def test_rounds_that_share_their_noise_give_a_narrower_ratio() -> None:
    """That is what taking turns is for: the machine's weather cancels."""
    rng = random.Random(2)
    weather = [rng.lognormvariate(0, 0.5) for _ in range(15)]
    base, other = list(weather), [3 * each for each in weather]
    picks = stats.picks(15, rng)
    ratio = stats.ratio_interval(stats.bootstrap_medians(other, picks), stats.bootstrap_medians(base, picks), 3.0)
    assert ratio == pytest.approx((3.0, 3.0))
    alone = stats.interval(stats.bootstrap_medians(other, picks), statistics.median(other))
    assert alone[1] / alone[0] > 1.2


def test_an_interval_holds_its_estimate() -> None:
    """Also where the bootstrap, of few rounds, does not reach it."""
    assert stats.interval([1.0, 1.1], 1.5) == (pytest.approx(1.0, rel=0.01), 1.5)


def test_the_geometric_mean_and_its_interval() -> None:
    mean, low, high = stats.geomean([(2.0, 1.0, 4.0), (8.0, 4.0, 16.0)])
    assert mean == pytest.approx(4.0)
    half = math.sqrt(2 * math.log(2) ** 2) / 2
    assert (low, high) == (pytest.approx(4 * math.exp(-half)), pytest.approx(4 * math.exp(half)))


def test_more_cases_narrow_the_mean() -> None:
    one, many = stats.geomean([(2.0, 1.8, 2.2)]), stats.geomean([(2.0, 1.8, 2.2)] * 16)
    assert many[2] / many[1] < one[2] / one[1]
