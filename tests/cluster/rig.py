"""A cluster whose hosts are in this process, each around a real `Server`, so that a test can choose the moment of what goes wrong."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from cloche.cluster import Cluster, HostLost, Server


class RigHost:
    """A host that does what it is asked to on threads of its own, until it is lost."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.name = self.machine = name
        self.labels = frozenset({name, "rig"})
        self.is_lost = False
        self.server = Server(name)
        self._rig = rig
        self._pool = ThreadPoolExecutor(64)
        self._waiting: set[Future[Any]] = set()

    def ask(self, verb: str, *arguments: Any) -> Future[Any]:
        order = pickle.dumps((verb, arguments))

        def work() -> bytes:
            name, loaded = pickle.loads(order)
            return pickle.dumps(self.server.do(name, *loaded))

        return self._answer(verb, arguments, work, None)

    def call(self, head: Any, bundles: Sequence[Any]) -> tuple[Future[Any], list[Any]]:
        outputs: list[Any] = []
        order = pickle.dumps((head, bundles))

        def work() -> bytes:
            return pickle.dumps(self.server.call(*pickle.loads(order)))

        return self._answer("call", (head,), work, outputs), outputs

    def _answer(
        self, verb: str, arguments: tuple[Any, ...], work: Callable[[], bytes], outputs: list[Any] | None
    ) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting.add(future)
        self._rig.before(self, verb, arguments)
        if self.is_lost:
            self.lose()
            return future

        def serve() -> None:
            try:
                self._rig.serving(self, verb, arguments)
                answer = pickle.loads(work())
                self._rig.served(self, verb, arguments)
            except BaseException as error:
                future.set_exception(error)
                raise
            if future not in self._waiting:
                return
            if outputs is not None:
                answer, values = answer
                outputs.extend(values)
            self._waiting.discard(future)
            if not future.done():
                future.set_result(answer)

        self._pool.submit(serve)
        return future

    def lose(self) -> None:
        """Be lost: nothing that was asked is answered."""
        self.is_lost = True
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            future.set_exception(HostLost(f"{self.name} is lost"))

    def settle(self) -> None:
        """Return when it has done all that it was asked to."""
        self._pool.shutdown(wait=True)

    def close(self) -> None:
        self.lose()
        self.server.close()
        self._pool.shutdown(wait=True)


class Rig(Cluster):
    """The cluster. `before` is called when a host is asked, `serving` on its thread, `served` before it answers."""

    kind = "rig"
    is_closed = False

    def __init__(self, count: int = 2, **options: Any) -> None:
        super().__init__(**{"balance_s": None, "save_s": 1000.0, "wait_s": 1.0, **options})
        self.made: list[RigHost] = []
        self.asked: list[tuple[str, str]] = []
        self.before: Callable[[RigHost, str, tuple[Any, ...]], object] = lambda *_: None
        self.serving: Callable[[RigHost, str, tuple[Any, ...]], object] = lambda *_: None
        self.served: Callable[[RigHost, str, tuple[Any, ...]], object] = lambda *_: None
        self._adding = threading.Lock()
        for _ in range(count):
            self.add()

    def add(self) -> RigHost:
        host = RigHost(self, f"rig-{len(self.made) + 1}")
        self.made.append(host)
        return host

    def open(self) -> None:
        pass

    def hosts(self) -> Sequence[RigHost]:
        return [host for host in self.made if not host.is_lost]

    def lost(self, host: Any) -> None:
        with self._adding:
            host.lose()
            if len(self.hosts()) < 2 and not self.is_closed:
                self.add()

    def values(self, bundle: Any) -> list[Any]:
        return list(bundle)

    def close(self) -> None:
        for host in self.made:
            host.close()

    def left(self) -> list[str]:
        """The chains that are at hosts that are not lost, once these have done what they were asked to."""
        for host in self.hosts():
            host.settle()
        return [part for host in self.hosts() for part in host.server.parts]
