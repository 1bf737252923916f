"""Errors as data: a worker describes an exception, and the host rebuilds it from a fixed table of classes."""

from __future__ import annotations

from typing import Any, Final

from cloche import errors
from cloche._codec import decode_record, write_cbor
from cloche._wasm import NoRoomError
from cloche.texts import clean

__all__ = ["describe", "rebuild"]

_CLASSES: Final[dict[str, type[errors.ClocheError]]] = {
    kind.__name__: kind
    for kind in (
        errors.BrokenInstanceError,
        errors.ClocheError,
        errors.ClosedError,
        errors.DeadlineError,
        errors.EncodeError,
        errors.FuelError,
        errors.GuestExitError,
        errors.GuestTrapError,
        errors.HardDeadlineError,
        errors.HardInterruptedError,
        errors.InternalError,
        errors.OutputError,
        errors.ProtocolError,
        NoRoomError,
    )
}
_NUMBER: Final = (int, float, type(None))
_FACTS: Final[dict[type[errors.ClocheError], dict[str, tuple[type, ...]]]] = {
    errors.LimitError: {"limit": (str,), "value": (int, float), "reached": (int, float)},
    errors.EncodeError: {"limit": (str,), "value": _NUMBER, "reached": _NUMBER},
    errors.DeadlineError: {"guest_traceback": (str,)},
    errors.GuestTrapError: {"trap_code": (str,), "guest_traceback": (str,)},
    errors.GuestExitError: {"code": (int,)},
}
_MAX_TEXT: Final = 2000


def _facts(kind: type[errors.ClocheError]) -> dict[str, tuple[type, ...]]:
    return {name: types for base, facts in _FACTS.items() if issubclass(kind, base) for name, types in facts.items()}


def describe(error: BaseException, closed: bool) -> bytes:
    """Describe an exception as a frame for `rebuild`. An exception of an unknown class is a bug of Cloche: an InternalError.

    Args:
        error: the exception raised in the worker.
        closed: whether the instance can no longer be used.
    """
    kind = next((base for base in type(error).__mro__ if _CLASSES.get(base.__name__) is base), None)
    if kind is None:
        return write_cbor(["InternalError", f"a worker failed: {error!r}"[:_MAX_TEXT], closed, {}])
    facts = {name: getattr(error, name) for name in _facts(kind)}
    return write_cbor([kind.__name__, Exception.__str__(error)[:_MAX_TEXT], closed, facts])


def rebuild(frame: bytes, node: str) -> tuple[errors.ClocheError, bool]:
    """The exception that a worker described, and whether the instance is closed. The frame is hostile input.

    Raises:
        ValueError: the frame describes no exception.
    """
    match decode_record(frame):
        case [str(name), str(text), bool(closed), dict(facts)] if name in _CLASSES:
            kind = _CLASSES[name]
        case _:
            raise ValueError("not an error")
    wanted = _facts(kind)
    if facts.keys() != wanted.keys() or any(type(facts[key]) not in types for key, types in wanted.items()):
        raise ValueError(f"not the facts of a {name}")
    text = clean(text[:_MAX_TEXT])
    known: dict[str, Any] = {key: clean(fact) if isinstance(fact, str) else fact for key, fact in facts.items()}
    if issubclass(kind, errors.BrokenInstanceError):
        return kind(text, node=node, **known), True
    return kind(text, **known), closed
