"""Errors arrive in other processes whole: pools pickle them, and a pool that cannot unpickle one may wait for it for ever."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

import cloche
from cloche import cluster, errors, pipeline
from cloche._wasm import NoRoomError
from cloche.errors import CallInterruptedError, HardInterruptedError
from cloche.pipeline.elsewhere import Unsendable
from cloche.pipeline.manifest import ManifestError

from .samples import FAILURE, RECORD, facts
from .test_values import WAYS

LIMITED: dict[str, Any] = {"limit": "deadline_s", "value": 2.0, "reached": 2.5, "node": "meter", "last_logs": [RECORD]}
BROKEN: dict[str, Any] = {"node": "meter", "last_logs": [RECORD]}
MADE: dict[type[BaseException], Callable[[], BaseException]] = {
    errors.ClocheError: lambda: errors.ClocheError("no such thing"),
    errors.ImageError: lambda: errors.ImageError("no image"),
    errors.EncodeError: lambda: errors.EncodeError(
        "no such type", "data.a[0]", limit="request_bytes", value=10, reached=11
    ),
    cluster.HostLost: lambda: cluster.HostLost("it has died"),
    errors.ClosedError: lambda: errors.ClosedError("closed"),
    errors.ReloadError: lambda: errors.ReloadError("it gives something else"),
    errors.InternalError: lambda: errors.InternalError("a bug"),
    errors.NodeError: lambda: errors.NodeError(FAILURE, "meter", "Do this."),
    errors.NodeLoadError: lambda: errors.NodeLoadError(FAILURE, "meter", "Do this."),
    errors.NodeRaisedError: lambda: errors.NodeRaisedError(FAILURE, "meter"),
    errors.StreamLimitError: lambda: errors.StreamLimitError(
        "so far", limit="stream_items", value=3, reached=4, node="meter"
    ),
    errors.PoolTimeoutError: lambda: errors.PoolTimeoutError(
        "waited", limit="acquire_timeout_s", value=1.0, reached=1.5
    ),
    errors.BrokenInstanceError: lambda: errors.BrokenInstanceError("given up", **BROKEN),
    errors.LimitError: lambda: errors.LimitError("too long", **LIMITED),
    errors.DeadlineError: lambda: errors.DeadlineError("too long", guest_traceback="Traceback ...", **LIMITED),
    errors.HardDeadlineError: lambda: errors.HardDeadlineError("too long", guest_traceback="Traceback ...", **LIMITED),
    errors.BudgetError: lambda: errors.BudgetError("used up", budget="ada", retry_after_s=1.5, **LIMITED),
    errors.HardBudgetError: lambda: errors.HardBudgetError("used up", budget="ada", guest_traceback="T", **LIMITED),
    errors.FuelError: lambda: errors.FuelError("too much", **LIMITED),
    errors.OutputError: lambda: errors.OutputError("too much", **LIMITED),
    errors.GuestTrapError: lambda: errors.GuestTrapError(
        "crashed", trap_code="UNREACHABLE", guest_traceback="T", **BROKEN
    ),
    errors.GuestExitError: lambda: errors.GuestExitError("left", code=3, **BROKEN),
    errors.ProtocolError: lambda: errors.ProtocolError("lied", **BROKEN),
    errors.ServiceError: lambda: errors.ServiceError("no such customer", 17),
    CallInterruptedError: lambda: CallInterruptedError("interrupted", **BROKEN),
    HardInterruptedError: lambda: HardInterruptedError("interrupted", **BROKEN),
    pipeline.BrokenError: lambda: pipeline.BrokenError("it died", recovered=True),
    pipeline.CircuitOpenError: lambda: pipeline.CircuitOpenError("not called"),
    pipeline.PipelineError: lambda: pipeline.PipelineError("failed", node="a", item=3, digest="ab"),
    pipeline.PlacementError: lambda: pipeline.PlacementError("cannot", node="a"),
    ManifestError: lambda: ManifestError("malformed", [(3, "nodes", "missing")]),
    NoRoomError: lambda: NoRoomError("no room", "data", limit="memory_bytes", value=1, reached=2),
}


def every(kind: type[BaseException]) -> set[type[BaseException]]:
    """The class and all that derive from it, in Cloche."""
    below = {one for child in kind.__subclasses__() for one in every(child)}
    return {one for one in {kind, *below} if one.__module__.partition(".")[0] == "cloche"}


def sent(error: Any, **facts: Any) -> Any:
    """The error after a pickle."""
    for name, value in facts.items():
        setattr(error, name, value)
    return pickle.loads(pickle.dumps(error))


def test_every_error_of_cloche_is_in_the_table() -> None:
    """But for those that a command, the debugger or a run catches itself."""
    import cloche.cli._console as console
    import cloche.debug._events as events
    import cloche.debug._framing as framing

    caught = {console.InputError, Unsendable, events.GuestError, framing.FramingError}
    assert every(errors.ClocheError) - caught == set(MADE)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", MADE, ids=lambda kind: kind.__name__)
def test_an_error_arrives_with_all_its_attributes(kind: type[BaseException], way: str) -> None:
    """Those that were given, and those that are set later."""
    error = MADE[kind]()
    error.item = 4
    error.add_note("in the morning")
    if isinstance(error, errors.BrokenInstanceError):
        error.data = ({"a": [1, 2]},)
        error.recovered, error.lost_calls, error.resume_at = "restore", 2, cloche.StreamPosition(1, 2, True)
    if isinstance(error, errors.DeadlineError):
        error.failure = FAILURE
    made = WAYS[way](error)
    assert type(made) is kind
    assert (facts(made), made.args, str(made), repr(made)) == (facts(error), error.args, str(error), repr(error))


@pytest.mark.parametrize("way", WAYS)
def test_causes_arrive_too(way: str) -> None:
    """Also a cycle of contexts, which Python itself refuses to print twice."""
    deep, error = errors.ClosedError("closed"), errors.ClocheError("outer")
    deep.__context__ = error
    error.__cause__ = deep
    error.__context__ = ValueError("seen before")
    error.__suppress_context__ = False
    made = WAYS[way](error)
    assert (type(made.__cause__), str(made.__cause__)) == (errors.ClosedError, "closed")
    assert made.__cause__.__context__ is made or way == "copy"
    assert (type(made.__context__), made.__context__.args) == (ValueError, ("seen before",))
    assert made.__suppress_context__ is False


def test_a_cause_that_cannot_be_pickled_is_left_out() -> None:
    """As pickle leaves out every cause."""
    error = errors.ClocheError("outer")
    error.__cause__ = ValueError(threading.Lock())
    made = sent(error)
    assert (made.__cause__, str(made), hasattr(made, "__notes__")) == (None, "outer", False)
    assert copy.deepcopy(error).__cause__ is error.__cause__


@pytest.mark.parametrize("length", [3, 5000])
def test_a_chain_of_causes_of_any_length(length: int) -> None:
    """A loop that retries makes one. Pickle recurses."""
    first: BaseException | None = None
    for number in range(length):
        error = errors.ClocheError(str(number))
        error.__context__, first = first, error
    made = sent(first)
    assert str(made) == str(length - 1)
    assert (made.__context__ is None) == (length > 100)


@pytest.mark.parametrize("of", [lambda error: [error], lambda error: ExceptionGroup("tries", [error])])
def test_errors_inside_of_errors_do_not_multiply(of: Callable[[BaseException], Any]) -> None:
    """Each is in an attribute and a cause of the next one; a pickle inside of a pickle would have it again each time."""
    error: BaseException = errors.ClocheError("first")
    for _ in range(25):
        outer, held = errors.ClocheError("next"), of(error)
        outer.tries = held  # type: ignore[attr-defined]  # an attribute of the caller's
        outer.__cause__ = held if isinstance(held, BaseException) else error
        error = outer
    data = pickle.dumps(error)
    assert len(data) < 1 << 20
    made = pickle.loads(data)
    assert str(made) == "next"
    assert str(getattr(made.tries, "exceptions", made.tries)[0]) == "next"


def test_an_attribute_that_cannot_be_pickled_is_left_out_and_named() -> None:
    """`data` has the caller's own values: a view of memory, a class that exists in one process only."""
    made = sent(MADE[errors.GuestExitError](), data=(memoryview(b"abc"),))
    assert (made.data, made.code, made.node, made.last_logs) == ((), 3, "meter", (RECORD,))
    assert len(made.__notes__) == 1
    assert made.__notes__[0].startswith("`data` of this error is not in its pickle: TypeError: cannot pickle")


def test_a_copy_keeps_what_cannot_be_copied() -> None:
    """Both are in the same process."""
    error = MADE[errors.GuestExitError]()
    error.data = view, items = memoryview(b"abc"), [1]
    made = copy.deepcopy(error)
    assert made.data is error.data or made.data[0] is view
    shallow = copy.copy(error)
    assert shallow.data[1] is items
    shallow.add_note("of the copy")
    assert not hasattr(error, "__notes__")


class Vanishes:
    """Can be pickled, and not unpickled: as a class of a module that the other process does not have."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _vanish, ()


def _vanish() -> None:
    raise ModuleNotFoundError("No module named 'not_here'")


def test_an_attribute_that_cannot_be_unpickled_is_left_out_and_named() -> None:
    """Raising in the parent would kill the thread of a pool that receives results, and every later result with it."""
    made = sent(MADE[errors.GuestTrapError](), data=(Vanishes(),))
    assert (made.data, made.trap_code) == ((), "UNREACHABLE")
    assert made.__notes__[-1:] == [
        "`data` of this error is not in its pickle: ModuleNotFoundError: No module named 'not_here'"
    ]


def test_attributes_of_your_own_arrive() -> None:
    assert sent(errors.ClocheError("x"), request_id="r-17", tags={"a"}).tags == {"a"}


def test_an_error_that_holds_itself() -> None:
    """Rare, and no reason to recurse for ever."""
    error = MADE[errors.GuestExitError]()
    assert sent(error, data=(error,)).code == 3


def exits(*_: object) -> Any:
    """As `sys.exit` in a class of the caller's."""
    raise SystemExit("at once")


class ExitsOnLoad:
    """Cannot be unpickled."""

    def __init__(self) -> None:
        self.state = 5

    __setstate__ = exits


class ExitsOnDump:
    """Cannot be pickled or copied."""

    __reduce__ = __deepcopy__ = exits


class NamelessError(Exception):
    """Raises when its text is asked for."""

    __str__ = exits


class RaisesOnLoad(ExitsOnLoad):
    def __setstate__(self, state: object) -> None:
        raise NamelessError


@pytest.mark.parametrize("kind", [ExitsOnLoad, ExitsOnDump, RaisesOnLoad])
def test_an_attribute_that_would_end_the_process_is_left_out(kind: type) -> None:
    """A process pool whose reader gets a SystemExit waits for ever."""
    error = cloche.EncodeError("no", "data")
    error.data = kind()  # type: ignore[attr-defined]
    error.__cause__ = ValueError(kind())
    for made in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert (type(made), str(made), made.path) == (cloche.EncodeError, str(error), "data")
    made = pickle.loads(pickle.dumps(error))
    assert not hasattr(made, "data")
    assert made.__notes__[0].startswith("`data` of this error is not in its pickle: ")


class GoneError(errors.ServiceError, LookupError):
    """As docs/how-to/services.md recommends, with parameters of its own."""

    def __init__(self, table: str, key: int) -> None:
        super().__init__(f"{table} has no {key}")
        self.key = key


class MissingError(errors.ServiceError, FileNotFoundError):
    """An OSError keeps its facts outside of its attributes."""


class StrictError(errors.ServiceError):
    """Its `__new__` wants something else than its `args`."""

    def __new__(cls, *, key: int) -> StrictError:
        made = super().__new__(cls)
        made.key = key
        return made

    def __init__(self, *, key: int) -> None:
        super().__init__(f"no {key}")


class HeldError(errors.ServiceError):
    """Its argument cannot be pickled."""


def test_errors_of_your_own_arrive() -> None:
    made = sent(GoneError("customers", 3))
    assert (type(made), str(made), made.key) == (GoneError, "customers has no 3", 3)
    missing = sent(MissingError(2, "No such file", "a.txt"))
    assert (missing.errno, missing.filename, missing.args) == (2, "a.txt", (2, "No such file"))
    assert (sent(StrictError(key=3)).args, sent(StrictError(key=3)).key) == (("no 3",), 3)
    held = sent(HeldError("x", threading.Lock()))
    assert type(held) is HeldError
    assert held.args[0].startswith("('x', <unlocked _thread.lock")


@pytest.mark.parametrize("way", WAYS)
def test_groups_arrive(way: str) -> None:
    """What `Runtime.close` and `Pool.close` raise."""
    group = ExceptionGroup("closing", [MADE[kind]() for kind in (errors.NodeRaisedError, errors.GuestExitError)])  # type: ignore[misc]
    made = WAYS[way](group)
    assert [type(one) for one in made.exceptions] == [errors.NodeRaisedError, errors.GuestExitError]
    assert made.exceptions[1].code == 3


def test_notes_of_any_kind_do_not_stop_an_error() -> None:
    made = sent(errors.ClocheError("x"), __notes__="not a list", lock=threading.Lock())
    assert str(made) == "x"


def test_an_unpickled_error_holds_texts_of_the_guest_only(runtime: cloche.Runtime) -> None:
    """A guest chooses the texts of its failure. None of them names a class or function that is looked up while unpickling."""
    source = "class os:\n  class system(Exception):\n    __module__ = 'os'\nos.system.__qualname__ = 'system'\ndef f(x): raise os.system('true')\n"
    with runtime.load(cloche.Source(source), "f") as node, pytest.raises(cloche.NodeRaisedError) as caught:
        node.process(0)
    assert caught.value.exc_type == "os.system"
    named = {
        arg for op, arg, _ in __import__("pickletools").genops(pickle.dumps(caught.value, 0)) if op.name == "GLOBAL"
    }
    assert all(name.startswith(("cloche.", "_codecs encode")) for name in named), named
