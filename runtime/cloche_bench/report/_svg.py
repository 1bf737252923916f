"""SVG as text. Every text and attribute that is not `Markup` already is escaped here."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup, escape

__all__ = ["el", "layer", "num", "percent"]


def num(value: float) -> str:
    """A coordinate, with two decimals at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def percent(part: float) -> str:
    """A part of the width as a percentage: figures then get wider with their place, and their texts keep their size."""
    return f"{num(100 * part)}%"


def el(name: str, *children: Any, **attributes: Any) -> Markup:
    """An element. In names of attributes ``cls`` stands for class, and ``_`` for ``-``. Attributes that are None are left out."""
    words = [name]
    for key, value in attributes.items():
        if value is not None:
            label = "class" if key == "cls" else key.replace("_", "-")
            words.append(f'{label}="{escape(num(value) if isinstance(value, float) else value)}"')
    body = "".join(escape(child) for child in children)
    return Markup(f"<{' '.join(words)}>{body}</{name}>" if body else f"<{' '.join(words)}/>")


def layer(height: float, *children: Any, y: float = 0.0) -> Markup:
    """A layer in which x goes from 0 to 1000 over the whole width: for paths, whose coordinates cannot be percentages."""
    return el(
        "svg", *children, x="0", y=y, width="100%", height=height,
        viewBox=f"0 0 1000 {num(height)}", preserveAspectRatio="none",
    )  # fmt: skip
