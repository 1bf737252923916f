"""What a node may use. Every limit is on by default, with a value that is safe for untrusted code."""

from __future__ import annotations

import operator
from dataclasses import dataclass, fields
from typing import Any

from cloche_wire import abi

__all__ = ["Limits"]

MIB = 1 << 20
_INFO = 20  # logging.INFO; `logging` is slow to import


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one node; each holds on its own, and its error says which one it was.

    Attributes:
        deadline_s: seconds that one call may take, sleeping and host services included; None: no deadline. Then the node's Python
            code raises ``cloche_guest.DeadlineExceeded`` where it is, and the node stays usable.
        grace_s: seconds that the node has to clean up after that. If it still runs then (it is inside a long C function, or goes on
            regardless), its instance is stopped, which breaks the node. 0: it is stopped at its deadline.
        load_s: seconds that loading may take: compiling, importing, ``__init__``; None: no limit. The grace comes on top here, too.
        memory_bytes: linear memory of the instance, the interpreter included (it starts with about 41 MiB). Beyond it the
            node gets a MemoryError.
        fuel: WebAssembly instructions that one call may use, under ``metering="fuel"``; None: not limited.
        stack_depth: Python frames on the node's stack. Beyond it the node gets a RecursionError; ``sys.setrecursionlimit`` can
            lower it only. Recursion in C has limits of its own.
        stream_items: outputs of one stream; None: not limited.
        stream_s: seconds that the node may work for one stream, all steps together; the time between the steps, which is the
            host's, does not count. It ends the stream between two steps (the one under way has its own `deadline_s`), and the
            node stays usable; without `deadline_s` it ends a step, too, as a deadline. None: not limited.
        request_bytes: size of one encoded request, array bodies included.
        reply_bytes: size of one encoded reply, array bodies included.
        value_nodes: items (scalars and containers) in one reply.
        value_depth: nesting of one value.
        log_records: log records delivered per call; the newest are kept, the rest counted as dropped.
        log_bytes: bytes of one log record, and with `log_records` what a call may deliver.
        output_bytes: bytes that one call may write to stdout and stderr.
        log_level: the level, as in `logging`, below which the guest drops records by itself.
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

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            optional = field.name in _OPTIONAL
            if value is None and optional:
                continue
            number = _seconds(value) if field.name.endswith("_s") else whole_number(value)
            if number is None:
                what = "a number" if field.name.endswith("_s") else "a whole number"
                raise TypeError(f"Limits.{field.name} is {value!r}: give {what}" + (" or None" if optional else ""))
            lowest, highest = _RANGES.get(field.name, (1, (1 << 31) - 1))
            if not lowest <= number <= highest:
                raise ValueError(f"Limits.{field.name} is {value!r}: give a number from {lowest} to {highest}")
            object.__setattr__(self, field.name, number)


def whole_number(value: Any) -> int | None:
    """The number as a plain int, be it numpy's; None: it is none."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        return None
    try:
        return int(operator.index(value))  # int: what it gives may be of a subclass
    except TypeError:  # an array has `__index__`, too
        return None


def _seconds(value: Any) -> float | None:
    """As `whole_number`, for a plain int or float."""
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
    "value_depth": (4, 256),
    "log_records": (0, 1_000_000),
    "log_bytes": (256, abi.RING_CAPACITY // 2),
    "output_bytes": (0, (1 << 31) - 1),
    "log_level": (0, 1000),
}
