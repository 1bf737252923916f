"""What a user's debugger is to a session: `Frontend`, and the `Talk` that it has with a stopped node."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from cloche.debug._breakpoints import Breakpoints
from cloche.debug._events import GuestError, Placed, Stop

__all__ = [
    "Arrived",
    "Asking",
    "Back",
    "Carrying",
    "Command",
    "Desk",
    "Frontend",
    "Go",
    "Leap",
    "Mailbox",
    "Mode",
    "Talk",
    "converse",
]

T = TypeVar("T")

Mode = Literal["continue", "step", "next", "out", "detach"]
"""How a node goes on: to the next breakpoint; to the next line, also in a function that is called; to the next line of this
function; to the next line of the calling one; without a debugger."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the guest's debugger (docs/reference/wire.md). The answer is the guest's, untrusted.

    Attributes:
        name: its name.
        operands: its operands.
        changes: whether it may change the node, so that a second run needs it as well.
    """

    name: str
    operands: tuple[Any, ...] = ()
    changes: bool = False

    @property
    def is_deed(self) -> bool:
        """Whether it may change the node's values, and not only the breakpoints."""
        return self.changes and self.name != "breakpoints"


@dataclass(frozen=True, slots=True)
class Go:
    """The node goes on; the talk is over."""

    mode: Mode


@dataclass(frozen=True, slots=True)
class Leap:
    """A second run goes on.

    Attributes:
        mode: as for `Go`; "same": as it did before this stop.
        until: the count of lines at which it stops in any case.
        is_quiet: whether nothing stops it before that.
    """

    mode: Mode | Literal["same"]
    until: int
    is_quiet: bool


@dataclass(frozen=True, slots=True)
class Back:
    """Go back in time. If the present is reached again, the answer is `Arrived`.

    Attributes:
        to: "line": the line before in this function, or the one that called it; "step": the line before, wherever that is;
            "breakpoint": the breakpoint before, or the first line of the call.
    """

    to: Literal["line", "step", "breakpoint"]


@dataclass(frozen=True, slots=True)
class Arrived:
    """The node is back where it was before `Back`.

    Attributes:
        mode: how it was sent on last.
    """

    mode: Mode


Talk = Generator[Command | Go | Leap | Back, Any, None]
"""A generator that yields commands and is sent their answers; `GuestError` is thrown into it for a command that failed. It runs on
the thread that made the call. `Go` is its last command; if it ends without one, the node goes on to the next breakpoint."""

Carrying = Generator[Command | Go | Leap | Back, Any, Any]
"""Carries out a command of a talk: yields commands as a talk does, and returns the answer."""

Asking = Generator[Command, Any, T]
"""A part of a talk, which returns something."""


def converse(talk: Talk, carry_out: Callable[[Command | Go | Leap | Back], Carrying]) -> Talk:
    """A talk whose commands are carried out elsewhere, until it has sent the node on.

    Args:
        talk: yields the commands.
        carry_out: called with each command; what it makes may raise `GuestError`.
    """
    answer: Any = None
    error: GuestError | None = None
    while True:
        try:
            command = talk.throw(error) if error is not None else talk.send(answer)
        except StopIteration:
            command = Go("continue")
        answer, error = None, None
        try:
            answer = yield from carry_out(command)
        except GuestError as failed:
            error = failed
        if isinstance(command, Go):
            return


class Desk(Protocol):
    """What a frontend sees of its session.

    Attributes:
        breakpoints: where the node stops. The frontend may change them at any time, on any thread, and then calls `sync`.
        wants_pause: whether the node is to stop as soon as it can. The frontend sets it, and the next stop clears it.
    """

    breakpoints: Breakpoints
    wants_pause: bool

    @property
    def node(self) -> str:
        """The node's name."""

    def sync(self) -> None:
        """Tell the guest of changed breakpoints, now or as soon as it can hear."""

    def wait(self, mailbox: Mailbox[Any]) -> None:
        """Wait, inside a talk, until the mailbox has something. Ends with an exception if the node's call is interrupted."""


class Frontend(Protocol):
    """A user's debugger: of an editor, or on a terminal. Its methods are called on the thread that makes the node's calls."""

    def talk(self, stop: Stop) -> Talk:
        """The node has stopped."""

    def output(self, text: str) -> None:
        """A breakpoint with a message was reached."""

    def placed(self, places: Sequence[Placed]) -> None:
        """The guest has found lines for breakpoints."""

    def gone(self) -> None:
        """The node goes on."""


class Mailbox(Generic[T]):
    """A queue that a call can wait for, and other threads put into.

    It has the interface of a future, as far as `CallState.wait` needs that.
    """

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._wake: Callable[[Any], object] = _nothing

    def put(self, item: T) -> None:
        """Put something in. Any thread may call this."""
        self._items.append(item)
        self._wake(self)

    def take(self) -> T:
        """Take out the oldest.

        Raises:
            IndexError: there is nothing.
        """
        return self._items.popleft()

    def done(self) -> bool:
        """Whether something is there."""
        return bool(self._items)

    def add_done_callback(self, function: Callable[[Any], object]) -> None:
        """Have a function called after each `put` from now on, in place of an earlier one."""
        self._wake = function


def _nothing(_: Any) -> None:
    """Wake nobody."""
