"""Every hostile program at every entry point: it ends by its own limit, and the next sandbox is unharmed."""

from __future__ import annotations

import textwrap
import threading
from dataclasses import replace

import pytest

import cloche

from .mounted import MOUNTED
from .programs import PROGRAMS, Program

pytestmark = pytest.mark.evil

LIMITS = cloche.Limits(
    deadline_s=0.5,
    load_s=0.5,
    grace_s=0,
    memory_bytes=96 << 20,
    output_bytes=100_000,
    log_records=100,
    reply_bytes=1 << 20,
    value_nodes=10_000,
)
PATIENT = replace(LIMITS, deadline_s=60.0, load_s=60.0)
"""For a program that something else than the deadline ends."""
ENTRIES = ("import", "init", "initialize", "process", "generator", "finally", "flush", "cleanup")
EXPECTED = {
    "deadline": cloche.DeadlineError,
    "memory": cloche.NodeError,
    "node": cloche.NodeError,
    "trap": cloche.GuestTrapError,
    "exit": cloche.GuestExitError,
    "output": cloche.OutputError,
    "protocol": cloche.ProtocolError,
}
BYSTANDER = cloche.Source("class N:\n    def process(self, x):\n        return x + 1\n")


def source(program: Program, entry: str) -> cloche.Source:
    """A node that attacks there and nowhere else."""
    calls = {name: "evil()" if name == entry else "pass" for name in ENTRIES}
    return cloche.Source(
        f"def evil():\n{textwrap.indent(program.body, '    ')}\n"
        f"{calls['import']}\n"
        "class N:\n"
        f"    def __init__(self):\n        {calls['init']}\n"
        f"    def initialize(self):\n        {calls['initialize']}\n"
        + (
            f"    def process(self, x):\n        try:\n            yield x\n            {calls['generator']}\n"
            f"        finally:\n            {calls['finally']}\n"
            if entry in ("generator", "finally")
            else f"    def process(self, x):\n        {calls['process']}\n        return x\n"
        )
        + f"    def flush(self):\n        {calls['flush']}\n"
        f"    def cleanup(self):\n        {calls['cleanup']}\n"
    )


def attack(
    runtime: cloche.Runtime, program: Program, entry: str, grants: cloche.Grants | None = None, grace_s: float = 0.0
) -> str:
    """Run it through the whole life of a node; how it ended."""
    node = None
    limits = replace(LIMITS, grace_s=grace_s) if "deadline" in program.ends else PATIENT
    try:
        node = runtime.load(source(program, entry), "N", limits=limits, grants=grants)
        node.initialize()
        if entry in ("generator", "finally"):
            stream = node.stream([1])
            next(stream)
            if entry == "generator":
                list(stream)
            stream.close()
        else:
            node.process(1)
        node.flush()
        node.close()
        return "value"
    except cloche.ClocheError as error:
        for end, kind in EXPECTED.items():
            if end in program.ends and isinstance(error, kind):
                assert (
                    not isinstance(error, cloche.BrokenInstanceError)
                    or node is None
                    or node.broken
                    or node.__cloche__.closed
                )
                if end == "deadline":
                    assert error.limit == ("load_s" if entry in ("import", "init") else "deadline_s")
                return end
        raise
    finally:
        if node is not None:
            node.__cloche__.discard()


def test_a_program_that_the_deadline_ends_ends_in_no_other_way():
    """Else the machine's speed would decide how it ends."""
    programs = [*PROGRAMS, *MOUNTED]
    assert [program for program in programs if "deadline" in program.ends and len(program.ends) > 1] == []


@pytest.mark.sampled
@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_program_ends_within_its_limit(runtime, program, entry):
    """With the right error class; another node answers afterwards."""
    ended = attack(runtime, program, entry)
    assert ended in program.ends
    with runtime.load(BYSTANDER) as node:
        assert node.process(1) == 2


@pytest.mark.sampled
@pytest.mark.parametrize("entry", ["process", "finally"])
@pytest.mark.parametrize("program", [program for program in PROGRAMS if "deadline" in program.ends], ids=str)
def test_program_of_endless_time_ends_under_epochs_too(epoch_runtime, program, entry):
    """Code with checks, where it is not the default."""
    ended = attack(epoch_runtime, program, entry)
    assert ended in program.ends
    with epoch_runtime.load(BYSTANDER) as node:
        assert node.process(1) == 2


@pytest.mark.sampled
@pytest.mark.timeout(600)
@pytest.mark.parametrize("grace_s", [0.0, 0.1], ids=["hard", "soft"])
@pytest.mark.parametrize("metering", ["epoch", "guard"])
def test_all_programs_on_eight_threads(request, metering, grace_s):
    """Faults in one thread never surface in another one. A program that was interrupted may answer within its grace."""
    runtime = request.getfixturevalue("epoch_runtime" if metering == "epoch" else "runtime")
    jobs = list(PROGRAMS)
    wrong: list[str] = []
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not jobs:
                    return
                program = jobs.pop()
            try:
                ended = attack(runtime, program, "process", grace_s=grace_s)
                if ended not in program.ends and not (grace_s and ended == "value" and "deadline" in program.ends):
                    wrong.append(f"{program}: {ended}")
                with runtime.load(BYSTANDER) as node:
                    if node.process(1) != 2:
                        wrong.append(f"{program}: the bystander")
            except BaseException as error:
                wrong.append(f"{program}: {error!r}")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
