"""A guest's failure, made harmless: checked, cleaned, and said to be of the phase that the host knows it was in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, NoReturn

from cloche.errors import NodeLoadError, NodeRaisedError, ProtocolError
from cloche.texts import clean, line, name
from cloche_wire import Failure, Frame, Op
from cloche_wire.failure import MAX_MESSAGE

__all__ = ["raise_failure", "read_failure"]

_LOADING: Final = ("compile", "import", "entry", "init")
_CALLING: Final = ("call", "encode")


def read_failure(value: Any, *, loading: bool) -> Failure:
    """The failure that a guest reported.

    Args:
        value: untrusted.
        loading: whether the node was being loaded. A phase that contradicts it is replaced: the guest may lie.

    Raises:
        ValueError: it is not a failure.
    """
    failure = Failure.from_wire(value)
    phases = _LOADING if loading else _CALLING
    return _cleaned(failure, failure.phase if failure.phase in phases else phases[-1 if loading else 0])


def raise_failure(value: Any, node: str, op: Op = Op.PROCESS) -> NoReturn:
    """Raise what a guest reported. What was under way decides which error it is, whatever the guest says.

    Raises:
        NodeLoadError: the node was being loaded.
        NodeRaisedError: it was called.
        ProtocolError: it is not a failure; the instance has to be closed.
    """
    kind = NodeLoadError if op is Op.LOAD else NodeRaisedError
    try:
        failure = read_failure(value, loading=op is Op.LOAD)
    except ValueError as error:
        raise ProtocolError(f"node {node!r} sent a malformed failure: {error}", node=node) from None
    raise kind(failure, node)


def _cleaned(failure: Failure, phase: str) -> Failure:
    return replace(
        failure,
        phase=phase,
        exc_type=name(failure.exc_type),
        message=clean(failure.message, MAX_MESSAGE + 64),  # a guest that cuts it says so at its end
        frames=tuple(Frame(name(f.file), f.line, name(f.function), line(f.text)) for f in failure.frames),
        cause=_cleaned(failure.cause, phase) if failure.cause else None,
        notes=tuple(map(clean, failure.notes)),
    )
