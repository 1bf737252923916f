"""The main program of a process with one native node: does what the host orders on the socket whose descriptor is its argument."""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection
from typing import Any

from cloche.pipeline._placements.native import Native, found_target
from cloche.pipeline._placements.process import Order, portable
from cloche.pipeline.placement import BatchResult
from cloche.pipeline.spec import NodeSpec


def main(descriptor: int) -> None:
    """Serve orders until the host closes the socket or says "stop"."""
    connection = Connection(descriptor)
    node: Native | None = None
    while True:
        try:
            order: Order = connection.recv()
        except EOFError:
            return
        try:
            if order.verb == "load":
                entry, params, source, name, session_id = order.arguments
                spec = NodeSpec(source, entry, params, placement="native")
                node = Native(spec, found_target(spec, source), name, session_id)
                value: Any = None
            else:
                value = _done(node, order)
        except BaseException as error:
            connection.send((False, portable(error)))
        else:
            connection.send((True, value))
        if order.verb == "stop":
            return


def _done(node: Native | None, order: Order) -> Any:
    if node is None:
        raise RuntimeError("no node is loaded")
    if order.verb == "call":
        items, end = order.arguments
        result = node.call(items, end=end)
        return BatchResult(
            [portable(outcome) if isinstance(outcome, Exception) else outcome for outcome in result.outcomes],
            result.ended,
        )
    return getattr(node, order.verb)(*order.arguments)


if __name__ == "__main__":
    main(int(sys.argv[1]))
