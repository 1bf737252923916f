"""`CallOptions`: what holds for single calls of a node, in place of what holds for the node. Given with ``with_options``."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Final, Self, cast

from cloche._arguments import checked_callback
from cloche.limits import checked_limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloche._records import LogRecord
    from cloche._runtime.log_calls import LogCalls

__all__ = ["NO_OPTIONS", "CallOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """Options of calls; ``...`` stands for an option that is not given. `Node.with_options` describes each field.

    Raises:
        TypeError: a value has the wrong class.
        ValueError: a number is out of range.
    """

    deadline_s: float | EllipsisType | None = ...
    on_log: LogCalls | Callable[[LogRecord], object] | EllipsisType | None = ...

    def __post_init__(self) -> None:
        if self.deadline_s is not ... and self.deadline_s is not None:
            object.__setattr__(self, "deadline_s", checked_limit("deadline_s", self.deadline_s, "deadline_s"))
        if self.on_log is not ... and self.on_log is not None:
            from cloche._runtime.log_calls import LogCalls  # imports queue, which is slow

            if not isinstance(self.on_log, LogCalls):
                object.__setattr__(
                    self, "on_log", LogCalls(checked_callback("on_log", self.on_log, "a cloche.LogRecord"))
                )

    @property
    def log(self) -> LogCalls | None:
        """Where log records go while a call runs; None: nobody wants them before its end."""
        return None if self.on_log is ... else cast("LogCalls | None", self.on_log)

    def but(self, **options: Any) -> Self:
        """These options, replaced by those of the arguments that are given."""
        given = {name: value for name, value in options.items() if value is not ...}
        return replace(self, **given)

    def __str__(self) -> str:
        """The options that are given, as arguments of ``with_options``."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return ", ".join(f"{name}={value!r}" for name, value in values.items() if value is not ...)


NO_OPTIONS: Final = CallOptions()
