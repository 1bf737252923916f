"""Any value as plain, small data: what a log record's extra fields become, so that emitting them cannot fail."""

from __future__ import annotations

from typing import Any, Final

from cloche_guest.failure import text, type_name

MAX_DEPTH: Final = 4
MAX_ITEMS: Final = 64
MAX_TEXT: Final = 2048
MAX_KEY: Final = 128


class Budget:
    """How many characters (or bytes) one record may still spend of its ``log_bytes``.

    Attributes:
        left: never negative.
    """

    __slots__ = ("_log_bytes", "left")

    def __init__(self, log_bytes: int) -> None:
        self._log_bytes = self.left = log_bytes

    def text(self, value: str, limit: int = MAX_TEXT) -> str:
        """At most `limit` characters, and what the budget allows, of `value`."""
        left = self.left
        cut = text(value, min(limit, left), "" if limit < left else f": log_bytes={self._log_bytes}")
        self.left = max(0, self.left - len(cut) - 8)
        return cut


def plain(value: Any, budget: Budget, depth: int = MAX_DEPTH) -> Any:
    """`value` if it is plain, else its nearest plain form: containers level by level, others as their ``repr``."""
    kind = type(value)
    if value is None or kind is bool or kind is float or (kind is int and -(1 << 63) <= value < 1 << 63):
        budget.left = max(0, budget.left - 8)
        return value
    if kind is str:
        return budget.text(value)
    if kind is bytes:
        return budget.text(repr(value[:MAX_TEXT]))
    if kind is dict or kind is list or kind is tuple:
        if depth == 0 or budget.left == 0:
            return f"<{kind.__name__} of {len(value)}>"
        if kind is dict:
            return fields(value, budget, depth - 1)
        items = [plain(item, budget, depth - 1) for item in value[:MAX_ITEMS]]
        return items if len(value) <= MAX_ITEMS else [*items, f"<{len(value) - MAX_ITEMS} more>"]
    return budget.text(_repr(value))


def fields(mapping: dict[Any, Any], budget: Budget, depth: int = MAX_DEPTH) -> dict[str, Any]:
    """A mapping with text keys and plain values; what goes beyond the caps is counted under ``...``."""
    result: dict[str, Any] = {}
    for key, value in list(mapping.items())[:MAX_ITEMS]:
        if budget.left == 0:
            break
        result[budget.text(key if type(key) is str else _repr(key), MAX_KEY)] = plain(value, budget, depth)
    if len(result) < len(mapping):
        result["..."] = f"<{len(mapping) - len(result)} more>"
    return result


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception as broken:  # __repr__ is the node's code
        return f"<repr() of it raised {type_name(broken)}>"
