"""`Sessions`: a node for each of very many users, all made of one template. Those that are not in use are parked.

A *visit* is one block of `Sessions.node`. The visits of one session wait for each other in a list of which the first may go on, so
that arriving is appending to it, and leaving, however it comes, is removing from it. Who parks a session visits it likewise. All
tables are changed under one lock, which is never held while a node is called or a store is used.
"""

from __future__ import annotations

import hashlib
import threading
import time
import warnings
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cloche import _forks
from cloche._arguments import checked, checked_count, checked_seconds
from cloche._requests import NodeLock, hold
from cloche._runtime import Node, NodeCalls, Runtime
from cloche._runtime.closing import ClosedByWith
from cloche._runtime.loans import SessionLoan
from cloche._runtime.parked import How, packed, unpacked
from cloche._sandbox import Base, Difference, Snapshot
from cloche.errors import ClocheError, ClosedError, PoolTimeoutError
from cloche.parking.stores import SESSION, TEMPLATE, MemoryStore, Store, store_of
from cloche.texts import short

if TYPE_CHECKING:
    from cloche._runtime.load_options import LoadOptions

__all__ = ["SessionStats", "Sessions"]

_SLICE_S: Final = 0.1
"""Seconds after which a visit that waits looks itself whether its turn has come."""
_MOST_KEY: Final = 1024
_MOST_BASES: Final = 8
"""Earlier templates whose memory is kept, for sessions that began as clones of them."""
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


class _Visit:
    """One who wants the node of a session, or has it.

    Args:
        owner: who it is: visits of one owner need not wait for each other.
    """

    __slots__ = ("loan", "owner", "session", "turn")

    def __init__(self, owner: object) -> None:
        self.owner = owner
        self.session: _Session | None = None
        self.loan: SessionLoan | None = None
        self.turn: threading.Event | _AwaitedTurn | None = None


class _AwaitedTurn:
    """What an event loop waits for. It is there before the visit is, so that no turn is missed."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        from concurrent.futures import Future  # slow to import

        self.future: Future[None] = Future()

    def set(self) -> None:
        """The turn has come. It may be said again."""
        if not self.future.done():
            self.future.set_result(None)


class _Session:
    """A session that is awake, or that somebody visits."""

    __slots__ = ("base", "is_stuck", "key", "node", "used_at", "visits")

    def __init__(self, key: str) -> None:
        self.key = key
        self.node: Node | None = None
        self.base: Base | None = None
        self.visits: list[_Visit] = []
        self.used_at = 0.0
        self.is_stuck = False
        """Whether parking it has failed since it was last used."""


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
        store: Any = None,
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
        self._base = Base(calls.snapshot())
        self._bases: OrderedDict[str, Base] = OrderedDict()
        self._stored: set[str] = set()
        """Digests of the templates that are in the store."""
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        """Those that are awake or visited; the one that was used longest ago first."""
        self._counts = dict.fromkeys(("begun", "woken", "parked", "failed"), 0)
        self._awake = 0
        self._has_warned = False
        self._closed = False
        self.after_fork()
        _forks.watch(self)

    def after_fork(self) -> None:
        """In a new one and in the child of a fork: no other thread has the lock, visits a session, or parks idle ones."""
        self._lock = threading.RLock()
        self._ending = threading.Event()
        me = threading.get_ident()
        for session in self._sessions.values():
            session.visits = [visit for visit in session.visits if visit.owner == me]
            if session.node is not None and session.node.__cloche__.lock.is_lost:
                self._change_node(session, None)  # it is in a call of the parent
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
        visit = _Visit(threading.get_ident())
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
        visit = _Visit(object())
        visit.turn = turn = _AwaitedTurn()
        try:
            self._begin(visit, _checked_key(key))
            began = time.monotonic()
            with anyio.move_on_after(until):
                if not self._has_turn(visit):
                    await settled(turn.future)
            if not self._has_turn(visit):
                raise _late(key, began, until)
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
        session = self._sessions.get(_checked_key(key))
        return session is not None and self._park_unused(session)

    def delete(self, key: str) -> None:
        """End a session: close its node and forget its state. Its next block begins anew. ``cleanup`` runs only if it is awake.

        Raises:
            ClocheError: the calling thread is in a block of the session.
            Exception: what ``cleanup`` or the store raised.
        """
        visit = _Visit(object())
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
        session = self._sessions.get(key)
        return (session is not None and session.node is not None) or self._store.contains(_place(key))

    @property
    def stats(self) -> SessionStats:
        """What has been done so far, and how many nodes there are now."""
        return hold(self._lock, self._stats)

    def _stats(self) -> SessionStats:
        in_use = sum(bool(session.visits) for session in self._sessions.values())
        return SessionStats(awake=self._awake, in_use=in_use, **self._counts)

    def sweep(self) -> int:
        """Park all sessions that nobody has used for `idle_s` seconds, as a thread does from time to time; the number of those.

        What cannot be parked stays awake, and is counted (`SessionStats.failed`).
        """
        return sum(map(self._tried_to_park, hold(self._lock, self._overdue)))

    def close(self) -> None:
        """Park all sessions, and flush a `MemoryStore` to its next store. Blocks that are open are waited for. Again: does nothing.

        Close them before their runtime, whose end frees the nodes that are awake.

        Raises:
            ExceptionGroup: some could not be parked. They stay awake; call `close` again, or close the runtime to give them up.
            ClocheError: the calling thread is in a block.
        """
        me = threading.get_ident()
        if any(visit.owner == me for session in list(self._sessions.values()) for visit in list(session.visits)):
            raise ClocheError("sessions cannot be closed inside of one of their blocks")
        self._closed = True
        self._ending.set()
        failures: list[Exception] = []
        for session in list(self._sessions.values()):
            try:
                self._park_in_turn(session)
            except Exception as error:
                error.add_note(f"of the session {short(session.key)}")
                failures.append(error)
        if isinstance(self._store, MemoryStore) and not failures:
            self._store.flush()
        if failures:
            raise ExceptionGroup("not all sessions could be parked", failures)

    def __repr__(self) -> str:
        stats = self.stats
        return f"<cloche.parking.Sessions of {self._name!r}, {stats.awake} of {self._live} awake>"

    # Visits

    def _entered(self, visit: _Visit, key: str, timeout_s: float | None) -> Node:
        """The node of a session for a visit, once its turn has come."""
        until = checked_seconds("timeout_s", timeout_s)
        self._begin(visit, _checked_key(key))
        self._wait(visit, until)
        return self._woken(visit)

    def _woken(self, visit: _Visit) -> Node:
        """The node of a session for a visit whose turn it is."""
        session = visit.session
        assert session is not None  # `_begin` has set it
        node = session.node
        if node is None or node.broken or node.__cloche__.closed:
            self._set_node(session, None)
            self._make_room()
            node = self._made(session)
            self._set_node(session, node)
        visit.loan = SessionLoan(node.__cloche__)
        return Node(visit.loan, node._restore)  # noqa: SLF001  # of the same node

    def _begin(self, visit: _Visit, key: str) -> None:
        hold(self._lock, self._add, visit, key)
        if self._closed:
            raise ClosedError("these sessions are closed")
        if self._idle_s is not None and not self._is_swept:
            self._is_swept = True
            arguments = weakref.ref(self), self._ending, max(0.01, self._idle_s / 2)
            threading.Thread(target=_sweeping, args=arguments, name="cloche-sessions", daemon=True).start()

    def _add(self, visit: _Visit, key: str) -> None:
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = _Session(key)
        visit.session = session
        session.is_stuck = False
        first = session.visits[0] if session.visits else None
        place = 0 if first is not None and first.owner == visit.owner else len(session.visits)
        session.visits.insert(place, visit)
        self._sessions.move_to_end(key)

    def _has_turn(self, visit: _Visit) -> bool:
        session = visit.session
        assert session is not None  # `_begin` has set it
        return session.visits[0] is visit

    def _wait(self, visit: _Visit, timeout_s: float | None) -> None:
        began = time.monotonic()
        visit.turn = turn = threading.Event()
        while not self._has_turn(visit):
            waited = time.monotonic() - began
            if timeout_s is not None and waited >= timeout_s:
                raise _late(visit.session.key if visit.session else "", began, timeout_s)
            turn.wait(_SLICE_S if timeout_s is None else min(_SLICE_S, timeout_s - waited))

    def _leave(self, visit: _Visit) -> None:
        """End a visit, and park what is too much. Again: does nothing."""
        if visit.session is None:
            return
        if visit.loan is not None:
            visit.loan.end()
        if hold(self._lock, self._remove, visit):
            while (session := hold(self._lock, self._in_the_way, self._live)) is not None:
                if not self._tried_to_park(session):
                    break

    def _remove(self, visit: _Visit) -> bool:
        session = visit.session
        if session is None or visit not in session.visits:
            return False
        session.used_at = time.monotonic()
        session.visits.remove(visit)
        if session.visits:
            if (turn := session.visits[0].turn) is not None:
                turn.set()
        elif session.node is None:
            self._sessions.pop(session.key, None)
        return True

    # Making and parking nodes

    def _made(self, session: _Session) -> Node:
        """A node for a session: of its parked bytes, or a new clone of the template."""
        key = session.key
        data = self._store.get(_place(key))
        options = replace(self._options, session_id=key).of_clone(_number_of(key))
        lock = NodeLock(self._name)
        if data is None:
            session.base = self._base
            node = self._runtime.cloned(self._base.snapshot, options, lock)
            hold(self._lock, self._count, "begun")
            return node
        state = unpacked(data, key=self._key, max_bytes=options.limits.memory_bytes, base_of=self._base_of)
        if state.key != key:
            raise ClocheError(f"the parked bytes of the session {short(key)} are another's: {short(state.key)}")
        session.base = state.snapshot.base if isinstance(state.snapshot, Difference) else self._base
        node = self._runtime.unparked(state, How(options), lock, self._name)
        hold(self._lock, self._count, "woken")
        return node

    def _set_node(self, session: _Session, node: Node | None) -> None:
        """Change the node of a session that the caller visits."""
        hold(self._lock, self._change_node, session, node)

    def _change_node(self, session: _Session, node: Node | None) -> None:
        self._awake += (node is not None) - (session.node is not None)
        session.node = node

    def _count(self, name: str) -> None:
        self._counts[name] += 1

    def _make_room(self) -> None:
        """Park sessions until there is a place for one more, unless all are in use.

        Raises:
            ClocheError: there would be a place, and what is in it cannot be stored.
        """
        failure = None
        for _ in range(_TRIES):
            session = hold(self._lock, self._in_the_way, self._live - 1)
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

    def _in_the_way(self, most: int) -> _Session | None:
        """The session to park so that at most so many are awake; None: they are already, or all others are in use."""
        if self._awake <= most:
            return None
        stuck = None
        for session in self._sessions.values():
            if session.node is None or session.visits or session.node.__cloche__.sandbox.tie:
                continue
            if not session.is_stuck:
                return session
            stuck = stuck or session
        return stuck

    def _overdue(self) -> list[_Session]:
        if self._idle_s is None:
            return []
        since = time.monotonic() - self._idle_s
        return [one for one in self._sessions.values() if one.node and not one.visits and one.used_at <= since]

    def _tried_to_park(self, session: _Session) -> bool:
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

    def _park_unused(self, session: _Session) -> bool:
        """Park a session, unless somebody visits it."""
        visit = _Visit(object())
        try:
            try:
                return hold(self._lock, self._claim, visit, session) and self._keep(session)
            finally:
                hold(self._lock, self._remove, visit)
        finally:
            hold(self._lock, self._remove, visit)

    def _claim(self, visit: _Visit, session: _Session) -> bool:
        if session.visits or session.node is None:
            return False
        visit.session = session
        session.visits.append(visit)
        return True

    def _park_in_turn(self, session: _Session) -> None:
        """Park a session when those who visit it have gone."""
        visit = _Visit(object())
        try:
            try:
                hold(self._lock, self._add, visit, session.key)
                self._wait(visit, None)
                self._keep(visit.session)
            finally:
                hold(self._lock, self._remove, visit)
        finally:
            hold(self._lock, self._remove, visit)

    def _keep(self, session: _Session | None) -> bool:
        """Park a session that the caller visits. If that fails, its node is what it was."""
        if session is None or session.node is None:
            return False
        calls = session.node.__cloche__
        try:
            return calls.lock.run(self._kept, session, calls)
        except Exception:
            session.is_stuck = True
            hold(self._lock, self._count, "failed")
            raise

    def _kept(self, session: _Session, calls: NodeCalls) -> bool:
        if calls.closed or calls.broken:
            self._set_node(session, None)
            return False
        state = calls.parking_state(session.base, session.key)
        if isinstance(state.snapshot, Difference):
            self._store_base(state.snapshot.base)
        self._store.put(_place(session.key), packed(state, key=self._key))
        calls.free_parked(True)
        self._set_node(session, None)
        hold(self._lock, self._count, "parked")
        return True

    def _delete(self, visit: _Visit, key: str) -> None:
        found = self._sessions.get(_checked_key(key))
        me = threading.get_ident()
        if found is not None and any(other.owner == me for other in list(found.visits)):
            raise ClocheError(f"the session {short(key)} cannot be deleted inside of its own block")
        hold(self._lock, self._add, visit, key)
        self._wait(visit, None)
        session = visit.session
        assert session is not None  # `_add` has set it
        self._store.delete(_place(key))
        node = session.node
        self._set_node(session, None)
        if node is not None:
            node.close()

    # Templates

    def _store_base(self, base: Base) -> None:
        """Store a template, without which the differences from it are worth nothing."""
        if base.digest in self._stored:
            return
        place = TEMPLATE + base.digest
        if not self._store.contains(place):
            self._store.put(place, base.snapshot.to_bytes(key=self._key))
        self._stored.add(base.digest)

    def _base_of(self, digest: str) -> Base:
        """The template of that digest: this one, or an earlier one from the store."""
        if digest == self._base.digest:
            return self._base
        base = self._bases.get(digest)
        if base is not None:
            return base
        data = self._store.get(TEMPLATE + digest)
        if data is None:
            raise ClocheError(
                f"the store has lost the template {short(digest)} that the session began with: delete the session"
            )
        base = Base(Snapshot.from_bytes(data, key=self._key, max_bytes=self._options.limits.memory_bytes))
        if base.digest != digest:
            raise ClocheError(f"the template {short(digest)} in the store is another one: delete the session")
        hold(self._lock, self._keep_base, base)
        return base

    def _keep_base(self, base: Base) -> None:
        self._bases[base.digest] = base
        while len(self._bases) > _MOST_BASES:
            self._bases.popitem(last=False)


def _late(key: str, began: float, timeout_s: float | None) -> PoolTimeoutError:
    """The error of a visit whose turn has not come in time."""
    waited = time.monotonic() - began
    return PoolTimeoutError(
        f"the session {short(key)} was in use for {waited:.3f} s (timeout_s={timeout_s})",
        limit="timeout_s",
        value=timeout_s or 0.0,
        reached=waited,
    )


def _checked_key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"the key of a session is {short(key)}: give a text")
    if len(key) > _MOST_KEY:
        raise ValueError(
            f"the key of a session has {len(key)} characters: give {_MOST_KEY} at most, such as a digest of it"
        )
    return key


def _place(key: str) -> str:
    """The key in the store, which has templates beside sessions."""
    return SESSION + key


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
