"""What a node needs of the machine, by its manifest or its ``get_capabilities()``, and whether its place has that."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping
from typing import Any, Final

from cloche.pipeline.errors import PlacementError

__all__ = ["check_needs", "lacks"]

_GIB: Final = 1 << 30
_SANDBOX_GIB: Final = 4
"""What a 32-bit memory can hold."""
_FIELDS: Final = frozenset({"gpu", "cpu", "memory_gb"})


def check_needs(node: str, needs: Any, place: str) -> None:
    """Check what the ``get_capabilities()`` of a node has returned, which can be anything.

    Raises:
        PlacementError: the place does not have that, or it is malformed.
    """
    try:
        problems = lacks(needs, place)
    except (TypeError, ValueError) as error:
        raise PlacementError(f"get_capabilities() of node {node!r} is malformed: {error}", node=node) from None
    if problems:
        raise PlacementError(f"node {node!r} cannot run as {place!r}: {'; '.join(problems)}", node=node)


def lacks(needs: Any, place: str) -> list[str]:
    """Why a node with those needs cannot run in a place; each with what would do.

    Args:
        needs: ``{"gpu": {"required": ...}, "cpu": {"cores": ..., "arch": ...}, "memory_gb": ...}``, each of which may be missing or
            None; None: the node needs nothing.
        place: where it is to run.

    Raises:
        TypeError: `needs` has another form.
        ValueError: a number is out of range.
    """
    if needs is None:
        return []
    given = _mapping("it", needs)
    if unknown := set(given) - _FIELDS:
        raise TypeError(f"it has {min(map(repr, unknown))[:40]}: give gpu, cpu and memory_gb")
    gpu, cpu = _mapping("gpu", given.get("gpu")), _mapping("cpu", given.get("cpu"))
    found = []
    if gpu and gpu.get("required", True) and place == "wasm":
        found.append("it needs a GPU, and a sandbox has none: run it natively, or grant it a service that uses the GPU")
    memory = _number("memory_gb", given.get("memory_gb"))
    available = _SANDBOX_GIB if place == "wasm" else _memory_gib()
    if memory > available:
        what = "a sandbox has at most" if place == "wasm" else "this machine has"
        found.append(f"it needs {memory:g} GiB of memory, and {what} {available:.3g} GiB")
    cores, here = _number("cpu.cores", cpu.get("cores")), os.cpu_count() or 1
    if cores > here:
        found.append(f"it needs {cores:g} processors, and this machine has {here}")
    arch = cpu.get("arch")
    if arch is not None and place != "wasm" and str(arch).lower() not in _architectures():
        found.append(
            f"it needs a processor of the architecture {str(arch)[:40]}, and this machine's is {platform.machine()}"
        )
    return found


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is of type {type(value).__name__}: give a dict, or None")
    return value


def _number(name: str, value: Any) -> float:
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is of type {type(value).__name__}: give a number, or None")
    if not 0 <= value <= 1e9 or math.isnan(value):
        raise ValueError(f"{name} is out of range: give 0 to 1e9")
    return float(value)


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB


def _architectures() -> set[str]:
    machine = platform.machine().lower()
    return {machine, {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)}
