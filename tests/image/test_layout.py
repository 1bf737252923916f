"""What sandboxes write to soon after their start lies together in the built image."""

from __future__ import annotations

import pytest

import cloche
from imagebuild.layout import SAMPLES, bucket, differences
from tests.limits import patient

PAGE = 4096
MOST_PAGES = 100
"""Of linear memory that a sample node writes to; they were 164 before anything was laid out, and are 60 to 95."""


def pages(node: cloche.Node) -> int:
    return sum(count for _, count in node._sandbox._memory.dirty_runs())  # type: ignore[union-attr]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample[1])
def test_a_new_sandbox_writes_to_few_pages(sample: tuple[str, str, tuple[object, ...]]) -> None:
    """Each page that it writes to costs a fault and 4 KiB. Counted, not timed."""
    source, entry, values = sample
    with cloche.Runtime(limits=patient()) as runtime, runtime.load(cloche.Source(source, "sample.py"), entry) as node:
        for value in values:
            node.process(value)
        assert pages(node) <= MOST_PAGES


def test_a_sandbox_that_grows_keeps_its_small_blocks() -> None:
    """Blocks of every size, given out before and after the nursery is full, are freed, resized and used again."""
    source = """
import random

class Grower:
    def __init__(self):
        self.early = [bytes([size % 256]) * size for size in range(600)]

    def process(self, rounds):
        kept = {}
        generator = random.Random(1)
        for turn in range(rounds):
            size = generator.randrange(600)
            kept[generator.randrange(500)] = bytearray([size % 251]) * size
            grown = kept[generator.choice(list(kept))]
            grown.extend(grown[:1] * generator.randrange(40))
            del grown[: generator.randrange(40)]
        assert all(len(set(block)) <= 1 for block in kept.values())
        assert [len(block) for block in self.early] == list(range(600))
        assert all(set(block) <= {len(block) % 256} for block in self.early)
        self.early = self.early[:]
        return len(kept)
"""
    with (
        cloche.Runtime(limits=patient()) as runtime,
        runtime.load(cloche.Source(source, "grower.py"), "Grower") as node,
    ):
        assert [node.process(2000) for _ in range(5)] == [node.process(2000)] * 5


def test_small_blocks_that_come_and_go_need_no_more_memory() -> None:
    """What is freed is given out again, also what was given out before pymalloc took over."""
    source = """
def process(rounds):
    for _ in range(rounds):
        [object() for _ in range(1000)]
        [b"x" * size for size in range(500)]
"""
    with (
        cloche.Runtime(limits=patient()) as runtime,
        runtime.load(cloche.Source(source, "churn.py"), "process") as node,
    ):
        node.process(5)
        before = node.stats.memory_bytes
        node.process(200)
        after = node.stats.memory_bytes
    assert after == before


def test_words_that_differ() -> None:
    """Within the range that is asked for."""
    image, now = bytes(3 * PAGE), bytearray(3 * PAGE)
    now[5] = now[PAGE + 4] = now[2 * PAGE] = 1
    assert differences(image, bytes(now), 0, 3 * PAGE) == [4, PAGE + 4, 2 * PAGE]
    assert differences(image, bytes(now), 8, 2 * PAGE) == [PAGE + 4]


def test_requests_of_one_size_share_a_bucket() -> None:
    """Small ones have it for themselves: only requests of the same size can be mistaken for each other."""
    assert len({bucket(size) for size in range(2048)}) == 2048
    assert all(2048 <= bucket(size) < 4096 for size in (2048, 2049, 65_536, 1 << 30))


def test_tracemalloc_sees_all_that_is_allocated() -> None:
    """Also what comes after the nursery is full: the change to pymalloc leaves the tracer's hooks where they are."""
    source = """
import tracemalloc

def process(count):
    tracemalloc.start()
    kept = [b"x" * (100 + number % 50) for number in range(count)]
    traced, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return traced, sum(map(len, kept))
"""
    with (
        cloche.Runtime(limits=patient()) as runtime,
        runtime.load(cloche.Source(source, "traced.py"), "process") as node,
    ):
        for _ in range(2):
            traced, wanted = node.process(2000)
            assert traced > wanted
