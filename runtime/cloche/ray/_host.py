"""`RayHost`: the driver's end of a host, and `RayBundle`: what stands for the outputs that one has made."""

from __future__ import annotations

import pickle
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, Final

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cloche.cluster import Bundle, HostLost
from cloche.cluster._messages import Raised
from cloche.errors import ClocheError
from cloche.ray._packing import packed, unpacked
from cloche.ray._process import Stored, host_actor
from cloche.texts import line

__all__ = ["SMALL", "RayBundle", "RayHost"]

SMALL: Final = 100_000
"""Bytes up to which Ray sends values with a call, and not through the object store."""
_FETCH_S: Final = 5.0
"""Seconds between two looks at whether the host of a bundle is lost, while the bundle is fetched."""
_LOST: Final = (
    exceptions.RayActorError,
    exceptions.ActorUnschedulableError,
    exceptions.LocalRayletDiedError,
    exceptions.NodeDiedError,
    exceptions.ObjectLostError,
    exceptions.OutOfMemoryError,
    exceptions.RaySystemError,
    exceptions.RpcError,
    exceptions.WorkerCrashedError,
)
_PLAIN: Final = {"CPU", "memory", "object_store_memory"}
"""Resources that every machine has."""


class RayHost:
    """A host: an actor on one machine.

    Args:
        name: its name for people.
        node: the machine, as `ray.nodes` describes it.
        runtime_env: the environment of the actor.

    Attributes:
        hello: what its process says of itself, once it is there.
        has_come: whether its process is there and was checked, or failed to start.
        fits: whether it was found to fit this process. The cluster sets both.
        is_lost: whether it is known to be lost.
    """

    def __init__(self, name: str, node: Mapping[str, Any], runtime_env: dict[str, Any] | None) -> None:
        self.name = name
        self.machine: str = node["NodeID"]
        self.labels = _labels(node)
        self.has_come = False
        self.is_lost = False
        self.fits = False
        self._lock = threading.Lock()
        self._asked = 0
        self._actor = host_actor.options(
            name=f"cloche-{name}-{uuid.uuid4().hex[:12]}",
            namespace="cloche",
            scheduling_strategy=NodeAffinitySchedulingStrategy(self.machine, soft=False),
            runtime_env=runtime_env,
        ).remote(name)
        self._ask = self._actor.ask.options(concurrency_group="orders")
        self._call = self._actor.call.options(num_returns=2)
        self._actor.stay.options(concurrency_group="stay").remote().future().add_done_callback(self._has_gone)
        self.hello = self.ask("hello")

    def _has_gone(self, _: Any) -> None:
        self.is_lost = True

    @property
    def is_ready(self) -> bool:
        """Whether it serves."""
        return self.fits and not self.is_lost

    def facts(self) -> Mapping[str, Any]:
        """What its process says to ``hello``.

        Raises:
            HostLost: it has died.
            ClocheError: it cannot serve.
        """
        try:
            answer = self.hello.result()
        except ClocheError:
            raise
        except Exception as error:
            raise ClocheError(f"the host {self.name} did not start: {_first(error)}") from error
        if isinstance(answer, Raised):
            raise ClocheError(f"the host {self.name} did not start: {answer.error}") from answer.error
        return answer.value  # type: ignore[no-any-return]  # of Server._hello

    def ask(self, verb: str, *arguments: Any) -> Future[Any]:
        """See `cloche.cluster.Host`."""
        sent = [_stored(argument) for argument in arguments]
        with self._lock:
            ref = self._ask.remote(self._asked, verb, *sent)
            self._asked += 1
        return self._answer(ref)

    def call(self, head: Any, bundles: Sequence[Bundle]) -> tuple[Future[Any], Bundle]:
        """See `cloche.cluster.Host`."""
        sent = [bundle.sent() if isinstance(bundle, RayBundle) else packed(bundle) for bundle in bundles]
        answer, outputs = self._call.remote(head, *sent)
        return self._answer(answer), RayBundle(outputs, self)

    def _answer(self, ref: Any) -> Future[Any]:
        answer: Future[Any] = Future()

        def settle(done: Future[Any]) -> None:
            try:
                with _losses(self.name):
                    come = done.result()
                answer.set_result(unpacked(come))
            except Exception as error:
                answer.set_exception(error)

        ref.future().add_done_callback(settle)
        return answer

    def end(self) -> None:
        """End its process."""
        self.is_lost = True
        if ray.is_initialized():
            with suppress(Exception):  # it has ended, or Ray ends
                ray.kill(self._actor)


class RayBundle:
    """The outputs of a call, in the object store of the machine where they were made, or in the driver's if they are few.

    Args:
        ref: what stands for them.
        host: the host that has made them.
    """

    def __init__(self, ref: Any, host: RayHost) -> None:
        self._ref = ref
        self._host = host
        self._saved: list[Any] | None = None

    def saved(self) -> list[Any]:
        """The outputs, packed. From then on this process has them, those of the object store in that of its machine.

        Raises:
            HostLost: they are lost.
        """
        while self._saved is None:
            try:
                with _losses(self._host.name):
                    self._saved = ray.get(self._ref, timeout=_FETCH_S)
            except exceptions.GetTimeoutError:
                if self._host.is_lost:
                    raise HostLost(f"outputs of the host {self._host.name} are lost with it") from None
        return self._saved

    def sent(self) -> Any:
        """What another host gets in its place."""
        if self._saved is None or not self._host.is_lost:
            return self._ref
        return [pickle.PickleBuffer(part) for part in self._saved]


def _stored(argument: Any) -> Any:
    if isinstance(argument, bytes) and len(argument) >= SMALL:
        argument = ray.put(argument)
    return Stored(argument) if isinstance(argument, ray.ObjectRef) else argument


@contextmanager
def _losses(host: str) -> Iterator[None]:
    """Tell what Ray says of a host that is gone as a `HostLost`."""
    try:
        yield
    except _LOST as error:
        if "failed to import on the worker" in str(error):
            raise ClocheError(
                f"the host {host} cannot import cloche.ray: install 'cloche[ray]', the same as here, on all machines, or give "
                "Cluster a runtime_env"
            ) from error
        raise HostLost(f"the host {host} is lost: {_first(error)}") from error


def _first(error: Exception) -> str:
    """The first line of an error of Ray's, which are long."""
    return line(str(error).strip().partition("\n")[0], 300)


def _labels(node: Mapping[str, Any]) -> frozenset[str]:
    """Names by which a machine can be asked for: its name, address and id, its own resources, its labels as ``key=value``."""
    own = {name for name in node["Resources"] if name not in _PLAIN and not name.startswith("node:")}
    labels = {f"{key}={value}" for key, value in (node.get("Labels") or {}).items()}
    names = {node["NodeID"], node["NodeManagerAddress"], node["NodeManagerHostname"], node.get("NodeName")}
    return frozenset(name for name in own | labels | names if name)
