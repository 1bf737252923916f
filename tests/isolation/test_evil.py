"""Hostile programs in worker processes: the same ends as in the host's own process, and the worker lives on."""

from __future__ import annotations

import pytest

from tests.evil.programs import PROGRAMS
from tests.evil.test_programs import BYSTANDER, attack

pytestmark = pytest.mark.evil

CHOSEN = [program for program in PROGRAMS if program.number in (1, 5, 14, 16, 22, 29, 33, 35, 45, 56)]


@pytest.mark.sampled
@pytest.mark.parametrize("entry", ["init", "process", "finally"])
@pytest.mark.parametrize("program", CHOSEN, ids=str)
def test_program_ends_within_its_limit(runtime, program, entry):
    """One of each kind: loops, memory, recursion, traps, exits, floods."""
    with runtime.load(BYSTANDER) as bystander:
        before = {worker.pid for worker in runtime.workers}
        assert attack(runtime, program, entry) in program.ends
        assert bystander.process(1) == 2
        assert before <= {worker.pid for worker in runtime.workers}
