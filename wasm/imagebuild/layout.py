"""Finds out which blocks of memory a new sandbox writes to, and has the initialiser place them beside each other.

Every sandbox maps the image copy on write, so each page that it writes to costs a fault and 4 KiB. What a sandbox writes to soon after its
start is small and always the same, but lies all over the heap: counters in bytecode, dicts of modules and loggers, lists of
finders, heads of the collector's lists. So the initialiser runs twice (shim/layout.c): once to see, with a few
sample nodes, which blocks are written to; and once more with these blocks side by side.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

import wasmtime

from imagebuild import cbor
from imagebuild.driver import MASK32, Abi, Guest

EXPORT = "image_layout"
LOAD, PROCESS, INVOKE = 1, 2, 3
PAGE = 4096
WASM_PAGE = 65536
GRAIN, BUCKETS, EXACT = 16, 4096, 2048
"""As in shim/layout.c."""
TRACED_BYTES = 128 << 20
"""Addresses below are traced in the first run."""
SCRATCH = WASM_PAGE
"""The second run's tables: at the far end of the C stack, which the initialiser never reaches and the snapshot clears."""
LARGE = 1024

_PLAIN = """
class Counter:
    def __init__(self):
        self.count = 0
    def process(self, data):
        self.count += 1
        return data
"""
_LOGGING = """
import logging
class Talker:
    def __init__(self, factor=1, name="talker", **config):
        self.factor = factor
        self.name = name
        self.logger = logging.getLogger(type(self).__name__)
    def initialize(self):
        self.logger.info("ready")
    def process(self, data):
        self.logger.info("got %r", data)
        print("said", data)
        return {"value": data, "factor": self.factor}
    def cleanup(self):
        self.logger.info("done")
"""
_FUNCTION = """
def double(data):
    return data * 2
"""
_GENERATOR = """
class Several:
    def process(self, data):
        for i in range(3):
            yield data
"""
_COROUTINE = """
import asyncio
class Later:
    async def initialize(self):
        self.ready = True
    async def process(self, data):
        await asyncio.sleep(0)
        return data
"""
_NUMPY = """
import numpy as np
class Summed:
    def process(self, data):
        return float(np.sum(np.arange(data)))
"""
SAMPLES: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    (_PLAIN, "Counter", ({"a": 1}, 1)),
    (_LOGGING, "Talker", (1, "text")),
    (_FUNCTION, "double", (1, [1])),
    (_GENERATOR, "Several", (1,)),
    (_COROUTINE, "Later", (1,)),
    (_NUMPY, "Summed", (10,)),
)
"""Source, entry, and values for process: the kinds of nodes that most are."""

Place = tuple[int, int]
"""A block: its size, and how many requests for its bucket came before it."""


def bucket(size: int) -> int:
    """Requests are counted by this."""
    return size if size < EXACT else EXACT + size // 32 % (BUCKETS - EXACT)


def trace(guest: Guest) -> int:
    """Have the initialiser note where its blocks lie; call it before. The answer is for `written`."""
    guest.call("node_alloc", GRAIN)  # or malloc would take the memory that comes next for its own
    counts = guest.memory.grow(guest.store, (4 * BUCKETS + TRACED_BYTES // GRAIN * 8) // WASM_PAGE + 1) * WASM_PAGE
    _configure(guest, counts, counts + 4 * BUCKETS, TRACED_BYTES // GRAIN, 0, 0, 0)
    return counts + 4 * BUCKETS


def place(guest: Guest, places: list[Place]) -> None:
    """Have the initialiser place these blocks beside each other, in this order; call it before."""
    first = [0] * BUCKETS
    after = [0] * (len(places) + 1)
    for index, (size, _) in sorted(enumerate(places, 1), key=lambda row: row[1][1], reverse=True):
        after[index], first[bucket(size)] = first[bucket(size)], index
    rows = [struct.pack("<4I", 0, 0, 0, 0)]
    rows += [struct.pack("<4I", size, nth, after[index], 0) for index, (size, nth) in enumerate(places, 1)]
    body = bytes(4 * BUCKETS) + struct.pack(f"<{BUCKETS}I", *first) + b"".join(rows)
    guest.memory.write(guest.store, body, SCRATCH)
    _configure(guest, SCRATCH, 0, 0, SCRATCH + 8 * BUCKETS, len(rows), SCRATCH + 4 * BUCKETS)


def _configure(guest: Guest, *words: int) -> None:
    guest.memory.write(guest.store, struct.pack("<6I", *words), guest.call(EXPORT) & MASK32)


def written(guest: Guest, table: int) -> list[Place]:
    """The blocks that differ after a node was loaded and called; those that differ for most nodes first.

    Args:
        guest: traced, and initialised. It is of no use afterwards.
        table: where its blocks are noted.
    """
    image = bytes(guest.memory.read(guest.store))
    found: Counter[int] = Counter()
    for sample in SAMPLES:
        found.update({start for start in map(Owners(image, table).find, changes(guest, image, sample)) if start})
        guest.memory.write(guest.store, image)
    owners = Owners(image, table)
    blocks = [(-count, owners.block(start)[0] >= LARGE, start) for start, count in found.items()]
    return [owners.block(start) for *_, start in sorted(blocks)]


class Owners:
    """The blocks that the first run noted."""

    def __init__(self, image: bytes, table: int) -> None:
        self._image = image
        self._table = table
        self._last = 0, 0

    def block(self, start: int) -> Place:
        size, nth = struct.unpack_from("<2I", self._image, self._table + start // GRAIN * 8)
        return size, nth

    def find(self, address: int) -> int:
        """Where the block begins that has this address; 0: it is in none."""
        start, end = self._last
        if start <= address < end:
            return start
        start = address // GRAIN * GRAIN
        for start in range(start, max(0, start - PAGE * 8), -GRAIN):
            size, _ = self.block(start)
            if size:
                self._last = start, start + size
                return start if address < start + size else 0
        return 0


def changes(guest: Guest, image: bytes, sample: tuple[str, str, tuple[Any, ...]]) -> list[int]:
    """Addresses of the words that differ after a sample node was loaded and called."""
    source, entry, values = sample
    request = guest.call("node_alloc", 65536) & MASK32
    messages: list[list[Any]] = [[LOAD, 1, _load(source, entry)], [INVOKE, 2, "initialize"]]
    messages += [[PROCESS, 3 + index, value] for index, value in enumerate(values)]
    for message in messages:
        body = cbor.dumps(message)
        guest.memory.write(guest.store, body, request)
        packed = guest.call("node_call", request, len(body), 1_000_000, 64)
        kind, value = cbor.Reader(guest.read_packed(packed), guest.read).item()
        if kind != 0:
            raise RuntimeError(f"layout: {message!r:.300} answered {value!r:.2000}")
    return differences(image, bytes(guest.memory.read(guest.store))[: len(image)])


def differences(image: bytes, now: bytes) -> list[int]:
    """Addresses of the words that differ."""
    found = []
    for start in range(0, len(image), PAGE):
        was, page = image[start : start + PAGE], now[start : start + PAGE]
        if was != page:
            found += [start + at for at in range(0, PAGE, 4) if was[at : at + 4] != page[at : at + 4]]
    return found


def dirty_pages(engine: wasmtime.Engine, wasm: bytes, abi: Abi) -> list[int]:
    """How many pages each sample changes in a finished image."""
    module = wasmtime.Module(engine, wasm)
    counts = []
    for sample in SAMPLES:
        guest = Guest(engine, module, abi)
        image = bytes(guest.memory.read(guest.store))
        counts.append(len({address // PAGE for address in changes(guest, image, sample)}))
    return counts


def _load(source: str, entry: str) -> dict[str, Any]:
    return {
        "name": "sample",
        "modules": {"sample": ["sample.py", source, False]},
        "data": {},
        "main": "sample",
        "entry": entry,
        "params": {},
        "session_id": None,
        "log_level": 20,
        "seed": bytes(range(32)),
        "limits": {
            "reply_bytes": 64 << 20,
            "output_bytes": 1 << 20,
            "value_depth": 64,
            "value_nodes": 1_000_000,
            "log_bytes": 1 << 16,
            "stack_depth": 10_000,
        },
        "packages": {},
        "opaque": False,
        "scratch_bytes": 0,
    }
