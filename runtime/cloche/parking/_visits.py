"""`Visits`: who has which session, who waits for it, and which sessions are awake. It calls no node, and uses no store.

A *visit* is one block of `Sessions.node`, or somebody who parks the session. The visits of one session are a list, of which the
first may go on: arriving is appending to it, and leaving, however it comes, is removing from it. All is changed under one lock.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from cloche import _forks
from cloche._requests import hold
from cloche.errors import PoolTimeoutError
from cloche.texts import short

if TYPE_CHECKING:
    from concurrent.futures import Future

    from cloche._runtime import Node
    from cloche._runtime.loans import SessionLoan
    from cloche._sandbox import Base

__all__ = ["AwaitedTurn", "Session", "Visit", "Visits", "late"]

_SLICE_S: Final = 0.1
"""Seconds after which a visit that waits looks itself whether its turn has come."""


class Visit:
    """One who wants the node of a session, or has it.

    Args:
        owner: who it is: visits of one owner need not wait for each other.

    Attributes:
        session: the session; None: the visit has not begun.
        loan: what the visitor calls.
        turn: is set when the turn of the visit has come; None: nobody waits.
    """

    __slots__ = ("loan", "owner", "session", "turn")

    def __init__(self, owner: object) -> None:
        self.owner = owner
        self.session: Session | None = None
        self.loan: SessionLoan | None = None
        self.turn: threading.Event | AwaitedTurn | None = None

    @property
    def of(self) -> Session:
        """The session of a visit that has begun."""
        assert self.session is not None
        return self.session

    @property
    def has_turn(self) -> bool:
        """Whether the visit, which has begun, is the first one."""
        return self.of.visits[0] is self


class AwaitedTurn:
    """What an event loop waits for. It is there before the visit has begun, so that no turn is missed."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        from concurrent.futures import Future  # slow to import

        self.future: Future[None] = Future()

    def set(self) -> None:
        """The turn has come. It may be said again."""
        if not self.future.done():
            self.future.set_result(None)


class Session:
    """A session that is awake, or that somebody visits.

    Attributes:
        key: its key.
        node: its node; None: it is parked, or has not begun.
        base: what its parked state is a difference from.
        visits: those who have it (the first one) or wait for it.
        used_at: time of `time.monotonic` when its last visit ended.
        is_stuck: whether parking it has failed since it was last used.
    """

    __slots__ = ("base", "is_stuck", "key", "node", "used_at", "visits")

    def __init__(self, key: str) -> None:
        self.key = key
        self.node: Node | None = None
        self.base: Base | None = None
        self.visits: list[Visit] = []
        self.used_at = 0.0
        self.is_stuck = False


class Visits:
    """The sessions that are awake or visited. Thread-safe, and an interrupt at any moment leaves nothing that the next one misses.

    Attributes:
        awake: number of sessions that have a node.
    """

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        """The one that was used longest ago first."""
        self.awake = 0
        self.after_fork()
        _forks.watch(self)

    def after_fork(self) -> None:
        """In a new one and in the child of a fork: no other thread has the lock, or visits a session."""
        self._lock = threading.RLock()
        me = threading.get_ident()
        for session in self._sessions.values():
            session.visits = [visit for visit in session.visits if visit.owner == me]
            if session.node is not None and session.node.__cloche__.lock.is_lost:
                self._set_node(session, None)  # it is in a call of the parent

    def find(self, key: str) -> Session | None:
        """The session of that key, if it is awake or visited."""
        return self._sessions.get(key)

    def all(self) -> list[Session]:
        """All that are awake or visited."""
        return hold(self._lock, lambda: list(self._sessions.values()))

    def begin(self, visit: Visit, key: str) -> None:
        """Begin a visit, whose turn may come later."""
        hold(self._lock, self._begin, visit, key)

    def _begin(self, visit: Visit, key: str) -> None:
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = Session(key)
        visit.session = session
        session.is_stuck = False
        first = session.visits[0] if session.visits else None
        place = 0 if first is not None and first.owner == visit.owner else len(session.visits)
        session.visits.insert(place, visit)
        self._sessions.move_to_end(key)

    def wait(self, visit: Visit, timeout_s: float | None = None) -> None:
        """Wait for the turn of a visit that has begun.

        Raises:
            PoolTimeoutError: it has not come within that time.
        """
        began = time.monotonic()
        visit.turn = turn = threading.Event()
        while not visit.has_turn:
            waited = time.monotonic() - began
            if timeout_s is not None and waited >= timeout_s:
                raise late(visit.of.key, began, timeout_s)
            turn.wait(_SLICE_S if timeout_s is None else min(_SLICE_S, timeout_s - waited))

    def claim(self, visit: Visit, session: Session) -> bool:
        """Begin a visit of a session that is awake, if nobody visits it; whether it was begun."""
        return hold(self._lock, self._claim, visit, session)

    def _claim(self, visit: Visit, session: Session) -> bool:
        if session.visits or session.node is None:
            return False
        visit.session = session
        session.visits.append(visit)
        return True

    def leave(self, visit: Visit) -> bool:
        """End a visit; whether there was one."""
        return hold(self._lock, self._leave, visit)

    def _leave(self, visit: Visit) -> bool:
        session = visit.session
        if session is None:
            return False
        was_there = visit in session.visits
        if was_there:
            session.used_at = time.monotonic()
            session.visits.remove(visit)
        if session.visits:
            if (turn := session.visits[0].turn) is not None:
                turn.set()
        elif session.node is None and self._sessions.get(session.key) is session:
            del self._sessions[session.key]
        return was_there

    def set_node(self, session: Session, node: Node | None) -> None:
        """Change the node of a session that the caller visits."""
        hold(self._lock, self._set_node, session, node)

    def _set_node(self, session: Session, node: Node | None) -> None:
        self.awake += (node is not None) - (session.node is not None)
        session.node = node

    def in_the_way(self, most: int) -> Session | None:
        """The session to park so that at most so many are awake; None: they are already, or no other can be parked."""
        return hold(self._lock, self._in_the_way, most)

    def _in_the_way(self, most: int) -> Session | None:
        if self.awake <= most:
            return None
        stuck = None
        for session in self._sessions.values():
            if session.node is None or session.visits or session.node.__cloche__.sandbox.tie:
                continue
            if not session.is_stuck:
                return session
            stuck = stuck or session
        return stuck

    def unused_since(self, moment: float) -> list[Session]:
        """Those that are awake and that nobody has visited since that time of `time.monotonic`."""
        return [one for one in self.all() if one.node is not None and not one.visits and one.used_at <= moment]


def late(key: str, began: float, timeout_s: float | None) -> PoolTimeoutError:
    """The error of a visit whose turn has not come in time."""
    waited = time.monotonic() - began
    return PoolTimeoutError(
        f"the session {short(key)} was in use for {waited:.3f} s (timeout_s={timeout_s})",
        limit="timeout_s",
        value=timeout_s or 0.0,
        reached=waited,
    )
