"""Pipelines on a cluster of Dask: ``Pipeline.run(items, on=cloche.dask.Cluster("tcp://10.0.0.1:8786"))``.

It needs ``pip install cloche[dask]``, here and where the workers are. Each worker of Dask becomes a host: an actor that has a
runtime. Batches go from here to the workers and back; Dask's scheduler knows the actors alone. See docs/how-to/clusters.md.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

try:
    import dask
    import distributed
    from distributed.comm import get_address_host
except ModuleNotFoundError as error:
    raise ImportError(f"cloche.dask needs dask.distributed ({error}): pip install 'cloche[dask]'") from error

from cloche import cluster
from cloche._sandbox.sinks import Sink
from cloche.cluster import Bundle, Host, HostLost, Pending, Server
from cloche.cluster._messages import Done, Raised, Reply, raised
from cloche.cluster.server import THREADS
from cloche.errors import ClocheError, ClosedError, EncodeError

__all__ = ["Cluster"]

_LOOK_S: Final = 1.0
"""Seconds between two looks at which workers there are."""


class Cluster(cluster.Cluster):
    """A cluster of Dask. Each worker is a host, those that come later as well; what a lost one did goes on at the others.

    Args:
        address: the scheduler's, such as ``"tcp://10.0.0.1:8786"``; or a `distributed.Client`, which is left open; or a cluster of
            Dask's own, such as a `distributed.LocalCluster`. None: the program's current client, or else the scheduler that
            Dask's configuration names.
        **options: as for `cloche.cluster.Cluster`.
    """

    kind = "dask"

    def __init__(self, address: Any = None, **options: Any) -> None:
        super().__init__(**options)
        self._address = address
        self._opening = threading.Lock()
        self._lock = threading.Lock()
        self._client: distributed.Client | None = None
        self._hosts: dict[str, _Host] = {}
        """Address of a worker -> its host."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="cloche-dask", daemon=True)

    def open(self) -> None:
        """See `Cluster`."""
        with self._opening:
            if self._closing.is_set():
                raise ClosedError("the cluster is closed")
            if self._client is not None:
                return
            self._client = _client(self._address)
            try:
                self._look()
                self._wait_for_hosts()
            except BaseException:
                self._end()
                raise
            self._thread.start()

    def _wait_for_hosts(self) -> None:
        for host in list(self._hosts.values()):
            try:
                host.ready.result(self.wait_s)
            except HostLost:
                continue
            except TimeoutError:
                raise ClocheError(
                    f"the worker {host.name} of Dask has not started a host in {self.wait_s} s: is it busy?"
                ) from None

    @property
    def is_closed(self) -> bool:
        """See `Cluster`."""
        return self._closing.is_set()

    def hosts(self) -> Sequence[Host]:
        """See `Cluster`."""
        with self._lock:
            return [host for host in self._hosts.values() if host.is_ready]

    def lost(self, host: Host) -> None:
        """See `Cluster`. If its worker lives, that one gets another host at the next look."""
        with self._lock:
            found = [address for address, other in self._hosts.items() if other is host]
            lost = [self._hosts.pop(address) for address in found]
        for one in lost:
            one.lose("it does not answer")

    def values(self, bundle: Bundle) -> list[Any]:
        """See `Cluster`."""
        return bundle.values()  # type: ignore[no-any-return]  # a list

    def close(self) -> None:
        """End all hosts; and the client, unless it was given."""
        with self._opening:
            self._closing.set()
            if self._thread.is_alive():
                self._thread.join()
            self._end()

    def _end(self) -> None:
        with self._lock:
            hosts, self._hosts = list(self._hosts.values()), {}
            client, self._client = self._client, None
        for host in hosts:
            host.lose("the cluster was closed")
        if client is not None and client is not _given(self._address):
            client.close()

    def _watch(self) -> None:
        while not self._closing.wait(_LOOK_S):
            with suppress(Exception):  # the scheduler is away: what is under way goes on without it
                self._look()

    def _look(self) -> None:
        """Give each worker a host, and give up the hosts of those that are gone."""
        assert self._client is not None
        there = set(self._client.nthreads())
        with self._lock:
            gone = [self._hosts.pop(address) for address in self._hosts.keys() - there]
            for address in sorted(there - self._hosts.keys()):
                self._hosts[address] = host = _Host(self._client, address, self.check)
                if self._thread.is_alive():
                    host.ready.add_done_callback(_warn)
        for host in gone:
            host.lose("Dask's scheduler has lost its worker")


def _warn(ready: Future[None]) -> None:
    error = ready.exception()
    if error is not None and not isinstance(error, HostLost):
        Sink().log("warning", str(error), {})


def _given(address: Any) -> distributed.Client | None:
    """The client that a caller has, so that none has to be made."""
    if isinstance(address, distributed.Client):
        return address
    if address is None:
        with suppress(ValueError):
            return distributed.Client.current()
    return None


def _client(address: Any) -> distributed.Client:
    """The client of that scheduler.

    Raises:
        ClocheError: it cannot be reached.
    """
    given = _given(address)
    if given is not None:
        if given.asynchronous:
            raise ClocheError("the client of Dask is asynchronous: give the scheduler's address instead")
        return given
    if address is None and not dask.config.get("scheduler-address", None):
        raise ClocheError(
            "there is no client of Dask in this program, and Dask's configuration names no scheduler: give its address, as in "
            "cloche.dask.Cluster('tcp://10.0.0.1:8786')"
        )
    try:
        return distributed.Client(address, direct_to_workers=True, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ClocheError(
            f"Dask's scheduler at {address} cannot be reached: {error}. Is it up, and this its address?"
        ) from error


class _Outputs:
    """The outputs of a call, once it has returned: as they came, because another host may take them without anybody looking."""

    def __init__(self) -> None:
        self.data = b""

    def values(self) -> list[Any]:
        return pickle.loads(self.data)  # type: ignore[no-any-return]  # a list


class _Host:
    """The driver's end of the actor at a worker.

    Args:
        client: a client of its scheduler.
        address: the worker's address.
        check: checks what it says to "hello".
    """

    def __init__(
        self, client: distributed.Client, address: str, check: Callable[[str, Mapping[str, Any]], None]
    ) -> None:
        self.name = address
        self.machine: str = get_address_host(address)
        self.labels = frozenset({address, self.machine})
        self.ready: Future[None] = Future()
        self._client = client
        self._check = check
        self._lock = threading.Lock()
        self._orders = 0
        self._waiting: set[Future[Any]] = set()
        self._loss: HostLost | None = None
        self._actor: Any = None
        self._made = client.submit(Serving, address, actor=True, workers=[address], pure=False)
        client.loop.add_callback(self._begin)

    @property
    def is_ready(self) -> bool:
        """Whether it has answered, and is not lost."""
        return self._loss is None and self.ready.done() and self.ready.exception() is None

    async def _begin(self) -> None:
        try:
            with self._client.as_current():
                self._actor = await self._made
                self.labels |= await self._actor.labels()
            hello: Done | Raised = await asyncio.wrap_future(self.ask("hello"))
            if isinstance(hello, Raised):
                raise hello.rebuilt()
            self._check(self.name, hello.value)
        except Exception as error:
            if self._loss is None and not isinstance(error, ClocheError):
                error = ClocheError(
                    f"no host can be started at the worker {self.name} of Dask: {error!r}. Is Cloche installed there?"
                )
            self.ready.set_exception(self._loss or error)
        else:
            self.ready.set_result(None)

    def ask(self, verb: str, *arguments: Any) -> Future[Any]:
        """See `Host`."""
        return self._send(("do", verb, arguments), _Outputs())

    def call(self, head: Any, bundles: Sequence[Bundle]) -> tuple[Pending, Bundle]:
        """See `Host`."""
        lists = [bundle.data if isinstance(bundle, _Outputs) else pickle.dumps(bundle) for bundle in bundles]
        outputs = _Outputs()
        return self._send(("call", head, lists), outputs), outputs

    def _send(self, order: tuple[Any, ...], outputs: _Outputs) -> Future[Any]:
        data = pickle.dumps(order)
        future: Future[Any] = Future()
        with self._lock:
            if self._loss is not None:
                future.set_exception(self._loss)
                return future
            self._waiting.add(future)
            self._client.loop.add_callback(self._exchange, self._orders, data, future, outputs)
            self._orders += 1
        return future

    async def _exchange(self, number: int, order: bytes, future: Future[Any], outputs: _Outputs) -> None:
        try:
            with self._client.as_current():
                data, outputs.data = await self._actor.serve(number, order)
        except (Exception, asyncio.CancelledError) as error:  # `Serving` does not raise: what there is, is Dask's
            self.lose(f"{type(error).__name__}: {error}")
            return
        with self._lock:
            if future not in self._waiting:
                return
            self._waiting.remove(future)
        try:
            answer = pickle.loads(data)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(answer)

    def lose(self, why: str) -> None:
        """Give it up, and what is under way there."""
        with self._lock:
            if self._loss is not None:
                return
            self._loss = HostLost(f"the host at the worker {self.name} of Dask is lost: {why}")
            waiting, self._waiting = self._waiting, set()
        for future in waiting:
            future.set_exception(self._loss)
        self._client.loop.add_callback(self._free)

    async def _free(self) -> None:
        """Have the worker free the actor, if it lives."""
        with suppress(Exception):
            await self._made.cancel()


class Serving:
    """The actor at a worker. It puts the calls into order: each comes by a connection of its own, so that one may overtake another.

    Args:
        name: the host's name.
    """

    def __init__(self, name: str) -> None:
        self._server = Server(name)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="cloche-serve")
        self._next = 0
        self._early: dict[int, tuple[bytes, asyncio.Future[asyncio.Future[tuple[bytes, bytes]]]]] = {}
        """Number -> a call that has come before its turn."""
        weakref.finalize(self, _end, self._server, self._threads).atexit = False

    async def labels(self) -> frozenset[str]:
        """What the worker is called: its name, its machine's, and the resources that it was given."""
        worker = distributed.get_worker()
        return frozenset({str(worker.name), socket.gethostname(), *worker.state.total_resources})

    async def serve(self, number: int, order: bytes) -> tuple[bytes, bytes]:
        """Begin a call when all before it have begun. Returns its answer, and the outputs.

        Args:
            number: of the call, from 0.
            order: what to do, pickled.
        """
        loop = asyncio.get_running_loop()
        begun = loop.create_future()
        self._early[number] = order, begun
        while self._next in self._early:
            data, its = self._early.pop(self._next)
            its.set_result(loop.run_in_executor(self._threads, _served, self._server, data))
            self._next += 1
        return await (await begun)  # type: ignore[no-any-return]  # see `_served`


def _served(server: Server, data: bytes) -> tuple[bytes, bytes]:
    """Do what a driver asks for. Returns the answer and the outputs, pickled."""
    answer: Any
    outputs: list[Any] = []
    is_call = False
    try:
        kind, *order = pickle.loads(data)
        is_call = kind == "call"
        if is_call:
            answer, outputs = server.call(order[0], [pickle.loads(bundle) for bundle in order[1]])
        else:
            answer = server.do(order[0], *order[1])
        return pickle.dumps(answer), pickle.dumps(outputs)
    except Exception as error:
        failed = raised(EncodeError(f"this cannot be sent to a host or from it: {error}"))
        return pickle.dumps(Reply(failed=failed) if is_call else failed), pickle.dumps([])


def _end(server: Server, threads: ThreadPoolExecutor) -> None:
    threads.submit(server.close)
    threads.shutdown(wait=False)
