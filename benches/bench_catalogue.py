"""Every case of ``cloche bench``, natively and in the sandbox, as a bench of pytest-benchmark.

``cloche bench`` runs the contenders in turns and reports confidence intervals. This file runs the same cases for the tools of
pytest-benchmark (``--benchmark-autosave``, ``--benchmark-compare``). Timed: the case's operation. Not timed: loading, unless the
case is about loading; and what undoes an operation before it can run again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cloche_bench import cases
from cloche_bench.case import Case
from cloche_bench.contender import Contender
from cloche_bench.native import Native
from cloche_bench.sandboxes import ClocheContender
from cloche_bench.suite import close_to

CASES, _ = cases.catalogue()
EXPECTED: dict[str, Any] = {}


@pytest.fixture(scope="session")
def made() -> Iterator[dict[str, Contender]]:
    """The contenders by name: native CPython, and Cloche with metering "epoch"."""
    found: dict[str, Contender] = {
        "native": Native(),
        "epoch": ClocheContender("epoch"),
    }
    yield found
    for contender in found.values():
        contender.close()


SLOW = {f"pyperformance/{name}" for name in ("fannkuch", "generators", "pidigits", "raytrace", "regex_dna", "scimark")}


@pytest.mark.sampled
@pytest.mark.parametrize("contender", ["native", "epoch"])
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.id, marks=[pytest.mark.thorough] * (case.id in SLOW)) for case in CASES]
)
def bench_case(benchmark: Any, made: dict[str, Contender], case: Case, contender: str) -> None:
    """One case with one contender. The first result of each contender has to be the same."""
    benchmark.group = case.id
    where = made[contender]
    try:
        operation = case.operation(where)
        first = operation.run()
        if operation.after:
            operation.after()
        assert close_to(EXPECTED.setdefault(case.id, first), first, exact=case.exact)
        if operation.after:
            benchmark.pedantic(operation.run, teardown=operation.after, rounds=100)
        else:
            benchmark(operation.run)
    finally:
        where.release()
