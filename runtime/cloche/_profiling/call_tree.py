"""Calling context trees: checks those that guests send, and adds them up."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Function", "Tree", "merge", "parse"]

_NODE: Final = struct.Struct("<4q")
_MAX_NODES: Final = 4096
_MAX_SUM: Final = 20_000


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the guest: its name, file and first line, as the guest reports them, cleaned."""

    name: str
    file: str
    line: int


class Tree:
    """A tree with one node for each function under each caller, stored in columns. Callers come before their callees.

    Attributes:
        parents: index of the caller's node; -1: called by the guest runtime.
        functions: number of the function.
        calls: number of calls.
        spent: nanoseconds in the function, with its callees. The callees of a node together never have more than the node.
        total: nanoseconds that the calls took in the guest.
    """

    __slots__ = ("_children", "calls", "functions", "parents", "spent", "total")

    def __init__(self, total: int) -> None:
        self.parents: list[int] = []
        self.functions: list[int] = []
        self.calls: list[int] = []
        self.spent: list[int] = []
        self.total = total
        self._children: dict[tuple[int, int], int] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _tree, (self.parents, self.functions, self.calls, self.spent, self.total)

    def __len__(self) -> int:
        return len(self.parents)

    def has(self, parent: int, function: int) -> bool:
        """Whether that function has a node under that caller."""
        return (parent, function) in self._children

    def add(self, parent: int, function: int, calls: int, spent: int) -> int:
        """Add to the node of a function under a caller, and return its index. Does not check that callees fit in their caller."""
        index = self._children.get((parent, function))
        if index is None:
            index = self._children[parent, function] = len(self.parents)
            self.parents.append(parent)
            self.functions.append(function)
            self.calls.append(calls)
            self.spent.append(spent)
        else:
            self.calls[index] += calls
            self.spent[index] += spent
        return index

    def children(self) -> list[list[int]]:
        """For each node its callees, in the order in which they were first called; last, those of the guest runtime."""
        found: list[list[int]] = [[] for _ in range(len(self) + 1)]
        for index, parent in enumerate(self.parents):
            found[parent].append(index)
        return found

    def own(self, inner: int, outer: int) -> list[int]:
        """Nanoseconds of each node without its callees, and without what profiling cost it.

        Args:
            inner: nanoseconds that profiling adds to a function at each of its calls.
            outer: nanoseconds that profiling adds to the caller at each call.
        """
        own = [spent - inner * calls for spent, calls in zip(self.spent, self.calls, strict=True)]
        for index, parent in enumerate(self.parents):
            if parent >= 0:
                own[parent] -= self.spent[index] + outer * self.calls[index]
        return [max(0, value) for value in own]

    def by_function(self, functions: list[Function], inner: int, outer: int) -> list[tuple[Function, int, int, int]]:
        """Rows of function, calls, own and total nanoseconds, largest own time first. The arguments are those of `own`."""
        alone = self.own(inner, outer)
        below = alone[:]
        for index in range(len(self) - 1, -1, -1):
            if self.parents[index] >= 0:
                below[self.parents[index]] += below[index]
        sums: dict[int, list[int]] = {}
        above: list[frozenset[int]] = []
        for index, (parent, function) in enumerate(zip(self.parents, self.functions, strict=True)):
            callers = above[parent] if parent >= 0 else frozenset()
            row = sums.setdefault(function, [0, 0, 0])
            row[0] += self.calls[index]
            row[1] += alone[index]
            if function not in callers:
                row[2] += below[index]
                callers |= {function}
            above.append(callers)
        rows = [(functions[number], calls, own, total) for number, (calls, own, total) in sums.items()]
        return sorted(rows, key=lambda row: row[2], reverse=True)


def _tree(parents: list[int], functions: list[int], calls: list[int], spent: list[int], total: int) -> Tree:
    """Unpickle a `Tree`."""
    made = Tree(total)
    for columns in zip(parents, functions, calls, spent, strict=True):
        made.add(*columns)
    return made


def parse(numbers: bytes, functions: int, total: int) -> Tree:
    """Check the tree that a guest sends after a call. Times are cut so that they fit in the time that the host measured.

    Args:
        numbers: for each node the parent's index, the function's number, calls and nanoseconds, in 64 bits each.
        functions: number of functions that the guest has named so far.
        total: nanoseconds that the call took in the guest, by the host's clock.

    Raises:
        ValueError: the bytes are not a tree.
    """
    if len(numbers) % _NODE.size or len(numbers) > _MAX_NODES * _NODE.size:
        raise ValueError(f"a tree of {len(numbers)} bytes: 32 a node, {_MAX_NODES} nodes at most")
    tree, left = (
        Tree(total),
        [total],
    )  # left: time that the callees of each node may still have; first, of the guest runtime
    for index, (parent, function, calls, spent) in enumerate(_NODE.iter_unpack(numbers)):
        if not -1 <= parent < index or not 0 <= function < functions or not 0 <= calls < 1 << 40 or spent < 0:
            raise ValueError("a node of the tree has no such caller, function, number of calls or time")
        kept = min(spent, left[parent + 1])
        left[parent + 1] -= kept
        left.append(kept)
        if tree.add(parent, function, calls, kept) != index:
            raise ValueError("a function is twice under the same caller")
    return tree


def merge(total: Tree, tree: Tree) -> None:
    """Add a tree to a sum. Beyond `_MAX_SUM` nodes, new ones are left out, and their time stays with their callers."""
    total.total += tree.total
    places = [-1]
    for parent, function, calls, spent in zip(tree.parents, tree.functions, tree.calls, tree.spent, strict=True):
        place = places[parent + 1]
        if place < -1 or (len(total) >= _MAX_SUM and not total.has(place, function)):
            places.append(-2)
        else:
            places.append(total.add(place, function, calls, spent))
