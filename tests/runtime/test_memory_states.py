"""What a snapshot keeps is the whole memory, to the byte: compared as a whole, and by its digest."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

import cloche
from cloche import Snapshot
from tests.limits import patient

here = pytest.mark.isolation("none", reason="the memory is compared in this process")

COUNTER = """
class N:
    def __init__(self):
        self.count = 0
        self.things = {}
    def process(self, x):
        self.count += x
        self.things[self.count] = [str(self.count)] * 50
        return self.count
"""
ARRAYS = """
import numpy as np
class N:
    def __init__(self):
        self.a = np.zeros(200_000)
    def process(self, x):
        self.a = np.concatenate([self.a[:-1], np.sin(np.arange(x, dtype=float))])
        return float(self.a.sum())
"""
FREED = """
class N:
    def process(self, x):
        data = [bytes([i % 256]) * 1000 for i in range(x)]
        del data[::2]
        self.kept = data[: x // 10]
        return len(self.kept)
"""
NODES = {"counter": (COUNTER, 1, 300), "arrays": (ARRAYS, 200_000, 3), "freed": (FREED, 20_000, 3)}
Load = Callable[..., cloche.Node]


STACK = slice(0, 8 << 20)


def whole(node: cloche.Node) -> bytes:
    """All of the node's linear memory, but for the stack: what a call leaves there depends on when it was interrupted."""
    memory = node.__cloche__.sandbox._memory  # type: ignore[attr-defined]
    return bytes(memory._view[STACK.stop : memory.size])


def parts(one: bytes, other: bytes) -> list[tuple[int, int]]:
    """Where two memories differ, at most ten ranges of 64 bytes; and their sizes, if those differ. pytest would compare megabytes."""
    if one == other:
        return []
    sizes = [] if len(one) == len(other) else [(len(one), len(other))]
    places = (at for at in range(0, min(len(one), len(other)), 64) if one[at : at + 64] != other[at : at + 64])
    return sizes + [(at, at + 64) for at, _ in zip(places, range(10), strict=False)]


@here
@pytest.mark.parametrize("program", NODES)
def test_a_restored_memory_is_equal_to_the_byte(load: Load, runtime: cloche.Runtime, program: str) -> None:
    """Grown, with arrays in it, or with memory that was written and freed; also after its way through bytes."""
    source, item, calls = NODES[program]
    node = load(source)
    for _ in range(calls):
        node.process(item)
    before, taken = whole(node), node.snapshot()
    assert parts(whole(node), before) == []
    with runtime.restore(Snapshot.from_bytes(taken.to_bytes()), reseed=False) as back:
        assert parts(whole(back), before) == []
        assert back.snapshot().memory_digest == taken.memory_digest
        assert back.process(item) == node.process(item)
        assert parts(whole(back), whole(node)) == []
    with node.clone(reseed=False) as twin:
        assert parts(whole(twin), whole(node)) == []


@here
def test_a_memory_in_the_middle_of_a_stream_is_equal_to_the_byte(load: Load, runtime: cloche.Runtime) -> None:
    """With a generator in mid-air; both go on alike."""
    node = load(
        "class N:\n    is_streaming = True\n    async def process(self, items):\n        n = 0\n        async for x in items:\n            n += x\n            yield n\n"
    )
    stream = node.stream(range(1, 6))
    assert [next(stream), next(stream)] == [1, 3]
    taken = node.snapshot()
    with runtime.restore(taken, reseed=False) as back:
        assert parts(whole(back), whole(node)) == []
        position = back.stream_position
        assert position is not None
        resumed = back.resume(range(1 + position.items, 6))
        assert next(resumed) == next(stream) == 6
        assert parts(whole(back), whole(node)) == []


@here
def test_random_writes_come_back(load: Load, runtime: cloche.Runtime, thorough: bool) -> None:
    """Whatever the pages are: whole, in parts, of zeros, at the memory's ends."""
    node = load(
        "import ctypes\nclass N:\n    def __init__(self): self.b = bytearray(3 << 20)\n    def process(self, x): return 0\n"
    )
    node.process(0)
    memory = node.__cloche__.sandbox._memory  # type: ignore[attr-defined]
    rng = random.Random(11)
    for _ in range(40 if thorough else 4):
        for _ in range(rng.randrange(60)):
            at = rng.choice(
                [rng.randrange(memory.size), rng.randrange(memory.size // 4096) * 4096, memory.size - 8, 65536]
            )
            size = min(rng.choice([1, 8, 100, 4096, 20_000]), memory.size - at)
            memory._view[at : at + size] = rng.choice([bytes(size), b"\xff" * size, rng.randbytes(size)])
        taken = node.snapshot()
        pristine = node.__cloche__.sandbox._engine.stores.pristine()  # type: ignore[attr-defined]
        image = bytes(pristine._view[: pristine.size]).ljust(memory.size, b"\0")
        assert parts(patched(image, taken), bytes(memory._view[: memory.size])) == []
        assert memory._view[STACK] == pristine._view[STACK]


def patched(image: bytes, taken: Snapshot) -> bytes:
    """The memory that the snapshot says, worked out by the specification."""
    memory, at = bytearray(image), 0
    pages = [int.from_bytes(taken.pages[i : i + 4], "little") for i in range(0, len(taken.pages), 4)]
    for n, page in enumerate(pages):
        mask = int.from_bytes(taken.masks[64 * n : 64 * n + 64], "little")
        for word in range(512):
            if mask >> word & 1:
                start = 4096 * page + 8 * word
                memory[start : start + 8] = taken.words[at : at + 8]
                at += 8
    assert at == len(taken.words)
    return bytes(memory)


def test_the_digest_is_of_the_memory(load: Load, runtime: cloche.Runtime) -> None:
    """Equal for twins, wherever they live; another one once a byte differs."""
    node = load(COUNTER)
    node.process(1)
    first = node.snapshot()
    with node.clone(reseed=False, name="another name") as twin:
        assert twin.snapshot().memory_digest == first.memory_digest == node.snapshot().memory_digest
        twin.process(1)
        assert twin.snapshot().memory_digest != first.memory_digest
        node.process(1)
        assert twin.snapshot().memory_digest == node.snapshot().memory_digest
    assert Snapshot.from_bytes(first.to_bytes()).memory_digest == first.memory_digest


@here
def test_a_page_that_is_again_as_the_images_counts_for_nothing(load: Load) -> None:
    """The digest does not depend on which pages were touched on the way."""
    node = load(COUNTER)
    taken = node.snapshot()
    memory = node.__cloche__.sandbox._memory  # type: ignore[attr-defined]
    touched = {page for first, count in memory.dirty_runs() for page in range(first, first + count)}
    page = next(page for page in range(STACK.stop // 4096, memory.size // 4096) if page not in touched)
    there = slice(4096 * page, 4096 * page + 4096)
    before = bytes(memory._view[there])
    memory._view[there] = b"\xa5" * 4096
    assert node.snapshot().memory_digest != taken.memory_digest
    memory._view[there] = before
    assert node.snapshot().memory_digest == taken.memory_digest
    assert node.snapshot() == taken


@here
def test_logs_that_were_taken_count_for_nothing(load: Load, runtime: cloche.Runtime) -> None:
    """Whether their records were taken one by one or all at once; and they do not make a snapshot larger."""
    grants, limits = cloche.Grants(clock=cloche.Clock("frozen", start=0), seed=b"seed"), patient(log_records=10_000)
    node = load(
        "import logging\nclass N:\n    def process(self, x):\n        for i in range(x): logging.info('text ' * 40, extra={'i': i})\n        return x\n",
        grants=grants,
    )
    node.process(1)
    taken = node.snapshot()
    options: dict[str, Any] = {"grants": grants, "limits": limits, "reseed": False}
    with runtime.restore(taken, **options) as quiet, runtime.restore(taken, **options) as live:
        records: list[cloche.LogRecord] = []
        live.__cloche__.sandbox.on_record = records.append
        for each in (quiet, live):
            assert each.process(500) == 500
        assert len(records) >= 100
        assert quiet.snapshot().memory_digest == live.snapshot().memory_digest
        assert quiet.snapshot().size_bytes < taken.size_bytes + 20_000


@here
def test_isolations_and_meterings_have_one_memory(
    load: Load, runtimes: Callable[..., cloche.Runtime], epoch_runtime: cloche.Runtime, thorough: bool
) -> None:
    """A snapshot goes from one to the other, and both go on to the same bytes."""
    node = load(COUNTER)
    node.process(1)
    taken = node.snapshot()
    node.process(2)
    after = node.snapshot().memory_digest
    others = [runtimes("process"), epoch_runtime]
    more = [cloche.Runtime(limits=patient(), metering=name) for name in ("fuel", "none")] if thorough else []
    try:
        for other in (*others, *more):
            with other.restore(taken, reseed=False) as back:
                assert back.snapshot().memory_digest == taken.memory_digest
                back.process(2)
                assert back.snapshot().memory_digest == after
    finally:
        for other in more:
            other.close()


@here
def test_bytes_of_a_small_node_are_small(load: Load) -> None:
    """A tenth of its pages."""
    node = load(COUNTER)
    for number in range(100):
        node.process(number)
    taken = node.snapshot()
    assert len(taken.to_bytes()) < 40_000
    assert taken.size_bytes < 100_000
