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
    """One thing to time, in every contender.

    Attributes:
        id: ``group/name``.
        title: its name in tables.
        make: makes the operation for a contender; or the single call of a node that it is.
        items: number of work items in one operation, for the throughput.
        bytes: size of the values that one operation sends and receives; None where that means nothing.
        quick: whether ``--quick`` measures it.
        exact: whether the contenders' results must be equal. Otherwise floats may differ a little, since another C library computed
            them.
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
        """The operation to time in a contender.

        Raises:
            Unsupported: the contender cannot run the case.
        """
        return contender.call(self.make) if isinstance(self.make, Call) else self.make(contender)


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that stand together in the report, under one title."""

    id: str
    title: str
    about: str
