"""`opened`: a debugger on a node, for the length of a ``with`` block."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cloche.debug._breakpoints import FunctionPoint, LinePoint
from cloche.debug._paths import Paths
from cloche.debug._session import EVALUATE_S, Session
from cloche.debug._travel import traveller
from cloche.debug.dap import Pipe, Server
from cloche.debug.terminal import Terminal

if TYPE_CHECKING:
    from cloche._sandbox import Snapshot
    from cloche.debug._framing import Stream
    from cloche.debug._session import Target

__all__ = ["Debugging", "opened"]


class Debugging:
    """A debugger that is attached to a node.

    Attributes:
        address: host and port at which editors connect; None with a terminal.
    """

    def __init__(self, session: Session, server: Server | Pipe | None) -> None:
        self._session = session
        self.address = server.address if server is not None else None

    def prepare(self) -> None:
        """Have the guest ready for the next call. Calls do that themselves; a replay wants it before."""
        self._session.prepare()

    def pause(self) -> None:
        """Have the node stop as soon as it can; any thread may call this. If no call is under way, nothing happens."""
        self._session.wants_pause = True


@contextmanager
def opened(
    target: Target,
    restore: Callable[[Snapshot], Target] | None,
    *,
    port: int | None = None,
    breakpoints: Iterable[str] = (),
    stop_on_entry: bool | None = None,
    wait: bool = True,
    paths: Mapping[str, str] | None = None,
    only_own: bool = True,
    evaluate_s: float = EVALUATE_S,
    streams: tuple[Stream, Callable[[bytes], object]] | None = None,
    read: Callable[[str], str] = input,
    write: Callable[[str], object] | None = None,
) -> Iterator[Debugging]:
    """Debug a node in the block. `Node.debug` describes most arguments.

    Args:
        target: the node's calls.
        restore: makes a second node of a snapshot; None: there is no going back.
        port: as for `Node.debug`, as the arguments up to `only_own`.
        breakpoints: likewise.
        stop_on_entry: likewise.
        wait: likewise.
        paths: likewise.
        only_own: likewise.
        evaluate_s: seconds that evaluating an expression may take.
        streams: where an editor's messages come from, and a function that sends bytes to it; None: there is none of that kind.
        read: reads a command of the terminal, given a prompt.
        write: prints a text on it.
    """
    session = Session(
        target, traveller(restore) if restore is not None else None, only_own=only_own, evaluate_s=evaluate_s
    )
    places = list(breakpoints)
    set_breakpoints(session, places)
    server: Server | Pipe | None = None
    session.open()
    try:
        if port is None and streams is None:
            session.stop_on_entry = not places if stop_on_entry is None else stop_on_entry
            session.breakpoints.set_exceptions(raised=False, uncaught=True)
            session.join(Terminal(session, session.interrupt, read, write))
            session.sync()
        else:
            session.stop_on_entry = bool(stop_on_entry)
            if streams is not None:
                server = Pipe(session, *streams, Paths(paths))
            else:
                assert port is not None  # see above
                server = Server(session, port, Paths(paths))
            if wait and server.address is not None:
                sys.stderr.write(f"cloche: waiting for a debugger at {server.address[0]}:{server.address[1]}\n")
            if wait:
                server.wait()
        yield Debugging(session, server)
    finally:
        try:
            if server is not None:
                server.close()  # first: it lets go a call of another thread that the client has stopped
        finally:
            session.close()


def set_breakpoints(session: Session, places: Iterable[str]) -> None:
    """Set breakpoints: each "FILE:LINE", or the name of a function.

    Raises:
        ValueError: a place is neither.
    """
    lines: dict[str, list[LinePoint]] = {}
    functions: list[FunctionPoint] = []
    for place in places:
        file, colon, number = place.rpartition(":")
        if colon and file and number.isdigit():
            lines.setdefault(file, []).append(LinePoint(int(number)))
        elif place and not colon and not place.isdigit():
            functions.append(FunctionPoint(place))
        else:
            raise ValueError(f"{place!r} is no place for a breakpoint: give FILE:LINE, or the name of a function")
    for path, points in lines.items():
        session.breakpoints.set_lines(path, points)
    if functions:
        session.breakpoints.set_functions(functions)
