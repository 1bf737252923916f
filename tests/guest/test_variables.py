"""What a call sets, the next one finds: context variables, decimal's context, and all else that one native task would keep."""

from __future__ import annotations

import contextvars

import pytest

from cloche_guest.variables import Variables
from cloche_wire import Op, Reply
from tests.guest.context_programs import PRELUDE, PROGRAMS, natively


@pytest.mark.parametrize("program", PROGRAMS)
def test_calls_see_what_one_native_task_would_see(load, program):
    """Plain and async methods in turn."""
    source, calls = PROGRAMS[program]
    expected = natively(program)

    def run():
        bench = load(PRELUDE + source, "N")
        replies = [bench.send(Op.CALL, name, [], {}) for name in calls]
        assert [kind for kind, _ in replies] == [Reply.RESULT] * len(calls), replies
        return [value for _, value in replies]

    assert contextvars.copy_context().run(run) == expected


def test_stream_sees_what_calls_have_set(load):
    """The generator of a stream is one task, and goes on in the same context."""
    source = PRELUDE + (
        "class N:\n async def initialize(self): var.set('first')\n async def process(self, x):\n  yield var.get()\n  var.set('second')\n  yield var.get()\n"
        " def plain(self): return var.get()"
    )

    def run():
        bench = load(source, "N")
        bench.send(Op.INVOKE, "initialize")
        return bench.stream(0), bench.send(Op.CALL, "plain", [], {})[1]

    assert contextvars.copy_context().run(run) == (["first", "second"], "second")


def test_nothing_is_carried_while_nothing_changes(load):
    """Comparing is all that a call costs then."""
    bench = load(
        "import contextvars\nvar = contextvars.ContextVar('var')\nasync def N(x):\n if x: var.set(x)\n return var.get(0)"
    )

    def run():
        assert bench.process(1) == 1
        known = bench.guest.loop._variables.known
        assert bench.process(0) == 1
        assert bench.guest.loop._variables.known is known

    contextvars.copy_context().run(run)


def test_variable_that_was_removed_is_removed_on_the_other_side():
    """From either side."""
    variables = Variables()
    name = contextvars.ContextVar("name")

    def run():
        token = variables.context.run(name.set, 1)
        variables.carry_to_calls()
        assert name.get() == 1
        variables.context.run(name.reset, token)
        variables.carry_to_calls()
        assert name.get(None) is None
        token = name.set(2)
        variables.carry_to_tasks(contextvars.copy_context())
        assert variables.context.run(name.get) == 2
        name.reset(token)
        variables.carry_to_tasks(contextvars.copy_context())
        assert variables.context.run(name.get, None) is None

    contextvars.copy_context().run(run)
