"""Hours of ordinary and hostile work in one process, to find anything that grows.

The first thread calls one long-lived node all the time; the others load, break, clone, restore, stream and await nodes of their
own. Every result is checked. In each round all threads work at first; in the last part the first thread works alone, because
otherwise it would seldom get the GIL. After each round, with all threads at rest, the process is measured: its memory, descriptors,
threads and mappings, and the memory of the long-lived node. The exit code is 1 if a result was wrong, or if a figure grew from the
second quarter of the run to the last one by more than GROWTH allows. Nothing is timed.

    scripts/soak --minutes 60
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Final

import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import cloche

LEVELS: Final = {"calls": 1_000_000, "loads": 100_000, "breaks": 10_000}
"""How much work a full run should do."""
GROWTH: Final = {"anonymous_bytes": 6 << 20, "descriptors": 0, "threads": 0, "mappings": 8, "node_bytes": 0}
"""How much higher a figure may be in the last quarter of the rounds than in the second. Allocators and caches vary within these
bounds; a leak passes them."""

SOURCE: Final = cloche.Source(
    """
import asyncio, logging, os, sys
import numpy as np
log = logging.getLogger("soak")
class Worker:
    def __init__(self, start=0):
        self.total = start
    def process(self, x):
        self.total += 1
        return {"double": x * 2, "text": "x" * (x % 50), "array": np.arange(x % 100)}
class Streamer:
    def process(self, x):
        for i in range(x):
            yield i * i
class Awaiter:
    async def process(self, x):
        first, second = await asyncio.gather(self.later(x), self.later(1))
        return first + second
    async def later(self, x):
        await asyncio.sleep(0)
        return x
class Granted:
    def process(self, x):
        from cloche_guest import services
        with open("/mount/number") as file:
            number = int(file.read())
        with open("/tmp/scratch", "w") as file:
            file.write("x" * x)
        return services.double(number) + os.path.getsize("/tmp/scratch")
class Raiser:
    def process(self, x):
        log.warning("about to raise %s", x)
        raise ValueError(x)
class Breaker:
    def process(self, how):
        if how == "loop":
            while True: pass
        if how == "exit":
            os._exit(3)
        if how == "abort":
            os.abort()
        if how == "output":
            while True: print("x" * 4096)
        if how == "bytecode":
            f = lambda: None
            f.__code__ = f.__code__.replace(co_code=bytes([116, 255] * 40), co_stacksize=1)
            return f()
        if how == "stack":
            x = []
            for _ in range(10**6): x = [x]
            sys.setrecursionlimit(10**9)
            return repr(x)
""",
    "soak.py",
)
BREAKS: Final[dict[str, tuple[type[Exception], ...]]] = {
    "loop": (cloche.DeadlineError,),
    "exit": (cloche.GuestExitError,),
    "abort": (cloche.GuestTrapError, cloche.GuestExitError),
    "output": (cloche.OutputError,),
    "bytecode": (cloche.BrokenInstanceError, cloche.NodeRaisedError),
    "stack": (cloche.BrokenInstanceError, cloche.NodeRaisedError),
}


STACK_BYTES: Final = 64 << 20
"""Stack of each thread. glibc keeps the stacks of ended threads up to 40 MiB, and with them the pages that a deep recursion
touched; it unmaps a larger one."""

TOGETHER: Final = 0.85
"""The share of a round in which all threads work."""


class Wrong(Exception):
    """A result was wrong. The message names the operation and the result."""


def check(condition: object, what: str) -> None:
    """Raise `Wrong` if a condition does not hold.

    Raises:
        Wrong: the condition does not hold; `what` is the message.
    """
    if not condition:
        raise Wrong(what)


class Work:
    """The jobs of the threads. A job counts what it did in its thread's own counter, and draws from its thread's own generator."""

    def __init__(self, runtime: cloche.Runtime) -> None:
        self.runtime = runtime
        self.steady = runtime.load(SOURCE, "Worker")
        self._folder = tempfile.TemporaryDirectory(prefix="cloche-soak-")
        Path(self._folder.name, "number").write_text("21")
        self.grants = cloche.Grants(
            services={"double": lambda x: 2 * x}, mounts={"/mount": self._folder.name}, scratch_bytes=1 << 16
        )
        with runtime.load(SOURCE, "Worker", {"start": 7}) as node:
            self.saved = node.snapshot().to_bytes()

    def call(self, count: Counter[str], rng: random.Random) -> None:
        for _ in range(100):
            x = rng.randrange(1000)
            result = self.steady.process(x)
            check(result["double"] == 2 * x and len(result["array"]) == x % 100, f"process({x}) gave {result!r}")
            count["calls"] += 1

    def load(self, count: Counter[str], rng: random.Random) -> None:
        with self.runtime.load(SOURCE, "Worker") as node:
            check(node.process(21)["double"] == 42, "a fresh node")
        count["loads"] += 1

    def break_it(self, count: Counter[str], rng: random.Random) -> None:
        how = rng.choices(list(BREAKS), (2, 4, 4, 2, 4, 1))[0]
        limits = cloche.Limits(deadline_s=20.0, output_bytes=1 << 16)
        with self.runtime.load(SOURCE, "Breaker", limits=limits) as node:
            if how != "loop":
                self._expect(node, how)
            else:  # the short deadline is for the loop only: loading under it would fail
                limits = cloche.Limits(deadline_s=0.01)
                with self.runtime.restore(node.snapshot(), limits=limits, reseed=False) as short:
                    self._expect(short, how)
        count["loads"] += 1
        count["breaks"] += 1

    def _expect(self, node: cloche.Node, how: str) -> None:
        try:
            result = node.process(how)
        except BREAKS[how]:
            return
        raise Wrong(f"{how} ended with {result!r}")

    def fail(self, count: Counter[str], rng: random.Random) -> None:
        with self.runtime.load(SOURCE, "Raiser") as node:
            for _ in range(5):
                try:
                    node.process(rng.randrange(10))
                except cloche.NodeRaisedError as error:
                    check(error.exc_type == "ValueError", error.exc_type)
                    count["failures"] += 1
        count["loads"] += 1

    def stream(self, count: Counter[str], rng: random.Random) -> None:
        with self.runtime.load(SOURCE, "Streamer") as node:
            stream = node.stream([3, 4, 5])
            if rng.random() < 0.5:
                check(list(stream) == [0, 1, 4, 0, 1, 4, 9, 0, 1, 4, 9, 16], "a stream")
            else:  # abandoned
                check(next(iter(stream)) == 0, "a stream's first output")
                stream.close()  # type: ignore[attr-defined]
        count["streams"] += 1
        count["loads"] += 1

    def clone(self, count: Counter[str], rng: random.Random) -> None:
        with self.runtime.restore(cloche.Snapshot.from_bytes(self.saved)) as node:
            node.process(1)
            with node.clone() as twin:
                twin.process(1)
                check((node.get("total"), twin.get("total")) == (8, 9), "clone and original evolve alone")
        count["clones"] += 1

    def awaited(self, count: Counter[str], rng: random.Random) -> None:
        async def main() -> None:
            with self.runtime.load(SOURCE, "Awaiter") as node:
                check(await node.aprocess(41) == 42, "an awaited call")

        asyncio.run(main())
        count["awaited"] += 1
        count["loads"] += 1

    def granted(self, count: Counter[str], rng: random.Random) -> None:
        with self.runtime.load(SOURCE, "Granted", grants=self.grants) as node:
            check(node.process(1000) == 1042, "a service, a mount and /tmp")
        count["granted"] += 1
        count["loads"] += 1

    def recovered(self, count: Counter[str], rng: random.Random) -> None:
        with self.runtime.load(SOURCE, "Breaker", on_break="restart") as node:
            for how in ("exit", "abort"):
                self._expect(node, how)
            check(node.process("nothing") is None, "a node after its breaks")
        count["breaks"] += 2
        count["recovered"] += 1
        count["loads"] += 1

    def rest(self) -> None:
        """Fill the runtime's pool of idle stores, so that every measurement finds the same number of them."""
        for node in [self.runtime.load(SOURCE, "Worker") for _ in range(16)]:
            node.close()

    def close(self) -> None:
        self.steady.close()
        self._folder.cleanup()


@dataclass(frozen=True)
class Weight:
    """The figures of the process at rest.

    Attributes:
        anonymous_bytes: memory that is not backed by a file.
        descriptors: open files.
        threads: threads of the process.
        mappings: lines of /proc/self/maps.
        node_bytes: linear memory of the long-lived node.
    """

    anonymous_bytes: int
    descriptors: int
    threads: int
    mappings: int
    node_bytes: int

    @classmethod
    def now(cls, node: cloche.Node) -> Weight:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        rollup = Path("/proc/self/smaps_rollup").read_text()
        anonymous = next(int(row.split()[1]) for row in rollup.splitlines() if row.startswith("Anonymous:"))
        return cls(
            anonymous << 10,
            len(os.listdir("/proc/self/fd")),
            len(os.listdir("/proc/self/task")),
            len(Path("/proc/self/maps").read_text().splitlines()),
            node.stats.memory_bytes,
        )


def growth(weights: list[Weight]) -> dict[str, float]:
    """By how much each figure has grown: its median over the last quarter of the rounds minus that over the second quarter."""
    quarter = max(1, len(weights) // 4)
    second, last = weights[quarter : 2 * quarter], weights[-quarter:]
    return {name: median(getattr(w, name) for w in last) - median(getattr(w, name) for w in second) for name in GROWTH}


def leaks(weights: list[Weight]) -> dict[str, float]:
    """The growth of the figures that grew by more than GROWTH allows."""
    return {name: grown for name, grown in growth(weights).items() if grown > GROWTH[name]}


class Round:
    """Rounds of work on several threads.

    Args:
        work: the jobs.
        threads: number of threads; the first calls the long-lived node.
        seed: seed of the threads' random numbers.

    Attributes:
        counts: for each thread, how many jobs of each kind it has done.
        errors: errors of the threads, which end the round.
    """

    def __init__(self, work: Work, threads: int, seed: int) -> None:
        mix: list[Callable[[Counter[str], random.Random], None]] = [work.load] * 30
        mix += [work.break_it] * 4 + [work.fail, work.stream, work.clone, work.awaited, work.granted, work.recovered]
        self.counts = [Counter[str]() for _ in range(threads)]
        self._jobs = [[work.call] if index == 0 else mix for index in range(threads)]
        self._rngs = [random.Random(seed * 1000 + index) for index in range(threads)]
        self.errors: list[BaseException] = []

    def run(self, seconds: float) -> None:
        """Work for one round. The first error of a thread is kept in `errors`, and ends the work of all threads."""
        until = time.monotonic() + TOGETHER * seconds
        threads = [threading.Thread(target=self._work, args=(i, until)) for i in range(len(self.counts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._work(0, until + (1 - TOGETHER) * seconds)

    def _work(self, index: int, until: float) -> None:
        rng, jobs, count = self._rngs[index], self._jobs[index], self.counts[index]
        try:
            while time.monotonic() < until and not self.errors:
                rng.choice(jobs)(count, rng)
        except BaseException as error:
            self.errors.append(error)

    @property
    def total(self) -> Counter[str]:
        """How many jobs of each kind all threads have done."""
        return sum(self.counts, Counter())


def soak(
    minutes: Annotated[float, typer.Option(min=0.05, help="Length of the run.")] = 60.0,
    threads: Annotated[int, typer.Option(min=2, help="Number of threads; the first calls one node all the time.")] = 8,
    rounds: Annotated[int, typer.Option(min=8, help="Number of rounds; the process is measured after each.")] = 24,
    seed: Annotated[int, typer.Option(help="Seed of the order of the jobs.")] = 1,
    metering: Annotated[
        str | None, typer.Option(help="Metering of the runtime; Cloche's default if not given.")
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
) -> None:
    """Work for a while with many threads, and fail if anything grows."""
    threading.stack_size(STACK_BYTES)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    console = Console(stderr=True)
    limits = cloche.Limits(deadline_s=60.0)
    options: dict[str, Any] = {} if metering is None else {"metering": metering}
    with cloche.Runtime(limits=limits, **options) as runtime:
        work = Work(runtime)
        jobs = Round(work, threads, seed)
        weights: list[Weight] = []
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("soaking", total=rounds)
            for _ in range(rounds):
                jobs.run(60.0 * minutes / rounds)
                if jobs.errors:
                    raise jobs.errors[0]
                work.rest()
                weights.append(Weight.now(work.steady))
                done = ", ".join(f"{n:,} {what}" for what, n in sorted(jobs.total.items()))
                progress.update(task, advance=1, description=f"{done}; {weights[-1].anonymous_bytes / 2**20:.1f} MiB")
        work.close()
    report(jobs.total, weights)
    grown = leaks(weights)
    if json_path is not None:
        figures: dict[str, Any] = {
            "counts": dict(jobs.total),
            "weights": [asdict(weight) for weight in weights],
            "growth": growth(weights),
            "leaks": grown,
        }
        json_path.write_text(json.dumps(figures, indent=1))
    if grown:
        console.print("grown: " + ", ".join(f"{name} by {value:,.0f}" for name, value in grown.items()))
        sys.exit(1)


def report(counts: Counter[str], weights: list[Weight]) -> None:
    """Print how much work was done, and the figures of the process over the rounds."""
    table = Table("what", "done", "level")
    for what, number in sorted(counts.items()):
        level = LEVELS.get(what)
        table.add_row(
            what, f"{number:,}", "" if level is None else f"{level:,}{'' if number >= level else ' not reached'}"
        )
    Console().print(table)
    table = Table("at rest", "first round", "a quarter", "half", "last round", "grown", "may")
    for name, grown in growth(weights).items():
        places = (0, len(weights) // 4, len(weights) // 2, len(weights) - 1)
        row = [f"{getattr(weights[place], name):,}" for place in places]
        table.add_row(name, *row, f"{grown:,.0f}", f"{GROWTH[name]:,}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(soak)
