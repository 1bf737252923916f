"""Statistics of timings: quantiles, and intervals that say how far to trust them. Pure functions."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from typing import Final

__all__ = ["Interval", "bootstrap_medians", "geomean", "interval", "quantile", "ratio_interval", "thinned"]

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 500

Interval = tuple[float, float]


def quantile(ordered: Sequence[float], q: float) -> float:
    """The q-quantile of sorted numbers, linear between neighbours (type 7 of Hyndman and Fan, numpy's default)."""
    place = q * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def thinned(ordered: Sequence[float], count: int) -> list[float]:
    """At most `count` of some sorted numbers, spread evenly over their ranks, for a drawing of the distribution."""
    if len(ordered) <= count:
        return list(ordered)
    return [quantile(ordered, index / (count - 1)) for index in range(count)]


def bootstrap_medians(rounds: Sequence[float], picks: Sequence[Sequence[int]]) -> list[float]:
    """Medians of resampled rounds: a block bootstrap.

    Whole rounds are drawn, not single timings, because the timings of one round are alike (the same minute, the same caches).
    Contenders that are compared are given the same `picks`: what slowed a round for one slowed it for all.

    Args:
        rounds: the median of each round.
        picks: from `picks`: the indices of the rounds of each resampling.
    """
    return [statistics.median([rounds[index] for index in pick]) for pick in picks]


def picks(rounds: int, rng: random.Random, resamples: int = RESAMPLES) -> list[list[int]]:
    """The rounds that each resampling draws, with replacement."""
    population = range(rounds)
    return [rng.choices(population, k=rounds) for _ in range(resamples)]


def interval(values: Sequence[float], around: float) -> Interval:
    """The interval that holds the central 95 % of bootstrapped values, widened to hold the estimate itself.

    With few rounds it is too narrow: the true median lies between the extremes of six independent rounds in 97 of 100 cases, but
    between those of three rounds in 75 only.

    Args:
        values: bootstrapped estimates.
        around: the estimate.
    """
    ordered = sorted(values)
    tail = (1 - CONFIDENCE) / 2
    return min(quantile(ordered, tail), around), max(quantile(ordered, 1 - tail), around)


def ratio_interval(medians: Sequence[float], base: Sequence[float], around: float) -> Interval:
    """The interval of a ratio, from the bootstrapped medians of both sides over the same picks."""
    return interval([a / b for a, b in zip(medians, base, strict=True)], around)


def geomean(ratios: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    """The geometric mean of ratios, each with its interval: (ratio, low, high). Returns the same three for the mean.

    The errors of cases are independent, so their squares add.
    """
    count = len(ratios)
    mean = math.fsum(math.log(ratio) for ratio, _, _ in ratios) / count
    below = math.sqrt(math.fsum(math.log(ratio / low) ** 2 for ratio, low, _ in ratios)) / count
    above = math.sqrt(math.fsum(math.log(high / ratio) ** 2 for ratio, _, high in ratios)) / count
    return math.exp(mean), math.exp(mean - below), math.exp(mean + above)
