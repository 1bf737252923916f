"""Reads the failures that guests report. Their text is cleaned, and a phase that contradicts the host's knowledge is replaced."""

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
    """Check and clean a failure that a guest reported.

    Args:
        value: the value of the guest's reply, untrusted.
        loading: whether the node was being loaded. If the failure's phase contradicts that, it is replaced: the guest may lie.

    Raises:
        ValueError: the value is not a failure.
    """
    failure = Failure.from_wire(value)
    phases = _LOADING if loading else _CALLING
    return _cleaned(failure, failure.phase if failure.phase in phases else phases[-1 if loading else 0])


def raise_failure(value: Any, node: str, op: Op = Op.PROCESS) -> NoReturn:
    """Raise the error for a failure that a guest reported. The host's message decides on its class, not the guest.

    Args:
        value: the value of the guest's reply, untrusted.
        node: the node's name.
        op: the message to which the guest replied.

    Raises:
        NodeLoadError: `op` is LOAD.
        NodeRaisedError: `op` is another message.
        ProtocolError: the value is not a failure. The caller has to close the instance.
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
        message=clean(
            failure.message, MAX_MESSAGE + 64
        ),  # 64 more: a guest that cuts a message appends a note about it
        frames=tuple(Frame(name(f.file), f.line, name(f.function), line(f.text)) for f in failure.frames),
        cause=_cleaned(failure.cause, phase) if failure.cause else None,
        notes=tuple(map(clean, failure.notes)),
    )
