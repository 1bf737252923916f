"""Finds a node's class or function in its module, and instantiates the node. Each error message says what to do instead."""

from __future__ import annotations

import difflib
import functools
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Iterable


def find(module: types.ModuleType, entry: str | None) -> Any:
    """Find the class or function that the host has named.

    Args:
        module: the loaded main module.
        entry: name in the module, dotted for a nested class; None: the only candidate.

    Raises:
        LookupError: the name does not exist, or `entry` is None and there is not exactly one candidate.
        TypeError: the name exists, but is not a class with a process method or a function.
    """
    if entry is None:
        return _only(module)
    found: Any = module
    for part in entry.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise LookupError(f"{module.__name__} has no {entry!r}: {_listed(module, entry)}") from None
    if isinstance(found, type):
        if not _has_process(found):
            raise TypeError(
                f"class {entry!r} has neither process() nor aprocess(): give it a method process(self, data) "
                f"({_listed(module, None)})"
            )
    elif not callable(found):
        raise TypeError(f"{entry!r} is {type(found).__name__}, not a class or a function ({_listed(module, None)})")
    return found


def build(target: Any, params: dict[str, Any], session_id: str | None) -> Any:
    """Make the node: an instance of the class, or the function with `params` bound to it.

    Args:
        target: the class or function.
        params: keyword arguments.
        session_id: passed on to a target with a parameter of that name, and set on an instance where the attribute is None.

    Raises:
        TypeError: the target does not take the parameters; notes name the unknown ones.
        BaseException: ``__init__`` raised this.
    """
    if session_id is not None and "session_id" not in params and "session_id" in _parameter_names(target):
        params = {**params, "session_id": session_id}
    if not isinstance(target, type):
        if not params:
            return target
        _check(target, params)
        return functools.partial(target, **params)
    try:
        node = target(**params)
    except TypeError as exc:
        _explain(exc, target, params)
        raise
    if session_id is not None and getattr(node, "session_id", session_id) is None:
        node.session_id = session_id
    return node


def _only(module: types.ModuleType) -> Any:
    names = _candidates(module)
    if len(names) == 1:
        return getattr(module, names[0])
    what = "more than one node" if names else "no class with process() and no function"
    raise LookupError(f"{module.__name__} has {what}: name the entry ({_listed(module, None)})")


def _has_process(kind: type) -> bool:
    return callable(getattr(kind, "process", None)) or callable(getattr(kind, "aprocess", None))


def _candidates(module: types.ModuleType) -> list[str]:
    """Names of the public classes with a process method that the module defines; if there are none, of its public functions."""
    own = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }
    classes = [
        name
        for name, value in own.items()
        if isinstance(value, type) and not inspect.isabstract(value) and _has_process(value)
    ]
    return classes or [name for name, value in own.items() if inspect.isfunction(value)]


def _listed(module: types.ModuleType, entry: str | None) -> str:
    names = _candidates(module)
    close = difflib.get_close_matches(entry, names, n=1) if entry else []
    listed = f"it defines {', '.join(names[:20])}" if names else "it defines no node"
    return f"did you mean {close[0]!r}? {listed}" if close else listed


def _signature(target: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(target)
    except Exception:  # __signature__ can be anything
        return None


def _parameter_names(target: Callable[..., Any]) -> Iterable[str]:
    signature = _signature(target)
    return signature.parameters if signature else ()


def _explain(exc: TypeError, target: Callable[..., Any], params: dict[str, Any]) -> None:
    """Add notes if the parameters do not match the signature; a TypeError raised inside ``__init__`` gets none."""
    signature = _signature(target)
    if signature is None:
        return
    try:
        signature.bind(**params)
    except TypeError:
        name = getattr(target, "__name__", "the entry")
        for unknown in [key for key in params if key not in signature.parameters][:5]:
            close = difflib.get_close_matches(unknown, signature.parameters, n=1)
            exc.add_note(f"{unknown!r} is not a parameter" + (f": did you mean {close[0]!r}?" if close else ""))
        exc.add_note(f"parameters: {name}{str(signature)[:500]}")


def _check(function: Callable[..., Any], params: dict[str, Any]) -> None:
    signature = _signature(function)
    if signature is None:
        return
    try:
        signature.bind_partial(**params)
    except TypeError as exc:
        wrong = TypeError(f"{getattr(function, '__name__', 'the function')}() does not take these params: {exc}")
        _explain(wrong, function, params)
        raise wrong from None
