"""Nodes that get and give numpy arrays."""

import numpy as np


class Same:
    """The array itself, on its way back."""

    def process(self, data):
        return data


class Total:
    """A new sandbox has to have numpy ready for it."""

    def process(self, count):
        return float(np.sum(np.arange(count, dtype=np.float64)))


class Holder:
    """Has two megabytes of state."""

    def __init__(self, size=1 << 21):
        self.block = np.ones(size, np.uint8)
        self.calls = 0

    def process(self, data):
        self.calls += 1
        return int(self.block[0]) + data


def job(n):
    """Some ten thousand additions: a job for a pool."""
    total = 0
    for i in range(n):
        total += i * i % 7
    return total
