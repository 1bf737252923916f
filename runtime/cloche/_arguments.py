"""Checks of the arguments of public functions. Each error names the argument, shows its value, and says what to give instead."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Mapping
from typing import Any, TypeVar

from cloche.grants import Grants
from cloche.limits import Limits, any_float, whole_number
from cloche.metering import Metering
from cloche.texts import short

__all__ = [
    "check_text",
    "checked",
    "checked_callback",
    "checked_count",
    "checked_grants",
    "checked_limits",
    "checked_metered",
    "checked_method",
    "checked_params",
    "checked_seconds",
    "checked_shape",
]

T = TypeVar("T")


def checked(name: str, value: Any, kind: type[T], give: str) -> T:
    """Check the class of an argument, and return its value.

    Args:
        name: of the argument, for the error.
        value: what was passed.
        kind: the class that the value must be an instance of.
        give: what to pass instead, for the error.

    Raises:
        TypeError: the value is not an instance of `kind`.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {reprlib.repr(value)}: give {give}")
    return value


def checked_limits(limits: Any) -> Limits:
    """The limits that a caller passed; the default ones for None. Raises as `checked` does."""
    if isinstance(limits, Mapping):
        given = ", ".join(f"{name}={short(value)}" for name, value in list(limits.items())[:10])
        raise TypeError(f"limits is a {type(limits).__name__}: give cloche.Limits({given})")
    return Limits() if limits is None else checked("limits", limits, Limits, "cloche.Limits(...), or None")


def checked_metered(limits: Limits, metering: Metering) -> Limits:
    """The limits, if the metering enforces them: fuel is burned under ``metering="fuel"`` alone.

    Raises:
        ValueError: the limits bound the fuel, and nothing counts it.
    """
    if limits.fuel is not None and metering != "fuel":
        raise ValueError(
            f"Limits.fuel is {limits.fuel}, and metering={metering!r} counts no instructions: "
            "make the runtime with metering='fuel', or leave fuel out"
        )
    return limits


def checked_grants(grants: Any) -> Grants:
    """The grants that a caller passed; grants of nothing for None. Raises as `checked` does, without what may be secret."""
    if grants is not None and not isinstance(grants, Grants):
        names = ", ".join(f"{name}=..." for name in list(grants)[:10]) if isinstance(grants, Mapping) else "..."
        raise TypeError(f"grants is of type {type(grants).__name__}: give cloche.Grants({names}), or None")
    return Grants() if grants is None else grants


def checked_seconds(name: str, value: Any) -> float | None:
    """A number of seconds, 0 or more; or None.

    Args:
        name: of the argument, for the error.
        value: what was passed.

    Raises:
        TypeError: the value is neither a number nor None.
        ValueError: the number is negative, or no number.
    """
    if value is None:
        return None
    seconds = any_float(value)
    if seconds is None:
        raise TypeError(f"{name} is {short(value)}: give a number of seconds, or None")
    if not seconds >= 0:
        raise ValueError(f"{name} is {seconds}: give 0 or more")
    return seconds


def check_text(name: str, value: Any, what: str) -> None:
    """Check that an argument is a string or None.

    Args:
        name: of the argument, for the error.
        value: what was passed.
        what: what the string stands for, for the error.

    Raises:
        TypeError: the value is neither.
    """
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} is {reprlib.repr(value)}: give {what} as a text, or None")


def checked_callback(name: str, value: Any, what: str) -> Any:
    """Check that an argument is a plain function, and return it.

    Args:
        name: of the argument, for the error.
        value: what was passed.
        what: what the function is called with.

    Raises:
        TypeError: it cannot be called, or it is an ``async def`` function, whose coroutine nobody would await.
    """
    if not callable(value):
        raise TypeError(f"{name} is {short(value)}: give a function that takes {what}, or None")
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(getattr(value, "__call__", None)):  # noqa: B004  # an object
        raise TypeError(
            f"{name} is an async function: give a plain one. It runs on a thread of its own, from which "
            "loop.call_soon_threadsafe(...) reaches an event loop"
        )
    return value


def checked_method(name: Any) -> str:
    """The name of a public method of a node.

    Raises:
        TypeError: it is not a text.
        ValueError: it is not a name, or begins with an underscore.
    """
    text = checked("method", name, str, "the name of a method of the node, as in node.call('reset')")
    if not text.isidentifier() or text.startswith("_"):
        raise ValueError(
            f"method is {reprlib.repr(text)}: give the name of a public method, without a leading underscore"
        )
    return text


def checked_count(name: str, value: Any, lowest: int = 1) -> int:
    """Check a whole number, and return it as a plain int.

    Args:
        name: of the argument, for the error.
        value: what was passed.
        lowest: the least that it may be.

    Raises:
        TypeError: the value is no whole number.
        ValueError: the number is too low.
    """
    number = whole_number(value)
    if number is None:
        raise TypeError(f"{name} is {reprlib.repr(value)}: give a whole number")
    if number < lowest:
        raise ValueError(f"{name} is {number}: give {lowest} or more")
    return number


def checked_params(params: Any) -> dict[str, Any]:
    """Check the keyword arguments of a node's ``__init__``, and return them as a dict; None stands for no arguments.

    Raises:
        TypeError: the value is no mapping, or one of its keys is no string.
    """
    if params is None:
        return {}
    if not isinstance(params, Mapping):
        raise TypeError(f"params is of type {type(params).__name__}: give a dict of keyword arguments, or None")
    for name in params:
        if not isinstance(name, str):
            raise TypeError(
                f"params has the key {reprlib.repr(name)}: give keyword arguments by name, so that each key is a text"
            )
    return dict(params)


def checked_shape(shape: Any) -> tuple[int, ...]:
    """Check the shape of an array, a whole number or a sequence of them, and return it as a tuple.

    Raises:
        TypeError: a length is no whole number.
        ValueError: a length is negative.
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
