"""How the nodes of this process are doing, for ``cloche top`` in another one: ``Runtime(inspectable=True)``.

A process that allows it listens on a Unix socket in a folder of its user's that nobody else can enter. Whoever connects, and is
that user or root, gets one line of JSON and is sent away. Nothing is read from him, so there is nothing that he could ask for.
Names in it come from strangers' nodes: they are cleaned here, and cleaned again by who shows them.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import socket
import stat
import struct
import sys
import tempfile
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from cloche import _forks
from cloche._times import percentile
from cloche.errors import ClocheError
from cloche.texts import line, name

if TYPE_CHECKING:
    from cloche._requests import NodeLock
    from cloche._runtime.calls import NodeCalls
    from cloche._runtime.figures import RuntimeStats
    from cloche._times import ItemTimes

__all__ = ["VERSION", "Inspectable", "Times", "ask", "folder", "inspector", "processes"]

VERSION: Final = 1
"""Of what a process says. It is raised if a field is taken away or changes its meaning."""
_PREFIX, _SUFFIX = "top-", ".sock"
_TIMEOUT_S: Final = 2.0
"""How long whoever asks may take to read the answer, or to give it."""
_MOST_BYTES: Final = 16 << 20
_MOST_NODES: Final = 1000
_MOST_FRAMES: Final = 3
_MEASURES_S: Final = 0.02
"""Time in which private memory is measured for one answer. The other nodes keep their last figure until it is their turn."""
_PEER: Final = struct.Struct("3i")
"""``struct ucred``: process, user, group."""


Times = weakref.WeakKeyDictionary["NodeLock", "ItemTimes"]
"""How long the last calls of each node took, by its lock: that stays the same when its sandbox is replaced."""


class Inspectable(Protocol):
    """A `Runtime`, as far as it is needed here."""

    @property
    def metering(self) -> str:
        """See `Runtime`."""

    @property
    def stats(self) -> RuntimeStats:
        """See `Runtime`."""

    def living(self) -> list[NodeCalls]:
        """See `Runtime`."""


@dataclass(slots=True)
class _Known:
    """What is remembered of a node between two answers: its number, and its private memory when that was measured last."""

    number: int
    private_bytes: int | None = None


def folder(*, make: bool = False) -> Path:
    """The folder of this user's sockets.

    Args:
        make: make it, if it is not there.

    Raises:
        ClocheError: others could enter it, or put something there.
    """
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or "-")
    given = base.is_absolute() and os.access(base, os.W_OK | os.X_OK)
    path = base / "cloche" if given else Path(tempfile.gettempdir(), f"cloche-{os.getuid()}")
    try:
        if make:
            with suppress(FileExistsError):
                path.mkdir(mode=0o700)
        found = path.lstat()
    except FileNotFoundError:
        if not make:
            return path
        raise ClocheError(f"the folder of {path} is not there: set XDG_RUNTIME_DIR to one of yours") from None
    except OSError as error:
        raise ClocheError(f"{path} cannot be used: {error}") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ClocheError(
            f"{path} is not a folder of yours alone: remove it, or set XDG_RUNTIME_DIR to a folder of yours"
        )
    return path


def _is_trusted(connection: socket.socket) -> bool:
    """Whether the other end is this user, or root."""
    if not hasattr(socket, "SO_PEERCRED"):  # macOS: nobody else can enter the folder
        return True
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return _PEER.unpack(peer)[1] in (os.getuid(), 0)


# ---- the process that is looked at
class _Inspector:
    """Answers whoever asks about the runtimes of this process. One for a process, started with its first inspectable runtime."""

    def __init__(self) -> None:
        self._runtimes: weakref.WeakKeyDictionary[Inspectable, Times] = weakref.WeakKeyDictionary()
        self._listening: socket.socket | None = None
        self._path: Path | None = None
        self._known: weakref.WeakKeyDictionary[NodeCalls, _Known] = weakref.WeakKeyDictionary()
        self._numbers = itertools.count(1)
        self._turn = 0
        self._lock = threading.Lock()
        _forks.watch(self)
        atexit.register(self._end)

    def after_fork(self) -> None:
        """In a child, which is another process: its parent's socket is not its own."""
        listening, self._listening, self._path = self._listening, None, None
        self._lock = threading.Lock()
        self._runtimes = weakref.WeakKeyDictionary()
        if listening is not None:
            listening.close()

    def add(self, runtime: Inspectable, times: Times, *, must: bool) -> None:
        """Show a runtime from now on, as long as it lives.

        Args:
            runtime: the runtime.
            times: how long its calls took; the runtime adds to it.
            must: whether it is an error if that is not possible; otherwise a RuntimeWarning.

        Raises:
            ClocheError: it is an error, and it is not possible.
        """
        try:
            with self._lock:
                if self._listening is None:
                    self._begin()
        except (ClocheError, OSError, RuntimeError) as error:
            if must:
                raise ClocheError(f"this process cannot show itself to cloche top: {error}") from None
            warnings.warn(f"this process cannot show itself to cloche top: {error}", RuntimeWarning, stacklevel=3)
            return
        self._runtimes[runtime] = times

    def _begin(self) -> None:
        path = folder(make=True) / f"{_PREFIX}{os.getpid()}{_SUFFIX}"
        path.unlink(missing_ok=True)  # of an earlier process of that number, which was killed
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(str(path))
            listening.listen(4)
            threading.Thread(target=self._serve, args=(listening,), name="cloche-top", daemon=True).start()
        except BaseException:
            listening.close()
            path.unlink(missing_ok=True)
            raise
        self._listening, self._path = listening, path

    def _end(self) -> None:
        path, self._path = self._path, None
        if path is not None:
            path.unlink(missing_ok=True)

    def _serve(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:  # no open files are left, for now; or the interpreter ends
                if listening.fileno() < 0:
                    return
                time.sleep(0.1)
                continue
            with closing(connection), suppress(OSError):
                connection.settimeout(_TIMEOUT_S)
                if _is_trusted(connection):
                    connection.sendall(self._answer())

    def _answer(self) -> bytes:
        try:
            found = [self._of_runtime(runtime, times) for runtime, times in list(self._runtimes.items())]
        except Exception as error:  # whatever it is, it may not end the thread
            return json.dumps({"version": VERSION, "pid": os.getpid(), "error": line(repr(error))}).encode() + b"\n"
        program = sys.argv[0] if sys.argv else ""
        answer = {
            "version": VERSION, "pid": os.getpid(), "program": line(Path(program).name, 200),
            "at": time.monotonic(), "runtimes": found,
        }  # fmt: skip
        return json.dumps(answer).encode() + b"\n"

    def _of_runtime(self, runtime: Inspectable, times: Times) -> dict[str, Any]:
        stats, nodes = runtime.stats, [calls for calls in runtime.living() if not calls.sandbox.closed]
        shown = nodes[:_MOST_NODES]
        for calls in shown:
            if calls not in self._known:
                self._known[calls] = _Known(next(self._numbers))
        self._measure(shown)
        return {
            "metering": runtime.metering, "workers": stats.workers, "loads": stats.loads, "calls": stats.calls,
            "seconds": stats.seconds, "breaks": stats.breaks, "more_nodes": len(nodes) - len(shown),
            "nodes": [self._of_node(calls, times.get(calls.lock)) for calls in shown],
        }  # fmt: skip

    def _measure(self, nodes: list[NodeCalls]) -> None:
        """Measure the private memory of some nodes, in turn: each takes up to a millisecond."""
        until = time.monotonic() + _MEASURES_S
        for _ in nodes:
            self._turn += 1
            calls = nodes[self._turn % len(nodes)]
            with suppress(Exception):  # it is closed meanwhile, or its worker does not answer
                self._known[calls].private_bytes = calls.sandbox.private_bytes
            if time.monotonic() > until:
                return

    def _of_node(self, calls: NodeCalls, last: ItemTimes | None) -> dict[str, Any]:
        stats, busy, known = calls.sandbox.stats(), calls.busy, self._known[calls]
        frames = []
        if busy:
            with suppress(Exception):  # as above
                frames = [[name(one.file), one.line, name(one.function)] for one in calls.where()[-_MOST_FRAMES:]]
        took = [] if last is None else last.read()
        return {
            "id": known.number, "name": name(calls.name), "busy": busy, "calls": stats.calls, "seconds": stats.seconds,
            "p50_s": percentile(took, 0.5), "p99_s": percentile(took, 0.99), "memory_bytes": stats.memory_bytes,
            "private_bytes": known.private_bytes, "breaks": stats.breaks, "restarts": stats.restarts, "where": frames,
        }  # fmt: skip


inspector: Final = _Inspector()


# ---- who looks
def processes() -> list[int]:
    """Numbers of this user's processes that show themselves.

    Raises:
        ClocheError: the folder of their sockets is not this user's alone.
    """
    return sorted(_sockets())


def _sockets() -> Iterator[int]:
    try:
        names = os.listdir(folder())
    except FileNotFoundError:
        return
    for one in names:
        number = one.removeprefix(_PREFIX).removesuffix(_SUFFIX)
        if one == f"{_PREFIX}{number}{_SUFFIX}" and number.isascii() and number.isdigit():
            yield int(number)


def ask(pid: int) -> dict[str, Any] | None:
    """What a process says of itself, as docs/reference/cli.md has it; None if it does not show itself, or has ended.

    Its texts are untrusted: clean them with `cloche.texts` before you show them.

    Args:
        pid: number of the process.

    Raises:
        ClocheError: it does not answer, or what it says makes no sense.
    """
    path = folder() / f"{_PREFIX}{pid}{_SUFFIX}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT_S)
        try:
            connection.connect(str(path))
            if not _is_trusted(connection):
                raise ClocheError(f"{path} is another user's")
            data = _all(connection)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            raise ClocheError(f"process {pid} does not answer: {error}") from None
    try:
        answer = json.loads(data)
        if answer["version"] != VERSION or "error" in answer:
            why = line(str(answer.get("error", "")), 200) or "it has another version of Cloche"
            raise ClocheError(f"process {pid} does not show its nodes: {why}")
        if not isinstance(answer["at"], int | float) or not isinstance(answer["program"], str):
            raise TypeError
        for runtime in answer["runtimes"]:
            for node in runtime["nodes"]:
                _check(node)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ClocheError(f"process {pid} answers with something else than the state of its nodes") from None
    return dict(answer)


def _all(connection: socket.socket) -> bytes:
    until, data = time.monotonic() + _TIMEOUT_S, bytearray()
    while part := connection.recv(1 << 16):
        data += part
        if len(data) > _MOST_BYTES or time.monotonic() > until:
            raise OSError("its answer does not end")
    return bytes(data)


_NUMBERS: Final = ("id", "calls", "seconds", "memory_bytes", "breaks", "restarts")
_PERHAPS: Final = ("p50_s", "p99_s", "private_bytes")


def _check(node: Any) -> None:
    """Raise TypeError if it is no node's state."""
    if not isinstance(node["name"], str) or not isinstance(node["busy"], bool):
        raise TypeError
    for key in (*_NUMBERS, *_PERHAPS):
        if not (isinstance(node[key], int | float) or (key in _PERHAPS and node[key] is None)):
            raise TypeError
    for file, number, function in node["where"]:
        if not (isinstance(file, str) and isinstance(number, int) and isinstance(function, str)):
            raise TypeError
