"""`Separate`: a node as ordinary Python of a process of its own (placement "process"). It has all rights of this user.

What the process adds to "native" is that the node can crash, hang or leak without harm to the host, and that it has its own GIL.
It is no protection against a stranger's code: that is what sandboxes are for.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from cloche._child import start
from cloche._pickles import refuses_to_pickle
from cloche.errors import ClocheError, EncodeError
from cloche.pipeline._placements.orders import Kind, Order
from cloche.pipeline.errors import BrokenError, PlacementError
from cloche.pipeline.placement import BatchResult, State
from cloche.pipeline.spec import NodeSpec

__all__ = ["Separate"]

_STOP_S: Final = 5.0
"""Seconds that ``cleanup`` may take before the process is killed."""
_GRACE_S: Final = 1.0
"""Seconds that a call may take to end once it has been interrupted; then the process is killed."""


class Separate:
    """One copy of a node in a process of its own.

    Args:
        spec: the node's specification.
        source: its code: a `Source`, a path, the name of a module, or a class or function that can be imported by its name.
        name: its name in errors.
        session_id: as for `Runtime.load`.
    """

    def __init__(self, spec: NodeSpec, source: Any, name: str, session_id: str | None) -> None:
        if why := refuses_to_pickle(source):
            raise PlacementError(
                f"node {name!r} cannot run in a process of its own: its source cannot be pickled ({why}). "
                "Define it at the top of a module, or pass the path of its file",
                node=name,
            )
        self._spec = spec
        self._source, self._entry = _importable(source, spec.entry)
        self._name = name
        self._session_id = session_id
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._begun: mmap.mmap | None = None
        self._state: State | None = None
        self._lock = threading.Lock()
        self._is_working = False
        self._interrupted_at: float | None = None

    def prepare(self) -> None:
        """See `Prepared`."""
        self._spawn()
        self._ask("prepare")

    def is_source(self) -> bool:
        """See `Prepared`."""
        return self._process is not None and bool(self._ask("is_source"))

    def start(self) -> BatchResult:
        """See `Placement`."""
        if self._process is None:
            self._spawn()
        result: BatchResult = self._ask("start")
        self._save()
        return result

    def _spawn(self) -> None:
        counter = os.memfd_create("cloche-begun", os.MFD_CLOEXEC)
        try:
            os.ftruncate(counter, mmap.PAGESIZE)
            self._begun = mmap.mmap(counter, mmap.PAGESIZE)
            self._process, self._connection = start("cloche.pipeline._placements.process_main", descriptors=[counter])
        finally:
            os.close(counter)
        spec = self._spec
        self._ask("load", (self._entry, dict(spec.params), self._source, self._name, self._session_id))

    def _ask(self, verb: str, arguments: tuple[Any, ...] = (), *, is_timed: bool = False) -> Any:
        """Have the process do something.

        Raises:
            EncodeError: what is sent cannot be pickled, or not be read by the process. Nothing was done.
            BrokenError: the process has died, or did not answer in time and was killed.
            Exception: what it raised.
        """
        try:
            order = pickle.dumps(Order(verb, arguments))
        except Exception as error:
            raise EncodeError(f"cannot be sent to the process of node {self._name!r}: {error}", "item") from error
        with self._lock:
            if self._interrupted_at is not None:
                raise BrokenError(f"the process of node {self._name!r} was stopped")
            self._is_working = True
        try:
            answer = self._exchange(order, is_timed=is_timed)
            try:
                kind, value = pickle.loads(answer)
            except Exception:
                if verb != "call":
                    raise
                kind, value = pickle.loads(self._exchange(pickle.dumps(Order("apart")), is_timed=False))
        finally:
            with self._lock:
                self._is_working = False
        if kind == Kind.RAISED:
            raise value
        if kind == Kind.REFUSED:
            raise EncodeError(f"cannot be read in the process of node {self._name!r}: {value}", "item")
        return BatchResult([_unpacked(outcome) for outcome in value[0]], value[1]) if kind == Kind.APART else value

    def _exchange(self, order: bytes, *, is_timed: bool) -> bytes:
        connection = self._connection
        if connection is None:
            raise ClocheError(f"node {self._name!r} is stopped")
        try:
            connection.send_bytes(order)
            if is_timed:
                self._wait_for_items(connection)
            return connection.recv_bytes()
        except (EOFError, OSError):
            code = self._kill()
            why = "was stopped" if self._interrupted_at is not None else f"ended with {_told(code)}"
            raise BrokenError(f"the process of node {self._name!r} {why}") from None

    def _wait_for_items(self, connection: Connection) -> None:
        """Wait for an answer as long as the process begins an item within each deadline."""
        deadline_s = None if self._spec.limits is None else self._spec.limits.deadline_s
        if deadline_s is None or self._begun is None:
            return
        begun = -1
        while not connection.poll(deadline_s):
            now = int.from_bytes(self._begun[:8], "little")
            if now == begun:
                self._kill()
                raise BrokenError(f"node {self._name!r} did not answer within Limits.deadline_s={deadline_s}")
            begun = now

    def call(self, items: Sequence[Any], *, end: bool = False) -> BatchResult:
        """See `Placement`. Each item has the deadline for itself."""
        try:
            result: BatchResult = self._ask("call", (list(items), end), is_timed=True)
        except BrokenError as error:
            if self._interrupted_at is not None or self._spec.on_break == "fail":
                raise
            try:
                self._bring_back()
            except Exception as later:
                error.add_note(f"and it could not be brought back: {later}")
                raise error from None
            error.recovered = True
            raise
        self._save()
        return result

    def _bring_back(self) -> None:
        self._spawn()
        if self._spec.on_break == "restore" and self._state is not None:
            self._ask("restore", (self._state,))
        else:
            self._ask("start")

    def _save(self) -> None:
        if self._spec.on_break == "restore":
            self._state = self._ask("snapshot")

    def snapshot(self) -> State:
        """See `Placement`."""
        state: State = self._ask("snapshot")
        return state

    def restore(self, state: State) -> None:
        """See `Placement`."""
        if self._process is None:
            self._spawn()
        self._ask("restore", (state,))
        self._save()

    def memory_bytes(self) -> int:
        """See `Measured`: what the process does not share with others."""
        process = self._process
        return 0 if process is None else _private_bytes(process.pid)

    def stop(self) -> None:
        """See `Placement`."""
        connection, process = self._connection, self._process
        if connection is None or process is None:
            return
        try:
            if process.poll() is None:
                connection.send_bytes(pickle.dumps(Order("stop")))
                if not connection.poll(_STOP_S):
                    raise ClocheError(f"the cleanup of node {self._name!r} took more than {_STOP_S} s: it was killed")
                kind, value = pickle.loads(connection.recv_bytes())
                if kind == Kind.RAISED:
                    raise value
        except (EOFError, OSError):
            pass  # it has died: there is nothing to clean up
        finally:
            self._kill()

    def discard(self) -> None:
        """See `Discardable`."""
        self._kill()

    def interrupt(self) -> None:
        """See `Placement`. The process is killed if its call goes on nevertheless."""
        with self._lock:  # so that the call under way is still that call
            if not self._is_working:
                return
            now, process = time.monotonic(), self._process
            self._interrupted_at = self._interrupted_at or now
            if process is None:
                return
            if now - self._interrupted_at > _GRACE_S:
                process.kill()
            else:
                process.send_signal(signal.SIGTERM)  # each time: it may not have begun with the call yet

    def _kill(self) -> int:
        """End the process, if it has not ended. Returns its exit code."""
        connection, self._connection = self._connection, None
        process, self._process = self._process, None
        begun, self._begun = self._begun, None
        if connection is not None:
            connection.close()
        if begun is not None:
            begun.close()
        if process is None:
            return 0
        try:
            return process.wait(0.2)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _importable(source: Any, entry: str | None) -> tuple[Any, str | None]:
    """A source as another process can import it, and the entry: a class of the main program by the program's file."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if getattr(source, "__module__", None) != "__main__" or file is None:
        return source, entry
    return Path(file).resolve(), source.__qualname__


def _private_bytes(pid: int) -> int:
    """The memory that a process does not share; 0 if the system does not say."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text("ascii").split()
        return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _told(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _unpacked(outcome: bytes) -> list[Any] | Exception:
    try:
        unpacked: list[Any] | Exception = pickle.loads(outcome)
    except Exception as error:
        return TypeError(f"an output of the process of a node cannot be read: {error}")
    return unpacked
