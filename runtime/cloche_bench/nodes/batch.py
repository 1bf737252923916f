"""Wraps a node of the user's: `process` takes a list of items, to measure what one call for many items would save."""

import importlib
import inspect


class Batch:
    """Calls the entry of a granted module for each item of a list."""

    def __init__(self, module, entry, params):
        made = getattr(importlib.import_module(module), entry)
        self.node = made(**params) if isinstance(made, type) else made
        self.call = getattr(self.node, "aprocess", None) or getattr(self.node, "process", self.node)

    async def initialize(self):
        method = getattr(self.node, "initialize", None)
        result = method() if method else None
        if inspect.isawaitable(result):
            await result

    async def process(self, items):
        results = []
        for item in items:
            result = self.call(item)
            results.append(await result if inspect.isawaitable(result) else result)
        return results
