"""Flame graphs of sampled trees: as a page without scripts, and in the format of speedscope.

https://www.speedscope.app/file-format-schema.json: a profile of the type "sampled" has a stack for each sample, as numbers of
frames, callers first, and the sample's weight.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cloche._profiling.call_tree import Function, Tree

__all__ = ["page", "speedscope"]

_WIDTH, _HEIGHT = 1200.0, 18
_NARROWEST: Final = 0.5
"""Width of a bar that is drawn at least, of `_WIDTH`."""
_MOST_BARS: Final = 4000
_MOST_LEVELS: Final = 200
_STYLE: Final = """
:root { color-scheme: light dark; }
body { margin: 0 auto; padding: 1rem; max-width: 80rem; font: 1rem/1.45 system-ui, sans-serif; }
h2 { font-size: 1.1rem; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: #16191b; pointer-events: none; }
svg rect { stroke: #ffffff80; stroke-width: .5; }
svg rect:hover { stroke: #000; stroke-width: 1.5; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
caption { text-align: left; overflow-wrap: anywhere; }
th, td { padding: .15rem .6rem; text-align: left; overflow-wrap: anywhere; }
"""

Graph = tuple[str, "Tree"]
"""A node's name, and its tree."""


def speedscope(graphs: Iterable[Graph], functions: list[Function]) -> str:
    """The graphs as JSON text, a profile for each."""
    frames: list[dict[str, Any]] = []
    for function in functions:
        frame: dict[str, Any] = {"name": function.name}
        if function.file:
            frame["file"] = function.file
        if function.line:
            frame["line"] = function.line
        frames.append(frame)
    profiles = [_sampled(name, tree) for name, tree in graphs]
    return json.dumps(
        {
            "$schema": "https://www.speedscope.app/file-format-schema.json",
            "exporter": "cloche",
            "shared": {"frames": frames},
            "profiles": profiles,
        },
        separators=(",", ":"),
    )


def _sampled(name: str, tree: Tree) -> dict[str, Any]:
    stacks: list[list[int]] = []
    samples, weights = [], []
    for index, own in enumerate(tree.own(0, 0)):
        parent = tree.parents[index]
        stack = [*(stacks[parent] if parent >= 0 else ()), tree.functions[index]]
        stacks.append(stack)
        if own:
            samples.append(stack)
            weights.append(own)
    return {
        "type": "sampled", "name": name, "unit": "nanoseconds", "startValue": 0, "endValue": sum(weights),
        "samples": samples, "weights": weights,
    }  # fmt: skip


def page(graphs: Iterable[Graph], functions: list[Function], tables: str) -> str:
    """The graphs as an HTML page, which needs nothing else. All texts are escaped.

    Args:
        graphs: what is drawn.
        functions: the functions to which the trees' numbers refer.
        tables: HTML that comes below.
    """
    import html

    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>Flame graph</title><style>{_STYLE}</style><h1>Where the time went</h1>",
    ]
    for name, tree in graphs:
        parts.append(f"<h2>{html.escape(name)}: {tree.total / 1e9:.3f} s</h2>{_svg(tree, functions)}")
    return f"{''.join(parts)}{tables}</html>\n"


def _svg(tree: Tree, functions: list[Function]) -> str:
    """One graph: callers above, and each function as wide as its time. Bars too narrow to be seen are left out."""
    import html

    children, scale = tree.children(), _WIDTH / max(1, tree.total)
    bars: list[str] = []
    deepest = 0
    row: list[tuple[int, float]] = [(-1, 0.0)]
    while row and deepest < _MOST_LEVELS and len(bars) < _MOST_BARS:
        below: list[tuple[int, float]] = []
        for caller, start in row:
            left = start
            for child in sorted(children[caller], key=lambda index: -tree.spent[index]):
                width = tree.spent[child] * scale
                if width < _NARROWEST or len(bars) >= _MOST_BARS:
                    break
                bars.append(
                    _bar(
                        functions[tree.functions[child]],
                        left,
                        deepest,
                        width,
                        tree.spent[child],
                        tree.total,
                        html.escape,
                    )
                )
                below.append((child, left))
                left += width
        row = below
        deepest += bool(below)
    return f"<svg viewBox='0 0 {_WIDTH:g} {max(1, deepest) * _HEIGHT}' role=img>{''.join(bars)}</svg>"


def _bar(function: Function, left: float, level: int, width: float, spent: int, total: int, escape: Any) -> str:
    where = f"{function.file}:{function.line}" if function.line else function.file
    title = escape(f"{function.name} {where}\n{spent / 1e6:.1f} ms, {spent / max(1, total):.1%}")
    hue = zlib.crc32(where.encode()) % 60
    top, room = level * _HEIGHT, int((width - 6) / 6.2)
    text = function.name if len(function.name) <= room else function.name[: max(0, room - 1)] + "\u2026"
    label = f"<text x='{left + 3:.2f}' y='{top + 13}'>{escape(text)}</text>" if room > 2 else ""
    return (
        f"<g><rect x='{left:.2f}' y='{top}' width='{width:.2f}' height='{_HEIGHT - 1}' fill='hsl({hue} 80% 70%)'>"
        f"<title>{title}</title></rect>{label}</g>"
    )
