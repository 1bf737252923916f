"""`sample`: a node's time by function and line, from samples that the host takes without the guest's help.

A thread of the native core reads the frames of the running guest some hundred times a second (runtime/native/sampler.c). The node
runs as fast as ever, and cannot know of it; but the frames lie in its memory, so what they say is its word. A thread of Python
would need the interpreter's lock, which it gets when another thread gives it up: at the begin of a call, which it would then see
too often.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from cloche import texts
from cloche._atomic_file import AtomicFile
from cloche._html import table
from cloche._profiling.call_tree import Function, Tree, merge
from cloche._wasm.sampler import LANES, NO_PARENT, Found, FoundFunction, FoundLane, Sampler
from cloche.errors import ClocheError

if TYPE_CHECKING:
    from cloche._runtime import Node, NodeCalls
    from cloche._sandbox import SampleSource

__all__ = ["SampledFunction", "SampledLine", "SampledProfile", "sample"]

_MOST_HZ: Final = 10_000
_MOST_SHOWN: Final = 20
"""Functions that a notebook shows."""
_HIDDEN: Final = ("<cloche>/cloche_", "<frozen importlib")
"""How the file names of the guest's runtime and of Python's import system begin. Their time counts for their callers."""
_RUNTIME: Final = Function("(guest runtime)", "", 0)
"""Stands for the guest outside of any code of the node: it decodes a request, encodes a reply."""


@dataclass(frozen=True, slots=True)
class SampledFunction:
    """The time of one function, as far as samples show it.

    Attributes:
        name: the function's qualified name, as the node reports it.
        file: the function's file; "" if unknown.
        line: the function's first line; 0 if unknown.
        samples: number of samples that found this function running, rather than one that it had called.
        self_s: seconds in the function itself, C functions that it called included.
        total_s: seconds in the function and those that it called; the time of a recursive call counts once.
    """

    name: str
    file: str
    line: int
    samples: int
    self_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class SampledLine:
    """The time of one line.

    Attributes:
        file: the file, as the node reports it.
        line: its line; 0 if unknown.
        function: qualified name of the function that the line is in.
        samples: number of samples that found this line running, rather than a function that it had called.
        self_s: seconds on the line itself, C functions that it called included.
    """

    file: str
    line: int
    function: str
    samples: int
    self_s: float


_Sources = list[tuple["Sampler | SampleSource", Sequence[int]]]
"""Samplers, each with the nodes of its lanes."""


class Reading:
    """What a sampler has found, by function: the trees of the nodes, and the lines.

    Args:
        parts: what the samplers have found, with the node of each of its lanes: an index in `names`.
        names: names of the nodes.
    """

    def __init__(self, parts: Iterable[tuple[Found, Sequence[int]]], names: list[str]) -> None:
        self.functions: list[Function] = [_RUNTIME]
        self.trees = [Tree(0) for _ in names]
        self.lines: dict[tuple[int, int], list[int]] = {}
        self.lanes: list[FoundLane] = []
        numbers: dict[FoundFunction, int] = {}
        for found, nodes in parts:
            self.lanes += found.lanes[: len(nodes)]
            self._add(found, [self.trees[node] for node in nodes], numbers)
        for tree in self.trees:  # so far, each has the time of its own
            for index in range(len(tree) - 1, -1, -1):
                if tree.parents[index] >= 0:
                    tree.spent[tree.parents[index]] += tree.spent[index]

    def _add(self, found: Found, trees: Sequence[Tree], numbers: dict[FoundFunction, int]) -> None:
        shown = [self._number(numbers, function) for function in found.functions]
        places: list[tuple[int, int]] = []
        """Lane and index in its tree of each node; the index of a hidden one is its caller's."""
        for parent, place, samples, spent in found.nodes:
            if parent == NO_PARENT:
                lane, index, function, line = len(places), -1, 0, 0
            else:
                lane, index = places[parent]
                of, line = found.places[place]
                function = shown[of]
                if function and lane < len(trees):
                    index = trees[lane].add(index, function, 0, 0)
            places.append((lane, index))
            if lane >= len(trees) or not samples:
                continue
            tree = trees[lane]
            if not function:  # the time of what is hidden is its caller's
                index = tree.add(-1, 0, 0, 0) if index < 0 else index
                function, line = tree.functions[index], 0
            tree.calls[index] += samples
            tree.spent[index] += spent
            tree.total += spent
            row = self.lines.setdefault((function, line), [0, 0])
            row[0] += samples
            row[1] += spent

    def _number(self, numbers: dict[FoundFunction, int], function: FoundFunction) -> int:
        """Number of a function in `functions`; 0 for one that is not shown."""
        if not function.name or function.file.startswith(_HIDDEN):
            return 0
        number = numbers.get(function)
        if number is None:
            number = numbers[function] = len(self.functions)
            line = function.first_line if 0 < function.first_line < 10**9 else 0
            self.functions.append(Function(texts.name(function.name), texts.name(function.file), line))
        return number


class SampledProfile:
    """The result of `sample`. It grows while the ``with`` block runs."""

    def __init__(self, names: list[str], hz: float, source: _Sources | Reading) -> None:
        self.nodes = tuple(names)
        """Names of the nodes."""
        self.hz = hz
        """Samples a second, on average."""
        self._names = names
        self._source = source

    def _read(self) -> Reading:
        source = self._source
        if isinstance(source, Reading):
            return source
        return Reading([(one.read(), nodes) for one, nodes in source], self._names)

    def _end(self) -> None:
        source = self._source
        if isinstance(source, Reading):
            return
        for one, _ in source:
            if not isinstance(one, Sampler):
                one.end()  # first: what it says afterwards is the last word
        self._source = self._read()
        for one, _ in source:
            one.end()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy what it has now."""
        return type(self), (self._names, self.hz, self._read())

    def _sum(self, name: str) -> int:
        return sum(getattr(lane, name) for lane in self._read().lanes)

    @property
    def samples(self) -> int:
        """Number of samples in which a node was in a call: it computed, slept, or waited for its host."""
        return self._sum("samples")

    @property
    def seconds(self) -> float:
        """The time that these samples stand for."""
        return sum(tree.total for tree in self._read().trees) / 1e9

    @property
    def torn(self) -> int:
        """Number of samples of which only outer frames are believed: the node went on while they were read.

        Their time counts for the innermost function that was there all the time.
        """
        return self._sum("torn")

    @property
    def lost(self) -> int:
        """Number of samples that say nothing, because the node's memory was no stack of frames. They count for no function."""
        return self._sum("lost")

    @property
    def cut(self) -> int:
        """Number of samples without their outermost frames, because there were more than 512; or without their innermost ones,
        because the profile has no room for more functions, lines or chains of callers.
        """
        return self._sum("cut") + self._sum("full")

    def functions(self) -> list[SampledFunction]:
        """The time of each function, the largest `SampledFunction.self_s` first. The nodes' are added up."""
        read = self._read()
        total = Tree(0)
        for tree in read.trees:
            merge(total, tree)
        rows = total.by_function(read.functions, 0, 0)
        return [
            SampledFunction(function.name, function.file, function.line, samples, own / 1e9, below / 1e9)
            for function, samples, own, below in rows
        ]

    def lines(self) -> list[SampledLine]:
        """The time of each line, the largest `SampledLine.self_s` first. The nodes' are added up."""
        read = self._read()
        rows = [
            SampledLine(read.functions[number].file, line, read.functions[number].name, samples, spent / 1e9)
            for (number, line), (samples, spent) in read.lines.items()
        ]
        return sorted(rows, key=lambda row: row.self_s, reverse=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a flame graph: for a name that ends in ".html" as a page, else in speedscope's format.

        The page needs nothing else. https://www.speedscope.app opens the other file, which has a profile for each node.

        Raises:
            OSError: the file cannot be written.
        """
        from cloche._profiling import flame

        read = self._read()
        graphs = list(zip(self._names, read.trees, strict=True))
        if os.fspath(path).lower().endswith(".html"):
            text = flame.page(graphs, read.functions, self._repr_html_())
        else:
            text = flame.speedscope(graphs, read.functions)
        with AtomicFile(path) as file:
            file.write(text.encode())

    def __repr__(self) -> str:
        return f"<cloche.profiling.SampledProfile of {self._title()}, {self.samples} samples, {self.seconds:.3g} s>"

    def _title(self) -> str:
        return texts.line(", ".join(map(repr, map(texts.name, self._names))))

    def _repr_html_(self) -> str:
        rows = [
            (row.name, row.samples, f"{1e3 * row.self_s:.1f}", f"{1e3 * row.total_s:.1f}", f"{row.file}:{row.line}")
            for row in self.functions()[:_MOST_SHOWN]
        ]
        title = f"Samples of {self._title()}: {self.samples} at {self.hz:g} a second, {self.seconds:.3f} s"
        return table(title, rows, ("function", "samples", "own ms", "total ms", "where"))


@contextmanager
def sample(*nodes: Node, hz: float = 100.0) -> Iterator[SampledProfile]:
    """Sample where nodes are in their Python code while the ``with`` block runs. Use the profile after the block, or within.

    It costs the nodes nothing that could be measured: the host reads their frames from outside. Calls that are under way are
    sampled as well. All of a call counts in which the node computes, sleeps, or waits for a service or a file; the host's own work
    does not. A node that breaks, and is brought back, is sampled further.

    >>> import cloche
    >>> from cloche.profiling import sample
    >>> with cloche.Runtime() as runtime:
    ...     node = runtime.load(cloche.Source("def f(n): return sum(i * i for i in range(n))"))
    ...     with sample(node) as profile:
    ...         node.process(10) and None
    >>> profile.nodes
    ('f',)

    Args:
        nodes: the nodes, 256 at most. One in a worker process is sampled there; if it breaks, it is not sampled further, and 16
            nodes of one worker can be sampled at once.
        hz: samples a second, on average: the time between two varies, so that a node with a beat of its own is not always met at
            the same place.

    Raises:
        ClocheError: a node is closed, or is being sampled already.
        TypeError: `hz` is no number.
        ValueError: there is no node, there are too many, or `hz` is out of range.
    """
    if isinstance(hz, bool) or not isinstance(hz, int | float):
        raise TypeError(f"hz is {type(hz).__name__}: give samples a second, as a number")
    if not isfinite(hz) or not 0.01 <= hz <= _MOST_HZ:
        raise ValueError(f"hz is {hz}: give a number of samples a second, from 0.01 to {_MOST_HZ}")
    if not 0 < len(nodes) <= LANES:
        raise ValueError(f"{len(nodes)} nodes: give at least one, and {LANES} at most")
    calls = [node.__cloche__ for node in nodes]
    for one in calls:
        if one.closed:  # also a node of a pool that was given back: its sandbox is somebody else's
            raise one.closed_error()
    sources: _Sources = []
    profile = SampledProfile([node.name for node in nodes], hz, sources)
    words: list[tuple[NodeCalls, int]] = []
    try:
        here = []
        for index, one in enumerate(calls):
            apart = one.sandbox.sample_apart(1 / hz)
            if apart is None:
                here.append(index)
            else:
                sources.append((apart, [index]))
        if here:
            layout = calls[here[0]].sandbox.layout()
            if any(calls[index].sandbox.layout() != layout for index in here):
                raise ClocheError("the nodes have different guest images: sample them one by one")
            sampler = Sampler(layout, 1 / hz)
            sources.append((sampler, here))
            for lane, index in enumerate(here):
                words.append((calls[index], sampler.word(lane)))
                calls[index].sandbox.sample(sampler.word(lane))
        yield profile
    finally:
        for one, word in words:
            one.sandbox.end_sample(word)
        profile._end()  # noqa: SLF001  # its own
