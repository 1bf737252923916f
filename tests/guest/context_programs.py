"""Nodes whose calls depend on what earlier calls have set, and how each is called. The same natively, in one task.

Each has the names of PRELUDE. `CALLS` are methods, called in that order; the results are compared.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

PRELUDE = """
import asyncio, contextvars, decimal, random, warnings
var = contextvars.ContextVar("var", default="unset")
other = contextvars.ContextVar("other")
"""
PROGRAMS: dict[str, tuple[str, list[str]]] = {
    "set in an async initialize": ("""
class N:
    async def initialize(self): var.set("set")
    async def process(self, x=0): return var.get()
    def plain(self): return var.get()
""", ["process", "plain", "initialize", "process", "plain"]),
    "set in __init__ and in plain calls": ("""
class N:
    def __init__(self): var.set("init")
    def initialize(self): self.seen = var.get(); var.set("plain")
    async def process(self, x=0):
        await asyncio.sleep(0)
        return self.seen, var.get()
    def plain(self): return var.get()
""", ["plain", "initialize", "process", "plain"]),
    "set after a suspension": ("""
class N:
    async def initialize(self):
        await asyncio.sleep(0)
        var.set("late")
    async def process(self, x=0): return var.get()
    def plain(self): return var.get()
""", ["initialize", "plain", "process"]),
    "reset with a token of an earlier call": ("""
class N:
    async def initialize(self): self.token = var.set("set")
    async def process(self, x=0): return var.get()
    def plain(self): return var.get()
    async def reset(self): var.reset(self.token)
""", ["initialize", "process", "plain", "reset", "process", "plain"]),
    "reset in a plain call": ("""
class N:
    def initialize(self): self.token = var.set("set")
    async def process(self, x=0): return var.get()
    def plain(self): var.reset(self.token)
""", ["initialize", "process", "plain", "process"]),
    "set on both sides in turn": ("""
class N:
    count = 0
    async def process(self, x=0): self.count += 1; var.set(self.count); return var.get()
    def plain(self): self.count += 1; before = var.get(); var.set(self.count); return before
""", ["process", "plain", "process", "plain", "plain", "process", "process", "plain"]),
    "values that compare strangely": ("""
class Odd:
    def __init__(self, n): self.n = n
    def __eq__(self, other): raise AssertionError("compared")
    __hash__ = None
class N:
    count = 0
    async def process(self, x=0): self.count += 1; var.set(Odd(self.count)); return var.get().n
    def plain(self): before = var.get().n; self.count += 1; var.set(Odd(self.count)); return before
""", ["process", "plain", "plain", "process", "process", "plain"]),
    "decimal context": ("""
class N:
    async def initialize(self): decimal.getcontext().prec = 5; decimal.setcontext(decimal.Context(prec=decimal.getcontext().prec + 1))
    async def process(self, x=0): return str(decimal.Decimal(1) / 3)
    def plain(self): return str(decimal.Decimal(2) / 3)
""", ["initialize", "process", "plain"]),
    "decimal context, changed in place": ("""
class N:
    async def initialize(self): decimal.getcontext().prec = 5
    async def process(self, x=0): return str(decimal.Decimal(1) / 3)
    def plain(self): decimal.getcontext().prec += 1; return str(decimal.Decimal(2) / 3)
""", ["initialize", "process", "plain", "process"]),
    "tasks have copies": ("""
class N:
    async def work(self): var.set("task")
    async def process(self, x=0):
        await asyncio.create_task(self.work())
        await asyncio.gather(self.work(), self.work())
        return var.get()
    def plain(self): return var.get()
""", ["process", "plain"]),
    "a task of an earlier call": ("""
class N:
    async def initialize(self):
        var.set("first")
        self.gate = asyncio.Event()
        self.task = asyncio.create_task(self.work())
        await asyncio.sleep(0)
    async def work(self):
        await self.gate.wait()
        return var.get()
    async def process(self, x=0):
        var.set("second")
        self.gate.set()
        return await self.task, var.get()
""", ["initialize", "process"]),
    "random state, filters and attributes": ("""
class N:
    async def initialize(self): random.seed(5); warnings.filterwarnings("error", category=ImportWarning)
    async def process(self, x=0): return random.random(), warnings.filters[0][0]
    def plain(self): return random.random()
""", ["initialize", "process", "plain"]),
    "asyncio objects made in __init__": ("""
class N:
    def __init__(self): self.queue = asyncio.Queue(); self.lock = asyncio.Lock()
    async def initialize(self): await self.queue.put(5)
    async def process(self, x=0):
        async with self.lock, asyncio.timeout(1):
            return await self.queue.get()
""", ["initialize", "process"]),
}  # fmt: skip


def natively(program: str) -> list[Any]:
    """The results of the calls in one task of plain Python."""
    source, calls = PROGRAMS[program]

    async def main() -> list[Any]:
        names: dict[str, Any] = {}
        exec(PRELUDE + source, names)
        node, results = names["N"](), []
        for name in calls:
            result = getattr(node, name)()
            results.append(await result if inspect.isawaitable(result) else result)
        return results

    return asyncio.run(main())
