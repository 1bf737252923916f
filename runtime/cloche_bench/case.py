"""One thing to measure, and the group of the report that it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloche_bench.operations import Call, Operation

if TYPE_CHECKING:
    from cloche_bench.contender import Contender

__all__ = ["Case", "Group"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing to time.

    Attributes:
        id: ``group/name``.
        title: what tables call it.
        make: makes the operation in a contender; or the one call that it is.
        items: work items of one operation, for the throughput.
        bytes: payload of one operation, in and out, where that means something.
        quick: part of the quick selection.
        exact: results must be equal, not merely close (floats that another C library computed).
    """

    id: str
    title: str
    make: Callable[[Contender], Operation] | Call
    items: int = 1
    bytes: int | None = None
    quick: bool = True
    exact: bool = True

    @property
    def group(self) -> str:
        return self.id.partition("/")[0]

    def operation(self, contender: Contender) -> Operation:
        """What to time there.

        Raises:
            Unsupported: it cannot run there.
        """
        return contender.call(self.make) if isinstance(self.make, Call) else self.make(contender)


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that belong together."""

    id: str
    title: str
    about: str
