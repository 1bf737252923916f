"""Converts any value to plain, small data. Used for the extra fields of log records, so that encoding a record cannot fail."""

from __future__ import annotations

from typing import Any, Final

from cloche_guest import Interrupted
from cloche_guest.failure import text, type_name

MAX_DEPTH: Final = 4
"""Levels of containers kept; deeper ones are replaced by a description."""
MAX_ITEMS: Final = 64
"""Items kept of one container."""
MAX_TEXT: Final = 2048
"""Characters kept of one text."""
MAX_KEY: Final = 128
"""Characters kept of one key."""


class Budget:
    """Counts the characters that one log record may still have of its ``log_bytes``.

    Args:
        log_bytes: maximum for the record.

    Attributes:
        left: characters (or bytes) left; never negative.
    """

    __slots__ = ("_log_bytes", "left")

    def __init__(self, log_bytes: int) -> None:
        self._log_bytes = self.left = log_bytes

    def text(self, value: str, limit: int = MAX_TEXT) -> str:
        """Cut a text to `limit` characters, and to the budget, which is charged for the result."""
        left = self.left
        cut = text(value, min(limit, left), "" if limit < left else f": log_bytes={self._log_bytes}")
        self.left = max(0, self.left - len(cut) - 8)
        return cut


def plain(value: Any, budget: Budget, depth: int = MAX_DEPTH) -> Any:
    """Convert a value: numbers and texts stay, containers are converted item by item, others become their ``repr``.

    Args:
        value: any value.
        budget: charged for the result.
        depth: levels of containers to keep.
    """
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
    """Convert a dict to one with text keys and plain values; the key ``...`` tells how many entries were left out."""
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
    except (MemoryError, Interrupted):
        raise
    except BaseException as broken:  # __repr__ is the node's code, and natively does not run
        return f"<repr() of it raised {type_name(broken)}>"
