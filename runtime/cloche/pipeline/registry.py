"""`Registry`: what the ``node_type`` of a manifest stands for. Installed packages add types by entry points."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Final

from cloche.errors import ClocheError
from cloche.pipeline.spec import SourceLike

__all__ = ["ENTRY_POINTS", "NodeType", "Registry"]

ENTRY_POINTS: Final = "cloche.nodes"
"""The group of entry points. Each names a `NodeType`, or a class or function that is a node."""


@dataclass(frozen=True, slots=True)
class NodeType:
    """A type of node.

    Attributes:
        source: the node's code, as `NodeSpec.source`.
        entry: name of the class or function in it; None: the only one.
        params: parameters that a manifest need not give.
        capabilities: what the node needs, as in a manifest: ``{"gpu": ..., "cpu": ..., "memory_gb": ...}``.
    """

    source: SourceLike
    entry: str | None = None
    params: Mapping[str, Any] | None = None
    capabilities: Mapping[str, Any] | None = None


class Registry:
    """Types of nodes by name.

    Args:
        types: name -> type, or a class or function that is a node.
        installed: whether the types of installed packages count as well (the entry points `ENTRY_POINTS`). A type of `types` comes
            first. What an entry point names is imported when a manifest uses it, which runs the package's code.
    """

    def __init__(self, types: Mapping[str, NodeType | SourceLike] | None = None, *, installed: bool = True) -> None:
        self._types = {name: _as_type(value) for name, value in (types or {}).items()}
        self._installed = installed

    def __iter__(self) -> Iterator[str]:
        """The names of all types."""
        names = set(self._types)
        if self._installed:
            names |= set(entry_points(group=ENTRY_POINTS).names)
        return iter(sorted(names))

    def find(self, name: str) -> NodeType:
        """The type of that name.

        Raises:
            ClocheError: there is none, or its package cannot be imported.
        """
        if name in self._types:
            return self._types[name]
        found = list(entry_points(group=ENTRY_POINTS, name=name)) if self._installed else []
        if len({point.value for point in found}) > 1:
            raise ClocheError(
                f"node_type {name!r} is provided by more than one package: {', '.join(p.value for p in found)}"
            )
        if not found:
            close = difflib.get_close_matches(name, list(self), n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            known = ", ".join(self) or "none"
            raise ClocheError(
                f"there is no node_type {name!r}: {hint}known are {known}. Give the node a source, or register the type"
            )
        try:
            return _as_type(found[0].load())
        except Exception as error:
            raise ClocheError(f"node_type {name!r} cannot be imported from {found[0].value}: {error}") from error


def _as_type(value: Any) -> NodeType:
    return value if isinstance(value, NodeType) else NodeType(value)
