"""`Server`: the process of a host. It has a runtime and many chains of nodes, each of which is a run of a pipeline of its own."""

from __future__ import annotations

import contextvars
import os
import pickle
import platform
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partialmethod
from typing import Any, Final

from cloche._recording.recorder import version
from cloche._runtime.runtime import Runtime
from cloche._sandbox import Snapshot
from cloche._sandbox.sinks import Sink
from cloche.cluster._messages import Batch, Done, Order, Raised, Record, Reply, Started, Stopped, raised
from cloche.errors import ClocheError, ClosedError
from cloche.isolation import Isolation
from cloche.metering import DEFAULT_METERING, Metering
from cloche.pipeline._channel import Barrier, End, Packet
from cloche.pipeline._log import PipelineLogger
from cloche.pipeline._places import Places, RuntimeOptions
from cloche.pipeline._rejected import Rejected
from cloche.pipeline._run import Run
from cloche.pipeline.graph import Graph

__all__ = ["THREADS", "Server"]

THREADS: Final = 1024
"""Calls that may wait at a time in the process of a host: each batch under way waits on a thread of its own."""
_STATUS_S: Final = 0.25
"""Seconds between two looks at how a chain is doing: it takes longer than a small batch."""
_STOPPED: Final = 10_000
"""Chains that were stopped before they came, of which so many are remembered."""
_current: contextvars.ContextVar[_Chain | None] = contextvars.ContextVar("chain", default=None)
"""The chain whose nodes a thread works for: a runtime's logger does not know it."""


class Server:
    """Serves one driver or several. The methods may be called on many threads at a time, and do not raise: they return errors.

    Args:
        name: the host's name, for people.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._runtimes: dict[tuple[Isolation, Metering | None], Runtime] = {}
        self._chains: dict[str, _Chain] = {}
        self._stopped: dict[str, None] = {}
        """Chains that were stopped before they came: another thread is about to make them."""
        self._verbs: dict[str, Callable[..., Any]] = {
            "hello": self._hello,
            "prepare": self._prepare,
            "start": self._start,
            "restore": self._restore,
            "states": self._states,
            "stop": self._stop,
            "discard": self._discard,
            "interrupt": self._interrupt,
        }

    @property
    def parts(self) -> tuple[str, ...]:
        """The chains that are here."""
        with self._lock:
            return tuple(self._chains)

    def do(self, verb: str, *arguments: Any) -> Done | Raised:
        """Do what a driver asks for.

        Args:
            verb: name of one of the methods below.
            *arguments: its arguments.
        """
        try:
            return Done(self._verbs[verb](*arguments))
        except BaseException as error:
            return raised(error)

    def call(self, batch: Batch, bundles: Sequence[Sequence[Any]]) -> tuple[Reply, list[Any]]:
        """Have a chain work on a batch, when those before it have begun. Returns the reply, and all outputs."""
        try:
            return self._chain(batch.part).work(batch, bundles)
        except BaseException as error:
            return Reply(failed=raised(error)), []

    def close(self) -> None:
        """Stop all chains without ``cleanup``, and free everything."""
        with self._lock:
            chains, self._chains = list(self._chains.values()), {}
            runtimes, self._runtimes = list(self._runtimes.values()), {}
        for chain in chains:
            with suppress(Exception):
                chain.discard()
        for runtime in runtimes:
            runtime.close()

    def _hello(self) -> dict[str, Any]:
        """What has to be the same here and at the driver. The first sandbox is quick after it: the image is loaded."""
        return {
            "cloche": version(),
            "python": platform.python_version(),
            "pid": os.getpid(),
            "image": self._runtime("none", None).image.sha256,
        }

    def _prepare(self, part: str, order: bytes) -> bool:
        """Load a chain. Returns whether its first node is a source."""
        chain = self._new(part, order)
        chain.run.prepare()
        return chain.run.has_source

    def _start(self, part: str) -> Started:
        """Start a chain that is prepared."""
        chain = self._chain(part)
        chain.run.start()
        return chain.started()

    def _restore(self, part: str, order: bytes, states: bytes, begin: int) -> Started:
        """Start a chain with states; its first batch has the number `begin`."""
        chain = self._new(part, order, begin)
        chain.run.start(pickle.loads(states))
        return chain.started()

    def _states(self, part: str, at: int) -> bytes:
        """The states of a chain before the batch `at`, once it has answered all those before, pickled."""
        return self._chain(part).states(at)

    def _stop(self, part: str) -> Stopped:
        """Stop a chain, with the ``cleanup`` of its nodes."""
        chain = self._taken(part)
        return Stopped() if chain is None else chain.stop()

    def _discard(self, part: str) -> None:
        """Free a chain that goes on somewhere else."""
        chain = self._taken(part)
        if chain is not None:
            chain.discard()

    def _interrupt(self, part: str) -> None:
        """Interrupt the calls that are under way."""
        with self._lock:
            chain = self._chains.get(part)
        if chain is not None:
            chain.interrupt()

    def _new(self, part: str, order: bytes, begin: int = 0) -> _Chain:
        with self._lock:
            before = self._chains.pop(part, None)
        if before is not None:
            before.discard()  # a driver that has given it up, and comes back
        read: Order = pickle.loads(order)
        chain = _Chain(read, self._runtime(read.isolation, read.metering), begin)
        with self._lock:
            if part in self._stopped:
                del self._stopped[part]
                raise ClosedError(f"the chain {part!r} was stopped before it was there")
            self._chains[part] = chain
        return chain

    def _chain(self, part: str) -> _Chain:
        with self._lock:
            chain = self._chains.get(part)
        if chain is None:
            raise ClosedError(f"there is no chain {part!r} at {self._name}: it is stopped")
        return chain

    def _taken(self, part: str) -> _Chain | None:
        with self._lock:
            chain = self._chains.pop(part, None)
            if chain is None:
                self._stopped[part] = None
                if len(self._stopped) > _STOPPED:
                    del self._stopped[next(iter(self._stopped))]
            return chain

    def _runtime(self, isolation: Isolation, metering: Metering | None) -> Runtime:
        with self._lock:
            kind = isolation, metering
            if kind not in self._runtimes:
                self._runtimes[kind] = Runtime(
                    logger=_Router(), isolation=isolation, metering=metering or DEFAULT_METERING
                )
            return self._runtimes[kind]


class _Router(Sink):
    """The logger of a host's runtime: a record is for the driver of the chain in which it was made."""

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        chain = _current.get()
        if chain is None:
            super().log(level, message, fields)
        else:
            chain.logger.log(level, message, fields)


class _Collected:
    """A logger that keeps what is logged until the next answer."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque()

    def _keep(self, level: str, message: str, **fields: Any) -> None:
        self._records.append((level, message, fields))

    debug = partialmethod(_keep, "debug")
    info = partialmethod(_keep, "info")
    warning = partialmethod(_keep, "warning")
    error = partialmethod(_keep, "error")
    critical = partialmethod(_keep, "critical")

    def until(self, item: int | None) -> list[Record]:
        """What belongs to items up to one, or to none; None: all."""
        taken: list[Record] = []
        left: list[Record] = []
        for _ in range(len(self._records)):
            record = self._records.popleft()
            later = item is not None and isinstance(of := record[2].get("item"), int) and of > item
            (left if later else taken).append(record)
        self._records.extendleft(reversed(left))
        return taken


class _Turns:
    """Lets threads pass in the order of their numbers."""

    def __init__(self, begin: int) -> None:
        self._next = begin
        self._condition = threading.Condition()
        self._is_closed = False

    @contextmanager
    def at(self, number: int) -> Iterator[None]:
        """Wait for the turn of a number; the next one is that of the number behind it."""
        self.wait(number)
        try:
            yield
        finally:
            with self._condition:
                self._next += 1
                self._condition.notify_all()

    def wait(self, number: int) -> None:
        """Wait for the turn of a number.

        Raises:
            ClosedError: it does not come any more.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._is_closed or self._next == number)
            if self._is_closed:
                raise ClosedError("the chain was stopped")

    def close(self) -> None:
        """Let nobody pass any more."""
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()


class _Chain:
    """A chain of nodes at work."""

    def __init__(self, order: Order, runtime: Runtime, begin: int) -> None:
        self._collected = _Collected()
        self.logger = PipelineLogger(order.pipeline, self._collected)
        self._letters: deque[Rejected] = deque()
        graph = Graph(dict(order.nodes), tuple(order.edges))
        prepared = {name: Snapshot.from_bytes(data, max_bytes=1 << 32) for name, data in order.prepared.items()}
        options = RuntimeOptions(self.logger)
        places = Places(graph, runtime, options, allow_native=True, prepared=prepared, labels=order.labels)
        context = contextvars.copy_context()
        context.run(_current.set, self)
        self.run: Run = context.run(
            Run,
            graph,
            places.made(order.session_id),
            self._warn,
            self._letters.append,
            order.session_id,
            order.stop_s,
            entry_room=sys.maxsize,  # the driver's window is the bound
        )
        self._putting, self._taking = _Turns(begin), _Turns(begin)
        self._left: deque[Packet | Barrier] = deque()
        """What the run has given beyond the batch that was asked for."""
        self._over: End | BaseException | None = None
        self._looked_at = time.monotonic()

    def _warn(self, node: str, message: str, **facts: Any) -> None:
        self.logger.tell(node, f"node {node!r} {message}", facts)

    def started(self) -> Started:
        """What the start has given, once the nodes have started."""
        if not self.run.is_over and (states := self._saved()) is not None:
            return Started(False, [], states, self._collected.until(None))
        while self._next() is not None:  # they want no items: the end comes at once
            pass
        if isinstance(self._over, End):
            return Started(True, self._over.values, b"", self._collected.until(None))
        assert self._over is not None
        raise self._over

    def work(self, batch: Batch, bundles: Sequence[Sequence[Any]]) -> tuple[Reply, list[Any]]:
        """See `Server.call`."""
        packets = batch.packets(bundles)
        with self._putting.at(batch.sequence):
            if batch.is_end:
                self.run.mark(End([value for _, values in packets for value in values]))
            else:
                self.run.put_packets(packets)
                if batch.saves:
                    self.run.mark(Barrier(batch.sequence))
        with self._taking.at(batch.sequence):
            return self._made(batch)

    def _made(self, batch: Batch) -> tuple[Reply, list[Any]]:
        reply = Reply()
        outputs: list[Any] = []
        wanted = sys.maxsize if batch.is_end else len(batch.numbers)
        while len(reply.numbers) < wanted or (batch.saves and reply.states is None):
            got = self._next()
            if got is None:
                break
            if isinstance(got, Barrier):
                began = time.perf_counter()
                reply.states = pickle.dumps(got.states)
                reply.saving_s = time.perf_counter() - began
                continue
            reply.numbers.append(got[0])
            reply.counts.append(len(got[1]))
            outputs += got[1]
        if self._over is None and not self._left and self.run.is_ending and (got := self._next()) is not None:
            self._left.append(got)  # it belongs to the next batch; else the end belongs to this one
        if isinstance(self._over, End):
            reply.ended = len(self._over.values)
            outputs += self._over.values
            self._over = End([])
        elif self._over is not None:
            reply.failed = raised(self._over)
        last = None if self._over is not None else batch.numbers[-1]
        later: list[Rejected] = []
        for _ in range(len(self._letters)):
            letter = self._letters.popleft()
            if last is not None and letter.item is not None and letter.item > last:
                later.append(letter)  # it belongs to a batch behind this one
            else:
                reply.letters.append(Rejected(letter.node, letter.item, letter.value, raised(letter.error).error))
        self._letters.extendleft(reversed(later))
        reply.logs = self._collected.until(last)
        if self._over is not None or time.monotonic() - self._looked_at > _STATUS_S:
            self._looked_at = time.monotonic()
            reply.status = list(self.run.status())
        return reply, outputs

    def _next(self) -> Packet | Barrier | None:
        """What comes next out of the chain; None: it has ended."""
        if not self._left:
            if self._over is not None:
                return None
            try:
                got = self.run.take_packets()
            except BaseException as error:
                self._over = error
                return None
            if isinstance(got, list):
                self._left.extend(got)
            elif isinstance(got, Barrier):
                self._left.append(got)
            else:
                self._over = got if isinstance(got, End) else End([])
                return None
        return self._left.popleft()

    def states(self, at: int) -> bytes:
        """See `Server._states`."""
        self._taking.wait(at)
        states = self._saved()
        if states is None:
            raise ClocheError("the chain has ended, and has no states")
        return states

    def _saved(self) -> bytes | None:
        """The states, pickled; None: the chain has ended."""
        self.run.mark(Barrier(0))
        got = self._next()
        if isinstance(got, Barrier):
            return pickle.dumps(got.states)
        if isinstance(self._over, BaseException):
            raise self._over
        return None

    def stop(self) -> Stopped:
        """See `Server._stop`."""
        self._close_turns()
        failed: Raised | None = None
        try:
            self.run.stop()
        except Exception as error:
            failed = raised(error)
        return Stopped(self._collected.until(None), failed)

    def discard(self) -> None:
        """See `Server._discard`."""
        self._close_turns()
        self.run.stop(cleanup=False)

    def interrupt(self) -> None:
        """See `Server._interrupt`."""
        self.run.interrupt()

    def _close_turns(self) -> None:
        self._putting.close()
        self._taking.close()
