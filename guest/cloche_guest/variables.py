"""`Variables`: keeps context variables the same in a node's plain calls and in its coroutines, as if all of them were one task.

Natively a program awaits ``initialize`` and then ``process`` in one task, so what the first sets (a `contextvars.ContextVar`,
decimal's context, numpy's `errstate`) the second finds. Here each call of the host starts a task of its own. All these tasks get
one context, and what is set there is carried to the interpreter's own context, in which plain calls run, and back.
"""

from __future__ import annotations

import contextvars
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    _Tokens = dict[contextvars.ContextVar[Any], contextvars.Token[Any]]

_NONE: Final = object()


class Variables:
    """The context of all tasks that the host's calls start.

    Attributes:
        context: that context.
    """

    __slots__ = ("_in_calls", "_in_tasks", "_known", "context")

    def __init__(self) -> None:
        self.context = contextvars.Context()
        self._known = contextvars.Context()
        """What both sides had when they were last compared. Comparing costs next to nothing while neither has changed."""
        self._in_calls: _Tokens = {}
        self._in_tasks: _Tokens = {}

    def enter(self) -> None:
        """Carry what plain calls have set to the tasks. Called before a task goes on, outside of `context`."""
        now = contextvars.copy_context()
        if now != self._known:
            _carry(now, self.context, self.context.run, self._in_tasks)
            self._known = self.context.copy()

    def leave(self) -> None:
        """Carry what tasks have set to plain calls. Called after a task has been suspended, outside of `context`."""
        if self.context != self._known:
            _carry(self.context, contextvars.copy_context(), _call, self._in_calls)
            self._known = self.context.copy()


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
