"""Processors that an image can be compiled for: the one of this machine, or a named level that many machines have.

Native code for this machine uses all that its processor has, and is found by exactly that. Code for a level, such as x86-64-v3 of
the x86-64 psABI, is found by every processor that has the level's features.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Final

__all__ = ["LEVELS", "flags", "lacking", "processor_features", "runnable", "triple"]

_V2: Final = {
    "has_sse3": "pni", "has_ssse3": "ssse3", "has_sse41": "sse4_1", "has_sse42": "sse4_2", "has_popcnt": "popcnt",
    "has_cmpxchg16b": "cx16",
}  # fmt: skip
_V3: Final = _V2 | {
    "has_avx": "avx", "has_avx2": "avx2", "has_bmi1": "bmi1", "has_bmi2": "bmi2", "has_fma": "fma", "has_lzcnt": "abm",
}  # fmt: skip
_V4: Final = _V3 | {"has_avx512f": "avx512f", "has_avx512dq": "avx512dq", "has_avx512vl": "avx512vl"}
LEVELS: Final[dict[str, dict[str, str]]] = {"x86-64-v4": _V4, "x86-64-v3": _V3, "x86-64-v2": _V2, "x86-64": {}}
"""The levels, best first: Cranelift's name of each feature that is used -> the name that Linux has for it."""
_MACHINE: Final = "x86_64"
_TRIPLE: Final = "x86_64-unknown-linux-gnu"


def triple(level: str) -> str:
    """Cranelift's name of the platform of a level.

    Raises:
        ValueError: there is no such level, or it is not one of this machine.
    """
    if level not in LEVELS:
        raise ValueError(f"there is no target {level!r}: give one of {', '.join(LEVELS)}")
    machine = os.uname().machine
    if machine != _MACHINE or os.uname().sysname != "Linux":
        raise ValueError(
            f"the target {level} is for Linux on x86-64, and this machine is {os.uname().sysname} on {machine}"
        )
    return _TRIPLE


def flags(level: str) -> tuple[str, ...]:
    """Names of Cranelift's flags that turn the features of a level on."""
    return tuple(LEVELS[level])


@cache
def processor_features() -> frozenset[str]:
    """What this machine's processor has, by the names of /proc/cpuinfo; empty on systems without that file."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            line = next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:
        line = ""
    return frozenset(line.partition(":")[2].split())


def lacking(level: str) -> list[str]:
    """Features of a level that this machine's processor lacks, sorted."""
    return sorted(set(LEVELS[level].values()) - processor_features())


def runnable() -> list[str]:
    """The levels whose code this machine can run, best first."""
    if os.uname().machine != _MACHINE or os.uname().sysname != "Linux":
        return []
    return [level for level in LEVELS if not lacking(level)]
