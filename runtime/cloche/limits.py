"""How much time, memory and output a node may use. The defaults are safe for untrusted code."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, fields
from typing import Any, SupportsFloat

from cloche._keywords import teaches_fields
from cloche_wire import abi

__all__ = ["Limits"]

MIB = 1 << 20
_INFO = 20  # logging.INFO; `logging` is slow to import


@teaches_fields
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Limits:
    """Limits of one node. Each is enforced on its own, and the error says which one was exceeded.

    Attributes:
        deadline_s: seconds that one call may take, with the time in sleeps and in host services; None: no deadline. At the deadline
            ``cloche_guest.DeadlineExceeded`` is raised in the node's Python code, and the node stays usable.
        grace_s: seconds that the node then has to clean up. A node that is still running after them (in a long C function, or
            because it ignores the exception) is stopped, which breaks it. 0: it is stopped at its deadline.
        load_s: seconds that loading may take: compiling, importing, ``__init__``; None: no limit. `grace_s` is added here as well.
        memory_bytes: linear memory of the instance, with the interpreter (which starts with about 41 MiB). A node that needs
            more gets a MemoryError.
        fuel: WebAssembly instructions that one call may use, under ``metering="fuel"``; None: not limited.
        stack_depth: Python frames on the node's stack. A node that needs more gets a RecursionError; with
            ``sys.setrecursionlimit`` it can lower the limit, but not raise it. Recursion in C has limits of its own.
        stream_items: outputs of one stream; None: not limited.
        stream_s: seconds that the node may work on one stream, all steps together; the host's time between the steps does not
            count. The stream is ended between two steps, and the node stays usable. If `deadline_s` is None, `stream_s` is the
            deadline of a single step as well. None: not limited.
        request_bytes: size of one encoded request, with the contents of arrays.
        reply_bytes: size of one encoded reply, with the contents of arrays.
        value_nodes: items (scalars and containers) in one reply; and in a request the items that are sent again, because what they
            are in is in several places. At least 50, which what the guest itself says about a node takes.
        value_depth: how deep the containers of one value may be nested.
        log_records: log records that are delivered for one call; the newest are kept, the others are counted as dropped.
        log_bytes: size of one log record. One call delivers at most `log_records` times as much.
        output_bytes: bytes that one call may write to stdout and stderr.
        log_level: the guest drops log records below this level; the numbers are those of `logging`.
    """

    deadline_s: float | None = 2.0
    grace_s: float = 0.1
    load_s: float | None = 30.0
    memory_bytes: int = 256 * MIB
    fuel: int | None = None
    stack_depth: int = 10_000
    stream_items: int | None = None
    stream_s: float | None = None
    request_bytes: int = 64 * MIB
    reply_bytes: int = 64 * MIB
    value_nodes: int = 1_000_000
    value_depth: int = 64
    log_records: int = 1000
    log_bytes: int = 64 * 1024
    output_bytes: int = MIB
    log_level: int = _INFO

    def __repr__(self) -> str:
        """The limits that are not the default."""
        changed = [f"{one.name}={value!r}" for one in fields(self) if (value := getattr(self, one.name)) != one.default]
        return f"Limits({', '.join(changed)})"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name in _OPTIONAL:
                continue
            object.__setattr__(self, field.name, checked_limit(field.name, value, f"Limits.{field.name}"))


def checked_limit(field: str, value: Any, called: str) -> float:
    """A number that is valid for a field of `Limits`, as a plain int or float.

    Args:
        field: name of the field.
        value: what was given for it, not None.
        called: how the error calls it.

    Raises:
        TypeError: the value is no number.
        ValueError: the number is out of the field's range.
    """
    number = _seconds(value) if field.endswith("_s") else whole_number(value)
    if number is None:
        what = "a number" if field.endswith("_s") else "a whole number"
        raise TypeError(f"{called} is {value!r}: give {what}" + (" or None" if field in _OPTIONAL else ""))
    lowest, highest = _RANGES.get(field, (1, (1 << 31) - 1))
    if not lowest <= number <= highest:
        raise ValueError(f"{called} is {value!r}: give a number from {lowest} to {highest}")
    return number


def any_float(value: Any) -> float | None:
    """The number as a float, infinite if no float can be so large; None if the value is no number."""
    if isinstance(value, bool) or not isinstance(value, SupportsFloat):
        return None
    try:
        return float(value)
    except OverflowError:
        return -math.inf if isinstance(value, int) and value < 0 else math.inf


def whole_number(value: Any) -> int | None:
    """The number as a plain int, also if it is one of numpy's; None if the value is no whole number."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        return None
    try:
        return int(operator.index(value))  # `index` may return an instance of a subclass of int
    except TypeError:  # arrays have `__index__`, but only those with one item support it
        return None


def _seconds(value: Any) -> float | None:
    """The number as a plain int or float; None if the value is no real number."""
    if isinstance(value, bool):
        return None
    whole = whole_number(value)
    if whole is not None:
        return whole
    if isinstance(value, float):
        return float(value)
    import numbers  # rarely needed

    return float(value) if isinstance(value, numbers.Real) else None


_OPTIONAL = frozenset({"deadline_s", "load_s", "fuel", "stream_items", "stream_s"})
_RANGES: dict[str, tuple[float, float]] = {
    "deadline_s": (0.001, 365 * 86400.0),
    "grace_s": (0.0, 86400.0),
    "load_s": (0.001, 365 * 86400.0),
    "memory_bytes": (32 * MIB, 4096 * MIB),
    "fuel": (1, (1 << 63) - 1),
    "stack_depth": (100, 1_000_000),
    "stream_items": (0, (1 << 63) - 1),
    "stream_s": (0.001, 365 * 86400.0),
    "request_bytes": (1024, (1 << 32) - 1),
    "reply_bytes": (1024, (1 << 32) - 1),
    "value_nodes": (50, (1 << 31) - 1),
    "value_depth": (4, 256),
    "log_records": (0, 1_000_000),
    "log_bytes": (256, abi.RING_CAPACITY // 2),
    "output_bytes": (0, (1 << 31) - 1),
    "log_level": (0, 1000),
}
