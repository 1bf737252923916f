"""`Cluster`: the machines of a Ray cluster, and the hosts on them."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Container, Mapping, Sequence
from itertools import count
from typing import Any, Final

import ray
from ray import exceptions

import cloche.cluster
from cloche._arguments import checked_count
from cloche.cluster import Bundle, HostLost
from cloche.errors import ClocheError, ClosedError
from cloche.image import find
from cloche.pipeline.spec import check_seconds
from cloche.ray._connection import Connection
from cloche.ray._host import SMALL, RayHost
from cloche.ray._packing import unpacked

__all__ = ["Cluster"]

_LOOK_S: Final = 1.0
"""Seconds between two looks at which machines there are."""
_RETRY_S: Final = 5.0
"""Seconds after which a host is started anew at a machine where it could not be started."""


class Cluster(cloche.cluster.Cluster):
    """The machines of a Ray cluster, with a host on each. A host that is lost is replaced, and a machine that joins gets one.

    Machines that Ray knows no CPU of (``ray start --num-cpus=0``) get no host. The hosts themselves ask Ray for no CPU, so that
    they never wait for one: how many there are is said here.

    Args:
        address: "auto" for the cluster that this machine belongs to, or "host:port" of its head (port 6379, if Ray was started as
            usual); None: the connection that `ray.init` has made, or else whatever `ray.init` finds or starts by itself. The
            driver has to run on a machine of the cluster: "ray://..." is refused, which is Ray's client.
        hosts_per_machine: hosts on each machine. One uses all cores for sandboxed nodes; native nodes, which share the GIL of their
            host, want more.
        runtime_env: the environment of the hosts, as Ray describes it. The default is that of the driver's job.
        start_s: seconds that `open` waits for the first hosts. The first one on a machine compiles the image, unless
            ``cloche image prepare`` has done it.
        **options: as for `cloche.cluster.Cluster`.
    """

    kind = "ray"

    def __init__(
        self,
        address: str | None = None,
        *,
        hosts_per_machine: int = 1,
        runtime_env: Mapping[str, Any] | None = None,
        start_s: float = 120.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._address = address
        self._per_machine = checked_count("Cluster hosts_per_machine", hosts_per_machine)
        self._runtime_env = None if runtime_env is None else dict(runtime_env)
        check_seconds("Cluster start_s", start_s)
        self._start_s = start_s
        self._opening = threading.Lock()
        self._looking = threading.Lock()
        """Held by the thread that starts and ends hosts. Threads of Ray's never wait for it, as Ray is waited for meanwhile."""
        self._came_one = threading.Condition()
        self._hosts: Sequence[RayHost] = ()
        self._failed: dict[str, tuple[float, ClocheError]] = {}
        """Machine -> when a host could not be started there last, and why. One that does not fit is never tried again."""
        self._looked_at = 0.0
        self._connection: Connection | None = None
        self._is_open = False
        self._is_closed = False

    def open(self) -> None:
        """See `cloche.cluster.Cluster`."""
        with self._opening:
            if self._is_closed:
                raise ClosedError("the cluster is closed")
            if self._is_open:
                return
            self._connection = Connection(self._address)
            try:
                self._look()
                self._wait_for_first()
                self._is_open = True
            except BaseException:
                self._end()
                raise

    def _wait_for_first(self) -> None:
        with self._came_one:
            have_come = self._came_one.wait_for(lambda: all(host.has_come for host in self._hosts), self._start_s)
        failed = [error for _, error in list(self._failed.values())]
        refused = [error for error in failed if not isinstance(error, HostLost)]
        if any(host.is_ready for host in self._hosts) and not refused:
            return
        if failed:
            raise (refused or failed)[0]
        if not have_come:
            raise ClocheError(
                f"no host has started within {self._start_s} s (start_s): the first one on a machine compiles the image, which "
                "`cloche image prepare` does beforehand; or the runtime_env cannot be made, which Ray's logs tell"
            )
        raise ClocheError("the Ray cluster has no machine with a CPU: hosts run on machines with num_cpus of 1 or more")

    @property
    def is_closed(self) -> bool:
        """See `cloche.cluster.Cluster`."""
        return self._is_closed

    def hosts(self) -> Sequence[cloche.cluster.Host]:
        """See `cloche.cluster.Cluster`."""
        if self._connection is None or self._is_closed:
            return []
        if time.monotonic() - self._looked_at > _LOOK_S:
            self._look()
        return [host for host in self._hosts if host.is_ready]

    def lost(self, host: cloche.cluster.Host) -> None:
        """See `cloche.cluster.Cluster`."""
        if isinstance(host, RayHost):
            host.end()
        self._look()

    def _look(self) -> None:
        """Start the hosts that are missing, and forget those that are lost, unless another thread is at it."""
        if not self._looking.acquire(blocking=False):
            return
        try:
            if self._is_closed or not ray.is_initialized():  # else Ray would connect to something by itself
                return
            self._looked_at = time.monotonic()
            try:
                nodes = ray.nodes()
            except exceptions.RayError:  # the head is away; hosts may be there yet
                return
            machines = {node["NodeID"]: node for node in nodes if node["Alive"] and node["Resources"].get("CPU")}
            for host in self._hosts:
                if host.machine not in machines:
                    host.end()
            hosts = [host for host in self._hosts if not host.is_lost]
            for machine, node in machines.items():
                failed_at, _ = self._failed.get(machine, (-_RETRY_S, None))
                if self._looked_at - failed_at >= _RETRY_S:
                    for _ in range(self._per_machine - sum(host.machine == machine for host in hosts)):
                        hosts.append(self._started(node, {host.name for host in hosts}))
            self._hosts = hosts
        finally:
            self._looking.release()

    def _started(self, node: Mapping[str, Any], taken: Container[str]) -> RayHost:
        base = node.get("NodeName") or node["NodeManagerAddress"]
        names = (base if number == 1 else f"{base}#{number}" for number in count(1))
        host = RayHost(next(name for name in names if name not in taken), node, self._runtime_env)
        host.hello.add_done_callback(lambda _: self._came(host))
        return host

    def _came(self, host: RayHost) -> None:
        """A host has started, or failed to: called on a thread of Ray's, where Ray must not be waited for."""
        try:
            self.check(host.name, host.facts())
            host.fits = True
        except ClocheError as error:
            host.is_lost = True
            is_refused = not isinstance(error, HostLost)
            self._failed[host.machine] = math.inf if is_refused else time.monotonic(), error
            if self._is_open and is_refused:
                warnings.warn(f"a machine of the Ray cluster is left out: {error}", RuntimeWarning, stacklevel=1)
        finally:
            with self._came_one:
                host.has_come = True
                self._came_one.notify_all()

    def check(self, host: str, facts: Mapping[str, Any]) -> None:
        """See `cloche.cluster.Cluster`. The image has to be the same as well: sandboxed nodes go to hosts as snapshots."""
        super().check(host, facts)
        here = find().sha256
        if facts["image"] != here:
            raise ClocheError(
                f"the host {host} has the guest image {facts['image']}, and this process {here}: install the same on all machines"
            )

    def values(self, bundle: Bundle) -> list[Any]:
        """See `cloche.cluster.Cluster`."""
        return list(unpacked(bundle.saved()))

    def save(self, bundle: Bundle) -> None:
        """See `cloche.cluster.Cluster`."""
        bundle.saved()

    def keep(self, data: bytes) -> Any:
        """See `cloche.cluster.Cluster`."""
        return data if len(data) < SMALL else ray.put(data)

    def close(self) -> None:
        """End the hosts, and the connection to Ray if it was made here."""
        with self._opening:
            self._end()

    def _end(self) -> None:
        self._is_closed = True
        with self._looking:
            hosts, self._hosts = self._hosts, ()
        for host in hosts:
            host.end()
        if self._connection is not None:
            self._connection.close()
