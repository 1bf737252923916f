"""One worker process, as the host holds it: how it starts, how it ends, and what it died of."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cbor2

from cloche._texts import clean
from cloche._wasm import image as _image
from cloche.errors import ClocheError, ImageError

if TYPE_CHECKING:
    from cloche._wasm.engine import Metering
    from cloche._wasm.image import Image
    from cloche._isolation._remote import RemoteInstance
    from cloche._isolation._watch import Watch

__all__ = ["Process", "WorkerInfo"]

_BOOT: Final = """\
import json, socket, sys
control = socket.socket(fileno=int(sys.argv[1]))
boot = json.loads(control.recv(1 << 20))
sys.path[:] = boot["path"]
from cloche._isolation._worker import main
main(control, boot)
"""
_ENVIRONMENT: Final = ("LD_LIBRARY_PATH",)
"""What a worker gets of the host's environment: where the interpreter's own libraries are, if that has to be said."""

_START_S: Final = 300.0
"""Seconds until the next sign of life of a worker that starts; compiling the image takes most of them."""

_END_S: Final = 2.0
_MESSAGE_BYTES: Final = 64 * 1024
_LAST_WORDS: Final = 2000


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker process of `Runtime(isolation="process")`.

    Attributes:
        pid: its process id.
        nodes: how many nodes it has now.
        confined_by: what it cannot undo: "no_new_privs", "rlimits", "seccomp".
        missing: what could not be applied on this machine, each with the reason.
    """

    pid: int
    nodes: int
    confined_by: tuple[str, ...]
    missing: dict[str, str]


def _cache() -> dict[str, str]:
    """The environment that gives a worker the host's cache; empty if the host has none."""
    try:
        return {"CLOCHE_CACHE": str(_image.cache_folder().absolute())}
    except ImageError:
        return {}


class Process:
    """A worker. Nothing that it sends is believed before it is checked, and nothing is ever unpickled.

    Args:
        image: what it runs.
        metering: of its engine.
        tell: told in a line what takes long, and what is missing.
        watch: starts it, and notices its end.
    """

    def __init__(self, image: Image, metering: Metering, tell: Callable[[str], None], watch: Watch) -> None:
        self._folder = image.folder
        self.image = image.sha256
        self._metering = metering
        self._tell = tell
        self._watch = watch
        self._starting = threading.Lock()
        self.is_up = self._is_closed = False
        self._lock = threading.RLock()  # the collector may close an instance, and with it this, wherever it likes
        self._cause: str | None = None
        self._count = 0
        self.instances: weakref.WeakSet[RemoteInstance] = weakref.WeakSet()
        self.opening = 0
        self.image_bytes = 0
        self.confined_by: tuple[str, ...] = ()
        self.missing: dict[str, str] = {}
        self.dead = False
        self.control, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._popen: subprocess.Popen[bytes] | None = None
        self._words, self._their_words = os.pipe()
        os.set_blocking(self._words, False)

    @property
    def pid(self) -> int:
        """Its process id; 0 before it has one."""
        return self._popen.pid if self._popen is not None else 0

    @property
    def load(self) -> int:
        """Nodes that it has, or is about to have."""
        return self.opening + len(self.instances)

    def spawn(self) -> None:
        """Start the process. Called on a thread that outlives it: the kernel kills it when that thread ends."""
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT, str(self._theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._their_words,
                pass_fds=[self._theirs.fileno()],
                cwd="/",
                env=_cache() | {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                start_new_session=True,  # Ctrl-C is for the host
            )
        finally:
            self._theirs.close()
            os.close(self._their_words)

    def ready(self) -> None:
        """Start it, or wait for who does.

        Raises:
            ImageError: it cannot load the image.
            ClocheError: it does not start.
        """
        with self._starting:
            if self.is_up:
                return
            if self.dead:
                raise ClocheError("the worker process did not start")
            try:
                self._watch.run(self.spawn)
                self._start()
                self._watch.add(self)
            except (OSError, ValueError) as error:
                raise ClocheError(f"a worker process did not start: {self.end()}") from error
            except BaseException:
                self.end()
                raise
            self.is_up = True
            del self._tell  # it may lead back to the runtime, which would then never be dropped

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
                self.confined_by, self.missing = tuple(in_force), missing
                for what, reason in missing.items():
                    self._tell(f"worker process {self.pid} runs without {what}: {reason}")
                return True
            case ["failed", "ImageError", str(text)]:
                raise ImageError(text)
            case ["failed", str(kind), str(text)]:
                raise ClocheError(f"a worker process did not start: {kind}: {text}")
            case _:
                raise ValueError("it sent something else")

    def connect(self) -> tuple[int, socket.socket]:
        """A number and a socket for a new node.

        Raises:
            OSError: the process has ended.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with self._lock:
                self._count = number = self._count + 1
                socket.send_fds(self.control, [cbor2.dumps([number, 0])], [theirs.fileno()])
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return number, ours

    def cancel(self, number: int, call: int) -> None:
        """Have the worker stop a node's call, if it is still under way."""
        try:
            with self._lock:
                self.control.send(cbor2.dumps([number, call]), socket.MSG_DONTWAIT)
        except OSError:
            pass  # it has ended; or it takes no orders any more, and the deadline will end it

    def end(self, cause: str = "") -> str:
        """Kill it, unless it has ended by itself; what it died of.

        Args:
            cause: why it is killed; "" if it seems to have died.
        """
        self.dead = True
        with self._lock:
            if self._cause is None:
                self._cause = self._reap(cause)
            return self._cause

    def _reap(self, cause: str) -> str:
        if self._popen is None:
            return "it could not be started"
        ended = self._popen.poll() is not None
        self._popen.kill()  # of no effect if it is just ending
        code = self._popen.wait()
        if cause and not ended:
            return cause
        cause = f"exit code {code}"
        if code < 0:
            name = f" ({signal.Signals(-code).name})" if -code in set(signal.Signals) else ""
            cause = f"killed by signal {-code}{name}"
        words = self._last_words()
        return f"{cause}; its last words: {words}" if words else cause

    def _last_words(self) -> str:
        try:
            text = os.read(self._words, 1 << 16)[-_LAST_WORDS:].decode(errors="replace")
        except OSError:
            return ""
        return clean(text).strip()

    def close(self) -> None:
        """Have it end, and see that it does. Again: nothing."""
        self.dead = True
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        if self.is_up:
            self._watch.discard(self)
        self.control.close()
        if self._popen is not None:
            try:
                self._popen.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        if self._words >= 0:
            os.close(self._words)
            self._words = -1

    def forget(self) -> None:
        """In the child of a fork: it is not ours, and what we hold of it must not reach it."""
        self.dead = True
        for instance in list(self.instances):
            instance.abandon()
        self.control.close()
        if self._popen is not None:
            self._popen.returncode = 0
        if self._words >= 0:
            os.close(self._words)
            self._words = -1

    @property
    def info(self) -> WorkerInfo:
        """What users may know of it."""
        return WorkerInfo(self.pid, len(self.instances), self.confined_by, self.missing)
