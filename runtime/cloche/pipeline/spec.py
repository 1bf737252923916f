"""What a pipeline is made of: `NodeSpec` and `Connection`, and what becomes of an item that fails (`Fail`, `Skip`, `Retry` ...)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from cloche._arguments import check_text, checked, checked_count, checked_grants, checked_limits, checked_params
from cloche.grants import Grants
from cloche.limits import Limits
from cloche.source import Source

if TYPE_CHECKING:
    from cloche._recording import Record
    from cloche.pipeline.placement import Placement

__all__ = [
    "CircuitBreaker",
    "Connection",
    "DeadLetter",
    "Fail",
    "NodeSpec",
    "OnBreak",
    "OnError",
    "Place",
    "PlaceFactory",
    "Restore",
    "Retry",
    "Skip",
    "SourceLike",
    "check_seconds",
]

Place = Literal["wasm", "process", "native", "inline"]
"""Where a node runs. "wasm": in a sandbox. "process": natively, in a process of its own. "native": natively, in a thread of this
process. "inline": natively, in the thread of the node before it. The last three run its code with all rights of this user."""

PlaceFactory: TypeAlias = "Callable[[NodeSpec, str, str | None], Placement]"
"""A place of the caller's own, e.g. another machine: makes the `Placement` of one node, or of one copy of it, for a run.

It gets the node's specification, its name for logs and errors, and the ``session_id`` of the run. It is called before any node is
started, and starts nothing itself. `NodeSpec.limits`, `NodeSpec.grants`, `NodeSpec.on_break` and `NodeSpec.record` are for the
placement to keep."""

OnBreak = Literal["fail", "restart", "restore"]
"""What happens when a node's sandbox or process breaks. "fail": the pipeline fails. "restart": the node goes on in a new one, with
the state that it had after ``initialize``. "restore": with the state that it had before the item that broke it."""

SourceLike: TypeAlias = "Source | str | os.PathLike[str] | type | Callable[..., Any]"

_DAY_S: Final = 86400
_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")


def check_seconds(name: str, value: Any) -> None:
    """Check a number of seconds.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative, or more than a day.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is {value!r}: give a number of seconds")
    if not 0 <= value <= _DAY_S:
        raise ValueError(f"{name} is {value!r}: give seconds from 0 to {_DAY_S}")


@dataclass(frozen=True, slots=True)
class Fail:
    """The pipeline ends with a `PipelineError`, after the outputs of the items before."""


@dataclass(frozen=True, slots=True)
class Skip:
    """The item has no outputs, a warning is logged, and the node goes on with the next one."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """As `Skip`, and the item is handed to the ``dead_letters`` of `Pipeline.run`, with its error."""


@dataclass(frozen=True, slots=True)
class Restore:
    """The node gets back the state that it had before the item; then `then` applies.

    Attributes:
        then: what becomes of the item.
    """

    then: Fail | Skip | DeadLetter = Skip()


@dataclass(frozen=True, slots=True)
class Retry:
    """The node is called with the item again, in the state that the failed call has left; if it fails each time, `then` applies.

    Attributes:
        times: how often it is called again.
        backoff_s: seconds before the first of these calls; before each further one twice as many as before the last.
        most_s: seconds before any of them, at most.
        then: what becomes of an item that has failed each time.
    """

    times: int = 3
    backoff_s: float = 0.1
    most_s: float = 30.0
    then: Fail | Skip | DeadLetter | Restore = Fail()

    def __post_init__(self) -> None:
        checked_count("Retry.times", self.times)
        for name in ("backoff_s", "most_s"):
            check_seconds(f"Retry.{name}", getattr(self, name))

    def wait_s(self, attempt: int) -> float:
        """Seconds to wait before the call again with that number, from 1."""
        return min(self.backoff_s * 2.0 ** min(attempt - 1, 60), self.most_s)


OnError: TypeAlias = Fail | Skip | DeadLetter | Restore | Retry
_NAMED: Final[Mapping[str, OnError]] = MappingProxyType(
    {"fail": Fail(), "skip": Skip(), "dead_letter": DeadLetter(), "restore": Restore(), "retry": Retry()}
)
"""What a manifest and a caller may write instead of an object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreaker:
    """Stops calling a node that fails each time: its items then fail at once, which `NodeSpec.on_error` decides about.

    Attributes:
        failures: so many items in a row fail, and the circuit is open.
        reset_s: after so many seconds the node gets one item as a trial; if that succeeds, the circuit is closed.
    """

    failures: int = 5
    reset_s: float = 30.0

    def __post_init__(self) -> None:
        checked_count("CircuitBreaker.failures", self.failures)
        check_seconds("CircuitBreaker.reset_s", self.reset_s)


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node of a pipeline.

    Attributes:
        source: the node's code: the path of a .py file or of a package folder, a `Source`, the dotted name of a module in a granted
            package, or a class or function, which is taken as it is if the node runs natively, and by its source text otherwise.
        entry: name of the class or function in it; None: the only one.
        params: keyword arguments of ``__init__``.
        id: the node's name in connections, logs and errors; None: the entry's name, with a number if that is taken.
        placement: where it runs, see `Place`; or a place of your own, see `PlaceFactory`.
        limits: its limits in a sandbox; None: the default ones.
        grants: what it may use in a sandbox; None: nothing.
        on_error: what becomes of an item for which the node raises; a name ("fail", "skip", "dead_letter", "restore", "retry")
            stands for the object of that name.
        on_break: what happens when its sandbox or process breaks, see `OnBreak`. The item that broke it then counts as one for
            which the node has raised.
        breaker: stops calling a node that fails each time; None: never.
        workers: copies that work in parallel. Outputs keep the order of their items.
        key: decides which copy gets an item, so that items of the same key keep meeting the same state: name of a key of items that
            are dicts, or a function of the item. None: the copies take turns, and the node should have no state.
        batch: items that may be sent in one crossing. They are sent as they are there: no item waits for others.
        queue: items that may wait for the node. Whoever makes more of them waits.
        inputs: names of its input ports, in the order of the parameters of ``process``. Then connections name a port
            ("mix.left"), and ``process`` is called when each port has a value. Empty: one port, and the outputs of all nodes
            before it, in the order of the connections.
        host: where it runs on a cluster: a name or address of a machine, or what the cluster's engine calls it. None: anywhere.
            Without a cluster it means nothing.
        record: record the node's calls in its sandbox, as for `Runtime.load`: a folder, which gets a file for each call that fails,
            a `cloche.replay.Record`, or True for `Pipeline.recordings` only. False: it is not recorded. None: as the pipeline says.
            A node outside of a sandbox cannot be recorded.
    """

    source: SourceLike
    entry: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)
    id: str | None = field(default=None, kw_only=True)
    placement: Place | PlaceFactory = field(default="wasm", kw_only=True)
    limits: Limits | None = field(default=None, kw_only=True)
    grants: Grants | None = field(default=None, kw_only=True)
    on_error: OnError = field(default=Fail(), kw_only=True)
    on_break: OnBreak = field(default="fail", kw_only=True)
    breaker: CircuitBreaker | None = field(default=None, kw_only=True)
    workers: int = field(default=1, kw_only=True)
    key: str | Callable[[Any], Any] | None = field(default=None, kw_only=True)
    batch: int = field(default=128, kw_only=True)
    queue: int = field(default=128, kw_only=True)
    inputs: Sequence[str] = field(default=(), kw_only=True)
    host: str | None = field(default=None, kw_only=True)
    record: Record | str | os.PathLike[str] | bool | None = field(default=None, kw_only=True)

    @property
    def place(self) -> str:
        """Where it runs, for people: the placement, or the name of one of the caller's own."""
        return (
            self.placement
            if isinstance(self.placement, str)
            else getattr(self.placement, "__qualname__", repr(self.placement))
        )

    def __post_init__(self) -> None:
        check_text("NodeSpec.entry", self.entry, "the name of a class or function")
        check_text("NodeSpec.id", self.id, "a name of letters, digits, _ and -")
        if self.id is not None and not _ID.fullmatch(self.id):
            raise ValueError(f"NodeSpec.id is {self.id!r}: give a name of letters, digits, _ and -")
        if self.placement not in get_args(Place) and not callable(self.placement):
            raise ValueError(
                f"NodeSpec.placement is {self.placement!r}: give one of {', '.join(get_args(Place))}, or a function that makes a "
                "Placement"
            )
        if self.on_break not in get_args(OnBreak):
            raise ValueError(f"NodeSpec.on_break is {self.on_break!r}: give one of {', '.join(get_args(OnBreak))}")
        if isinstance(self.on_error, str):
            if self.on_error not in _NAMED:
                raise ValueError(
                    f"NodeSpec.on_error is {self.on_error!r}: give one of {', '.join(_NAMED)}, or an object"
                )
            object.__setattr__(self, "on_error", _NAMED[self.on_error])
        checked("NodeSpec.on_error", self.on_error, OnError, "Fail(), Skip(), DeadLetter(), Restore() or Retry()")  # type: ignore[arg-type]
        if self.breaker is not None:
            checked("NodeSpec.breaker", self.breaker, CircuitBreaker, "a CircuitBreaker, or None")
        checked_limits(self.limits)
        checked_grants(self.grants)
        for name in ("workers", "batch", "queue"):
            checked_count(f"NodeSpec.{name}", getattr(self, name))
        if self.key is not None and not isinstance(self.key, str) and not callable(self.key):
            raise TypeError(f"NodeSpec.key is {self.key!r}: give a name, a function of the item, or None")
        if self.key is not None and self.workers == 1:
            raise ValueError("NodeSpec.key chooses among copies of the node: give workers=2 or more as well")
        if isinstance(self.inputs, str) or not all(_ID.fullmatch(str(name)) for name in self.inputs):
            raise TypeError(f"NodeSpec.inputs is {self.inputs!r}: give names of letters, digits, _ and -")
        if len(set(self.inputs)) != len(self.inputs):
            raise ValueError(f"NodeSpec.inputs is {self.inputs!r}: two ports have the same name")
        check_text("NodeSpec.host", self.host, "the name of a machine of a cluster")
        if self.record:
            from cloche._recording import record_of  # few programs record

            record_of(self.record)
            if self.placement in ("process", "native", "inline"):
                raise ValueError(
                    f"NodeSpec.record is given, and NodeSpec.placement is {self.placement!r}: only a sandbox can be recorded. "
                    "Give placement='wasm', or leave record out"
                )
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "params", MappingProxyType(dict(checked_params(self.params))))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the specification. A class or function is pickled by its name, as always."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return _specified, ({**plain, "params": dict(self.params)},)


def _specified(values: dict[str, Any]) -> NodeSpec:
    """Unpickle a `NodeSpec`: its fields are checked as those of any other."""
    return NodeSpec(**values)


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection of two nodes: outputs of the one are items of the other.

    Attributes:
        source: id of the node whose outputs are sent; with a port ("vad.speech"), only the values of that key of outputs that are
            dicts are sent.
        target: id of the node that gets them; with a port ("mix.left"), as that argument.
    """

    source: str
    target: str

    def __post_init__(self) -> None:
        for name in ("source", "target"):
            value = getattr(self, name)
            node, dot, port = checked(f"Connection.{name}", value, str, "the id of a node, or id.port").partition(".")
            if not _ID.fullmatch(node) or (dot and not _ID.fullmatch(port)):
                raise ValueError(f"Connection.{name} is {value!r}: give the id of a node, or id.port")
