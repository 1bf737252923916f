"""`Watched`: a sandbox whose calls go through its watch. For runtimes with hooks, and nodes with a budget; others do without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from cloche._codec import CountedCodec
from cloche._sandbox.instance import Instance
from cloche._sandbox.replies import CheckedSandbox
from cloche.errors import ClocheError
from cloche_wire import Op, Reply

__all__ = ["Watched", "WatchedInstance"]


class Watched(CheckedSandbox):
    """Mixin: has the sandbox's watch make each call."""

    __slots__ = ()

    def exchange(self, op: int, operands: Sequence[Any], root: str) -> tuple[Reply, Any]:
        """See `Sandbox`."""
        if self.watch is None or self.closed:  # what a closed sandbox refuses is no call
            return super().exchange(op, operands, root)
        return self.watch.around(super().exchange, op, operands, root)

    def finish(self, kind: Reply, value: Any, op: Op) -> NoReturn:
        """See `Sandbox`."""
        try:
            super().finish(kind, value, op)
        except ClocheError as error:
            raised = error if self.watch is None else self.watch.explained(error)
            if raised is error:
                raise
        raise raised


class WatchedInstance(Watched, Instance):
    """A watched sandbox with a guest in this process."""

    __slots__ = ()
    codec = CountedCodec
