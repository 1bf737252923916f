"""`HostProcess`: the process of a host, an actor of Ray."""

from __future__ import annotations

import threading
from typing import Any, Final

import ray

from cloche.cluster import Server
from cloche.cluster._messages import Batch, Reply, raised
from cloche.pipeline.errors import PipelineError
from cloche.ray._packing import packed, unpacked

__all__ = ["Stored", "host_actor"]

_CALLS: Final = 256
"""Batches that may be under way at a host: each waits on a thread of its own."""
_ORDERS: Final = 32
"""Likewise whatever else a host is asked for: it must not wait for batches."""


class Stored:
    """An argument in the object store. The host fetches it when it is its turn: Ray would change the order of the calls."""

    __slots__ = ("ref",)

    def __init__(self, ref: Any) -> None:
        self.ref = ref


class HostProcess:
    """The process of a host.

    Args:
        name: the host's name.
    """

    def __init__(self, name: str) -> None:
        self._server = Server(name)
        self._turn = threading.Condition()
        self._next = 0

    def ask(self, number: int, verb: str, *arguments: Any) -> list[Any]:
        """Have `Server.do` called in the order of the numbers: Ray does not keep the order of what it begins on several threads."""
        with self._turn:
            self._turn.wait_for(lambda: self._next == number)
        try:
            given = [ray.get(argument.ref) if isinstance(argument, Stored) else argument for argument in arguments]
        finally:
            with self._turn:
                self._next += 1
                self._turn.notify_all()
        answer = self._server.do(verb, *given)
        try:
            return packed(answer)
        except Exception as error:
            return packed(raised(TypeError(f"the answer of the host cannot be sent: {error}")))

    def call(self, head: Batch, *bundles: list[Any]) -> tuple[list[Any], list[Any]]:
        """Have `Server.call` called, which brings the batches of each chain into their order."""
        try:
            values = [unpacked(bundle) for bundle in bundles]
        except Exception as error:
            return packed(Reply(failed=raised(error))), packed([])
        reply, outputs = self._server.call(head, values)
        try:
            return packed(reply), packed(outputs)
        except Exception as error:
            name = head.part.partition(" ")[0]
            failed = PipelineError(
                f"node {name!r} failed: its outputs cannot be sent from its host: {error}", node=name
            )
            return packed(Reply(failed=raised(failed))), packed([])

    def stay(self) -> None:
        """Return never: whoever waits for the answer learns of the end of this process."""
        threading.Event().wait()


host_actor: Final = ray.remote(
    num_cpus=0,
    max_restarts=0,
    max_task_retries=0,
    max_concurrency=_CALLS,
    concurrency_groups={"orders": _ORDERS, "stay": 1},
)(HostProcess)
