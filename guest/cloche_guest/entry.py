"""Finds a node's class or function in its module, and instantiates the node. Each error message says what to do instead.

If the host has named no entry, the module's own names decide, in this order, and a step that finds more than one fails:

1. the public class with a process method that the module defines. Abstract classes, protocols, and classes that another of them is
   derived from do not count;
2. what the module calls ``process``, or ``aprocess``: a function, or anything else that can be called;
3. such a class that the module imports from another module of its own package, or names in ``__all__``;
4. the public function that the module defines, and then one that it imports likewise.

``__all__``, if the module has it and it names a candidate of a step, leaves out the step's other candidates.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Iterable, Iterator

_FUNCTIONS: Final = (FunctionType, type(functools.lru_cache(len)))


def find(module: types.ModuleType, entry: str | None) -> Any:
    """Find the class or function that the host has named.

    Args:
        module: the loaded main module.
        entry: name in the module, dotted for a nested class; None: the only candidate.

    Raises:
        LookupError: the name does not exist, or `entry` is None and no candidate is the only one.
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
    if names:
        what = f"more than one node: name the entry, as in load(source, {names[0]!r}) or nodes.py:{names[0]}"
    else:
        what = f"{_why_none(module)}: name the entry"
    raise LookupError(f"{module.__name__} has {what} ({_listed(module, None)})")


def _why_none(module: types.ModuleType) -> str:
    classes = [value for _, value in _public(module, _is_own(module)) if isinstance(value, type)]
    for kind in filter(_has_process, classes):
        missing = sorted(getattr(kind, "__abstractmethods__", ()))
        if missing:
            return f"no node but the abstract class {kind.__name__}, which lacks {', '.join(missing[:5])}"
    names = ", ".join(kind.__name__ for kind in classes[:5])
    return f"no class with process(){f' (not {names})' if names else ''} and no function"


def _has_process(kind: type) -> bool:
    return callable(getattr(kind, "process", None)) or callable(getattr(kind, "aprocess", None))


def _candidates(module: types.ModuleType) -> list[str]:
    """Names of the candidates of the first step (see the module's docstring) that has any."""
    return next(filter(None, (_chosen(module, step) for step in _steps(module))), [])


def _steps(module: types.ModuleType) -> Iterator[dict[str, Any]]:
    own, near = _is_own(module), _is_near(module)
    yield _classes(module, own)
    for name in ("process", "aprocess"):
        found = vars(module).get(name)
        if callable(found) and not isinstance(found, type):
            yield {name: found}
    yield _classes(module, near)
    for belongs in (own, near):
        yield {name: value for name, value in _public(module, belongs) if isinstance(value, _FUNCTIONS)}


def _chosen(module: types.ModuleType, found: dict[str, Any]) -> list[str]:
    """Names of the candidates, without a second name of the same object, and without those that ``__all__`` leaves out."""
    names: dict[int, str] = {}
    for name, value in found.items():
        if id(value) not in names or name == getattr(value, "__name__", None):
            names[id(value)] = name
    chosen, exported = list(names.values()), _exported(module)
    return [name for name in chosen if name in exported] or chosen


def _exported(module: types.ModuleType) -> set[str]:
    names = getattr(module, "__all__", ())
    return {name for name in names if isinstance(name, str)} if isinstance(names, (list, tuple)) else set()


def _public(module: types.ModuleType, belongs: Callable[[str, object], bool]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in vars(module).items() if not name.startswith("_") and belongs(name, value)]


def _is_own(module: types.ModuleType) -> Callable[[str, object], bool]:
    return lambda _, value: getattr(value, "__module__", None) == module.__name__


def _is_near(module: types.ModuleType) -> Callable[[str, object], bool]:
    """Whether a value comes from another module of the module's own top-level package, or is exported by ``__all__``."""
    below, exported = f"{module.__name__.partition('.')[0]}.", _exported(module)
    return lambda name, value: name in exported or f"{getattr(value, '__module__', None)}.".startswith(below)


def _classes(module: types.ModuleType, belongs: Callable[[str, object], bool]) -> dict[str, type]:
    """The classes that can be nodes, without those that another of them is derived from."""
    usable = {
        name: value
        for name, value in _public(module, belongs)
        if isinstance(value, type)
        and _has_process(value)
        and not inspect.isabstract(value)
        and not getattr(value, "_is_protocol", False)
    }
    bases = {id(base) for kind in usable.values() for base in kind.__mro__[1:]}
    return {name: kind for name, kind in usable.items() if id(kind) not in bases}


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
