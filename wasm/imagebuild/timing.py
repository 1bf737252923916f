"""Where a build's time goes: processor seconds by stage and by process, and how busy the cores were."""

from __future__ import annotations

import os
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SLOWEST = 25
"""Rows of the table of processes."""


@dataclass(frozen=True)
class Process:
    """One finished tool: a compiler, a linker, ninja.

    Attributes:
        stage: the stage that started it.
        what: what it did, as an error message would say it.
        cpu_s: its user and system time, with that of its own children.
    """

    stage: str
    what: str
    cpu_s: float


class Timing:
    """Collects what a build's stages and processes took. Threads may add to it at the same time."""

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.stages: dict[str, tuple[float, float]] = {}
        self._start = time.monotonic()
        self._own = _own_cpu_s()
        self._idle = machine_idle_s()

    def process(self, stage: str, what: str, cpu_s: float) -> None:
        self.processes.append(Process(stage, what, cpu_s))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Notes when a stage begins and ends."""
        begin = time.monotonic() - self._start
        yield
        self.stages[name] = (begin, time.monotonic() - self._start)

    def table(self) -> str:
        """The stages in the order in which they ended, the slowest processes, the sums."""
        wall = time.monotonic() - self._start
        tools: defaultdict[str, float] = defaultdict(float)
        for process in self.processes:
            tools[process.stage] += process.cpu_s
        lines = [f"{'stage':16} {'begins':>7} {'ends':>7} {'seconds':>7} {'tools':>7}"]
        for name, (begin, end) in sorted(self.stages.items(), key=lambda item: item[1][1]):
            lines.append(f"{name:16} {begin:7.1f} {end:7.1f} {end - begin:7.1f} {tools[name]:7.1f}")
        lines += ["", f"{'CPU s':>7} slowest of {len(self.processes)} processes"]
        slowest = sorted(self.processes, key=lambda process: -process.cpu_s)[:SLOWEST]
        lines += [f"{process.cpu_s:7.1f} {process.stage}: {process.what}" for process in slowest]
        own, cores = _own_cpu_s() - self._own, len(os.sched_getaffinity(0))
        total, idle = own + sum(tools.values()), machine_idle_s() - self._idle

        def share(seconds: float) -> str:
            return f"{seconds / (cores * wall):.0%}"

        lines += [
            "",
            f"{total:.1f} CPU s: {sum(tools.values()):.1f} of tools, {own:.1f} of this process (freezing, checks)",
            f"{wall:.1f} s on {cores} cores: {share(total)} used by the build, {share(idle)} idle, the rest by others",
        ]
        return "\n".join(lines)


def _own_cpu_s() -> float:
    """Processor time of this process, all threads, without its children."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def machine_idle_s() -> float:
    """The time that the machine's cores have been idle since it started, summed over the cores."""
    fields = Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")
