"""How errors and values travel to other processes: pickled whole, or without the parts that cannot be pickled there.

An error must arrive whatever its attributes hold. A process pool whose worker cannot pickle a result, or whose parent cannot
unpickle it, loses the error, and some pools wait for it for ever. So each attribute that is no plain value is pickled apart, as
bytes inside of the error's pickle: one that fails on either side is left out, and a note of the error says so.

A pickle inside of a pickle knows nothing of what is in the outer one: what is in both is there twice. So pickles are at most
`_MOST_NESTED` deep inside of each other, and what is deeper is left out as well.

Nothing here is specific to guests: what guests have sent was decoded and cleaned before, and is texts and plain values.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

__all__ = ["copied", "handle", "reduced", "refuses_to_pickle"]

Error = TypeVar("Error", bound=BaseException)


class _Nesting(threading.local):
    """How many pickles of attributes this thread is inside of."""

    depth = 0


_nesting: Final = _Nesting()

_PLAIN: Final = frozenset({str, int, float, bool, bytes, type(None)})
_PROTOCOL: Final = 5  # of the attributes' own pickles; every Python that Cloche runs on reads it
_LINKS: Final = ("__cause__", "__context__")
_MOST_LINKS: Final = 32
_MOST_NESTED: Final = 2
"""How deep errors may be in attributes and foreign causes of errors: each such pickle is apart, and may repeat the others."""
_CLOUDY: Final = ("cloudpickle", "dill", "joblib.externals.cloudpickle")


def reduced(error: BaseException, native: Any, kind: type[BaseException]) -> tuple[Any, ...]:
    """What ``__reduce__`` of an error returns.

    Args:
        error: the error.
        native: what the ``__reduce__`` of its builtin base class returns.
        kind: errors of this class can be pickled in any case: one that caused `error` is pickled with it. Other causes are, if they
            can be.
    """
    args, state = _parts(native)
    plain: dict[str, Any] = {"__suppress_context__": error.__suppress_context__}
    apart: dict[str, bytes] = {}
    lost: dict[str, str] = {}
    for name, value in state.items():
        if type(value) in _PLAIN:
            plain[name] = value
        else:
            _pickle_apart(name, value, apart, lost)
    for name in _LINKS:
        link = getattr(error, name)
        if isinstance(link, kind):
            if not _is_long(link):
                plain[name] = link
        elif link is not None:
            _pickle_apart(name, link, apart, {})  # pickle leaves out every cause: losing one is not worth a note
    if not all(type(value) in _PLAIN for value in args):
        _pickle_apart("args", args, apart, lost)
        args = () if "args" in apart else (BaseException.__str__(error),)
    return _rebuilt, (type(error), args, apart, lost), plain, None, None, _set_state


def _is_long(error: BaseException) -> bool:
    """Whether an error has more causes than pickle can follow: it recurses. A loop that retries makes a chain of any length."""
    seen = {id(error): error}
    todo = [error]
    while todo and len(seen) <= _MOST_LINKS:
        one = todo.pop()
        for link in (one.__cause__, one.__context__):
            if link is not None and id(link) not in seen:
                seen[id(link)] = link
                todo.append(link)
    return len(seen) > _MOST_LINKS


def copied(error: Error, native: Any, of: Callable[[Any], Any] = lambda value: value, memo: Any = None) -> Error:
    """A copy of an error with its attributes and causes.

    Args:
        error: the error.
        native: what the ``__reduce__`` of its builtin base class returns.
        of: makes the copy of an attribute; an attribute of which it cannot make one is shared with the original.
        memo: where `copy.deepcopy` notes the copies that it has made.
    """
    args, state = _parts(native)
    made = _made(type(error), args)
    if memo is not None:
        memo[id(error)] = made
    links = {name: getattr(error, name) for name in _LINKS}
    values = {name: _tried(of, value) for name, value in {**state, **links}.items()}
    if type(notes := values.get("__notes__")) is list:
        values["__notes__"] = list(notes)
    _set_state(made, {**values, "__suppress_context__": error.__suppress_context__})
    return made  # type: ignore[return-value]  # of the class of `error`


def _tried(of: Callable[[Any], Any], value: Any) -> Any:
    try:
        return of(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # a view of memory, a lock, a class of the caller's that refuses
        return value


def _parts(native: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    _, args, *state = native
    return args, (state[0] if state else None) or {}


def _pickle_apart(name: str, value: Any, apart: dict[str, bytes], lost: dict[str, str]) -> None:
    import pickle  # a program that pickles errors has it; for others it is slow to import

    if _nesting.depth == _MOST_NESTED:
        lost[name] = f"it is in an error that is {_MOST_NESTED} errors deep inside of another one"
        return
    _nesting.depth += 1
    try:
        apart[name] = pickle.dumps(value, _PROTOCOL)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the value is of any class of the caller's, and may raise SystemExit as well
        lost[name] = _reason(error)
    finally:
        _nesting.depth -= 1


def _reason(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:500]
    except KeyboardInterrupt:
        raise
    except BaseException:  # of a class of the caller's
        return type(error).__name__


def _rebuilt(
    kind: type[BaseException], args: tuple[Any, ...], apart: dict[str, bytes], lost: dict[str, str]
) -> BaseException:
    """Make an unpickled error, without its plain attributes, which follow (`_set_state`)."""
    import pickle

    values: dict[str, Any] = {}
    for name, data in apart.items():
        try:
            values[name] = pickle.loads(data)  # from inside of the pickle that is being read: trusted as much as that
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the class is missing here, or its `__setstate__` raised
            if name not in _LINKS:
                lost = {**lost, name: _reason(error)}
    made = _made(kind, values.pop("args", args))
    _set_state(made, values)
    for name, reason in lost.items():
        try:
            made.add_note(f"`{name}` of this error is not in its pickle: {reason}")
        except TypeError:  # the caller has put something else than a list into `__notes__`
            break
    return made


def _made(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """An error without a call of its own ``__init__``, whose parameters are not its `args`."""
    base = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    try:
        made = kind.__new__(kind, *args)
    except TypeError:  # a class of the caller's with a `__new__` of its own
        made = base.__new__(kind, *args)
    try:
        # some builtin classes keep facts beside the attributes: `OSError.errno`
        base.__init__(made, *args)  # type: ignore[misc]  # of a builtin class, whose `args` these are
    except Exception:
        made.args = args
    return made


def _set_state(error: BaseException, state: Mapping[str, Any]) -> None:
    links = {name: state[name] for name in (*_LINKS, "__suppress_context__") if name in state}
    error.__setstate__({name: value for name, value in state.items() if name not in links})
    for name, value in links.items():  # in this order: setting the cause sets `__suppress_context__`
        setattr(error, name, value)


def handle(what: str, instead: str) -> str:
    """The message with which a handle refuses to be pickled or copied.

    Args:
        what: the handle, with its article.
        instead: what to do.
    """
    return f"{what} cannot be pickled or copied, because it belongs to this process: {instead}"


def refuses_to_pickle(function: Any) -> str | None:
    """Why the standard library cannot pickle a function; None if it can, or if a library that pickles more is in use."""
    import pickle

    try:
        pickle.dumps(function, _PROTOCOL)
    except Exception as error:  # of any class that a ``__reduce__`` raises
        return None if any(name in sys.modules for name in _CLOUDY) else _reason(error)
    return None
