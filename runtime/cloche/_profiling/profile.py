"""`profile`: a node's time by function in the guest, and by phase in the host.

The guest counts calls and times in a tree (`cloche_guest.profile`). After every call the host takes that tree, and adds the phases
that it has measured itself (`phases`). The tree is checked, and its times are cut to the time that the host measured. Otherwise it
is untrusted: a node can falsify how its time is divided among its functions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cloche._atomic_file import AtomicFile
from cloche._html import table
from cloche._profiling import phases as _phases
from cloche._profiling.call_tree import Function, Tree, merge, parse
from cloche._sandbox import raise_failure
from cloche.errors import ClocheError, ClosedError
from cloche.texts import name
from cloche_wire import Op, Reply

if TYPE_CHECKING:
    from cloche._profiling.phases import CallPhases
    from cloche._runtime import Node, NodeCalls

__all__ = ["FunctionTime", "Profile", "ProfiledCall", "profile"]

_MAX_CALLS: Final = 2000
_MOST_SHOWN: Final = 20
"""Functions that a notebook shows."""
_MAX_FUNCTIONS: Final = 1024
_MAX_TREE_NODES: Final = 50_000
"""Nodes in the trees of the calls that are kept one by one. Later calls are kept without a tree; the sums count them."""


@dataclass(frozen=True, slots=True)
class ProfiledCall:
    """One call: its phases in the host, and the tree of the guest's functions; None if the guest sent none, or there is no room."""

    phases: CallPhases
    tree: Tree | None


@dataclass(frozen=True, slots=True)
class FunctionTime:
    """The time of one function of the node, over all calls.

    Attributes:
        name: the function's qualified name, as the node reports it.
        file: the function's file, or the module of a built-in function; "" if unknown.
        line: the function's first line; 0 for a function in C.
        calls: number of calls. Each resumption of a generator or coroutine counts as one.
        self_s: seconds in the function itself, without the functions that it called.
        total_s: seconds in the function and those that it called; the time of a recursive call counts once.
    """

    name: str
    file: str
    line: int
    calls: int
    self_s: float
    total_s: float


class Collected:
    """The data of a profile: the host's phases, and the guest's trees, checked and added up.

    Attributes:
        calls: the calls that are kept one by one.
        count: number of all calls.
        seconds: sums over all calls: "total", and by phase.
        dropped: number of calls of functions for which the guest's tree had no room.
        cost_s: seconds that profiling adds to each call of a function: to the function itself, and to its caller.
        problem: why functions are no longer counted; "" while they are.
        functions: the functions to which the numbers in the trees refer.
        total: the sum of the trees of all calls.
    """

    def __init__(self) -> None:
        self.calls: list[ProfiledCall] = []
        self.count = 0
        self.seconds = dict.fromkeys(("total", *_phases.NAMES), 0.0)
        self.dropped = 0
        self.cost_s = (0.0, 0.0)
        self.problem = ""
        self.functions: list[Function] = []
        self.total = Tree(0)
        self._room = _MAX_TREE_NODES

    def started(self, answer: Any) -> None:
        """Take the guest's answer to "start": the nanoseconds that counting adds to each call of a function."""
        match answer:
            case [int(inner), int(outer)] if 0 <= inner < 1_000_000 and 0 <= outer < 1_000_000:
                self.cost_s = inner / 1e9, outer / 1e9

    def add(self, phases: CallPhases, answer: Any) -> None:
        """Add a call.

        Args:
            phases: the phases of the call in the host.
            answer: the guest's answer to "take", untrusted; None: there is none.

        Raises:
            ValueError: the answer is malformed. The host's phases are added nevertheless.
        """
        self.count += 1
        for phase, seconds in (("total", phases.end - phases.start), *phases.totals.items()):
            self.seconds[phase] += seconds
        tree = None
        if answer is not None:
            match answer:
                case [str(text), bytes(numbers), int(dropped)] if dropped >= 0:
                    self._learn(text)
                    tree = parse(numbers, len(self.functions), round(phases.totals["guest"] * 1e9))
                    self.dropped += dropped
                case _:
                    raise ValueError("a profile is [text, bytes, count]")
            merge(self.total, tree)
            self._room -= len(tree)
            if self._room < 0:
                tree = None
        if len(self.calls) < _MAX_CALLS:
            self.calls.append(ProfiledCall(phases, tree))

    def _learn(self, text: str) -> None:
        """Add new functions: name, file and first line of each, on three lines."""
        if text.count("\n") >= 3 * _MAX_FUNCTIONS:
            raise ValueError("a profile names 1024 functions at most")
        fields = text.split("\n") if text else []
        if len(fields) % 3 or len(self.functions) + len(fields) // 3 > _MAX_FUNCTIONS:
            raise ValueError("a profile names functions on three lines each, 1024 at most")
        for function, file, line in zip(fields[::3], fields[1::3], fields[2::3], strict=True):
            number = int(line) if line.isascii() and line.isdigit() and len(line) < 10 else 0
            self.functions.append(Function(name(function), name(file), number))


class Profile:
    """The result of `profile`. It grows while the ``with`` block runs."""

    def __init__(self, node: str, collected: Collected) -> None:
        self.node = node
        """The node's name."""
        self._collected = collected

    @property
    def calls(self) -> list[ProfiledCall]:
        """The calls that are kept one by one, the first 2000."""
        return self._collected.calls

    @property
    def count(self) -> int:
        """The number of all calls."""
        return self._collected.count

    @property
    def seconds(self) -> dict[str, float]:
        """Sums over all calls: "total", and by phase "encode", "lower", "guest", "lift", "decode" and "logs"."""
        return self._collected.seconds

    @property
    def dropped(self) -> int:
        """Number of calls of functions for which the guest's tree had no room. Their time counts for their callers."""
        return self._collected.dropped

    @property
    def cost_s(self) -> tuple[float, float]:
        """Seconds that profiling adds to each call of a function: to the function itself, and to its caller.

        The times in `functions` are without these, those in the file of `save` are with them.
        """
        return self._collected.cost_s

    @property
    def problem(self) -> str:
        """Why the node's functions are no longer counted; "" while they are."""
        return self._collected.problem

    def __repr__(self) -> str:
        return f"<cloche.Profile of {name(self.node)!r}, {self.count} calls, {self.seconds['total']:.3g} s>"

    def _repr_html_(self) -> str:
        rows = [
            (
                found.name,
                found.calls,
                f"{1e3 * found.self_s:.3f}",
                f"{1e3 * found.total_s:.3f}",
                f"{found.file}:{found.line}",
            )
            for found in self.functions()[:_MOST_SHOWN]
        ]
        phases = ", ".join(f"{phase} {1e3 * seconds:.3f}" for phase, seconds in self.seconds.items())
        title = f"Profile of {self.node}: {self.count} calls, ms: {phases}"
        return table(title, rows, ("function", "calls", "own ms", "total ms", "where"))

    def functions(self) -> list[FunctionTime]:
        """The time of each function, the largest `FunctionTime.self_s` first."""
        found, (inner, outer) = self._collected, self.cost_s
        rows = found.total.by_function(found.functions, round(inner * 1e9), round(outer * 1e9))
        return [
            FunctionTime(function.name, function.file, function.line, calls, own / 1e9, total / 1e9)
            for function, calls, own, total in rows
        ]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a trace that speedscope.app and ui.perfetto.dev open: Chrome's Trace Event Format.

        Raises:
            OSError: the file cannot be written.
        """
        from cloche._profiling.chrome_trace import Traced, trace

        found = self._collected
        traced = Traced(
            node=self.node,
            count=found.count,
            calls=[(call.phases, call.tree) for call in found.calls],
            seconds=found.seconds,
            total=found.total,
            functions=found.functions,
            about={
                "functions_without_place": found.dropped,
                "profiler_ns_per_call": [round(cost * 1e9) for cost in found.cost_s],
                "problem": found.problem,
            },
        )
        with AtomicFile(path) as file:
            file.write(trace(traced).encode())


@contextmanager
def profile(node: Node, *, builtins: bool = True) -> Iterator[Profile]:
    """Profile every call on `node` inside the ``with`` block. Use the profile's `save` and `functions` after the block.

    Counting adds some microseconds to each call of a function (docs/how-to/profiling.md has figures). Deadlines and fuel limits
    stay the same, and include that time. The node runs in the same interpreter as the counter, so it can falsify its own profile,
    but nothing else.

    Args:
        node: a node in a sandbox of this process (not in a worker process), with no call under way.
        builtins: count calls of functions in C as well: numpy's, built-in functions, classes. Without them profiling costs less.

    Raises:
        ClocheError: the node is closed, is being profiled already, or has no sandbox in this process.
        NodeRaisedError: the node has occupied every tool of `sys.monitoring`, so that none is left for the profiler.
    """
    made = Collected()
    calls = node.__cloche__

    def after(phases: CallPhases) -> None:
        answer = None
        if not made.problem:
            try:
                answer = _ask(calls, "take")
            except ClosedError:  # the call has broken the guest
                pass
            except ClocheError as error:
                made.problem = f"after call {phases.call}: {error}"
        try:
            made.add(phases, answer)
        except ValueError as error:
            made.problem = f"after call {phases.call}: {error}"

    with _phases.record(node, max_calls=0, after=after):
        made.started(_ask(calls, "start", builtins))
        try:
            yield Profile(node.name, made)
        finally:
            with suppress(ClosedError):
                _ask(calls, "stop")


def _ask(calls: NodeCalls, *operands: Any) -> Any:
    """Send the profiler's message to the guest, and return the answer. It is neither recorded nor counted as a call.

    Raises:
        NodeRaisedError: the guest refused.
        BrokenInstanceError: the message broke the node, as any call can.
    """
    kind, value = calls.lock.run(calls.sandbox.aside, Op.PROFILE, operands)
    if kind is not Reply.RESULT:
        raise_failure(value, calls.name)
    return value
