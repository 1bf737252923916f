"""Makes requests of the host (services, files), on behalf of the node and during its calls."""

from __future__ import annotations

import builtins
import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_KINDS: Final = {
    name: kind for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)
}


class NothingGrantedError(LookupError):
    """The node has no grants, so the host answers none of its requests."""


def _nobody(_request: list[Any], /) -> None:
    return None


_call: Callable[[list[Any]], Any] = _nobody
_known = 0  # id of the last host; a reference would keep the host alive


def bind(call: Callable[[list[Any]], Any] | None) -> Callable[[list[Any]], Any]:
    """Set the function that makes requests (`_host.Host.call`); None: there is no host. Returns the previous function."""
    global _call, _known
    before, _call = _call, call or _nobody
    if _call is not _nobody and id(getattr(_call, "__self__", _call)) != _known:
        forget()
        _known = id(getattr(_call, "__self__", _call))
    return before


def forget() -> None:
    """Drop cached answers of the previous host, after the host has changed."""
    global _known
    _known = 0
    for function in forgets:
        function()


forgets: Final[list[Callable[[], None]]] = []
"""Functions that `forget` calls; modules that cache answers append theirs."""


def ask(request: list[Any]) -> Any:
    """Make a request, and return the value of the host's answer.

    Args:
        request: a number of `cloche_wire.Ask` as a plain int, followed by the operands.

    Raises:
        NothingGrantedError: the node has no grants.
        TypeError: an operand has a type that cannot be sent.
        ValueError: an operand has a value that cannot be sent, or the request is too large.
        MemoryError: no memory is left for the answer.
        Exception: the host refused the request: a builtin exception, or OSError for an errno.
    """
    answer = _call(request)
    if answer is None:
        raise NothingGrantedError("this node has no grants, so the host answers none of its requests")
    granted, value = answer
    if granted:
        return value
    if type(value) is int:
        raise OSError(value, os.strerror(value))
    kind, message = value
    raise _KINDS.get(kind, RuntimeError)(message)
