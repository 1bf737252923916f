"""`Sessions`: a node for each of very many users, all made of one template. Those that are not in use are parked."""

from __future__ import annotations

import hashlib
import threading
import time
import warnings
import weakref
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from cloche import _forks
from cloche._arguments import checked, checked_count, checked_seconds
from cloche._pickles import handle
from cloche._requests import NodeLock, hold
from cloche._runtime import Node, NodeCalls, Runtime
from cloche._runtime.closing import ClosedByWith
from cloche._runtime.loans import SessionLoan
from cloche._runtime.parked import How, packed, unpacked
from cloche._sandbox import Base, Difference
from cloche.errors import ClocheError, ClosedError
from cloche.parking._templates import Templates
from cloche.parking._visits import AwaitedTurn, Session, Visit, Visits, late
from cloche.parking.stores import SESSION, MemoryStore, Store, store_of
from cloche.texts import short

if TYPE_CHECKING:
    from cloche._runtime.load_options import LoadOptions

__all__ = ["SessionStats", "Sessions"]

_MOST_KEY: Final = 1024
_TRIES: Final = 3
"""Sessions that are tried to be parked for a place, before the error of the store is raised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStats:
    """What a `Sessions` has done so far, and how many nodes it has now.

    Attributes:
        awake: sessions whose nodes live now.
        in_use: sessions of which a block is open now.
        begun: sessions that began as a new clone of the template.
        woken: how often a session was brought back.
        parked: how often one was parked.
        failed: how often one could not be parked, and stayed awake.
    """

    awake: int
    in_use: int
    begun: int
    woken: int
    parked: int
    failed: int


class Sessions(ClosedByWith):
    """One node for each key, of very many: made when its key first comes, parked while others need the place, and brought back.

    >>> import cloche
    >>> from cloche.parking import Sessions
    >>> counter = cloche.Source("class N:\\n    n = 0\\n    def process(self, x):\\n        self.n += x\\n        return self.n")
    >>> with cloche.Runtime() as runtime, Sessions(runtime, runtime.load(counter), live=10) as sessions:
    ...     for key in ("ada", "bob", "ada"):
    ...         with sessions.node(key) as node:
    ...             print(node.process(1))
    1
    1
    2

    Every session begins as a clone of the template, with random numbers of its own, and with the template's name, limits, grants
    and recovery; the key is its ``session_id`` in records and spans. Thread-safe: blocks of one key wait for each other, those of
    different keys do not. A session whose node breaks goes on from the state that it was last parked in, if `on_break` of the
    template does not bring it back. So does each session that is awake when the process is killed.

    A parked session is a third of a snapshot, because only its differences from the template are kept; see docs/how-to/parking.md.

    Args:
        runtime: makes the nodes.
        template: a node of that runtime, loaded, warmed up, at rest. It is read once, and stays yours.
        live: number of nodes that are awake, each with a sandbox of its own. If more blocks than that are open, more are.
        idle_s: seconds after which a session that nobody uses is parked even if there is room; None: never.
        store: keeps the parked ones: a `MemoryStore`, a `FolderStore`, a mapping of text to bytes, or an object with the methods of
            `Store`. None: a `MemoryStore` without a bound.
        key: up to 64 bytes. With a key, bytes that were not made with it, or for another session, are refused.

    Raises:
        ClocheError: the template is not a node of that runtime, or cannot be parked.
        ClosedError: it is closed.
        TypeError: an argument has the wrong class; the message names it.
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        runtime: Runtime,
        template: Node,
        *,
        live: int = 100,
        idle_s: float | None = None,
        store: Store | MutableMapping[str, bytes] | None = None,
        key: bytes = b"",
    ) -> None:
        self._runtime = checked("runtime", runtime, Runtime, "a cloche.Runtime")
        calls = checked("template", template, Node, "a node of the runtime").__cloche__
        self._live = checked_count("live", live)
        self._idle_s = checked_seconds("idle_s", idle_s)
        self._store: Store = MemoryStore() if store is None else store_of(store)
        self._key = checked("key", key, bytes, "bytes")
        if len(key) > hashlib.blake2b.MAX_KEY_SIZE:
            raise ValueError(f"key has {len(key)} bytes: give {hashlib.blake2b.MAX_KEY_SIZE} at most")
        if calls.how is None or calls not in runtime._nodes:  # noqa: SLF001  # of the library
            if calls.closed:
                raise calls.closed_error()
            raise ClocheError(f"node {calls.name!r} is no template for sessions: give one of this runtime's own nodes")
        self._name = calls.name
        self._options: LoadOptions = replace(calls.how.options, name=calls.name)
        most = self._options.limits.memory_bytes
        self._templates = Templates(Base(calls.snapshot()), self._store, key, most)
        self._visits = Visits()
        self._counts = dict.fromkeys(("begun", "woken", "parked", "failed"), 0)
        self._has_warned = False
        self._closed = False
        self.after_fork()
        _forks.watch(self)

    def after_fork(self) -> None:
        """In a new one and in the child of a fork: no thread parks idle sessions yet."""
        self._lock = threading.RLock()
        self._ending = threading.Event()
        self._is_swept = False

    @contextmanager
    def node(self, key: str, *, timeout_s: float | None = None) -> Iterator[Node]:
        """Have the node of a session inside the ``with`` block.

        After the block the node object refuses calls. A stream that is open then goes on with `Node.resume` in a later block. On
        one thread blocks of one key may lie inside each other.

        Args:
            key: names the session: any text of up to 1024 characters.
            timeout_s: seconds for which another block of the same key is waited for; None: as long as it takes.

        Raises:
            PoolTimeoutError: another block had the session for so long.
            ClocheError: the parked bytes are damaged, another session's, or of another image: see `delete`. Or nothing could be
                parked to make room.
            ClosedError: it is closed, or its runtime is.
            Exception: what the store raised.
        """
        visit = Visit(threading.get_ident())
        try:
            try:
                yield self._entered(visit, key, timeout_s)
            finally:
                self._leave(visit)
        finally:
            self._leave(visit)  # again: an interrupt may have prevented the first one

    @asynccontextmanager
    async def anode(self, key: str, *, timeout_s: float | None = None) -> AsyncIterator[Node]:
        """As `node`, for ``async with`` under asyncio and trio. Waiting for a turn holds no thread.

        Two blocks of one key inside each other on one task wait for ever, unless they have a `timeout_s`.
        """
        import anyio  # late: it takes 30 ms

        from cloche._runtime.async_calls import on_a_thread, settled

        until = checked_seconds("timeout_s", timeout_s)
        visit = Visit(object())
        visit.turn = turn = AwaitedTurn()
        try:
            self._begin(visit, key)
            began = time.monotonic()
            with anyio.move_on_after(until):
                if not visit.has_turn:
                    await settled(turn.future)
            if not visit.has_turn:
                raise late(key, began, until)
            yield await on_a_thread(partial(self._woken, visit))
        finally:
            await on_a_thread(partial(self._leave, visit))

    def park(self, key: str) -> bool:
        """Park a session now, if it is awake and no block has it.

        Returns:
            whether it was awake and is parked now.

        Raises:
            ClocheError: it cannot be parked now. It stays awake.
            Exception: what the store raised. It stays awake.
        """
        session = self._visits.find(_checked_key(key))
        return session is not None and self._park_unused(session)

    def delete(self, key: str) -> None:
        """End a session: close its node and forget its state. Its next block begins anew. ``cleanup`` runs only if it is awake.

        Raises:
            ClocheError: the calling thread is in a block of the session.
            Exception: what ``cleanup`` or the store raised.
        """
        visit = Visit(object())
        try:
            try:
                self._delete(visit, key)
            finally:
                self._leave(visit)
        finally:
            self._leave(visit)

    def __contains__(self, key: object) -> bool:
        """Whether there is such a session, awake or parked."""
        if not isinstance(key, str):
            return False
        session = self._visits.find(key)
        return (session is not None and session.node is not None) or self._store.contains(SESSION + key)

    @property
    def stats(self) -> SessionStats:
        """What has been done so far, and how many nodes there are now."""
        in_use = sum(bool(session.visits) for session in self._visits.all())
        return SessionStats(awake=self._visits.awake, in_use=in_use, **self._counts)

    def sweep(self) -> int:
        """Park all sessions that nobody has used for `idle_s` seconds, as a thread does from time to time; the number of those.

        What cannot be parked stays awake, and is counted (`SessionStats.failed`).
        """
        if self._idle_s is None:
            return 0
        return sum(map(self._tried_to_park, self._visits.unused_since(time.monotonic() - self._idle_s)))

    def close(self) -> None:
        """Park all sessions, and flush a `MemoryStore` to its next store. Blocks that are open are waited for. Again: does nothing.

        Close them before their runtime, whose end frees the nodes that are awake.

        Raises:
            ExceptionGroup: some could not be parked. They stay awake; call `close` again, or close the runtime to give them up.
            ClocheError: the calling thread is in a block.
        """
        me = threading.get_ident()
        if any(visit.owner == me for session in self._visits.all() for visit in list(session.visits)):
            raise ClocheError("sessions cannot be closed inside of one of their blocks")
        self._closed = True
        self._ending.set()
        failures: list[Exception] = []
        for session in self._visits.all():
            try:
                self._park_in_turn(session)
            except Exception as error:
                error.add_note(f"of the session {short(session.key)}")
                failures.append(error)
        if isinstance(self._store, MemoryStore) and not failures:
            self._store.flush()
        if failures:
            raise ExceptionGroup("not all sessions could be parked", failures)

    def __reduce__(self) -> NoReturn:
        raise TypeError(handle("a Sessions", "make one in the other process, with a store that both can reach"))

    def __repr__(self) -> str:
        stats = self.stats
        return f"<cloche.parking.Sessions of {self._name!r}, {stats.awake} of {self._live} awake>"

    def _entered(self, visit: Visit, key: str, timeout_s: float | None) -> Node:
        """The node of a session for a visit, once its turn has come."""
        until = checked_seconds("timeout_s", timeout_s)
        self._begin(visit, key)
        self._visits.wait(visit, until)
        return self._woken(visit)

    def _begin(self, visit: Visit, key: str) -> None:
        self._visits.begin(visit, _checked_key(key))
        if self._closed:
            raise ClosedError("these sessions are closed")
        if self._idle_s is not None and not self._is_swept:
            self._is_swept = True
            arguments = weakref.ref(self), self._ending, max(0.01, self._idle_s / 2)
            threading.Thread(target=_sweeping, args=arguments, name="cloche-sessions", daemon=True).start()

    def _woken(self, visit: Visit) -> Node:
        """The node of a session for a visit whose turn it is."""
        session = visit.of
        node = session.node
        if node is None or node.broken or node.__cloche__.closed:
            self._visits.set_node(session, None)
            self._make_room()
            node = self._made(session)
            self._visits.set_node(session, node)
        visit.loan = SessionLoan(node.__cloche__)
        return Node(visit.loan, node._restore)  # noqa: SLF001  # of the same node

    def _leave(self, visit: Visit) -> None:
        """End a visit, and park what is too much. Again: does nothing."""
        if visit.loan is not None:
            visit.loan.end()
        if self._visits.leave(visit):
            while (session := self._visits.in_the_way(self._live)) is not None:
                if not self._tried_to_park(session):
                    break

    def _made(self, session: Session) -> Node:
        """A node for a session: of its parked bytes, or a new clone of the template."""
        key, present = session.key, self._templates.present
        data = self._store.get(SESSION + key)
        options = replace(self._options, session_id=key).of_clone(_number_of(key))
        lock = NodeLock(self._name)
        if data is None:
            session.base = present
            node = self._runtime.cloned(present.snapshot, options, lock)
            hold(self._lock, self._count, "begun")
            return node
        state = unpacked(data, key=self._key, max_bytes=options.limits.memory_bytes, base_of=self._templates.find)
        if state.key != key:
            raise ClocheError(f"the parked bytes of the session {short(key)} are another's: {short(state.key)}")
        session.base = state.snapshot.base if isinstance(state.snapshot, Difference) else present
        node = self._runtime.unparked(state, How(options), lock, self._name)
        hold(self._lock, self._count, "woken")
        return node

    def _count(self, name: str) -> None:
        self._counts[name] += 1

    def _make_room(self) -> None:
        """Park sessions until there is a place for one more, unless all are in use.

        Raises:
            ClocheError: there would be a place, and what is in it cannot be stored.
        """
        failure = None
        for _ in range(_TRIES):
            session = self._visits.in_the_way(self._live - 1)
            if session is None:
                return
            try:
                self._park_unused(session)
            except Exception as error:
                failure = error
        if failure is not None:
            raise ClocheError(
                f"no session could be parked to make room (live={self._live}), and all go on as they were: {failure}"
            ) from failure

    def _tried_to_park(self, session: Session) -> bool:
        """Park a session that nobody asks for now: if that fails, it costs a warning, and the session stays awake."""
        try:
            return self._park_unused(session)
        except Exception as error:
            if not self._has_warned:
                self._has_warned = True
                with suppress(Exception):  # a warning may be an error
                    text = f"a session could not be parked, and stays awake (further ones are only counted): {error}"
                    warnings.warn(text, RuntimeWarning, stacklevel=2)
            return False

    def _park_unused(self, session: Session) -> bool:
        """Park a session, unless somebody visits it."""
        visit = Visit(object())
        try:
            try:
                return self._visits.claim(visit, session) and self._keep(session)
            finally:
                self._visits.leave(visit)
        finally:
            self._visits.leave(visit)

    def _park_in_turn(self, session: Session) -> None:
        """Park a session when those who visit it have gone."""
        visit = Visit(object())
        try:
            try:
                self._visits.begin(visit, session.key)
                self._visits.wait(visit)
                self._keep(visit.of)
            finally:
                self._visits.leave(visit)
        finally:
            self._visits.leave(visit)

    def _keep(self, session: Session) -> bool:
        """Park a session that the caller visits. If that fails, its node is what it was."""
        if session.node is None:
            return False
        calls = session.node.__cloche__
        try:
            return calls.lock.run(self._kept, session, calls)
        except Exception:
            session.is_stuck = True
            hold(self._lock, self._count, "failed")
            raise

    def _kept(self, session: Session, calls: NodeCalls) -> bool:
        if calls.closed or calls.broken:
            self._visits.set_node(session, None)
            return False
        state = calls.parking_state(session.base, session.key)
        if isinstance(state.snapshot, Difference):
            self._templates.keep(state.snapshot.base)
        self._store.put(SESSION + session.key, packed(state, key=self._key))
        calls.free_parked(True)
        self._visits.set_node(session, None)
        hold(self._lock, self._count, "parked")
        return True

    def _delete(self, visit: Visit, key: str) -> None:
        found = self._visits.find(_checked_key(key))
        me = threading.get_ident()
        if found is not None and any(other.owner == me for other in list(found.visits)):
            raise ClocheError(f"the session {short(key)} cannot be deleted inside of its own block")
        self._visits.begin(visit, key)
        self._visits.wait(visit)
        session = visit.of
        self._store.delete(SESSION + key)
        node = session.node
        self._visits.set_node(session, None)
        if node is not None:
            node.close()


def _checked_key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"the key of a session is {short(key)}: give a text")
    if len(key) > _MOST_KEY:
        raise ValueError(
            f"the key of a session has {len(key)} characters: give {_MOST_KEY} at most, such as a digest of it"
        )
    return key


def _number_of(key: str) -> int:
    """The number of a session's clone, from which it gets its own `Grants.seed`: the same in each run."""
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _sweeping(sessions: weakref.ref[Sessions], ending: threading.Event, every_s: float) -> None:
    """Park idle sessions until they are closed or dropped. Runs on a thread of its own."""
    while not ending.wait(every_s):
        found = sessions()
        if found is None:
            return
        found.sweep()
        del found  # or this thread would keep them alive
