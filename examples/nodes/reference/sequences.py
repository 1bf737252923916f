"""Nodes that keep state between calls, or yield more than one output."""

from collections import deque

from .base import Node


class Counter:
    """Counts its calls."""

    def __init__(self, start=0):
        self.count = start

    def process(self, data):
        self.count += 1
        return {"input": data, "count": self.count, "is_even": self.count % 2 == 0}


class Filter(Node):
    """Whether a number lies between two bounds, both inclusive. Anything but a number passes."""

    def __init__(self, min_value=0, max_value=100, **config):
        super().__init__(**config)
        self.min_value = min_value
        self.max_value = max_value

    def process(self, data):
        passed = not isinstance(data, (int, float)) or self.min_value <= data <= self.max_value
        return {"value": data, "passed": passed}


class Accumulator:
    """Sum and average of the latest values.

    Args:
        window: number of values that are kept.
    """

    def __init__(self, window=10):
        self.values = deque(maxlen=window)

    async def aprocess(self, data):
        self.values.append(data)
        total = sum(self.values)
        return {"current": data, "sum": total, "average": total / len(self.values), "count": len(self.values)}

    def process(self, data):
        raise RuntimeError("use aprocess")


class Streaming(Node):
    """Yields several outputs for each input.

    Args:
        count: number of outputs.
    """

    def __init__(self, count=5, **config):
        super().__init__(**config)
        self.count = count

    async def process(self, data):
        for index in range(self.count):
            yield {"index": index, "input": data, "value": data * index}
