"""`HostStatus` and `Event`: how the hosts of a cluster are doing, and what has happened to them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ChainStatus", "Event", "HostStatus"]


@dataclass(frozen=True, slots=True)
class ChainStatus:
    """A chain of nodes at a host, or one copy of it.

    Attributes:
        name: the id of its last node, and of a copy its number: "id.1".
        nodes: the ids of its nodes.
        busy_s: seconds that the nodes have worked, at all hosts where they were.
        memory_bytes: memory of the nodes that is their own; None: they have none.
    """

    name: str
    nodes: tuple[str, ...]
    busy_s: float
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class HostStatus:
    """How a host is doing. The figures of its chains are some tenths of a second old.

    Attributes:
        name: its name.
        machine: the machine that it is on.
        chains: the chains of all runs that are there.
        is_draining: whether chains have to leave its machine (`Cluster.drain`).
    """

    name: str
    machine: str
    chains: tuple[ChainStatus, ...]
    is_draining: bool


@dataclass(frozen=True, slots=True)
class Event:
    """What has happened in a cluster.

    Attributes:
        at: the time, as of `time.time`.
        text: what it was, such as a host that was lost, or a chain that goes on at another one.
    """

    at: float
    text: str
