"""Going back in time: the call is run again in a second sandbox, and stopped at an earlier line.

The second run begins with the state that the node had before the call, and gets the answers that the first one got. Its place is
a count of lines: how many lines the node's own code has begun. The present, with its real effects, waits where it is. When a second
run arrives there, it is dropped, and the first one goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from cloche.debug._events import GuestError, Stop
from cloche.debug._frontend import Arrived, Back, Carrying, Command, Frontend, Go, Leap, Mode, Talk, converse
from cloche.debug._session import Past, Run, Session
from cloche.errors import ClocheError
from cloche_wire import Op

if TYPE_CHECKING:
    from cloche._sandbox import Snapshot
    from cloche.debug._session import Target

__all__ = ["traveller"]


class _Left(BaseException):
    """Ends a second run from inside of it.

    Args:
        outcome: what it has come to.
    """

    def __init__(self, outcome: Any) -> None:
        super().__init__()
        self.outcome = outcome


def traveller(restore: Callable[[Snapshot], Target]) -> Callable[[Session, Frontend, Stop, Back], Arrived]:
    """The function that carries out a `Back`, for `Session`.

    Args:
        restore: makes a node of a snapshot.
    """

    def travel(session: Session, frontend: Frontend, stop: Stop, back: Back) -> Arrived:
        past = session.past
        if past is None:
            raise GuestError("LookupError", "there is no call to go back in")
        if past.problem or past.tape.is_full:
            raise GuestError("LookupError", past.problem or "the call has made too many requests to be run again")
        journey = _Journey(session, frontend, past, restore)
        present = stop if stop.count else journey.counted()
        limit = present.count + (stop.reason == "exception")
        goal: int | Arrived = _goal(present, back)
        while not isinstance(goal, Arrived):
            goal = journey.visit(goal, limit)
        return goal

    return travel


def _goal(stop: Stop, back: Back) -> int:
    """The count of lines to go back to.

    Raises:
        GuestError: there is nothing before this.
    """
    if stop.reason == "exception" and back.to != "breakpoint":
        return stop.count
    goal = {"line": stop.over, "step": stop.count - 1, "breakpoint": stop.hit or 1}[back.to]
    if not 0 < goal < stop.count + (stop.reason == "exception"):
        raise GuestError("LookupError", "this is the first line of the call")
    return goal


_ANOTHER_WAY: Final = (
    "run again, the call took another way: give the node a virtual clock and a seed (docs/how-to/debug.md)"
)


class _Journey:
    """Second runs of one call, one after the other."""

    def __init__(self, session: Session, frontend: Frontend, past: Past, restore: Callable[[Snapshot], Target]) -> None:
        self._session = session
        self._frontend = frontend
        self._past = past
        self._restore = restore
        self._deeds: dict[
            int, list[Command]
        ] = {}  # count of lines -> what the user has done to the node's values there

    def counted(self) -> Stop:
        """The present stop, with its counts: the call is run again with all that the user has done in it."""
        stops = iter(self._past.stops)
        last = self._past.stops[-1]

        def drive(stop: Stop) -> Talk:
            commands = next(stops)
            if commands is last:
                raise _Left(stop)
            deeds = [command for command in commands if isinstance(command, Command) and command.is_deed]
            if deeds:
                self._deeds[stop.count] = deeds
            yield from _carried_out(commands)

        found = self._run(drive, 0)
        if not isinstance(found, Stop) or not found.count:
            raise GuestError("RuntimeError", _ANOTHER_WAY)
        return found

    def visit(self, goal: int, limit: int) -> int | Arrived:
        """Run the call to that count of lines, and talk. Returns where to go next, or that the present is reached."""
        mode: Mode = "next"
        seen = False

        def following(count: int, last: int) -> int:
            """The next count at which the second run has to stop."""
            return min((known for known in self._deeds if count < known < last), default=last)

        def drive(stop: Stop) -> Talk:
            nonlocal mode, seen
            yield from _carried_out(self._deeds.get(stop.count, ()) if stop.reason == "travel" else ())
            if stop.count < goal and not seen:
                yield Leap("continue", following(stop.count, goal), True)
                return
            if seen and stop.reason == "travel" and stop.count >= limit:
                raise _Left(Arrived(mode))
            if seen and stop.reason == "travel" and not stop.also:
                yield Leap("same", following(stop.count, limit), False)
                return
            seen = True
            shown = replace(stop, reason=stop.also) if stop.also else stop

            def carry_out(command: Command | Go | Leap | Back) -> Carrying:
                nonlocal mode
                if isinstance(command, Back):
                    raise _Left(_goal(stop, command))
                if not isinstance(command, Go):
                    return (yield command)
                mode = command.mode
                self._frontend.gone()
                if mode == "detach":
                    raise _Left(Arrived(mode))
                yield Leap(mode, following(stop.count, limit), False)
                return None

            yield from converse(self._frontend.talk(shown), carry_out)

        outcome = self._run(drive, following(0, goal))
        if not seen:
            raise GuestError("RuntimeError", _ANOTHER_WAY)
        return Arrived(mode) if outcome is None else outcome

    def _run(self, drive: Callable[[Stop], Talk], goal: int) -> Any:
        """Run the call again, to that count of lines; 0: to the first stop.

        Returns:
            the outcome of `_Left`, or None if the call ended by itself.
        """
        session, past = self._session, self._past
        target = self._restore(past.snapshot)
        try:
            run = Run(session, target.sandbox, drive, past.tape)
            run.sent(past.version if goal else session.breakpoints.version)
            target.sandbox.attach(run)
            target.sandbox.aside(Op.DEBUG, ["count", goal, bool(goal)])
            target.lock.run(target.sandbox.exchange, *past.message)
        except _Left as left:
            return left.outcome
        except ClocheError as error:
            if isinstance(error, GuestError):
                raise
        finally:
            with suppress(ClocheError):
                target.discard()
        return None


def _carried_out(commands: Iterable[Command | Go]) -> Talk:
    """Commands of the user, once more."""
    for command in commands:
        with suppress(GuestError):  # what failed then fails again
            yield command
