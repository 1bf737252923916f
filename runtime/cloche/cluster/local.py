"""`LocalCluster`: a cluster of processes on this machine. It needs nothing but Cloche."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Final

from cloche import _child
from cloche._arguments import checked_count
from cloche.cluster._messages import Raised
from cloche.cluster.cluster import Cluster
from cloche.cluster.engine import Bundle, Host, HostLost, Pending
from cloche.errors import ClocheError, ClosedError

__all__ = ["LocalCluster"]

_START_S: Final = 60.0


class LocalCluster(Cluster):
    """A cluster of processes on this machine: to use its cores for native nodes, and to try out what runs on many machines later.

    Each process counts as a machine. One that dies is replaced.

    Args:
        hosts: number of processes; None: one for each core.
        **options: as for `Cluster`.
    """

    kind = "local"

    def __init__(self, hosts: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._count = checked_count("LocalCluster hosts", hosts) if hosts is not None else len(os.sched_getaffinity(0))
        self._lock = threading.Lock()
        self._number = 0
        self._hosts: list[LocalHost] = []
        self._is_open = False
        self._is_closed = False

    def open(self) -> None:
        """See `Cluster`."""
        with self._lock:
            if self._is_closed:
                raise ClosedError("the cluster is closed")
            if self._is_open:
                return
            made = [self._started() for _ in range(self._count)]
            try:
                for host in made:
                    host.wait_until_ready()
            except BaseException:
                for host in made:
                    host.close()
                raise
            self._hosts += made
            self._is_open = True

    @property
    def is_closed(self) -> bool:
        """See `Cluster`."""
        return self._is_closed

    def _started(self) -> LocalHost:
        self._number += 1
        return LocalHost(f"local-{self._number}")

    def hosts(self) -> Sequence[Host]:
        """See `Cluster`."""
        with self._lock:
            dead = [host for host in self._hosts if host.is_lost]
        for host in dead:
            self.lost(host)
        with self._lock:
            return [host for host in self._hosts if host.is_ready]

    def lost(self, host: Host) -> None:
        """See `Cluster`."""
        with self._lock:
            if any(other is host for other in self._hosts):
                self._hosts = [other for other in self._hosts if other is not host]
                if not self._is_closed:
                    self._hosts.append(self._started())
        if isinstance(host, LocalHost):
            host.close()

    def add(self) -> Host:
        """Start one more host, as if a machine had come."""
        with self._lock:
            host = self._started()
        host.wait_until_ready()
        with self._lock:
            self._hosts.append(host)
        return host

    def values(self, bundle: Bundle) -> list[Any]:
        """See `Cluster`."""
        return bundle.values()  # type: ignore[no-any-return]  # a list

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            self._is_closed = True
            hosts, self._hosts = self._hosts, []
        for host in hosts:
            host.close()


class _Outputs:
    """The outputs of a call, once it has returned."""

    def __init__(self) -> None:
        self._values: list[Any] = []

    def set(self, values: list[Any]) -> None:
        self._values = values

    def values(self) -> list[Any]:
        return self._values


class LocalHost:
    """A host that is a child process.

    Args:
        name: its name.
    """

    def __init__(self, name: str) -> None:
        self.name = self.machine = name
        self.labels = frozenset({name, "localhost", socket.gethostname()})
        self._lock = threading.Lock()
        """Held while something is sent."""
        self._waiting: dict[int, tuple[Future[Any], _Outputs | None]] = {}
        self._next = 0
        self._is_lost = False
        self._process, self._connection = _child.start("cloche.cluster._local_main", start_new_session=True)
        self._ready = self.ask("hello")
        threading.Thread(target=self._read, args=(self._connection,), name=f"cloche-{name}", daemon=True).start()

    @property
    def is_ready(self) -> bool:
        """Whether it has answered, and lives."""
        return self._ready.done() and not self._is_lost

    @property
    def is_lost(self) -> bool:
        """Whether it is known to have died."""
        return self._is_lost

    @property
    def pid(self) -> int:
        """Id of its process."""
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Wait until it serves.

        Raises:
            ClocheError: it does not.
        """
        try:
            self._ready.result(_START_S)
        except (HostLost, TimeoutError) as error:
            raise ClocheError(f"the host process {self.name} did not start: see its messages on stderr") from error

    def ask(self, verb: str, *arguments: Any) -> Future[Any]:
        """See `Host`."""
        return self._send(("do", verb, arguments), None)

    def call(self, head: Any, bundles: Sequence[Bundle]) -> tuple[Pending, Bundle]:
        """See `Host`."""
        outputs = _Outputs()
        lists = [bundle.values() if isinstance(bundle, _Outputs) else bundle for bundle in bundles]
        return self._send(("call", head, lists), outputs), outputs

    def _send(self, order: tuple[Any, ...], outputs: _Outputs | None) -> Future[Any]:
        data = pickle.dumps(order)
        future: Future[Any] = Future()
        with self._lock:
            number = self._next
            self._next += 1
            self._waiting[number] = future, outputs
            try:
                if self._is_lost:
                    raise OSError("it is lost")
                self._connection.send_bytes(number.to_bytes(8, "little") + data)
            except OSError as error:
                self._waiting.pop(number, None)
                future.set_exception(HostLost(f"the host {self.name} is lost: {error}"))
        return future

    def _read(self, connection: Connection) -> None:
        try:
            while True:
                data = connection.recv_bytes()
                future, outputs = self._waiting.pop(int.from_bytes(data[:8], "little"))
                try:
                    answer = pickle.loads(memoryview(data)[8:])
                    if outputs is not None:
                        if isinstance(answer, Raised):  # the host could not read it
                            raise answer.rebuilt()
                        answer, values = answer
                        outputs.set(values)
                except Exception as unreadable:
                    future.set_exception(unreadable)
                else:
                    future.set_result(answer)
        except (EOFError, OSError) as error:
            why = str(error) or "its connection was closed"
        with self._lock:
            self._is_lost = True
            waiting, self._waiting = self._waiting, {}
        for future, _ in waiting.values():
            future.set_exception(HostLost(f"the host {self.name} has died ({why})"))

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):
            self._connection.close()
        with suppress(ProcessLookupError):
            self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
