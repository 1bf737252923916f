"""The main program of the process in which a node is run natively: does what `Native` orders, until the socket is closed."""

from __future__ import annotations

import asyncio
import logging
import pickle
import resource
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cloche import Clock, Grants, Limits
from cloche.cli._comparing.life import LoadedSide, Way, timed
from cloche.cli._comparing.native_clock import NativeClock
from cloche.testing import LocalGuest
from cloche_bench.native import NativeNode


class _Local(LoadedSide):
    """The node in a `LocalGuest`: its values are those that would cross the boundary, so both sides have the same types."""

    log_level = logging.INFO
    clock: NativeClock | None = None
    """The node's clocks, if they are not the real ones."""

    def names(self) -> list[str]:
        node = self.node
        attributes = getattr(node.target, "__dict__", {}) if isinstance(node, LocalGuest) else {}
        return sorted(name for name in attributes if isinstance(name, str) and not name.startswith("_"))

    def seconds(self, items: Sequence[Any], most_s: float, way: Way) -> float | None:
        """The time of plain calls, without what a `LocalGuest` adds."""
        node = self.node
        assert isinstance(node, LocalGuest)
        logging.basicConfig(
            level=self.log_level, handlers=[logging.NullHandler()]
        )  # records are made, as in the sandbox
        loop = asyncio.new_event_loop() if self.clock is None else self.clock.new_loop()
        try:
            return timed(NativeNode(node.target, loop), items, most_s, way)
        finally:
            loop.close()


def main(descriptor: int) -> None:
    """Serve orders: the name of a method of `Side`, or "load" or "peak", with its arguments."""
    connection = Connection(descriptor)
    side: _Local | None = None
    while True:
        try:
            verb, arguments, keywords = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        answer: Any
        if verb == "load":
            side = _side(*arguments)
            answer = None
        elif verb == "peak":
            answer = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        else:
            answer = getattr(side, verb)(*arguments, **keywords)
        connection.send_bytes(pickle.dumps(answer))


def _side(path: str, entry: str | None, params: dict[str, Any], grants: Grants, limits: Limits, memory: int) -> _Local:
    if memory:  # the inputs are made up: some would have the node take all of the machine's memory
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    folder = str(Path(path).resolve().parent)
    if Path(path).exists() and folder not in sys.path:
        sys.path.append(folder)  # modules beside the file, as natively
    try:
        import numpy.random  # noqa: F401  # its generator is seeded at loading, if it is there by then
    except ImportError:
        pass
    clock = None
    if isinstance(grants.clock, Clock) and grants.clock.mode != "real":
        clock = NativeClock(grants.clock)
        clock.install()

    def load() -> LocalGuest:
        if clock is not None:
            clock.begin()
        return LocalGuest(path, entry, params, limits=limits, grants=grants)

    side = _Local(load)
    side.log_level, side.clock = limits.log_level, clock
    return side


if __name__ == "__main__":
    main(int(sys.argv[1]))
