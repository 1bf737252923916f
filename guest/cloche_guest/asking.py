"""Asks the host, while a request is being worked on, for what the node was granted."""

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
    """The host answers no request of this node."""


def _nobody(_request: list[Any], /) -> None:
    return None


_call: Callable[[list[Any]], Any] = _nobody
_known = 0  # identity of the host that was asked last: a reference would keep it


def bind(call: Callable[[list[Any]], Any] | None) -> Callable[[list[Any]], Any]:
    """Take the function that asks the host (see `_host.Host.call`); None: there is no host. Returns the one before."""
    global _call, _known
    before, _call = _call, call or _nobody
    if _call is not _nobody and id(getattr(_call, "__self__", _call)) != _known:
        forget()
        _known = id(getattr(_call, "__self__", _call))
    return before


def forget() -> None:
    """There is another host, or none any more: what the last one said does not hold."""
    global _known
    _known = 0
    for function in forgets:
        function()


forgets: Final[list[Callable[[], None]]] = []
"""What `forget` calls."""


def ask(request: list[Any]) -> Any:
    """The host's answer.

    Args:
        request: a number of `cloche_wire.Ask`, as a plain int, and its operands.

    Raises:
        NothingGrantedError: there is nothing that the host would be asked for.
        TypeError: an operand cannot be sent.
        ValueError: an operand cannot be sent, or all of it is too large.
        MemoryError: no memory left for the answer.
        Exception: what the host refuses with: a builtin exception; OSError for an errno.
    """
    answer = _call(request)
    if answer is None:
        raise NothingGrantedError("nothing that the host would be asked for is granted to this node")
    granted, value = answer
    if granted:
        return value
    if type(value) is int:
        raise OSError(value, os.strerror(value))
    kind, message = value
    raise _KINDS.get(kind, RuntimeError)(message)
