"""What the modules share that stand in for C modules which need a system: tables of constants, and functions that refuse.

These modules can be imported, their constants are those of Linux, and what needs no system works. The rest raises an exception of
the kind that its documentation names, and says what to do instead.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

NETWORK = "a sandboxed node has no network: let the host fetch and pass the data, or call a service that it grants"
PROCESSES = "a sandboxed node has no processes, pipes or shared memory: do the work in this node, or let the host run several nodes"
TERMINAL = "a sandboxed node has no terminal"
IDENTITY = "a sandboxed node runs as the user 'node' and nobody else"
SYSTEM = "a sandboxed node has no operating system to ask"


def constants(table: str) -> dict[str, int]:
    """The names and values in a text of the form ``A=1 B=2``."""
    return {name: int(value) for name, _, value in (word.partition("=") for word in table.split())}


def refusing(name: str, why: str, kind: Callable[..., Exception] = OSError, number: int | None = errno.ENOSYS) -> Any:
    """A function that raises ``kind(number, "name: why")``, or without a number ``kind("name: why")``."""

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        text = f"{name}: {why}"
        raise kind(text) if number is None else kind(number, text)

    refuse.__name__ = refuse.__qualname__ = name.rpartition(".")[2]
    return refuse


class Record(tuple[Any, ...]):
    """A tuple whose items have names, as the results of C functions are. Subclasses set `_fields`."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        for index, name in enumerate(cls._fields):
            setattr(cls, name, property(lambda self, index=index: self[index]))
        cls.n_fields = cls.n_sequence_fields = len(cls._fields)  # type: ignore[attr-defined]
        cls.n_unnamed_fields = 0  # type: ignore[attr-defined]
        cls.__match_args__ = cls._fields  # type: ignore[attr-defined]

    def __new__(cls, values: Any) -> Any:
        """An object of as many values as the class has names."""
        found = tuple(values)
        if len(found) != len(cls._fields):
            raise TypeError(f"{cls.__name__}() takes a {len(cls._fields)}-sequence ({len(found)}-sequence given)")
        return super().__new__(cls, found)

    def __reduce__(self) -> Any:
        return type(self), (tuple(self),)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
        return f"{type(self).__module__}.{type(self).__qualname__}({shown})"
