"""The section of the page on a node of the user's (``cloche bench NODES.py``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cloche_bench.report import _calls
from cloche_bench.report._model import number
from cloche_bench.report._scale import bytes_text, ratio_text, time_text

__all__ = ["section"]


def section(raw: Any) -> dict[str, Any] | None:
    """The values that the template shows in that section; None if the run was not about a node of the user's."""
    if not isinstance(raw, Mapping):
        return None
    inputs = [entry for entry in _list(raw.get("inputs")) if isinstance(entry, Mapping)]
    return {
        "name": str(raw.get("name") or "node"),
        "about": f"{raw.get('source') or ''}, measured under {raw.get('contender') or 'epoch'}.".lstrip(", "),
        "tiles": list(_tiles(raw)),
        "figure": _calls.node_phases(inputs),
        "columns": ("input", "bytes in", "bytes out", "a call", "native", "ratio"),
        "rows": [_row(entry) for entry in inputs],
        "advice": [
            str(line["text"]) for line in _list(raw.get("advice")) if isinstance(line, Mapping) and line.get("text")
        ],
    }


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _tiles(raw: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    per_call, per_byte = number(raw.get("per_call")), number(raw.get("per_byte"))
    if per_call is not None and per_byte is not None:
        yield {
            "label": "Each call, without its data",
            "value": time_text(per_call) if per_call else "≈ 0",
            "detail": "fitted to the inputs",
        }
        yield {"label": "Each further KiB", "value": time_text(1024 * per_byte), "detail": "in and out together"}
    memory = raw.get("memory")
    memory = memory if isinstance(memory, Mapping) else {}
    private, after = number(memory.get("private_bytes")), number(memory.get("after_bytes"))
    if private is not None:
        yield {"label": "Memory of its own", "value": bytes_text(private), "detail": "not shared with other sandboxes"}
    if after is not None:
        yield {
            "label": "Linear memory",
            "value": bytes_text(after),
            "detail": "mapped, with the interpreter's image",
        }


def _row(entry: Mapping[str, Any]) -> list[str]:
    total, native = number(entry.get("total")), number(entry.get("native"))
    return [
        str(entry.get("title") or ""), bytes_text(number(entry.get("bytes_in"))), bytes_text(number(entry.get("bytes_out"))),
        time_text(total), time_text(native), ratio_text(total / native) if total and native else "–",
    ]  # fmt: skip
