"""`Variables`: keeps context variables the same in a node's plain calls and in its coroutines, as if all of them were one task.

Natively a program awaits ``initialize`` and then ``process`` in one task, so what the first sets (a `contextvars.ContextVar`,
decimal's context, numpy's `errstate`) the second finds. Here each call of the host starts a task of its own. All these tasks get
one context, and what is set there is carried to the interpreter's own context, in which plain calls run, and back.
"""

from __future__ import annotations

import contextvars
from contextlib import suppress
from operator import is_
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    _Tokens = dict[contextvars.ContextVar[Any], contextvars.Token[Any]]

_NONE: Final = object()


class Variables:
    """The context of all tasks that the host's calls start.

    The loop compares before and after it runs a task, and has what differs carried.

    Attributes:
        context: that context.
        known: what both sides had when something was last carried.
    """

    __slots__ = ("_in_calls", "_in_tasks", "context", "known")

    def __init__(self) -> None:
        self.context = contextvars.Context()
        self.known = contextvars.Context()
        self._in_calls: _Tokens = {}
        self._in_tasks: _Tokens = {}

    def carry_to_tasks(self, now: contextvars.Context) -> None:
        """Carry what plain calls have set, before a task goes on. Called outside of `context`.

        Args:
            now: a copy of the interpreter's own context.
        """
        _carry(now, self.context, self.context.run, self._in_tasks)
        self.known = self.context.copy()

    def carry_to_calls(self) -> None:
        """Carry what tasks have set, after a task has been suspended. Called outside of `context`."""
        _carry(self.context, contextvars.copy_context(), _call, self._in_calls)
        self.known = self.context.copy()


def same(one: contextvars.Context, other: contextvars.Context) -> bool:
    """Whether two contexts have the same variables with the same objects.

    ``==`` of contexts would compare the objects, and so run code of the node, or fail: an array has no truth value.
    """
    return len(one) == len(other) and all(map(is_, one.values(), other.values())) and all(map(is_, one, other))


def _carry(source: contextvars.Context, target: contextvars.Context, run: Callable[..., Any], tokens: _Tokens) -> None:
    """Set the variables of `source` in `target`, and remove those that had been carried there and have been removed since.

    Args:
        source: has the newer values.
        target: has the older ones.
        run: calls a function in the target.
        tokens: of the variables that were carried to this target; a variable can only be removed with a token.
    """
    for variable, value in source.items():
        if target.get(variable, _NONE) is not value:
            tokens.setdefault(variable, run(variable.set, value))
    for variable in [one for one in tokens if one not in source]:
        with suppress(ValueError, RuntimeError):  # the node has used a token of its own meanwhile
            run(variable.reset, tokens.pop(variable))


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)
