"""Finds out which blocks of memory a new sandbox writes to, and has the initialiser place them beside each other.

Every sandbox maps the image copy on write, so each page that it writes to costs a fault and 4 KiB. What it writes to soon
after its start is small and always the same, but lies all over the heap: counters in bytecode, dicts of modules and loggers,
lists of finders. So the initialiser runs twice (shim/layout.c): once to see, with a few
sample nodes, which blocks are written to; and once more with these blocks side by side.
"""

from __future__ import annotations

import bisect
import struct
from collections import Counter
from dataclasses import dataclass
from typing import Any

from imagebuild import cbor
from imagebuild.driver import MASK32, Guest, GuestError

EXPORT, WATCH = "image_layout", "image_watch"
LOAD, PROCESS, INVOKE = 1, 2, 3
PAGE = 4096
WASM_PAGE = 65536
GRAIN, BUCKETS, EXACT = 8, 4096, 2048
"""shim/layout.c gets these numbers as layout_numbers.h."""
TRACED_BYTES = 48 << 20
"""The part of the heap that the first run traces, from its beginning."""
FRAMES = 1 << 18
"""The most frames of one sample that are noted."""
MARKS = 2 << 20
"""Bytes for the places of the table, which `tables.counted` sets: in the C stack, far from where the samples need it."""
SCRATCH = WASM_PAGE
"""Where the second run's tables lie: at the far end of the C stack, which the initialiser never reaches and the snapshot clears."""
LARGE, TEXT = 1024, 64

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
"""Source, entry and values for `process` of sample nodes: one of each common kind."""

Place = tuple[int, int]
"""A block: its size, and how many requests for its bucket came before it."""


def bucket(size: int) -> int:
    """The number of the bucket that counts requests of this size."""
    return size if size < EXACT else EXACT + size // 32 % (BUCKETS - EXACT)


@dataclass(frozen=True)
class Trace:
    """The first run's tables: memory that is added between the variables of the C code and the heap.

    Attributes:
        start: where the tables begin; the variables lie below.
        live: the table of blocks.
        frames: of the code objects that were run.
        end: where they end; the heap lies above.
    """

    start: int
    live: int
    frames: int
    end: int


def trace(guest: Guest) -> Trace:
    """Have the initialiser note where its blocks lie. To be called before the initialiser."""
    guest.call("node_alloc", GRAIN)  # or malloc would take the memory that comes next for its own
    live, frames = 4 * BUCKETS, TRACED_BYTES // GRAIN * 8
    pages = -(-(live + frames + 4 * FRAMES) // WASM_PAGE)
    start = guest.memory.grow(guest.store, pages) * WASM_PAGE
    found = Trace(start, start + live, start + live + frames, start + pages * WASM_PAGE)
    _configure(guest, start, found.live, found.end, TRACED_BYTES // GRAIN, 0, 0, 0)
    return found


def place(guest: Guest, places: list[Place]) -> None:
    """Have the initialiser place these blocks beside each other, in this order. To be called before the initialiser."""
    first = [0] * BUCKETS
    after = [0] * (len(places) + 1)
    for index, (size, _) in sorted(enumerate(places, 1), key=lambda row: row[1][1], reverse=True):
        after[index], first[bucket(size)] = first[bucket(size)], index
    rows = [struct.pack("<4I", 0, 0, 0, 0)]
    rows += [struct.pack("<4I", size, nth, after[index], 0) for index, (size, nth) in enumerate(places, 1)]
    body = bytes(4 * BUCKETS) + struct.pack(f"<{BUCKETS}I", *first) + b"".join(rows)
    guest.memory.write(guest.store, body, SCRATCH)
    _configure(guest, SCRATCH, 0, 0, 0, SCRATCH + 8 * BUCKETS, len(rows), SCRATCH + 4 * BUCKETS)


def _configure(guest: Guest, *words: int) -> None:
    guest.memory.write(guest.store, struct.pack("<7I", *words), guest.call(EXPORT) & MASK32)


@dataclass(frozen=True)
class Hot:
    """The blocks and functions that new sandboxes use.

    Attributes:
        blocks: those that are written to.
        called: the places of the table whose functions are called.
    """

    blocks: list[Place]
    called: set[int]


def written(guest: Guest, trace: Trace, places: int) -> Hot:
    """The blocks that are written to when a node is loaded and called; those that most nodes write to first.

    The names that a class is asked for come before them: where an attribute is cached depends on its name's address, so that names
    beside each other are cached beside each other.

    Args:
        guest: traced, and initialised. It is of no use afterwards.
        trace: its tables.
        places: of the function table.
    """
    guest.memory.write(guest.store, bytes(places), MARKS)
    count_at = guest.call(WATCH, trace.frames, FRAMES) & MASK32
    image = bytes(guest.memory.read(guest.store))
    blocks = Blocks(image, trace)
    found: Counter[int] = Counter()
    names: set[int] = set()
    called: set[int] = set()
    for sample in SAMPLES:
        run_sample(guest, sample)
        now = bytes(guest.memory.read(guest.store))
        variables = differences(image, now, 0, trace.start)
        changed = {blocks.find(address) for address in differences(image, now, trace.end, len(image))}
        count = min(FRAMES, int.from_bytes(now[count_at : count_at + 4], "little"))
        changed.update(struct.unpack_from(f"<{count}I", now, trace.frames))
        found.update(start for start in changed if blocks.size(start))
        pointers = {int.from_bytes(now[address : address + 4], "little") for address in variables}
        names |= {pointer for pointer in pointers if 0 < blocks.size(pointer) <= TEXT}
        called.update(place for place in range(places) if now[MARKS + place])
        guest.memory.write(guest.store, image)
    large = [(blocks.size(start), start) for start in found if blocks.size(start) >= LARGE]
    small = [(-count, start) for start, count in found.items() if blocks.size(start) < LARGE]
    order = [*sorted(names - set(found)), *(start for rows in (small, large) for _, start in sorted(rows))]
    return Hot([blocks[start] for start in order], called)


class Blocks:
    """The blocks that the first run noted, by their address."""

    def __init__(self, image: bytes, trace: Trace) -> None:
        table = memoryview(image)[trace.live : trace.live + TRACED_BYTES // GRAIN * 8].cast("Q")
        self._places = {
            trace.end + GRAIN * index: (entry & MASK32, entry >> 32) for index, entry in enumerate(table) if entry
        }
        self._starts = list(self._places)

    def __getitem__(self, start: int) -> Place:
        return self._places[start]

    def size(self, start: int) -> int:
        """The size of the block that begins at an address, or 0 if none does."""
        return self._places.get(start, (0, 0))[0]

    def find(self, address: int) -> int:
        """The beginning of the block that contains an address, or 0 if none does."""
        at = bisect.bisect_right(self._starts, address) - 1
        if at < 0:
            return 0
        start = self._starts[at]
        return start if address < start + self.size(start) else 0


def run_sample(guest: Guest, sample: tuple[str, str, tuple[Any, ...]]) -> None:
    """Load a sample node and call it, as the host does."""
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
            raise GuestError(f"{message!r:.300} was answered {value!r:.2000}")


def differences(image: bytes, now: bytes, start: int, end: int) -> list[int]:
    """Addresses in a range of the words that differ."""
    found = []
    for page in range(start, end, PAGE):
        if image[page : page + PAGE] != now[page : page + PAGE]:
            found += [at for at in range(page, min(page + PAGE, end), 4) if image[at : at + 4] != now[at : at + 4]]
    return found


def _load(source: str, entry: str) -> dict[str, Any]:
    return {
        "name": "sample",
        "modules": {"sample": ["sample.py", source]},
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
