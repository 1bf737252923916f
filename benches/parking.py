"""Parked nodes by the hundred thousand: what each takes in memory and in a folder, and how long parking and waking take.

Every session is a clone of one node that has answered a few calls of its own, so that its state is not the template's. They are
parked and stay parked: the memory is the growth of this process's private memory (smaps_rollup), divided by their number; the folder's
is what the file system has given away (blocks), with its directories. Then random ones are woken, called, and parked again. Timed:
from the request for the node to having it, and parking, each alone; in the same run loading, cloning and restoring, which are what a
program would do otherwise, and whole snapshots beside the differences. The call itself is not timed. Levels: a woken node <= 1 ms
(median); each parked one some 20 kB at most.

    python -m benches.parking [COUNT] [memory|folder|both] [--quick]     # COUNT: 100,000; in a folder each takes 4 kB or more
"""

from __future__ import annotations

import gc
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cloche
from benches.footprint import private_bytes
from cloche.parking import FolderStore, MemoryStore, Sessions, Store

SOURCE = cloche.Source("""
import json, random
class Chat:
    def __init__(self):
        self.history, self.seen = [], {}
    def process(self, text):
        self.history.append(text)
        for word in text.split():
            self.seen[word] = self.seen.get(word, 0) + 1
        return len(self.history)
""")
QUICK = "--quick" in sys.argv
COUNT = next((int(text) for text in sys.argv[1:] if text.isdigit()), 200 if QUICK else 100_000)
WHERE = next((text for text in sys.argv[1:] if text in ("memory", "folder", "both")), "both" if QUICK else "memory")
CALLS = 3
ROUNDS = 50 if QUICK else 2000
MILLION = 1_000_000


class Times:
    """How long something takes each time: by the clock, and of the processor alone, which a busy machine does not change."""

    def __init__(self) -> None:
        self.clock: list[float] = []
        self.processor: list[float] = []

    def add(self, function: Callable[[], Any]) -> Any:
        """Call a function, and note its microseconds; its result."""
        began, used = time.perf_counter(), time.thread_time()
        result = function()
        self.clock.append((time.perf_counter() - began) * 1e6)
        self.processor.append((time.thread_time() - used) * 1e6)
        return result

    def row(self, title: str) -> float:
        """Print them; the median of the processor's time."""
        last = sorted(self.clock)[int(len(self.clock) * 0.99)]
        processor = statistics.median(self.processor)
        print(
            f"{title:34} {statistics.median(self.clock):8.0f} us median {last:8.0f} us p99 {processor:8.0f} us of processor"
        )
        return processor


def progress(done: int, began: float) -> None:
    """Say how far it is, on stderr."""
    if done % 5000 == 0:
        left = (time.perf_counter() - began) / done * (COUNT - done)
        print(f"\r{done:,} of {COUNT:,} parked, {left:.0f} s left   ", end="", file=sys.stderr, flush=True)


def filled(runtime: cloche.Runtime, template: cloche.Node, store: Store) -> Sessions:
    """Sessions of which each has answered its own calls, all parked."""
    sessions = Sessions(runtime, template, live=1, store=store)
    began = time.perf_counter()
    for number in range(COUNT):
        with sessions.node(f"user {number}") as node:
            for turn in range(CALLS):
                assert node.process(f"user {number} says hello for the {turn}. time") == turn + 2
        progress(number + 1, began)
    sessions.park(f"user {COUNT - 1}")
    print(f"\r{COUNT:,} sessions made and parked in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return sessions


def woken(sessions: Sessions) -> tuple[float, float]:
    """Wake random sessions, call and park them again; the medians of the processor's time of both."""
    wake, park = Times(), Times()
    draws = random.Random(1)
    for _ in range(ROUNDS):
        key = f"user {draws.randrange(COUNT)}"
        block = sessions.node(key)
        node = wake.add(block.__enter__)
        assert node.process("and goes") > CALLS
        block.__exit__(None, None, None)
        assert park.add(partial(sessions.park, key))
    return wake.row("wake a parked session"), park.row("park it again")


def blocks(folder: Path) -> int:
    """Bytes that the file system has given to a folder and all below it."""
    return sum(512 * path.stat().st_blocks for path in (folder, *folder.rglob("*")))


def alternatives(runtime: cloche.Runtime, template: cloche.Node) -> dict[str, float]:
    """What a program would do otherwise, in the same run."""
    snapshot = template.snapshot()
    data = snapshot.to_bytes()
    ways: dict[str, Callable[[], cloche.Node]] = {
        "load": lambda: runtime.load(SOURCE, "Chat"),
        "clone": template.clone,
        "restore its snapshot, as bytes": lambda: runtime.restore(cloche.Snapshot.from_bytes(data), reseed=False),
    }
    medians = {}
    for title, way in ways.items():
        times = Times()
        for _ in range(max(20, ROUNDS // 10)):
            times.add(way).close()
        medians[title] = times.row(title)
    park, unpark, sizes = Times(), Times(), []
    for _ in range(max(20, ROUNDS // 10)):
        node = template.clone()
        node.process("user 7 says hello")
        parked = park.add(partial(runtime.park, node))
        sizes.append(parked.size_bytes)
        unpark.add(partial(runtime.unpark, parked)).close()
    park.row("Runtime.park, of a whole node")
    unpark.row("Runtime.unpark of it")
    print(f"{'':34} {statistics.median(sizes) / 1e3:8.1f} kB")
    return medians


def projected(title: str, each: float) -> None:
    """Print what one takes, and a million."""
    print(f"{title:34} {each / 1e3:8.2f} kB each {each * MILLION / 1e9:8.2f} GB for a million")


def in_memory(runtime: cloche.Runtime, template: cloche.Node) -> None:
    """Park them in memory, wake some, and compare."""
    with Sessions(runtime, template, live=1) as warm:  # what is made once is no session's
        for number in range(20):
            with warm.node(str(number)) as node:
                node.process("x")
    gc.collect()
    before, store = private_bytes(), MemoryStore()
    sessions = filled(runtime, template, store)
    gc.collect()
    projected("in memory, growth of the process", (private_bytes() - before) / COUNT)
    projected("of that, keys and bytes", store.size_bytes / COUNT)
    wake, park = woken(sessions)
    for title, median in alternatives(runtime, template).items():
        print(f"{title:34} {median / wake:8.2f} times as long as waking")
    print(f"waking and parking: {1e6 / (wake + park):,.0f} sessions a second of processor time")


def in_a_folder(runtime: cloche.Runtime, template: cloche.Node) -> None:
    """Park them in a folder, and wake some."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("CLOCHE_BENCH_FOLDER")) as folder:
        sessions = filled(runtime, template, FolderStore(folder))
        projected("in a folder, blocks of the disk", blocks(Path(folder)) / COUNT)
        woken(sessions)


def main() -> None:
    with cloche.Runtime(limits=cloche.Limits(deadline_s=30)) as runtime:
        template = runtime.load(SOURCE, "Chat")
        template.process("the template is warm")
        if WHERE in ("both", "folder"):
            in_a_folder(runtime, template)
        if WHERE in ("both", "memory"):
            in_memory(runtime, template)


if __name__ == "__main__":
    main()
