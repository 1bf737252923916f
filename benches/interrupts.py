"""Stops guests at random moments of seventeen kinds of work, many times and on many threads, and says how late each stop came.

A stop at a wrong place in the code would end the whole process (docs/explanation/architecture.md, "Time"). So a run of 100,000
stops that ends at all is the proof of `metering="guard"`; `--metering epoch` shows the lateness of epochs for comparison. After
every stop the program checks the error and that the node is broken, and after every hundredth that another node still works.
Meanwhile a thread of the host writes to arrays that lie in the linear memory of guests that are being stopped. The exit code is 1
if a check failed.

Timed: from the deadline to the moment that the caller has the error. Not timed: restoring the node before its call.

    .venv/bin/python -m benches.interrupts --count 100000 --threads 8
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import structlog
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import cloche

KINDS: Final = {
    "loop": "while True: x += 1",
    "calls": "def g(a, *b, c=1): return a\nwhile True: g(1, 2, c=3)",
    "recursion": "def r(n): return n and r(n - 1)\nwhile True: r(150)",
    "exceptions": "while True:\n    try: {}['no']\n    except KeyError as e: x = e",
    "objects": "class A:\n    def __init__(self): self.a = [self]\nwhile True: x = A()",
    "integers": "x = 3\nwhile True: x = x * x % (10 ** 3000 + 7)",
    "strings": "while True: x = ' '.join(str(i) for i in range(200)).upper().split()",
    "regex": "import re; re.match('(a*)*b', 'a' * 60)",
    "sort": "import random; a = [random.random() for _ in range(2000)]\nwhile True: sorted(a)",
    "json": "import json; a = {str(i): [i, 'x' * i, None] for i in range(60)}\nwhile True: json.loads(json.dumps(a))",
    "zlib": "import zlib; a = bytes(range(256)) * 100\nwhile True: zlib.decompress(zlib.compress(a))",
    "hash": "import hashlib; a = bytes(100_000)\nwhile True: hashlib.sha256(a).digest()",
    "memory": "while True:\n    a = []\n    for i in range(40): a.append(bytearray(1 << 16)); a[-1][::64] = bytes(1024)",
    "logs": "import logging\nwhile True: logging.warning('x', extra={'a': 1}); print('y')",
    "matmul": "import numpy as np; a = np.ones((120, 120))\nwhile True: a @ a",
    "services": "from cloche_guest import services\nwhile True: x = services.echo([1, 'x' * 100, {'a': 2.5}])",
    "numpy": "import numpy as np; a = np.arange(20_000.0)\nwhile True: np.sort(np.sin(a[::-1]) + a.cumsum())[a > 3].copy()",
}
SOURCE: Final = cloche.Source(
    f"KINDS = {KINDS!r}\nclass N:\n    def process(self, kind):\n        if kind == 'turn': return kind\n        exec(KINDS[kind], {{'x': 0}})\n",
    "interrupts.py",
)
BYSTANDER: Final = cloche.Source("def f(x): return x + 1", "bystander.py")
GRANTS: Final = cloche.Grants(services={"echo": lambda value: value})
SHORTEST_S: Final = 0.001
LONGEST_S: Final = 0.008


@dataclass
class Tally:
    """The results so far. Shared by the threads.

    Attributes:
        late_s: for each stop, the seconds from its deadline to the moment that the caller had the error.
        wrong: a description of each check that failed.
        interrupted: number of guests that ended by themselves, within their grace.
        loading: number of guests that were stopped while they loaded the node.
        buffers: arrays in the linear memory of the latest guests.
    """

    late_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    interrupted: int = 0
    loading: int = 0
    buffers: deque[Any] = field(default_factory=lambda: deque(maxlen=16))

    @property
    def count(self) -> int:
        """Number of guests that were stopped or interrupted."""
        return len(self.late_s)

    def quantile(self, share: float) -> float:
        """The quantile of the lateness, in seconds; `share` is from 0 to 1."""
        return sorted(self.late_s)[int(share * (self.count - 1))] if self.late_s else 0.0


def interrupt(
    runtime: cloche.Runtime,
    kind: str,
    deadline_s: float,
    tally: Tally,
    saved: cloche.Snapshot | None,
    grace_s: float = 0.0,
) -> None:
    """Stop one guest at its deadline, at whatever place in its code it has reached.

    Args:
        runtime: the runtime that makes the guest.
        kind: the guest's work, a key of KINDS.
        deadline_s: deadline of loading and of the call, in seconds.
        tally: the results, to which this one is added.
        saved: a snapshot of the node, to be restored; None to load the node, which the deadline may stop.
        grace_s: seconds that the guest has to end by itself after the notice; 0 to stop it without a notice.
    """
    node = None
    limits = cloche.Limits(
        deadline_s=deadline_s, load_s=deadline_s, grace_s=grace_s, memory_bytes=96 << 20, output_bytes=(1 << 31) - 1
    )
    began = time.perf_counter()
    try:
        if saved is None:
            node = runtime.load(SOURCE, "N", limits=limits, grants=GRANTS)
        else:
            node = runtime.restore(saved, limits=limits, grants=GRANTS, reseed=False)
            tally.buffers.append(node.buffer(5_000))
        began = time.perf_counter()
        node.process(kind)
        tally.wrong.append(f"{kind}: returned")
    except cloche.DeadlineError as error:
        hard = isinstance(error, cloche.HardDeadlineError)
        tally.late_s.append(time.perf_counter() - began - deadline_s - (grace_s if hard else 0.0))
        tally.interrupted += not hard
        if not (hard or grace_s):
            tally.wrong.append(f"{kind}: was not stopped")
        if node is None:
            tally.loading += 1
        elif node.broken is not hard:
            tally.wrong.append(f"{kind}: the node is {'' if node.broken else 'not '}broken after {error}")
        elif not hard:
            node._sandbox.limit_next_calls(60)
            if node.process("turn") != "turn":
                tally.wrong.append(f"{kind}: the node is not usable")
    except Exception as error:
        tally.wrong.append(f"{kind}: {error!r}")
    finally:
        if node is not None:
            node.__cloche__.discard()


def interrupt_all(
    runtime: cloche.Runtime, *, count: int, threads: int, tally: Tally, seed: int = 0, grace_s: float = 0.0
) -> None:
    """Stop many guests.

    Args:
        runtime: the runtime that makes the guests.
        count: number of guests. They do the kinds of work in turn.
        threads: number of threads that stop guests.
        tally: the results.
        seed: decides the deadlines, from SHORTEST_S to LONGEST_S.
        grace_s: as for `interrupt`.
    """
    kinds = list(KINDS)
    numbers = iter(range(count))
    lock = threading.Lock()
    done = threading.Event()
    with runtime.load(SOURCE, "N", grants=GRANTS, limits=cloche.Limits(deadline_s=60)) as node:
        saved = node.snapshot()

    def touch() -> None:
        while not done.wait(0.001):
            for buffer in tuple(tally.buffers):
                buffer[::512] = buffer[-1] + 1

    def work(luck: random.Random) -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            interrupt(
                runtime,
                kinds[number % len(kinds)],
                luck.uniform(SHORTEST_S, LONGEST_S),
                tally,
                saved if number % 8 else None,
                grace_s,
            )
            if not number % 100:
                with runtime.load(BYSTANDER, limits=cloche.Limits(deadline_s=60)) as node:
                    if node.process(number) != number + 1:
                        tally.wrong.append("the bystander")

    workers = [threading.Thread(target=work, args=(random.Random(f"{seed} {n}"),)) for n in range(threads)]
    toucher = threading.Thread(target=touch)
    for worker in (toucher, *workers):
        worker.start()
    for worker in workers:
        worker.join()
    done.set()
    toucher.join()


def main(
    count: Annotated[int, typer.Option(help="Guests to stop.")] = 1_000,
    threads: Annotated[int, typer.Option(help="Threads that stop guests.")] = 8,
    metering: Annotated[str, typer.Option(help="guard or epoch.")] = "guard",
    seed: Annotated[int, typer.Option(help="Seed of the random deadlines.")] = 0,
    grace: Annotated[
        float, typer.Option(help="Seconds that a guest has to end by itself; 0: it is stopped at once.")
    ] = 0.0,
) -> None:
    """Stop guests at random moments."""
    quiet = structlog.wrap_logger(None, processors=[_drop])
    tally = Tally()
    began = time.perf_counter()
    with (
        cloche.Runtime(metering=metering, logger=quiet, progress=lambda text: None) as runtime,  # type: ignore[arg-type]  # checked there
        Progress(console=Console(stderr=True), transient=True) as progress,
    ):
        bar = progress.add_task(f"{metering}, {threads} threads", total=count)
        done = threading.Event()

        def show() -> None:
            while not done.wait(0.5):
                progress.update(bar, completed=tally.count)

        shower = threading.Thread(target=show)
        shower.start()
        try:
            interrupt_all(runtime, count=count, threads=threads, tally=tally, seed=seed, grace_s=grace)
        finally:
            done.set()
            shower.join()
    table = Table(
        "metering",
        "threads",
        "stopped",
        "interrupted",
        "in loading",
        "wrong",
        "median late",
        "p99 late",
        "worst",
        "took",
    )
    late = (f"{tally.quantile(share) * 1e3:.2f} ms" for share in (0.5, 0.99, 1))
    took = f"{time.perf_counter() - began:.0f} s"
    table.add_row(
        metering,
        str(threads),
        str(tally.count),
        str(tally.interrupted),
        str(tally.loading),
        str(len(tally.wrong)),
        *late,
        took,
    )
    Console().print(table)
    for text in tally.wrong[:20]:
        print(text, file=sys.stderr)
    raise typer.Exit(1 if tally.wrong or tally.count != count else 0)


def _drop(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    raise structlog.DropEvent


if __name__ == "__main__":
    typer.run(main)
