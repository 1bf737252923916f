"""A node that ``cloche check`` loads into the sandbox: it imports a stranger's code there, and lists the nodes that it defines."""

import collections.abc
import dataclasses
import enum
import importlib
import inspect
import pkgutil
import sys
import types
import typing
from typing import Any

_MOST_NODES = 200
_DEEP = 6
_WIDE = 20
_PLAIN = {
    type(None): "none", bool: "bool", int: "int", float: "float", complex: "complex", str: "str", bytes: "bytes",
    bytearray: "bytes",
}  # fmt: skip
_BY_NAME = {
    "datetime.datetime": "datetime", "datetime.date": "date", "datetime.time": "time", "datetime.timedelta": "timedelta",
    "decimal.Decimal": "decimal", "fractions.Fraction": "fraction", "uuid.UUID": "uuid", "numbers.Number": "float",
    "numbers.Real": "float", "numbers.Integral": "int",
}  # fmt: skip
_LISTS = (
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Iterable,
    collections.abc.Collection,
)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_SETS = (set, frozenset, collections.abc.Set, collections.abc.MutableSet)
_STREAMS = (collections.abc.AsyncIterator, collections.abc.AsyncIterable, collections.abc.AsyncGenerator)


def describe(main: str, text: str | None, filename: str, entries: list[str]) -> list[dict[str, Any]]:
    """List the nodes of a module, or of a package and all modules below it.

    Args:
        main: the module's name.
        text: its source; None: it is imported, from a granted package.
        filename: the name that tracebacks show.
        entries: names in the main module that are nodes because somebody says so; []: the code decides.
    """
    if text is not None:
        module = types.ModuleType(main)
        sys.modules[main] = module
        exec(compile(text, filename, "exec"), module.__dict__)
        modules = [module]
    else:
        module = importlib.import_module(main)
        modules = [module] if entries else [module, *_below(module)]
    if entries:
        return [
            {"module": main, "entry": name, **_described(getattr(module, name), module)}
            for name in entries
            if callable(getattr(module, name, None))
        ]
    found: dict[int, dict[str, Any]] = {}
    targets: list[Any] = []
    for one in modules:
        for name, target in _nodes(one, near=one is module):
            if id(target) not in found and len(found) < _MOST_NODES:
                targets.append(target)
                found[id(target)] = {"module": one.__name__, "entry": name, **_described(target, one)}
    bases = {id(base) for kind in targets if isinstance(kind, type) for base in kind.__mro__[1:]}
    return [description for key, description in found.items() if key not in bases]


def _below(module: types.ModuleType) -> list[types.ModuleType]:
    modules = []
    for info in pkgutil.walk_packages(getattr(module, "__path__", []), f"{module.__name__}.", onerror=lambda _: None):
        if not info.name.endswith("__main__"):
            try:
                modules.append(importlib.import_module(info.name))
            except Exception:  # the check says it of each module
                continue
    return modules


def _nodes(module: types.ModuleType, *, near: bool) -> list[tuple[str, Any]]:
    """The classes with a process method; and without any, the function ``process``, or else all functions."""
    exported = getattr(module, "__all__", ())
    top = module.__name__.partition(".")[0]

    def belongs(name: str, value: Any) -> bool:
        home = str(getattr(value, "__module__", ""))
        inside = home == top or home.startswith(f"{top}.")
        return home == module.__name__ or (
            near and (inside or (isinstance(exported, (list, tuple)) and name in exported))
        )

    public = [
        (name, value) for name, value in vars(module).items() if not name.startswith("_") and belongs(name, value)
    ]
    classes = [
        (name, value)
        for name, value in public
        if isinstance(value, type)
        and (callable(getattr(value, "process", None)) or callable(getattr(value, "aprocess", None)))
        and not inspect.isabstract(value)
        and not getattr(value, "_is_protocol", False)
    ]
    bases = {base for _, kind in classes for base in kind.__mro__[1:]}
    if classes:
        return [(name, kind) for name, kind in classes if kind not in bases]
    functions = [(name, value) for name, value in public if isinstance(value, types.FunctionType)]
    return [pair for pair in functions if pair[0] in ("process", "aprocess")] or functions


def _described(target: Any, module: types.ModuleType) -> dict[str, Any]:
    process = target
    skip = 0
    if isinstance(target, type):
        found = getattr(target, "aprocess", None)
        process = found if callable(found) else getattr(target, "process", None)
        name = "aprocess" if process is found else "process"
        skip = 0 if isinstance(inspect.getattr_static(target, name, None), staticmethod) else 1
        if inspect.ismethod(process):
            skip = 0
    needed = [kind for kind, required in _parameters(process, skip)[0] if required]
    first = needed or [kind for kind, _ in _parameters(process, skip)[0][:1]]
    made = _parameters(inspect.getattr_static(target, "__init__"), 1) if isinstance(target, type) else ([], {})
    values = list(vars(module).values())
    numeric = any(
        getattr(value, "__name__", None) == "numpy" or str(getattr(value, "__module__", "")).startswith("numpy")
        for value in values
        if isinstance(value, types.ModuleType) or callable(value)
    )
    return {"items": first, "spread": len(needed) > 1, "needs": made[1], "numpy": numeric}


def _parameters(function: Any, skip: int) -> tuple[list[tuple[Any, bool]], dict[str, Any]]:
    """Positional parameters: (type, whether it is required); and the required ones that can be given by name."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return [({"kind": "any"}, True)], {}
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # a name for type checkers alone
        hints = {}
    positional, named = [], {}
    for parameter in list(signature.parameters.values())[skip:]:
        kind = _type(hints.get(parameter.name, parameter.annotation), _DEEP)
        required = parameter.default is parameter.empty
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            positional.append((kind, required))
        if required and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            named[parameter.name] = kind
        if parameter.kind is parameter.VAR_POSITIONAL and not positional:
            positional.append((kind, False))
    return positional, named


def _type(hint: Any, depth: int) -> dict[str, Any]:
    """A type as plain values."""
    if depth == 0 or hint is inspect.Parameter.empty or hint is Any:
        return {"kind": "any"}
    if hint is None or (isinstance(hint, type) and hint in _PLAIN):
        return {"kind": _PLAIN[type(None) if hint is None else hint]}
    origin, of = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _type(of[0], depth)
    if origin in (typing.Union, types.UnionType):
        return {"kind": "union", "of": [_type(one, depth - 1) for one in of[:_WIDE]]}
    if origin is typing.Literal:
        return {"kind": "literal", "of": [one for one in of[:_WIDE] if type(one) in _PLAIN]}
    base = origin or hint
    if base in _STREAMS:
        return _type(of[0] if of else Any, depth)
    if base in _LISTS:
        return {"kind": "list", "of": [_type(of[0] if of else Any, depth - 1)]}
    if base in _SETS:
        name = "frozenset" if base is frozenset else "set"
        return {"kind": name, "of": [_type(of[0] if of else Any, depth - 1)]}
    if base in _MAPPINGS:
        pair = of if len(of) == 2 else (str, Any)
        return {"kind": "dict", "of": [_type(one, depth - 1) for one in pair]}
    if base is tuple:
        if len(of) == 2 and of[1] is ...:
            return {"kind": "tuples", "of": [_type(of[0], depth - 1)]}
        return {"kind": "tuple", "of": [_type(one, depth - 1) for one in of[:_WIDE]]} if of else {"kind": "any"}
    return _class(base, of, depth)


def _class(base: Any, of: tuple[Any, ...], depth: int) -> dict[str, Any]:
    home = f"{getattr(base, '__module__', '')}.{getattr(base, '__qualname__', '')}"
    if home in _BY_NAME:
        return {"kind": _BY_NAME[home]}
    if home.startswith("numpy."):
        return _array(base, of)
    if typing.is_typeddict(base):
        fields = list(typing.get_type_hints(base).items())[:_WIDE]
        return {
            "kind": "fixed",
            "names": [name for name, _ in fields],
            "of": [_type(one, depth - 1) for _, one in fields],
        }
    if isinstance(base, type) and issubclass(base, enum.Enum):
        values = [member.value for member in list(base)[:_WIDE]]
        return {"kind": "literal", "of": [value for value in values if type(value) in _PLAIN]}
    if isinstance(base, typing.TypeVar):
        return _type(base.__bound__ or Any, depth - 1)
    if hasattr(base, "__supertype__"):  # typing.NewType
        return _type(base.__supertype__, depth - 1)
    if dataclasses.is_dataclass(base):
        return {"kind": "unknown", "name": home[:200]}
    return {"kind": "unknown", "name": home[:200]} if isinstance(base, type) else {"kind": "any"}


def _array(base: Any, of: tuple[Any, ...]) -> dict[str, Any]:
    import numpy as np

    if isinstance(base, type) and issubclass(base, np.generic):
        try:
            return {"kind": "scalar", "dtype": np.dtype(base).name}
        except TypeError:
            return {"kind": "scalar", "dtype": "float64"}
    for one in of[1:]:
        for kind in typing.get_args(one):
            if isinstance(kind, type) and issubclass(kind, np.generic) and not inspect.isabstract(kind):
                try:
                    return {"kind": "array", "dtype": np.dtype(kind).name}
                except TypeError:  # numpy.floating and the like
                    return {"kind": "array", "dtype": ""}
    return {"kind": "array", "dtype": ""}
