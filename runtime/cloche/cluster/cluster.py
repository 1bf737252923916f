"""`Cluster`: where `Pipeline.run(items, on=cluster)` puts the nodes. Each engine has a subclass of it."""

from __future__ import annotations

import os
import pickle
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from platform import python_version
from typing import Any, Final, NoReturn

from cloche._arguments import checked_count
from cloche._pickles import handle
from cloche._recording.recorder import version
from cloche._runtime.closing import ClosedByWith
from cloche.cluster._balance import next_move
from cloche.cluster._messages import Order
from cloche.cluster._parts import Part, cut, graph_of
from cloche.cluster._remote import RemoteChain
from cloche.cluster.engine import Bundle, Host, HostLost
from cloche.cluster.status import ChainStatus, Event, HostStatus
from cloche.errors import ClocheError, ClosedError
from cloche.pipeline._log import PipelineLogger
from cloche.pipeline.elsewhere import Loaded, Placed
from cloche.pipeline.errors import PlacementError
from cloche.pipeline.graph import Graph
from cloche.pipeline.spec import NodeSpec, check_seconds
from cloche.source import Source

__all__ = ["Cluster"]

_LOOK_S: Final = 0.1
"""Seconds between two looks for a host, while there is none."""
_EVENTS: Final = 100
"""Events that are kept."""


class Cluster(ClosedByWith, ABC):
    """Machines with hosts, on which pipelines run. One cluster serves any number of pipelines, at the same time as well.

    Args:
        window: batches that may be under way to each chain of nodes. More of them hide a longer way there and back; they take
            memory.
        save_s: seconds between two times that the state of a chain is saved. After the loss of a host, the batches since are
            worked on once more.
        balance_s: seconds between two looks at how much the hosts have to do; None: chains stay where they are, unless their
            machine is drained or lost.
        wait_s: seconds to wait for a host when there is none.
        stop_s: seconds that the ``cleanup`` of a chain's nodes may take.

    Attributes:
        kind: the engine's name.
    """

    kind: str = "cluster"

    def __init__(
        self,
        *,
        window: int = 4,
        save_s: float = 1.0,
        balance_s: float | None = 2.0,
        wait_s: float = 60.0,
        stop_s: float = 30.0,
    ) -> None:
        checked_count("Cluster window", window)
        for name, value in (("save_s", save_s), ("wait_s", wait_s), ("stop_s", stop_s)):
            check_seconds(f"Cluster {name}", value)
        if balance_s is not None:
            check_seconds("Cluster balance_s", balance_s)
        self.window = window
        self.save_s = save_s
        self.balance_s = balance_s
        self.wait_s = wait_s
        self.stop_s = stop_s
        self._process = os.getpid()
        self._draining: set[str] = set()
        self._runs: list[_Run] = []
        self._events: deque[Event] = deque(maxlen=_EVENTS)

    @abstractmethod
    def open(self) -> None:
        """Connect to the machines, and start a host on each. A second time it does nothing.

        Raises:
            ClocheError: that is not possible; the message says what to do.
        """

    @abstractmethod
    def hosts(self) -> Sequence[Host]:
        """The hosts that are ready, and not known to be lost. Any thread may ask, each second."""

    @abstractmethod
    def lost(self, host: Host) -> None:
        """A host was found to be lost: `hosts` does not give it any more. If its machine is there yet, start another one."""

    @abstractmethod
    def values(self, bundle: Bundle) -> list[Any]:
        """The values of a bundle that a host has returned.

        Raises:
            HostLost: they are lost.
        """

    def save(self, bundle: Bundle) -> None:
        """Return when a bundle outlives the machine of the host that has returned it.

        Raises:
            HostLost: it is lost.
        """

    def keep(self, data: bytes) -> Any:
        """Keep the state of a chain where it outlives the hosts. What is returned stands for it as an argument of `Host.ask`."""
        return data

    @property
    def is_closed(self) -> bool:
        """Whether it is closed for good, so that nothing has to wait for a host of it."""
        return False

    @property
    def machines(self) -> tuple[str, ...]:
        """The machines that have a host now."""
        return tuple(dict.fromkeys(host.machine for host in self.hosts()))

    def status(self) -> tuple[HostStatus, ...]:
        """How each host is doing that is ready now. Any thread may ask."""
        at: dict[int, list[ChainStatus]] = {}
        for run in list(self._runs):
            for host, chain in run.chains_at_hosts():
                at.setdefault(id(host), []).append(chain)
        return tuple(
            HostStatus(host.name, host.machine, tuple(at.get(id(host), ())), self.is_draining(host))
            for host in self.hosts()
        )

    @property
    def events(self) -> tuple[Event, ...]:
        """The last hundred hosts that were lost, and chains that were moved, the oldest first. The runs log them as well."""
        return tuple(self._events)

    def tell(self, text: str) -> None:
        """Keep an event."""
        self._events.append(Event(time.time(), text))

    def drain(self, machine: str, timeout_s: float = 60.0) -> None:
        """Have all chains leave a machine, and none come to it, so that it can be shut down without any loss.

        Args:
            machine: one of `machines`.
            timeout_s: seconds that it may take.

        Raises:
            ClocheError: it is none of this cluster's; or chains are there yet after that time.
        """
        if machine not in self.machines:
            raise ClocheError(f"there is no machine {machine!r}: the cluster has {', '.join(self.machines) or 'none'}")
        self._draining.add(machine)
        until = time.monotonic() + timeout_s
        while there := [run for run in list(self._runs) if run.is_at(machine)]:
            if time.monotonic() > until:
                raise ClocheError(f"chains of nodes are at {machine} yet, after {timeout_s} s: they go on there")
            for run in there:
                run.look()  # again and again: a chain that is being started cannot leave yet
            time.sleep(_LOOK_S)

    def undrain(self, machine: str) -> None:
        """Let chains come to a machine again."""
        self._draining.discard(machine)

    def is_draining(self, host: Host) -> bool:
        """Whether chains have to leave a host."""
        return host.machine in self._draining

    def place(
        self,
        name: str,
        graph: Graph,
        loaded: Loaded,
        logger: PipelineLogger,
        session_id: str | None,
    ) -> Placed:
        """See `cloche.pipeline.elsewhere.Elsewhere`."""
        if os.getpid() != self._process:
            raise ClocheError("this cluster belongs to the process that has made it: make one in this child process")
        self.open()
        run = _Run(self, logger)
        parts = cut(graph)
        specs: list[NodeSpec] = []
        places: dict[str, list[RemoteChain]] = {}
        for part in parts:
            copies = part.first.workers
            places[part.name] = [
                run.chain(part, copy, _order(name, part, copy, loaded, session_id, self.stop_s))
                for copy in range(copies)
            ]
            specs.append(replace(part.first, id=part.name, placement=_elsewhere, record=None))
        self._runs.append(run)
        run.start()
        return Placed(graph_of(graph, parts, specs), places, run.close)

    def check(self, host: str, facts: Mapping[str, Any]) -> None:
        """Check what a host says to ``ask("hello")``: what it runs has to fit what runs here, as both send each other pickles.

        Args:
            host: the host's name.
            facts: what it says.

        Raises:
            ClocheError: it does not fit.
        """
        for what, here in (("cloche", version()), ("python", python_version())):
            if facts[what] != here:
                raise ClocheError(
                    f"the host {host} has {what} {facts[what]!r}, and this process {here!r}: install the same on all machines"
                )

    def __reduce__(self) -> NoReturn:
        raise TypeError(handle(f"a {type(self).__name__}", "make one in the other process, with the same arguments"))

    def ended(self, run: _Run) -> None:
        """A run has ended."""
        with suppress(ValueError):
            self._runs.remove(run)


def _elsewhere(spec: NodeSpec, label: str, session_id: str | None) -> Any:
    raise AssertionError("the chains of a cluster are placed already")


def _order(pipeline: str, part: Part, copy: int, loaded: Loaded, session_id: str | None, stop_s: float) -> bytes:
    """A chain as a host gets it.

    Raises:
        PlacementError: a node cannot be sent there.
    """
    nodes = {}
    for name, spec in part.nodes.items():
        nodes[name] = sent = _sendable(spec, loaded)
        try:
            pickle.dumps(sent)
        except Exception as error:
            raise PlacementError(
                f"node {name!r} cannot be sent to a host: {error}. Define classes, functions and services at the top of a module "
                "that can be imported there",
                node=name,
            ) from error
    label = part.name if part.first.workers == 1 else f"{part.name}.{copy}"
    labels = {name: name for name in nodes} | {part.name: label}
    states = {name: loaded.snapshots[name].to_bytes() for name in nodes if name in loaded.snapshots}
    order = Order(pipeline, nodes, part.edges, labels, states, session_id, stop_s, loaded.isolation, loaded.metering)
    return pickle.dumps(order)


def _sendable(spec: NodeSpec, loaded: Loaded) -> NodeSpec:
    """A specification without what a host does not need: the code of a sandboxed node is in its snapshot."""
    changed: dict[str, Any] = {"workers": 1, "key": None, "inputs": (), "record": None}
    if spec.placement == "wasm":
        changed |= {"source": Source(""), "params": {}, "limits": spec.limits or loaded.limits}
        if spec.grants is not None:
            changed["grants"] = replace(spec.grants, packages=())
    return replace(spec, **changed)


class _Run:
    """One run of a pipeline on a cluster: which chain is at which host.

    Args:
        cluster: the cluster.
        logger: gets warnings, and what the nodes log.
    """

    def __init__(self, cluster: Cluster, logger: PipelineLogger) -> None:
        self._cluster = cluster
        self._logger = logger
        self._lock = threading.Lock()
        self._chains: list[RemoteChain] = []
        self._chosen: dict[RemoteChain, Host] = {}
        self._lost: dict[int, Host] = {}
        """Hosts that were lost, by `id`: they are kept, so that no other one gets the same."""
        self._busy: dict[RemoteChain, tuple[float, float]] = {}
        """Chain -> when its load was looked at last, and how long its nodes had worked then."""
        self._told = ""
        """Why a chain could not be moved the last time."""
        self._ending = threading.Event()
        self._looking = threading.Event()
        self._thread = threading.Thread(target=self._balance, name="cloche-balance", daemon=True)

    def chain(self, part: Part, copy: int, order: bytes) -> RemoteChain:
        """A chain of this run."""
        name = part.name if part.first.workers == 1 else f"{part.name}.{copy}"
        state_names = list(part.nodes) if part.first.workers == 1 else [name]
        chain = RemoteChain(
            name,
            part.nodes,
            state_names,
            order,
            self,
            is_direct=part.is_direct,
            window=self._cluster.window,
            save_s=self._cluster.save_s,
            stop_s=self._cluster.stop_s,
        )
        self._chains.append(chain)
        return chain

    def start(self) -> None:
        """Begin to look after the chains."""
        self._thread.start()

    def close(self) -> None:
        """The run has ended."""
        self._ending.set()
        self._looking.set()
        self._thread.join()
        self._cluster.ended(self)

    def look(self) -> None:
        """Look after the chains at once."""
        self._looking.set()

    def is_at(self, machine: str) -> bool:
        """Whether a chain is at a machine."""
        return any(chain.host is not None and chain.host.machine == machine for chain in self._chains)

    def chains_at_hosts(self) -> list[tuple[Host, ChainStatus]]:
        """The chains that are at a host, each with how it is doing."""
        found = []
        for chain in self._chains:
            host, nodes = chain.host, chain.status()
            if host is not None:
                memory = [node.memory_bytes for node in nodes if node.memory_bytes is not None]
                busy_s = sum(node.counts.busy_s for node in nodes)
                names = tuple(node.node for node in nodes)
                found.append((host, ChainStatus(chain.name, names, busy_s, sum(memory) if memory else None)))
        return found

    def choose(self, chain: RemoteChain) -> Host:
        """See `Hosts`: the one with the fewest copies of the chain on its machine, and then with the fewest chains."""
        until = time.monotonic() + self._cluster.wait_s
        while True:
            hosts = self._allowed(chain)
            if hosts:
                with self._lock:
                    best = min(hosts, key=lambda host: self._crowd(chain, host))
                    self._chosen[chain] = best
                return best
            if self._cluster.is_closed:
                raise ClosedError("the cluster was closed while a pipeline ran on it")
            if self._ending.wait(_LOOK_S) or chain.is_interrupted:
                raise ClosedError("the pipeline was closed")
            if time.monotonic() > until:
                raise ClocheError(self._missing(chain))

    def _crowd(self, chain: RemoteChain, host: Host) -> tuple[int, int, int]:
        of_node = chain.name.partition(".")[0]
        there = [other for other, at in self._chosen.items() if other is not chain and at.machine == host.machine]
        copies = sum(other.name.partition(".")[0] == of_node for other in there)
        return copies, sum(at is host for other, at in self._chosen.items() if other is not chain), len(there)

    def _missing(self, chain: RemoteChain) -> str:
        there = [host for host in self._cluster.hosts() if not self._cluster.is_draining(host)]
        if not there or not chain.wanted_hosts:
            return f"no host of the cluster is left for node {chain.name!r} after {self._cluster.wait_s} s: are its machines up?"
        labels = ", ".join(sorted({label for host in there for label in host.labels}))
        return f"node {chain.name!r} wants the host {', '.join(chain.wanted_hosts)}, and there are: {labels}"

    def _allowed(self, chain: RemoteChain) -> list[Host]:
        return [
            host
            for host in self._cluster.hosts()
            if id(host) not in self._lost
            and not self._cluster.is_draining(host)
            and (not chain.wanted_hosts or chain.wanted_hosts & host.labels)
        ]

    def lost(self, host: Host, chain: RemoteChain, error: HostLost) -> None:
        """See `Hosts`."""
        with self._lock:
            if is_new := id(host) not in self._lost:
                self._lost[id(host)] = host
        self._cluster.lost(host)
        if is_new:
            self._cluster.tell(f"the host {host.name} was lost")
            self._logger.tell(
                chain.name,
                f"the host {host.name} was lost: its nodes go on at another one",
                {"host": host.name, "error": str(error)},
            )

    def values(self, bundle: Bundle) -> list[Any]:
        """See `Hosts`."""
        return self._cluster.values(bundle)

    def save(self, bundle: Bundle) -> None:
        """See `Hosts`."""
        self._cluster.save(bundle)

    def keep(self, data: bytes) -> Any:
        """See `Hosts`."""
        return self._cluster.keep(data)

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """See `Hosts`."""
        self._logger.forward(level, message, fields)

    def _balance(self) -> None:
        while not self._ending.is_set():
            self._looking.wait(self._cluster.balance_s)
            self._looking.clear()
            with self._goes_on():
                self._look_after()

    def _look_after(self) -> None:
        for chain in self._chains:
            host = chain.host
            if host is None or not self._cluster.is_draining(host) or self._ending.is_set():
                continue
            with self._goes_on():  # with the others
                if chain.is_over:
                    chain.leave()
                elif there := self._allowed(chain):
                    self._move(chain, min(there, key=partial(self._crowd, chain)))
        if self._cluster.balance_s is None:
            return
        loads = {chain: (chain.host, self._load(chain)) for chain in self._chains if chain.host is not None}
        hosts = [host for host in self._cluster.hosts() if not self._cluster.is_draining(host)]
        allowed = {chain: frozenset(self._allowed(chain)) for chain in loads}
        found = next_move(loads, hosts, allowed)
        if found is not None and not self._ending.is_set():
            self._move(*found)

    @contextmanager
    def _goes_on(self) -> Iterator[None]:
        """Tell of what prevents a move: the chain is where it was, and another look comes."""
        try:
            yield
        except Exception as error:
            if not self._ending.is_set() and str(error) != self._told:
                self._told = str(error)
                self._cluster.tell(f"a node could not go to another host: {error}")

    def _move(self, chain: RemoteChain, to: Host) -> None:
        before = chain.host
        if chain.move(to):
            with self._lock:
                self._chosen[chain] = to
            told = "" if before is None else before.name
            self._cluster.tell(f"node {chain.name} goes on at {to.name}, no longer at {told}")
            self._logger.forward(
                "info",
                f"node {chain.name!r} goes on at {to.name}",
                {"node": chain.name, "host": to.name, "before": told},
            )

    def _load(self, chain: RemoteChain) -> float:
        """Seconds of work that a chain has done in a second since the last look."""
        now, busy = time.monotonic(), sum(status.counts.busy_s for status in chain.status())
        at, before = self._busy.get(chain, (now, busy))
        self._busy[chain] = now, busy
        return max(0.0, busy - before) / (now - at) if now > at else 0.0
