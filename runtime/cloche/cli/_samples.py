"""The inputs of ``cloche bench NODES.py``: files, read as ``cloche run`` reads them, in chunks of several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cloche.cli import _formats
from cloche.cli._console import InputError
from cloche.cli._input import Form, open_input
from cloche.cli._run import shaped
from cloche_bench.own import OwnNode, Sample

if TYPE_CHECKING:
    from cloche.cli._options import NodeOptions
    from cloche.limits import Limits

__all__ = ["CHUNKS", "own_node"]

CHUNKS: Final = (1024, 4096, 16384)
MAX_ITEMS: Final = 64
"""Most items that are read of a file for each size of chunk. The node is given them in turn."""


def own_node(node: NodeOptions, limits: Limits, files: Sequence[str], form: Form, chunks: Sequence[int]) -> OwnNode:
    """The node with the inputs that it is measured with, read in chunks of each of these sizes; () for the usual ones.

    Raises:
        InputError: a file has not this format, or has no items.
        OSError: a file cannot be opened.
    """
    samples = [sample for path in files for sample in _samples(path, form, chunks or CHUNKS)] or [
        Sample("no input", ())
    ]
    return OwnNode(Path(node.path), node.entry, node.params, node.grants, samples, limits)


def _samples(path: str, form: Form, chunks: Sequence[int]) -> list[Sample]:
    lines = _formats.input_format_of(path, form.input_format) in _formats.ITEMS
    found: dict[int, Sample] = {}
    for chunk in (1,) if lines else chunks:
        with open_input(path, replace(form, chunk=chunk)) as source:
            read = list(islice(source, MAX_ITEMS))
            if not read:
                raise InputError(f"{path} has no items")
            longest = max(size for _, size in read)
            whole = [item for item, size in read if size == longest]  # the last chunk of a file may be shorter
            title = f"{Path(path).name}" if lines else f"{Path(path).name}, {longest} rows"
            found.setdefault(longest, Sample(title, tuple(shaped(item, form.shape, source.rate) for item in whole)))
    return list(found.values())
