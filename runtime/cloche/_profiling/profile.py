"""A node's profile: which of its functions, and which phases of the host, the time of each call went to.

The guest counts in a tree of calls (`cloche_guest.profile`), the host takes the tree after every call and knows the phases
around it (`phases`). What the guest says is checked and cut to the time that the host saw pass; beyond that it is only its word.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cloche._atomic_file import AtomicFile
from cloche._profiling import phases as _phases
from cloche._profiling.call_tree import Function, Tree, merge, parse
from cloche._sandbox import raise_failure
from cloche.errors import ClocheError
from cloche.texts import name
from cloche_wire import Op, Reply

if TYPE_CHECKING:
    from cloche._profiling.phases import CallPhases
    from cloche._runtime import Node, NodeCalls

__all__ = ["FunctionTime", "Profile", "ProfiledCall", "profile"]

_MAX_CALLS: Final = 2000
_MAX_FUNCTIONS: Final = 1024
_MAX_TREE_NODES: Final = 50_000
"""Of all calls that are kept one by one; later ones keep their phases, and count in the sums."""


@dataclass(frozen=True, slots=True)
class ProfiledCall:
    """One call: the host's phases, and the functions that ran in the guest, None if the guest could not tell."""

    phases: CallPhases
    tree: Tree | None


@dataclass(frozen=True, slots=True)
class FunctionTime:
    """What one function of the node took, over all calls.

    Attributes:
        name: qualified name, as the node gives it.
        file: its file, or the module of a built-in function; "" if unknown.
        line: where it begins; 0: made in C.
        calls: how often it ran; each resumption of a generator or coroutine counts.
        self_s: seconds in it and in nothing that it called.
        total_s: seconds in it; a recursive call counts once.
    """

    name: str
    file: str
    line: int
    calls: int
    self_s: float
    total_s: float


class Collected:
    """What is known of the calls so far: the host's phases, and what the guest says, checked and summed.

    Attributes:
        calls: those kept one by one.
        count: all calls.
        seconds: sums over all calls: "total", and by phase.
        dropped: calls of functions that found no place in the guest's tree.
        cost_s: what profiling adds to each call of a function: what counts for that function, and for its caller.
        problem: why the guest's part ends early, or "".
        functions: what the numbers in the trees stand for.
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
        """The guest has begun to count, and says what that costs."""
        match answer:
            case [int(inner), int(outer)] if 0 <= inner < 1_000_000 and 0 <= outer < 1_000_000:
                self.cost_s = inner / 1e9, outer / 1e9

    def add(self, phases: CallPhases, answer: Any) -> None:
        """Add a call.

        Args:
            phases: the host's.
            answer: what the guest says of it, untrusted; None: it says nothing.

        Raises:
            ValueError: the answer is malformed. The host's phases are added all the same.
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
        """Add functions, each on three lines."""
        if text.count("\n") >= 3 * _MAX_FUNCTIONS:
            raise ValueError("a profile names 1024 functions at most")
        fields = text.split("\n") if text else []
        if len(fields) % 3 or len(self.functions) + len(fields) // 3 > _MAX_FUNCTIONS:
            raise ValueError("a profile names functions on three lines each, 1024 at most")
        for function, file, line in zip(fields[::3], fields[1::3], fields[2::3], strict=True):
            number = int(line) if line.isascii() and line.isdigit() and len(line) < 10 else 0
            self.functions.append(Function(name(function), name(file), number))


class Profile:
    """What `profile` found out; grows while the block runs."""

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
        """Calls of functions that found no place in the guest's tree; their time counts for their callers."""
        return self._collected.dropped

    @property
    def cost_s(self) -> tuple[float, float]:
        """What profiling itself adds to each call of a function: what counts for that function, and for its caller.

        `functions` has taken it off, the timeline has not.
        """
        return self._collected.cost_s

    @property
    def problem(self) -> str:
        """Why the guest's part ends early, or ""."""
        return self._collected.problem

    def functions(self) -> list[FunctionTime]:
        """What each function took, the one with the most time of its own first."""
        found, (inner, outer) = self._collected, self.cost_s
        rows = found.total.by_function(found.functions, round(inner * 1e9), round(outer * 1e9))
        return [
            FunctionTime(function.name, function.file, function.line, calls, own / 1e9, total / 1e9)
            for function, calls, own, total in rows
        ]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a trace that speedscope.app and ui.perfetto.dev open: Chrome's Trace Event Format.

        Raises:
            OSError: it cannot be written.
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
    """Profile every call on `node` in the block; use it afterwards for `Profile.save` and `Profile.functions`.

    Each call of a function costs some microseconds more while it is counted: see docs/how-to/profiling.md. Deadlines and fuel
    are what they were. The node runs in the same interpreter as the counter and can falsify what it says, not more.

    Args:
        node: it lives in a sandbox of this process, and no call on it is under way.
        builtins: count calls into C as well: numpy's, built-in functions, classes. Without, it costs less.

    Raises:
        ClocheError: the node is closed, is being profiled already, or has no sandbox in this process.
        NodeRaisedError: the node has taken all that the profiler needs (every tool of `sys.monitoring`).
    """
    made = Collected()
    calls = node.__cloche__

    def after(phases: CallPhases) -> None:
        answer = None
        if not made.problem and not calls.sandbox.closed:
            try:
                answer = _ask(calls, "take")
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
            if not calls.sandbox.closed:
                _ask(calls, "stop")


def _ask(calls: NodeCalls, *operands: Any) -> Any:
    """One message beside the node's own calls: not recorded, not counted.

    Raises:
        NodeRaisedError: the guest refused.
        BrokenInstanceError: as any call.
    """
    kind, value = calls.lock.run(calls.sandbox.aside, Op.PROFILE, operands)
    if kind is not Reply.RESULT:
        raise_failure(value, calls.name)
    return value
