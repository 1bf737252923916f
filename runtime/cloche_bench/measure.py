"""Times one case in all contenders, in turns, so that everything else that the machine does slows all of them alike.

A turn is a burst of samples of one contender; a round is one turn of each contender. A sample is one operation, or as many
operations as take `MIN_SAMPLE_NS`, so that reading the clock takes less than a percent of it.
"""

from __future__ import annotations

import gc
import random
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from cloche_bench.operations import Operation, Unsupported

__all__ = ["Lane", "Settings", "clock_overhead_s", "measure", "verify"]

MIN_SAMPLE_NS: Final = 20_000
MIN_ROUNDS: Final = 6
ROUNDS: Final = 15
MAX_BATCH: Final = 400
SLOW_S: Final = 1.0
"""Seconds. If one operation takes longer, the case has three rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How long to measure.

    Attributes:
        seconds: how long each case is timed in each contender. Slow operations take longer: there are at least MIN_ROUNDS.
        warmup_s: how long the operation is run before that.
    """

    seconds: float = 0.5
    warmup_s: float = 0.1


@dataclass(slots=True)
class Lane:
    """One contender in one case.

    Attributes:
        id: the contender's.
        operation: what is timed; None if the contender cannot run the case.
        error: why the contender cannot run the case, or why it failed.
        loops: number of operations in one sample.
        estimate_s: about how long one operation takes.
        rounds: the samples of each round: seconds of one operation.
        preempted: number of samples during which the kernel took the processor from this thread.
        spent_s: seconds that the case has taken in this contender, timed or not.
    """

    id: str
    operation: Operation | None = None
    error: str = ""
    loops: int = 1
    estimate_s: float = 0.0
    rounds: list[list[float]] = field(default_factory=list)
    preempted: int = 0
    spent_s: float = 0.0

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Add the time that the block takes to `spent_s`; an exception that it raises ends the contender's part in the case."""
        began = time.perf_counter()
        try:
            yield
        except Exception as error:
            self.fail(error)
        finally:
            self.spent_s += time.perf_counter() - began

    def fail(self, error: BaseException) -> None:
        """Take no further part in the case."""
        self.operation, self.error, self.rounds = None, _told(error), []


def _told(error: BaseException) -> str:
    told = str(error) if isinstance(error, Unsupported) else f"{type(error).__name__}: {error}"
    return told.strip().splitlines()[0][:300]


def clock_overhead_s() -> float:
    """Seconds that reading the clock twice takes: part of every sample."""
    reads = sorted(-(time.perf_counter_ns() - time.perf_counter_ns()) for _ in range(2001))
    return reads[1000] * 1e-9


def verify(lanes: Sequence[Lane], same: Callable[[Any, Any], bool]) -> None:
    """Run each operation twice, untimed, and compare its results with those of the first contender that can run it.

    A contender with other results is refused. The second run finds a node whose state is not kept.
    """
    reference: list[Any] | None = None
    for lane in lanes:
        if lane.operation is None:
            continue
        results = []
        with lane.spending():
            for _ in range(2):
                results.append(lane.operation.run())
                if lane.operation.after:
                    lane.operation.after()
        if lane.error:
            continue
        if reference is None:
            reference = results
        elif not same(results, reference):
            lane.fail(ValueError(f"refused, for its result differs: {_short(results)} instead of {_short(reference)}"))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def measure(lanes: Sequence[Lane], settings: Settings, rng: random.Random) -> None:
    """Time the operations: fills `Lane.rounds`, or `Lane.error` if the operation fails.

    Before the first round the host's garbage is collected, and the objects that are left are frozen. While timing, the
    collector is on, as it is in programs and in the guest.
    """
    slowest = 0.0
    for lane in _live(lanes):
        slowest = max(slowest, _prepare(lane, settings))
    rounds = 3 if slowest > SLOW_S else MIN_ROUNDS
    gc.collect()
    gc.freeze()
    try:
        began = time.perf_counter()
        budget = settings.seconds * len(lanes)
        order = list(range(len(lanes)))
        done = 0
        while done < rounds or (done < ROUNDS and time.perf_counter() - began < budget):
            rng.shuffle(order)
            for index in order:
                lane = lanes[index]
                if lane.operation is not None:
                    with lane.spending():
                        lane.rounds.append(_turn(lane, settings.seconds / ROUNDS))
            done += 1
    finally:
        gc.unfreeze()


def _live(lanes: Sequence[Lane]) -> list[Lane]:
    return [lane for lane in lanes if lane.operation is not None]


def _prepare(lane: Lane, settings: Settings) -> float:
    """Warm up, and choose how many operations a sample has; returns the seconds that one operation takes."""
    operation = lane.operation
    assert operation is not None
    with lane.spending():
        loops, spent = 1, 0.0
        while True:
            took = _sample(operation, loops)
            spent += took * loops
            if took * loops * 1e9 < MIN_SAMPLE_NS and operation.after is None:
                loops *= 2
            elif spent >= settings.warmup_s:
                break
        lane.loops, lane.estimate_s = loops, took
    return lane.estimate_s


def _turn(lane: Lane, seconds: float) -> list[float]:
    """The samples of one turn.

    A short operation is run once before them, untimed, since the other contenders have just filled the caches.

    Samples during which the kernel gave the processor to another program show how busy the machine is, and long operations have
    more of them than short ones. So they are counted and left out, unless the turn has no others.
    """
    operation, loops = lane.operation, lane.loops
    assert operation is not None
    if lane.estimate_s * loops < seconds:
        _sample(operation, loops)
    end = time.perf_counter() + seconds
    clean: list[float] = []
    preempted: list[float] = []
    while not (clean or preempted) or (len(clean) < MAX_BATCH and time.perf_counter() < end):
        before = _preemptions()
        sample = _sample(operation, loops)
        (clean if _preemptions() == before else preempted).append(sample)
    lane.preempted += len(preempted)
    return clean or preempted


def _preemptions() -> int:
    """How often the kernel took the processor from this thread so far. Reading it takes half a microsecond, which is not timed."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw


def _sample(operation: Operation, loops: int) -> float:
    """Seconds of one operation, the mean over `loops` of them."""
    if operation.timed is not None:
        return operation.timed(loops) / loops
    run, after = operation.run, operation.after
    clock = time.perf_counter_ns
    if after is not None:
        began = clock()
        run()
        took = clock() - began
        after()
        return took * 1e-9
    if loops == 1:
        began = clock()
        run()
        return (clock() - began) * 1e-9
    times = range(loops)
    began = clock()
    for _ in times:
        run()
    return (clock() - began) * 1e-9 / loops
