"""``cloche plan``: where each node of a pipeline would run, and why."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from cloche.pipeline import PlacementError
from cloche.texts import line, name

if TYPE_CHECKING:
    from cloche.cli._manifest import Decided

__all__ = ["fails", "show", "to_json"]

_WIDTH: Final = 120
"""Characters of a line where there is no terminal."""
_HEADS: Final = ("node", "asked", "placed", "why", "needs", "remarks")


def fails(decided: Decided) -> bool:
    """Whether a node can run nowhere."""
    return any(isinstance(node, PlacementError) for node in decided.nodes)


def to_json(decided: Decided) -> str:
    """The plan as one JSON object."""
    manifest = decided.manifest
    return json.dumps(
        {
            "version": 1,
            "ok": not fails(decided),
            "pipeline": manifest.metadata.name,
            "nodes": _nodes(decided),
            "connections": [{"from": one.source, "to": one.target} for one in manifest.connections],
        },
        indent=2,
    )


def _nodes(decided: Decided) -> list[dict[str, Any]]:
    rows = []
    for model, node in zip(decided.manifest.nodes, decided.nodes, strict=True):
        needs = {} if model.capabilities is None else model.capabilities.model_dump(exclude_none=True)
        row: dict[str, Any] = {"id": model.id, "node_type": model.node_type, "capabilities": needs}
        if isinstance(node, PlacementError):
            asked = node.asked
            row |= {"asked": asked, "placed": None, "why": None, "warnings": [], "problem": str(node)}
        else:
            row |= {
                "asked": node.asked,
                "placed": node.spec.placement,
                "why": node.why,
                "warnings": list(node.warnings),
                "problem": None,
            }
        rows.append(row)
    return rows


def show(decided: Decided) -> None:
    """Print the plan as a table, on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(name(decided.manifest.metadata.name)), title_justify="left", show_lines=True)
    for head in _HEADS:
        table.add_column(head, no_wrap=head in ("asked", "placed"), overflow="fold")
    for node in _nodes(decided):
        remarks = "\n".join(map(line, node["warnings"])) or "-"
        if node["problem"] is not None:
            remarks = line(node["problem"])
        row = (
            node["id"],
            node["asked"],
            node["placed"] or "refused",
            node["why"] or "-",
            _told(node["capabilities"]),
            remarks,
        )
        table.add_row(*(Text(cell if cell is remarks else line(cell)) for cell in row))
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        console = Console(file=sys.stdout, width=_WIDTH)
    console.print(table)


def _told(needs: dict[str, Any]) -> str:
    """What a node needs, in words."""
    told = []
    if gpu := needs.get("gpu"):
        told.append(f"GPU {gpu['type']}" + ("" if gpu["required"] else " (can do without)"))
    if cpu := needs.get("cpu"):
        told.append(f"{cpu['cores']:g} processors" + (f" ({cpu['arch']})" if "arch" in cpu else ""))
    if "memory_gb" in needs:
        told.append(f"{needs['memory_gb']:g} GiB")
    return ", ".join(told) or "-"
