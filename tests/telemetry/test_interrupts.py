"""An exception at any bytecode of a traced call: the caller's context is as it was, and each span ends, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import cloche
from tests.injection import every, within


@pytest.mark.parametrize("value", [1, "raise"])
def test_an_interrupt_anywhere_leaks_neither_context_nor_span(
    recorded: Any, traced: Callable[..., cloche.Node], thorough: bool, value: object
) -> None:
    """The span whose end was interrupted is ended by the next call, but for one that was interrupted as it was made."""
    from opentelemetry.context import get_current

    node = traced("def f(x):\n    if x == 'raise':\n        raise ValueError('no')\n    return x", name="f")
    where = within("/cloche/telemetry/_calls.py", "/cloche/_runtime/hooks.py")

    def call() -> object:
        try:
            return node.process(value)
        except cloche.NodeRaisedError:
            return "raised"

    call()
    recorded.take()
    before = get_current()
    lost = calls = 0
    for injected in every(call, KeyboardInterrupt, where, step=1 if thorough else 11):
        assert get_current() == before, injected.place
        node.process(2)
        spans = recorded.take()
        assert spans[-1].name == "process f" and spans[-1].status.status_code.name == "UNSET", injected.place
        assert len(spans) <= 2, injected.place
        lost += len(spans) == 1
        calls += 1
    assert calls > 10
    assert lost < calls / 2  # those that were interrupted before there was a span
