"""Nodes whose inputs or outputs are dicts and lists."""

import statistics

from .base import Node


class Echo(Node):
    """Returns its input, with the number of calls and the node's name."""

    def __init__(self, name="Echo", **config):
        super().__init__(name, **config)
        self.counter = -1

    def initialize(self):
        self.counter = 0
        self.logger.info("%s is ready", self.name)
        return super().initialize()

    async def process(self, data):
        self.counter += 1
        self.logger.info("%s heard %r", self.name, data)
        return {"input": data, "counter": self.counter, "node": self.name}


class ComplexData:
    """Checks that its input is a dict, and describes the dict."""

    def process(self, data):
        if not isinstance(data, dict):
            return {"validated": False, "data": data, "error": f"expected a dict, got {type(data).__name__}"}
        return {
            "validated": True,
            "data": data,
            "has_name": "name" in data,
            "has_age": "age" in data,
            "metadata": {"keys": list(data), "count": len(data)},
        }


class ListProcessing:
    """Sum, average, minimum or maximum of a list of numbers."""

    OPERATIONS = {"sum": sum, "average": statistics.fmean, "min": min, "max": max}

    def __init__(self, operation="sum"):
        self.operation = operation

    def process(self, data):
        if not data:
            return {"operation": self.operation, "result": None, "input_length": 0}
        return {"operation": self.operation, "result": self.OPERATIONS[self.operation](data), "input_length": len(data)}
