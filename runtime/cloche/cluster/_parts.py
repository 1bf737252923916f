"""`cut`: divides a pipeline into chains of nodes that stay together. Only what is between them goes from machine to machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cloche.pipeline.graph import Edge, Graph
from cloche.pipeline.spec import NodeSpec

__all__ = ["Part", "cut", "graph_of"]


@dataclass(frozen=True, slots=True)
class Part:
    """A chain of nodes that stay together.

    Attributes:
        nodes: id -> specification, in order. Others are connected to the first one, and the last one to others.
        edges: the connections between them.
        is_direct: whether its outputs go to other chains as they are, so that nobody has to look at them on the way.
    """

    nodes: dict[str, NodeSpec]
    edges: tuple[Edge, ...]
    is_direct: bool

    @property
    def name(self) -> str:
        """Its name: the id of its last node, which makes its outputs."""
        return next(reversed(self.nodes))

    @property
    def first(self) -> NodeSpec:
        """The specification of its first node."""
        return next(iter(self.nodes.values()))


def cut(graph: Graph) -> list[Part]:
    """The chains of a pipeline, as long as they can be, in the order of the graph.

    Two nodes are in the same chain if the outputs of the one are the only items of the other, and go nowhere else; if neither has
    copies; and if no different hosts are asked for.
    """
    behind: dict[str, Edge] = {}
    for name in graph.nodes:
        out = graph.out_of(name)
        if len(out) == 1 and _stay_together(graph, out[0]):
            behind[name] = out[0]
    inner = {edge.target for edge in behind.values()}
    chains: list[list[str]] = []
    for name in graph.nodes:
        if name in inner:
            continue
        chain = [name]
        while chain[-1] in behind:
            chain.append(behind[chain[-1]].target)
        chains.append(chain)
    return [
        Part(
            {name: graph.nodes[name] for name in chain},
            tuple(behind[name] for name in chain[:-1]),
            _goes_directly(graph, chain[-1]),
        )
        for chain in chains
    ]


def _stay_together(graph: Graph, edge: Edge) -> bool:
    one, other = graph.nodes[edge.source], graph.nodes[edge.target]
    return (
        len(graph.into(edge.target)) == 1
        and not other.inputs
        and one.workers == other.workers == 1
        and (one.host == other.host or other.host is None)
    )


def _goes_directly(graph: Graph, name: str) -> bool:
    out = graph.out_of(name)
    targets = [graph.nodes[edge.target] for edge in out]
    return bool(out) and not any(edge.key for edge in out) and not any(spec.inputs or spec.key for spec in targets)


def graph_of(graph: Graph, parts: Sequence[Part], specs: Sequence[NodeSpec]) -> Graph:
    """The chains and their connections as a graph.

    Args:
        graph: the graph that was cut.
        parts: its chains.
        specs: the specification of each chain.
    """
    chain_of = {node: part.name for part in parts for node in part.nodes}
    inner = {edge for part in parts for edge in part.edges}
    edges = tuple(
        replace(edge, source=chain_of[edge.source], target=chain_of[edge.target])
        for edge in graph.edges
        if edge not in inner
    )
    specs_of = {part.name: spec for part, spec in zip(parts, specs, strict=True)}
    ordered = {
        name: specs_of[name] for name in graph.nodes if name in specs_of
    }  # by last nodes: the exits keep their order
    return Graph(ordered, edges)
