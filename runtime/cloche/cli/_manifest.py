"""A pipeline's manifest on the command line: which files are manifests, and what becomes of their nodes under the options."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cloche import source as _source
from cloche.cli._console import InputError
from cloche.errors import ClocheError
from cloche.limits import Limits

if TYPE_CHECKING:
    from cloche.pipeline import NodeSpec, Place, PlacementError
    from cloche.pipeline.manifest import Manifest
    from cloche.pipeline.plan import PlannedNode

__all__ = ["Decided", "decided", "is_manifest"]

_SUFFIXES: Final = (".json", ".yaml", ".yml", ".toml")


def is_manifest(path: str) -> bool:
    """Whether a path is that of a manifest, and not of a node."""
    return Path(path).suffix.lower() in _SUFFIXES


@dataclass(frozen=True, slots=True)
class Decided:
    """A manifest, and what was decided about its nodes.

    Attributes:
        path: the manifest's file.
        manifest: the manifest.
        nodes: for each node where it runs, or why it runs nowhere.
    """

    path: str
    manifest: Manifest
    nodes: list[PlannedNode | PlacementError]

    def specs(self, level: int | None) -> list[NodeSpec]:
        """The nodes' specifications.

        Args:
            level: lowest level of the log records of sandboxed nodes; None: as the manifest has it.

        Raises:
            PlacementError: a node runs nowhere.
        """
        from cloche.pipeline import PlacementError

        specs = []
        for node in self.nodes:
            if isinstance(node, PlacementError):
                raise node
            spec = node.spec
            if level is not None and spec.placement == "wasm":
                spec = replace(spec, limits=replace(spec.limits or Limits(), log_level=level))
            specs.append(spec)
        return specs

    def files(self) -> dict[str, str]:
        """The pipeline's own files, which no output may be: path -> what it is."""
        folder = Path(self.path).parent
        found = {self.path: "the pipeline's manifest"}
        for node in self.manifest.nodes:
            if node.source is not None:
                found.setdefault(os.fspath(folder / node.source), f"the source of node {node.id}")
        return found


def decided(path: str, native: Sequence[str], fallback: Sequence[Place]) -> Decided:
    """Read a manifest, and decide about its nodes.

    Args:
        path: the manifest.
        native: ids of the nodes that may run natively; "all" stands for all of them.
        fallback: places that nodes may fall back to.

    Raises:
        ManifestError: the manifest is malformed.
        ClocheError: a node's type is unknown, or its source is missing.
        OSError: a file cannot be read.
    """
    try:
        from cloche.pipeline import manifest as manifests
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("cloche"):
            raise
        raise InputError(f"a manifest needs {error.name}: pip install 'cloche[pipeline]'") from None
    from cloche.pipeline.plan import Policy, decide

    manifest = manifests.load(path)
    ids = [node.id for node in manifest.nodes]
    for one in native:
        if one != "all" and one not in ids:
            raise InputError(f"--allow-native: there is no node {one!r} in {path}, which has {', '.join(ids)}")
    policy = Policy(allow_native=True if "all" in native else frozenset(native), fallback=tuple(fallback))
    folder = Path(path).parent
    for node in manifest.nodes:
        if node.source is not None:
            _check_source(node.id, folder / node.source)
    return Decided(path, manifest, decide(manifest, policy, folder=folder))


def _check_source(node: str, path: Path) -> None:
    try:
        _source.read(path)
    except (ClocheError, OSError, SyntaxError) as error:
        raise InputError(f"node {node!r}: {error}") from error
