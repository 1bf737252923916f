"""Nodes that yield, and nodes that await."""

import asyncio


class Emit:
    """Yields several outputs for one input."""

    def __init__(self, count=5):
        self.count = count

    def process(self, data):
        for index in range(self.count):
            yield {"index": index, "value": data * index}


class Increment:
    """Returns one output for one input."""

    def process(self, data):
        return data + 1


class YieldIncrement:
    """As `Increment`, but yields the output."""

    def process(self, data):
        yield data + 1


class StreamIncrement:
    """As `Increment`, as an async generator over the whole input."""

    is_streaming = True

    async def process(self, items):
        async for item in items:
            yield item + 1


class Await:
    """A coroutine that gives up its turn `switches` times."""

    def __init__(self, switches=1):
        self.switches = switches

    async def process(self, data):
        for _ in range(self.switches):
            await asyncio.sleep(0)
        return data + 1


class Gather:
    """Runs a hundred tasks at once."""

    async def _one(self, value):
        await asyncio.sleep(0)
        return value * 2

    async def process(self, data):
        return sum(await asyncio.gather(*[self._one(data + index) for index in range(100)]))
