"""`no_thread_is_left`: the threads of a run end with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .run_threads import run_threads


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """Whatever other threads the process has."""
    before = run_threads()
    yield
    for ident, thread in run_threads().items():
        if ident not in before:
            thread.join(60)
    assert run_threads().keys() <= before.keys()
