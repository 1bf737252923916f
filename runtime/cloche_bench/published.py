"""Figures that other projects have published for the same work, quoted beside ours. They were measured elsewhere, by others."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["RUSTPYTHON"]

RUSTPYTHON: Final[dict[str, Any]] = {
    "id": "rustpython",
    "label": "RustPython, published",
    "note": (
        "published figures of a system that ran such nodes in RustPython: another machine, another Python, another boundary; "
        "the case there is the nearest to ours"
    ),
    "cases": {
        "create/x3": 141.7e-3,
        "counter/reused": 114e-6,
        "passthrough/int": 102e-6,
        "passthrough/list5": 117e-6,
        "passthrough/list100": 280e-6,
        "passthrough/nested": 149e-6,
        "yields/5": 121e-6,
        "chain/3": 433e-6,
        "reuse/recreated": 141.7e-3,
    },
}
"""Seconds, by case. For comparison, the same publication gives 79 us for a call of plain CPython on its machine."""
