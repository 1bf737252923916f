"""`Graph`: the nodes of a pipeline and how they are connected, checked: ids, ports, and that there is no circle."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Any

from cloche._arguments import checked
from cloche.pipeline.spec import Connection, NodeSpec

__all__ = ["Edge", "Graph"]


@dataclass(frozen=True, slots=True)
class Edge:
    """A connection, taken apart.

    Attributes:
        source: id of the node whose outputs are sent.
        key: the key of outputs that are dicts whose values are sent; "": the whole outputs are.
        target: id of the node that gets them.
        port: the input port; "": the only one.
    """

    source: str
    key: str
    target: str
    port: str


@dataclass(frozen=True, slots=True)
class Graph:
    """A pipeline's nodes in an order in which each comes after those before it.

    Attributes:
        nodes: id -> specification, in that order.
        edges: the connections, in the order in which they were given.
    """

    nodes: dict[str, NodeSpec] = field(hash=False)
    edges: tuple[Edge, ...]

    @classmethod
    def of(cls, nodes: Iterable[NodeSpec], connections: Iterable[Connection | tuple[str, str]] | None) -> Graph:
        """Check nodes and connections.

        Args:
            nodes: the nodes.
            connections: how they are connected; None: each with the next one.

        Raises:
            TypeError: something is of the wrong class.
            ValueError: there is no node, two have the same id, a connection names one that there is not, a port is missing or is
                unknown, or the connections form a circle.
        """
        named = _named(list(nodes))
        if connections is None:
            ids = list(named)
            edges = tuple(Edge(one, "", other, "") for one, other in pairwise(ids))
        else:
            edges = tuple(_edge(connection, named) for connection in connections)
        for name, spec in named.items():
            _check_ports(name, spec, [edge for edge in edges if edge.target == name])
        before: dict[str, list[str]] = {name: [] for name in named}
        for edge in edges:
            before[edge.target].append(edge.source)
        try:
            order = list(TopologicalSorter(before).static_order())
        except CycleError as error:
            raise ValueError(f"the connections form a circle: {' -> '.join(reversed(error.args[1]))}") from None
        place = {name: number for number, name in enumerate(named)}
        depth: dict[str, int] = {}
        for name in order:
            depth[name] = 1 + max((depth[one] for one in before[name]), default=0)
        return cls({name: named[name] for name in sorted(named, key=lambda name: (depth[name], place[name]))}, edges)

    def into(self, node: str) -> list[Edge]:
        """The connections to a node."""
        return [edge for edge in self.edges if edge.target == node]

    def out_of(self, node: str) -> list[Edge]:
        """The connections from a node."""
        return [edge for edge in self.edges if edge.source == node]

    @property
    def entries(self) -> list[str]:
        """The nodes without a connection to them: they get the pipeline's items."""
        return [name for name in self.nodes if not self.into(name)]

    @property
    def exits(self) -> list[str]:
        """The nodes without a connection from them: their outputs are the pipeline's."""
        return [name for name in self.nodes if not self.out_of(name)]


def _named(specs: Sequence[Any]) -> dict[str, NodeSpec]:
    if not specs:
        raise ValueError("a pipeline has at least one node")
    named: dict[str, NodeSpec] = {}
    given = [spec.id for spec in specs if isinstance(spec, NodeSpec) and spec.id is not None]
    for number, spec in enumerate(specs, 1):
        checked(f"node {number} of the pipeline", spec, NodeSpec, "a NodeSpec")
        name = spec.id
        if name is not None and name in named:
            raise ValueError(f"two nodes have the id {name!r}: give each its own NodeSpec(id=)")
        if name is None:
            wanted = re.sub(
                r"[^a-zA-Z0-9_-]", "_", spec.entry or getattr(spec.source, "__name__", "") or f"node{number}"
            )
            numbered = (wanted, *(f"{wanted}{count}" for count in range(2, len(specs) + 2)))
            name = next(one for one in numbered if one not in named and one not in given)
        named[name] = spec
    return named


def _edge(connection: Any, named: dict[str, NodeSpec]) -> Edge:
    if isinstance(connection, tuple) and len(connection) == 2:
        connection = Connection(*connection)
    checked("connection", connection, Connection, "a Connection, or a pair of ids")
    source, _, key = connection.source.partition(".")
    target, _, port = connection.target.partition(".")
    for one in (source, target):
        if one not in named:
            raise ValueError(f"a connection names the node {one!r}, and there are {', '.join(map(repr, named))}")
    return Edge(source, key, target, port)


def _check_ports(name: str, spec: NodeSpec, edges: list[Edge]) -> None:
    ports = list(spec.inputs)
    for edge in edges:
        if edge.port not in (ports or [""]):
            known = ", ".join(ports) if ports else "none: NodeSpec.inputs names them"
            wanted = f"{name}.{edge.port}" if edge.port else name
            raise ValueError(f"a connection leads to {wanted!r}, and the input ports of {name!r} are {known}")
    connected = {edge.port for edge in edges}
    if ports and (missing := [port for port in ports if port not in connected]):
        raise ValueError(f"no connection leads to {name}.{missing[0]}, one of NodeSpec.inputs")
