"""Sources of the bench's nodes: the same text runs natively and in every sandbox. The modules here are read, not imported."""

from __future__ import annotations

from pathlib import Path

__all__ = ["text"]


def text(name: str) -> str:
    """The source of one module of nodes."""
    return Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
