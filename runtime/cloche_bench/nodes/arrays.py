"""Nodes that take and return numpy arrays."""

import numpy as np


class Same:
    """Returns the array that it gets."""

    def process(self, data):
        return data


class Total:
    """Needs numpy, so that a cold start includes it."""

    def process(self, count):
        return float(np.sum(np.arange(count, dtype=np.float64)))


class Holder:
    """Holds two megabytes of state, for clones."""

    def __init__(self, size=1 << 21):
        self.block = np.ones(size, np.uint8)
        self.calls = 0

    def process(self, data):
        self.calls += 1
        return int(self.block[0]) + data


def job(n):
    """Adds some thousand numbers: a job for a pool."""
    total = 0
    for i in range(n):
        total += i * i % 7
    return total
