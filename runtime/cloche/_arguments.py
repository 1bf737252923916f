"""Checks of what callers pass, where they pass it: the error names the argument, and says what to give."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, TypeVar

from cloche.grants import Grants
from cloche.limits import Limits, whole_number

__all__ = ["check_text", "checked", "checked_grants", "checked_limits", "checked_params", "checked_shape"]

T = TypeVar("T")


def checked(name: str, value: Any, kind: type[T], give: str) -> T:
    """The value, if it is of that class.

    Args:
        name: of the argument.
        value: what was passed.
        kind: the class.
        give: what to pass.

    Raises:
        TypeError: it is of another class.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {reprlib.repr(value)}: give {give}")
    return value


def checked_limits(limits: Any) -> Limits:
    """The limits that a caller passed; the default ones for None. Raises as `checked` does."""
    return Limits() if limits is None else checked("limits", limits, Limits, "cloche.Limits(...), or None")


def checked_grants(grants: Any) -> Grants:
    """The grants that a caller passed; grants of nothing for None. Raises as `checked` does."""
    return Grants() if grants is None else checked("grants", grants, Grants, "cloche.Grants(...), or None")


def check_text(name: str, value: Any, what: str) -> None:
    """Refuse what is neither a text nor None.

    Args:
        name: of the argument.
        value: what was passed.
        what: the text says.

    Raises:
        TypeError: it is something else.
    """
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} is {reprlib.repr(value)}: give {what} as a text, or None")


def checked_params(params: Any) -> dict[str, Any]:
    """The keyword arguments of a node's ``__init__``.

    Raises:
        TypeError: they are no mapping, or a name is no text.
    """
    if params is None:
        return {}
    if not isinstance(params, Mapping):
        raise TypeError(f"params is {reprlib.repr(params)}: give a dict of keyword arguments, or None")
    for name in params:
        if not isinstance(name, str):
            raise TypeError(
                f"params has the key {reprlib.repr(name)}: give keyword arguments by name, so that each key is a text"
            )
    return dict(params)


def checked_shape(shape: Any) -> tuple[int, ...]:
    """The dimensions of an array, from a whole number or several.

    Raises:
        TypeError: they are no whole numbers.
        ValueError: one is negative.
    """
    try:
        dims = (
            tuple(map(_whole, shape))
            if hasattr(shape, "__len__") and not isinstance(shape, (str, bytes))
            else (_whole(shape),)
        )
    except TypeError:
        raise TypeError(f"shape is {reprlib.repr(shape)}: give a whole number, or a tuple of them") from None
    if any(length < 0 for length in dims):
        raise ValueError(f"shape is {reprlib.repr(shape)}: give lengths from 0 up")
    return dims


def _whole(length: Any) -> int:
    number = whole_number(length)
    if number is None:
        raise TypeError
    return number
