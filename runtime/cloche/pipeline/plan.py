"""`plan`: decides where each node of a pipeline runs, before anything starts, and says why.

A manifest asks; whoever runs it decides (`Policy`). What was asked to be sandboxed is sandboxed, or the plan is refused.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from cloche.pipeline._needs import lacks
from cloche.pipeline.errors import PlacementError
from cloche.pipeline.spec import NodeSpec, Place

if TYPE_CHECKING:
    from cloche.pipeline.manifest import Manifest, NodeModel
    from cloche.pipeline.registry import Registry

__all__ = ["PlannedNode", "Policy", "decide", "plan"]

_HINTS: Final[dict[str, tuple[Place, str]]] = {
    "auto": ("wasm", "the default"),
    "cpython_wasm": ("wasm", "runtime_hint"),
    "rust_python": ("wasm", "runtime_hint asks for another interpreter, in whose place the sandbox's CPython runs it"),
    "cpython": ("native", "runtime_hint"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What whoever runs a pipeline allows.

    Attributes:
        allow_native: the nodes that may run outside of a sandbox, with all rights of this user: True for all, or their ids.
        fallback: places that a node may fall back to, if it cannot run where it asked to, and its manifest names them as well.
    """

    allow_native: bool | frozenset[str] = False
    fallback: Sequence[Place] = ()

    def allows(self, node: str, place: Place) -> bool:
        """Whether a node may run there."""
        return (
            place == "wasm"
            or self.allow_native is True
            or (self.allow_native is not False and node in self.allow_native)
        )


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """Where a node runs, and why.

    Attributes:
        spec: its specification, with the placement.
        asked: the placement that it asked for.
        why: who decided about it: the default, its hint or its execution.
        warnings: what whoever runs the pipeline should know: a fallback that is used, a hint that is not.
    """

    spec: NodeSpec
    asked: Place
    why: str
    warnings: tuple[str, ...] = ()


def plan(
    manifest: Manifest,
    policy: Policy | None = None,
    *,
    registry: Registry | None = None,
    folder: str | os.PathLike[str] = ".",
) -> list[PlannedNode]:
    """Decide where each node of a manifest runs.

    Args:
        manifest: the pipeline.
        policy: what is allowed; None: sandboxes only.
        registry: what a ``node_type`` stands for; None: the types of installed packages.
        folder: where relative paths of sources begin.

    Raises:
        PlacementError: a node can run nowhere where it may; the message says why, and what would do.
        ClocheError: a node_type is unknown.
    """
    planned = []
    for decision in decide(manifest, policy, registry=registry, folder=folder):
        if isinstance(decision, PlacementError):
            raise decision
        planned.append(decision)
    return planned


def decide(
    manifest: Manifest,
    policy: Policy | None = None,
    *,
    registry: Registry | None = None,
    folder: str | os.PathLike[str] = ".",
) -> list[PlannedNode | PlacementError]:
    """As `plan`, with the error of each node that can run nowhere in its place, so that all of them can be shown.

    Raises:
        ClocheError: a node_type is unknown.
    """
    rules = Policy() if policy is None else policy
    specs = manifest.specs(registry, folder)
    return [_decided(node, spec, rules) for node, spec in zip(manifest.nodes, specs, strict=True)]


def _decided(node: NodeModel, spec: NodeSpec, policy: Policy) -> PlannedNode | PlacementError:
    try:
        return _planned(node, spec, policy)
    except PlacementError as error:
        return error


def _planned(node: NodeModel, spec: NodeSpec, policy: Policy) -> PlannedNode:
    execution = node.execution
    if execution.placement == "auto":
        asked, why = _HINTS[node.runtime_hint]
    else:
        asked, why = execution.placement, execution.reason or "execution.placement"
    warnings: list[str] = []
    if node.host is not None:
        warnings.append(f"host {node.host!r} is for a cluster: without one (--on) the node runs on this machine")
    problems = _problems(node, asked, policy)
    if not problems:
        return PlannedNode(replace(spec, placement=asked), asked, why, tuple(warnings))
    for place in execution.fallback:
        if place in policy.fallback and not _problems(node, place, policy):
            warnings.append(f"runs as {place!r}, not as {asked!r}: {problems[0]}")
            return PlannedNode(replace(spec, placement=place), asked, "execution.fallback", tuple(warnings))
    raise PlacementError(f"node {node.id!r} cannot run as {asked!r}: {'; '.join(problems)}", node=node.id, asked=asked)


def _problems(node: NodeModel, place: Place, policy: Policy) -> list[str]:
    """Why a node cannot run there; each with what would do."""
    found = []
    if not policy.allows(node.id, place):
        found.append(
            f"that runs its code with all your rights, which a manifest alone cannot ask for: allow it "
            f"(--allow-native {node.id}, Policy(allow_native=...)) if you trust it, or give it the placement 'wasm'"
        )
    needs = node.capabilities
    if needs is not None:
        found += lacks(needs.model_dump(), place)
    return found
