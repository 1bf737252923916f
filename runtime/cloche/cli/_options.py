"""Reads option values: pure functions from text, whose errors typer shows as usage errors."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from cloche.limits import Limits

__all__ = ["limits", "node", "params", "size"]

_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def node(text: str) -> tuple[str, str | None]:
    """``path[:Entry]`` as path and entry."""
    path, colon, entry = text.rpartition(":")
    if colon and entry.isidentifier() and path:
        return path, entry
    if colon and path.endswith(".py"):
        raise typer.BadParameter(f"{entry!r} is no name of a class or function", param_hint="NODES.py:Entry")
    return text, None


def params(items: Iterable[str]) -> dict[str, Any]:
    """``key=json`` pairs; a value that is not JSON is an error, so that a typo does not become a string."""
    result: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key.isidentifier():
            raise typer.BadParameter(f"{item!r} is not KEY=JSON", param_hint="--param")
        try:
            result[key] = json.loads(value)
        except ValueError as error:
            raise typer.BadParameter(
                f"the value of {key} is not JSON ({error}); a string needs quotes: --param '{key}=\"{value}\"'",
                param_hint="--param",
            ) from None
    return result


def size(text: str) -> int:
    """A number of bytes: ``512M``, ``1g``, ``65536``."""
    digits, unit = (text[:-1], text[-1].lower()) if text[-1:].lower() in _UNITS else (text, "")
    if not digits.isdecimal():
        raise typer.BadParameter(
            f"{text!r} is no size: give a number of bytes, or one with K, M or G", param_hint="--memory"
        )
    return int(digits) * _UNITS.get(unit, 1)


def limits(deadline: str, memory: str, fuel: int | None, log_level: str) -> Limits:
    """The limits that the options ask for; all others keep their defaults."""
    from cloche.limits import Limits

    try:
        deadline_s = None if deadline == "none" else float(deadline)
    except ValueError:
        raise typer.BadParameter(f"{deadline!r} is neither seconds nor none", param_hint="--deadline") from None
    level = logging.getLevelNamesMapping()[log_level.upper()]
    try:
        return Limits(deadline_s=deadline_s, memory_bytes=size(memory), fuel=fuel, log_level=level)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
