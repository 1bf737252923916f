"""`Process`: one worker process, seen from the host. Starts it, connects nodes to it, and ends it, saying why it died."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final, Protocol

import cbor2

from cloche._codec import decode_record, write_cbor
from cloche._isolation.descriptors import Socket, connected
from cloche._isolation.protocol import FRAMES_BYTES, PRIVATE, SAMPLE, WHERE
from cloche._isolation.rlimits import Bounds
from cloche._isolation.samples import RemoteSampler
from cloche._wasm import EXHAUSTED_ERRNOS, MAX_FRAMES, FrameInfo, cache_folder, no_thread, out_of_resources
from cloche.errors import BrokenInstanceError, ClocheError, ClosedError, ImageError
from cloche.isolation import WorkerInfo
from cloche.texts import clean, name

if TYPE_CHECKING:
    from cloche._isolation.reaper import ProcessReaper
    from cloche._wasm import Image
    from cloche.limits import Limits
    from cloche.metering import Metering

__all__ = ["Opening", "Process"]

_BOOT: Final = """\
import json, socket, sys
control = socket.socket(fileno=int(sys.argv[1]))
boot = json.loads(control.recv(1 << 20))
sys.path[:] = boot["path"]
from cloche._isolation.worker_main import main
main(control, boot)
"""
_ENVIRONMENT: Final = ("LD_LIBRARY_PATH",)
"""Environment variables that a worker inherits: some interpreters do not find their own libraries without them."""

_START_S: Final = 300.0
"""Seconds that a starting worker may take from one message to the next. Compiling the image takes longest."""

_ASIDE_S: Final = 1.0
_END_S: Final = 2.0
_MESSAGE_BYTES: Final = 64 * 1024
_LAST_WORDS: Final = 2000


def _say_nothing(_text: str) -> None:
    """Replaces the logger of a process that has started."""


def _cache() -> dict[str, str]:
    """The environment variable that makes a worker use the host's cache; empty if the host has no cache."""
    try:
        return {"CLOCHE_CACHE": str(cache_folder().absolute())}
    except ImageError:
        return {}


def _frames(data: bytes) -> Iterator[FrameInfo]:
    """Decode the Python frames that a worker sends. They are untrusted.

    Raises:
        ValueError: the data are not frames.
    """
    for entry in decode_record(data)[:MAX_FRAMES]:
        match entry:
            case [str(file), int(line), str(function)]:
                yield FrameInfo(name(file), min(max(line, 0), 1 << 31), name(function))
            case _:
                raise ValueError("not a frame")


class Resident(Protocol):
    """What a `Process` needs of each node's instance in it.

    Attributes:
        limits: the node's limits. The sum over all nodes bounds the process.
        kept_bytes: see `bytes_for`.
    """

    limits: Limits
    kept_bytes: int

    def abandon(self) -> None:
        """Called in the child of a fork: close without a message, because the worker belongs to the parent process."""


class Meter(Protocol):
    """What a `Process` needs of each node's channel."""

    @property
    def busy_until_now_s(self) -> float:
        """Seconds in which requests were pending. Read from another thread."""


class Opening:
    """Counts as a node in a worker's load while the node is being opened. Garbage collection removes it, whatever happened."""

    __slots__ = ("__weakref__",)


class Process:
    """A worker process. Everything that it sends is checked before use, and nothing is ever unpickled.

    Args:
        image: the guest image that it runs.
        metering: metering of its engine.
        tell: called with one line of text for a step that takes long, and for each missing confinement.
        reaper: starts the process, and notices its end.
    """

    def __init__(self, image: Image, metering: Metering, tell: Callable[[str], None], reaper: ProcessReaper) -> None:
        self._folder = image.folder
        self.image = image.sha256
        self._metering = metering
        self._tell = tell
        self._reaper = reaper
        self._starting = threading.Lock()
        self.is_up = self._is_begun = self._is_closing = self._is_closed = False
        self._lock = threading.RLock()  # reentrant: the garbage collector may call `leave` or `close` while it is held
        self._cause: str | None = None
        self._count = 0
        self.instances: weakref.WeakSet[Resident] = weakref.WeakSet()
        self.opening: weakref.WeakSet[Opening] = weakref.WeakSet()
        self._channels: weakref.WeakSet[Meter] = weakref.WeakSet()
        self._busy_s = 0.0
        self._bounds: Bounds | None = None
        self.image_bytes = 0
        self.confined_by: tuple[str, ...] = ()
        self.missing: dict[str, str] = {}
        self.dead = False
        self._popen: subprocess.Popen[bytes] | None = None
        self.control, self._theirs = connected()
        self._words, self._their_words = connected(keeps_messages=False)

    @property
    def pid(self) -> int:
        """The process id; 0 before the start."""
        return self._popen.pid if self._popen is not None else 0

    @property
    def load(self) -> int:
        """Number of nodes in the process, including those that are being opened."""
        return len(self.opening) + len(self.instances)

    @property
    def processor_s(self) -> float:
        """Processor time that the process has used, as the kernel counts it; 0 if it has ended."""
        try:
            return time.clock_gettime(~self.pid << 3 | 2) if self.pid else 0.0  # as in `rlimits`
        except OSError:
            return 0.0

    @property
    def busy_s(self) -> float:
        """Total seconds of the calls of its nodes, including current calls."""
        with self._lock:
            return self._busy_s + sum(channel.busy_until_now_s for channel in self._channels)

    def enter(self, instance: Resident, channel: Meter) -> None:
        """Add a node that is about to be opened."""
        with self._lock:
            self.instances.add(instance)
            self._channels.add(channel)
            self._resize()

    def leave(self, instance: Resident, channel: Meter) -> None:
        """Remove a node. Calling it again does nothing."""
        with self._lock:
            if channel in self._channels:
                self._busy_s += channel.busy_until_now_s
                self._channels.discard(channel)
            self.instances.discard(instance)
            self._resize()

    def _resize(self) -> None:
        if self._bounds is not None and not self.dead:
            with suppress(OSError):  # the process has ended
                self._bounds.resize([(instance.limits, instance.kept_bytes) for instance in self.instances])

    def check(self) -> None:
        """Kill the process if it uses more than its nodes may use together."""
        if self._bounds is None or self.dead:
            return
        try:
            with self._lock:
                exceeded = self._bounds.exceeded(self.busy_s, self.load)
        except (OSError, KeyError, ValueError):
            return  # the process has just ended
        if exceeded:
            self.end(f"killed, for {exceeded}")

    def spawn(self) -> None:
        """Start the process. Must run on the reaper's thread: the kernel kills the process when the thread that started it ends."""
        with self._lock:
            if self.dead:  # it was ended before it began: its caller was interrupted
                return
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT, str(self._theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._their_words.fileno(),
                pass_fds=[self._theirs.fileno()],
                cwd="/",
                env=_cache() | {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                start_new_session=True,  # else Ctrl-C in a terminal would kill workers as well
            )
            self._theirs.close()
            self._their_words.close()

    def ready(self) -> None:
        """Start the process, or wait until another thread has started it.

        Raises:
            ImageError: the worker cannot load the image.
            ClosedError: the runtime was closed meanwhile.
            BrokenInstanceError: another thread's attempt to start it failed; the caller can try another process.
            ClocheError: the process does not start.
        """
        with self._starting:
            if self.is_up:
                return
            if self._is_begun:  # an interrupt has ended the thread that began: do not go on from an unknown state
                self.end("killed, for its start was interrupted")
            if self.dead:
                raise (
                    ClosedError("the runtime is closed")
                    if self._is_closing
                    else BrokenInstanceError("the worker process did not start")
                )
            self._is_begun = True
            try:
                self._reaper.run(self.spawn)
                self._start()
                self._reaper.add(self)
                self.is_up = True
            except (OSError, ValueError) as error:
                why = self.end()
                if getattr(error, "errno", None) in EXHAUSTED_ERRNOS and not self._is_closing:
                    raise out_of_resources("to start a worker process", error) from error
                if getattr(error, "errno", None) == errno.EAGAIN and self._popen is None and not self._is_closing:
                    raise no_thread("of a worker process", error) from error
                raise self._not_started(why) from error
            except BaseException:
                self.end()
                raise
            self._tell = _say_nothing  # `tell` may refer to the runtime, which would keep it alive

    def _not_started(self, why: str) -> ClocheError:
        if self._is_closing:
            return ClosedError("the runtime is closed")
        return ClocheError(f"a worker process did not start: {why}")

    def _start(self) -> None:
        path = [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100  # "" is the current folder
        boot = {"parent": os.getpid(), "path": path, "image": str(self._folder.absolute()), "metering": self._metering}
        self.control.settimeout(_START_S)
        self.control.send(json.dumps(boot).encode())
        while not self._started_up():
            pass
        self.control.settimeout(None)

    def _started_up(self) -> bool:
        match cbor2.loads(self.control.recv(_MESSAGE_BYTES) or b"\xf6"):
            case ["progress", str(text)]:
                self._tell(text)
                return False
            case ["ready", int(size), list(in_force), dict(missing)]:
                self.image_bytes = size
                self._bounds = Bounds(self.pid)
                if self._bounds.missing:
                    missing["memory"] = self._bounds.missing
                else:
                    in_force.append("memory")
                for what, reason in missing.items():
                    self._tell(f"worker process {self.pid} runs without {what}: {reason}")
                in_force.append("processor_time")
                if self._bounds.no_cgroup:  # not logged: few machines allow it
                    missing["cgroup"] = self._bounds.no_cgroup
                else:
                    in_force.append("cgroup")
                self.confined_by, self.missing = tuple(in_force), missing
                return True
            case ["failed", "ImageError", str(text)]:
                raise ImageError(text)
            case ["failed", str(kind), str(text)]:
                raise ClocheError(f"a worker process did not start: {kind}: {text}")
            case _:
                raise ValueError("it sent something else")

    def connect(self) -> tuple[int, Socket]:
        """Connect a new node. Returns its number and the host's end of its socket.

        Raises:
            OSError: the process has ended.
        """
        ours, theirs = connected()
        try:
            with self._lock:
                self._count = number = self._count + 1
                socket.send_fds(self.control, [write_cbor([number, 0])], [theirs.fileno()])  # type: ignore[arg-type]  # it uses sendmsg
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return number, ours

    def cancel(self, number: int, request: int) -> None:
        """Have the worker interrupt a node's call, unless that call has ended."""
        try:
            with self._lock:
                self.control.send(write_cbor([number, request]), socket.MSG_DONTWAIT)
        except OSError:
            pass  # the process has ended, or hangs: then it is killed after the deadline

    def where(self, number: int) -> tuple[FrameInfo, ...]:
        """The current Python frames of a node's guest, according to the worker; empty if it does not answer.

        Raises:
            ClocheError: this process has no open files left.
        """
        try:
            return tuple(_frames(self._aside(number, WHERE)))
        except ValueError:
            return ()

    def private_bytes(self, number: int) -> int:
        """The private memory of a node's guest, see `Memory.private_bytes`, according to the worker; 0 if it does not answer.

        Raises:
            ClocheError: this process has no open files left.
        """
        return int.from_bytes(self._aside(number, PRIVATE)[:8], "little")

    def sampler(self, number: int, node: str, period_s: float) -> RemoteSampler:
        """Have the worker sample a node.

        Args:
            number: its number.
            node: its name.
            period_s: average time between two samples.

        Raises:
            ClocheError: it is not sampled, or this process has no open files left.
        """
        ours, theirs = connected(keeps_messages=False)
        try:
            with closing(theirs), suppress(OSError), self._lock:  # OSError: the process has ended, and does not answer
                message, descriptors = write_cbor([number, SAMPLE, round(period_s * 1e9)]), [theirs.fileno()]
                socket.send_fds(self.control, [message], descriptors, socket.MSG_DONTWAIT)  # type: ignore[arg-type]  # as above
            return RemoteSampler(ours, node)
        except BaseException:
            ours.close()
            raise

    def _aside(self, number: int, order: int) -> bytes:
        """Send an order about a node, and return the answer; b"" if none comes within `_ASIDE_S`."""
        ours, theirs = connected()
        with closing(ours):
            ours.settimeout(_ASIDE_S)
            try:
                with closing(theirs), self._lock:
                    message, descriptors = write_cbor([number, order]), [theirs.fileno()]
                    socket.send_fds(self.control, [message], descriptors, socket.MSG_DONTWAIT)  # type: ignore[arg-type]  # as above
                return ours.recv(FRAMES_BYTES)
            except OSError:
                return b""

    def end(self, cause: str = "") -> str:
        """Kill the process, unless it has ended by itself. Returns why it ended.

        Args:
            cause: why it is killed; "" if it seems to have ended by itself.
        """
        self.dead = True
        with self._lock:
            if self._cause is None:
                self._cause = self._reap(cause)
            return self._cause

    def _reap(self, cause: str) -> str:
        if self._popen is None:
            return "it could not be started"
        if self._is_closing:
            cause = cause or "ended, for its runtime was closed"
        ended = self._popen.poll() is not None
        self._popen.kill()  # has no effect if the process has just ended
        code = self._popen.wait()
        if cause and (not ended or self._is_closing):
            return cause
        cause = f"exit code {code}"
        if code < 0:
            name = f" ({signal.Signals(-code).name})" if -code in set(signal.Signals) else ""
            cause = f"killed by signal {-code}{name}"
        words = self._last_words()
        return f"{cause}; its last words: {words}" if words else cause

    def _last_words(self) -> str:
        try:
            text = self._words.recv(1 << 16, socket.MSG_DONTWAIT)[-_LAST_WORDS:].decode(errors="replace")
        except OSError:
            return ""
        return clean(text).strip()

    def close(self) -> None:
        """End the process and wait for that. Calling it again does nothing, or completes an interrupted `close`."""
        if self._is_closed:
            return
        self._is_closing = self.dead = True
        self._reaper.discard(self)
        with suppress(OSError):  # ENOTCONN: the process has ended
            self.control.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits in `ready`
        with self._lock:  # waits for a `spawn` under way
            popen = self._popen
            if popen is not None:
                try:
                    popen.wait(_END_S)
                except subprocess.TimeoutExpired:
                    popen.kill()
                    popen.wait()
            if self._bounds is not None:
                self._bounds.close()
            self._release()
            self._is_closed = True

    def forget(self) -> None:
        """Called in the child of a fork: release everything without sending the process a message. It belongs to the parent."""
        self.dead = True
        self._lock, self._starting = (
            threading.RLock(),
            threading.Lock(),
        )  # the old ones may be held by threads that the child does not have
        self._cause = "it is of the process that this one was forked from"
        for instance in list(self.instances):
            instance.abandon()
        if self._popen is not None:
            self._popen.returncode = 0
        self._release()
        self._is_closed = True

    def _release(self) -> None:
        for held in (self.control, self._theirs, self._words, self._their_words):
            held.close()

    @property
    def info(self) -> WorkerInfo:
        """The process as `Runtime.workers` shows it."""
        return WorkerInfo(self.pid, len(self.instances), self.confined_by, self.missing)
