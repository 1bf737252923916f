"""Nodes that compute one value from another."""

from .base import Node


class PassThrough:
    """Returns its input. Has no base class and no constructor."""

    def process(self, data):
        return data


class Transform(Node):
    """One of four operations on a number. Counts its calls, and logs its initialization, calls and cleanup."""

    def __init__(self, operation="identity", factor=2, **config):
        super().__init__(operation=operation, factor=factor, **config)
        self.operation = operation
        self.factor = factor
        self.processed_count = 0

    async def initialize(self):
        await super().initialize()
        self.logger.info("initialized: operation=%s factor=%s", self.operation, self.factor)

    def process(self, data):
        self.processed_count += 1
        self.logger.info("item %d", self.processed_count, extra={"operation": self.operation})
        match self.operation:
            case "double":
                return data * 2
            case "square":
                return data**2
            case "multiply":
                return data * self.factor
            case "identity":
                return data
        raise ValueError(f"unknown operation {self.operation!r}")

    def cleanup(self):  # a plain method, which overrides an async one
        self.logger.info("cleaned up after %d items", self.processed_count)
        return super().cleanup()


class Calculator(Node):
    """Arithmetic with a fixed operand. A wrong input gives a dict with "error" instead of an exception."""

    OPERATIONS = {
        "add": lambda a, b: a + b,
        "subtract": lambda a, b: a - b,
        "multiply": lambda a, b: a * b,
        "divide": lambda a, b: a / b,
    }

    def __init__(self, operation="add", operand=0, **config):
        super().__init__(**config)
        self.operation = operation
        self.operand = operand

    async def process(self, data):
        if isinstance(data, bool) or not isinstance(data, (int, float)):
            return {"error": f"expected a number, got {type(data).__name__}", "input": data}
        try:
            return self.OPERATIONS[self.operation](data, self.operand)
        except ZeroDivisionError:
            return {"error": "division by zero", "input": data}


class Chain:
    """Three steps, one after the other, each a coroutine."""

    async def _double(self, value):
        return value * 2

    async def _add_ten(self, value):
        return value + 10

    async def _format(self, value):
        return {"result": value, "formatted": f"Result: {value}"}

    async def process(self, data):
        for step in (self._double, self._add_ten, self._format):
            data = await step(data)
        return data
