"""`Separate`: a node as ordinary Python of a process of its own (placement "process"). It has all rights of this user.

What the process adds to "native" is that the node can crash, hang or leak without harm to the host, and that it has its own GIL.
It is no protection against a stranger's code: that is what sandboxes are for.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from cloche._pickles import refuses_to_pickle
from cloche.errors import ClocheError
from cloche.pipeline.errors import BrokenError, PlacementError
from cloche.pipeline.placement import BatchResult, State
from cloche.pipeline.spec import NodeSpec

__all__ = ["Order", "Separate"]

_STOP_S: Final = 5.0
"""Seconds that ``cleanup`` may take before the process is killed."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the host asks of the process: one of the verbs of `Placement`, with its arguments."""

    verb: str
    arguments: tuple[Any, ...] = ()


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
        self._state: State | None = None
        self._is_interrupted = False

    def start(self) -> BatchResult:
        """See `Placement`."""
        self._spawn()
        result: BatchResult = self._ask("start")
        self._save()
        return result

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._connection = Connection(ours.detach())
            environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cloche.pipeline._placements.process_main", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        spec = self._spec
        self._ask("load", (self._entry, dict(spec.params), self._source, self._name, self._session_id))

    def _ask(self, verb: str, arguments: tuple[Any, ...] = (), *, items: int = 1) -> Any:
        """Have the process do something.

        Raises:
            BrokenError: it has died, or did not answer in time and was killed.
            Exception: what it raised.
        """
        connection = self._connection
        if connection is None:
            raise ClocheError(f"node {self._name!r} is stopped")
        deadline_s = None if self._spec.limits is None else self._spec.limits.deadline_s
        try:
            connection.send(Order(verb, arguments))
            if verb == "call" and deadline_s is not None and not connection.poll(deadline_s * items):
                self._kill()
                raise BrokenError(f"node {self._name!r} did not answer within Limits.deadline_s={deadline_s}")
            is_answer, value = connection.recv()
        except (EOFError, OSError):
            code = self._kill()
            why = "was stopped" if self._is_interrupted else f"ended with {_told(code)}"
            raise BrokenError(f"the process of node {self._name!r} {why}") from None
        if is_answer:
            return value
        raise value

    def call(self, items: Sequence[Any], *, end: bool = False) -> BatchResult:
        """See `Placement`. The deadline of a batch is that of one item times their number."""
        try:
            result: BatchResult = self._ask("call", (list(items), end), items=len(items) + end)
        except BrokenError as error:
            if self._is_interrupted or self._spec.on_break == "fail":
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
            if process.poll() is None and not self._is_interrupted:
                connection.send(Order("stop"))
                if connection.poll(_STOP_S):
                    is_answer, value = connection.recv()
                    if not is_answer:
                        raise value
        except (EOFError, OSError):
            pass  # it has died: there is nothing to clean up
        finally:
            self._kill()

    def interrupt(self) -> None:
        """See `Placement`. Ends the process."""
        process = self._process
        if process is not None and process.poll() is None:
            self._is_interrupted = True
            process.send_signal(signal.SIGKILL)

    def _kill(self) -> int:
        """End the process, if it has not ended. Returns its exit code."""
        connection, self._connection = self._connection, None
        process, self._process = self._process, None
        if connection is not None:
            connection.close()
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


def portable(error: BaseException) -> Exception:
    """The error, if it can be pickled; else one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__qualname__}: {error}")
    return error if isinstance(error, Exception) else RuntimeError(f"{type(error).__qualname__}: {error}")
