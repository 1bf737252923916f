"""Times one case in all its contenders, in turns, so that whatever else the machine does falls on all alike.

A turn is a burst of samples of one contender; a round is a turn of each. A sample is one operation, or as many of them as
take `MIN_SAMPLE_NS`: reading the clock then costs less than a percent of it.
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
"""An operation slower than this gets three rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How long to measure.

    Attributes:
        seconds: timed, for each case and contender; slow operations take longer, see MIN_ROUNDS.
        warmup_s: run before, untimed.
    """

    seconds: float = 0.5
    warmup_s: float = 0.1


@dataclass(slots=True)
class Lane:
    """One contender in one case.

    Attributes:
        id: the contender's.
        operation: what is timed; None: see `error`.
        error: why it cannot run, or stopped.
        loops: operations in one sample.
        estimate_s: about what one operation takes.
        rounds: seconds of one operation, by round.
        preempted: samples during which the thread lost the processor.
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
        """It takes no further part."""
        self.operation, self.error, self.rounds = None, _told(error), []


def _told(error: BaseException) -> str:
    told = str(error) if isinstance(error, Unsupported) else f"{type(error).__name__}: {error}"
    return told.strip().splitlines()[0][:300]


def clock_overhead_s() -> float:
    """What reading the clock twice costs: part of every sample."""
    reads = sorted(-(time.perf_counter_ns() - time.perf_counter_ns()) for _ in range(2001))
    return reads[1000] * 1e-9


def verify(lanes: Sequence[Lane], same: Callable[[Any, Any], bool]) -> None:
    """Run each once, twice for state, and compare with the first that runs: whoever computes something else is refused."""
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
    """Fill the lanes' rounds. A lane that fails gets an error instead.

    The host's garbage is collected, and what is left frozen, before the first round; the collector stays on while timing, as
    it does in programs and in the guest.
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
    """Warm up, and choose how many operations a sample has; seconds of one operation."""
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
    """One burst. A short operation is run once before, untimed: it finds the caches as the others left them.

    Samples during which the kernel gave the processor to somebody else say how busy the machine is, and the longer an
    operation, the more of them it has. They are left out and counted, unless the burst has no others.
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
    """How often this thread had to give up the processor. Half a microsecond, outside of what is timed."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw


def _sample(operation: Operation, loops: int) -> float:
    """Seconds of one operation, the mean of `loops`."""
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
