"""Checks untrusted arguments against a host function: its signature, and its annotations where they name plain types."""

from __future__ import annotations

import inspect
import numbers
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

from cloche_wire.values import type_name

__all__ = ["Binder"]

Check = Callable[[Any], bool]


class Binder:
    """Checks arguments of one function.

    An annotation is checked if it is made of ``None``, ``bool``, ``int``, ``float``, ``str``, ``bytes``, the builtin containers,
    ``np.ndarray``, unions and literals; an int is accepted where a float is asked for. Other annotations accept every value.

    Args:
        function: any callable.

    Attributes:
        is_async: whether it is ``async def``.
    """

    __slots__ = ("_keywords", "_known", "_positional", "_required", "_shown", "_signature", "is_async")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004  # an object whose __call__ is async
        )
        self._signature = _signature(function)
        parameters = list(self._signature.parameters.values()) if self._signature else []
        self._known = {p.name: check for p in parameters if (check := _check(p.annotation))}
        self._shown = {p.name: inspect.formatannotation(p.annotation) for p in parameters}
        simple = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self._positional = tuple((p.name, self._known.get(p.name)) for p in simple)
        self._required = sum(p.default is p.empty for p in simple)
        self._keywords = any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters)

    def check(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        """Check the arguments of one call.

        Raises:
            TypeError: an argument does not fit; the message names it and the type that is wanted.
        """
        if self._signature is None:
            return
        if not keywords and not self._keywords and self._required <= len(arguments) <= len(self._positional):
            for (name, check), value in zip(self._positional, arguments, strict=False):
                if check is not None and not check(value):
                    self._refuse(name, value)
            return
        bound = self._signature.bind(*arguments, **keywords)
        for name, value in bound.arguments.items():
            known = self._known.get(name)
            if known is None:
                continue
            kind = self._signature.parameters[name].kind
            values: Iterable[Any] = (value,)
            if kind is inspect.Parameter.VAR_POSITIONAL:
                values = value
            elif kind is inspect.Parameter.VAR_KEYWORD:
                values = value.values()
            for one in values:
                if not known(one):
                    self._refuse(name, one)

    def _refuse(self, name: str, value: Any) -> typing.NoReturn:
        what = type_name(value)
        if what.rpartition(".")[2] == self._shown[name].partition("[")[0].rpartition(".")[2]:
            what = f"another {what}"
        raise TypeError(f"argument {name!r} is {what}, not {self._shown[name]}")


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function, eval_str=True)
    except Exception:  # an annotation is a string that names something unknown
        pass
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # some functions in C have no signature
        return None


def _is_int(value: Any) -> bool:
    return type(value) is int or (isinstance(value, numbers.Integral) and not isinstance(value, bool))


def _is_float(value: Any) -> bool:
    return type(value) is float or (isinstance(value, numbers.Real) and not isinstance(value, (bool, Fraction)))


_PLAIN: Final[dict[Any, Check]] = {
    int: _is_int,
    float: _is_float,
    None: lambda value: value is None,
    type(None): lambda value: value is None,
}
_EXACT: Final = frozenset({bool, str, bytes, complex, list, tuple, dict, set, frozenset})


def _check(annotation: Any) -> Check | None:
    """The check for an annotation; None if it accepts every value."""
    if annotation in (inspect.Parameter.empty, Any, object) or isinstance(annotation, str):
        return None
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if annotation in _EXACT:
        return _instance(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _check(arguments[0])
    if origin is typing.Literal:
        return lambda value: any(type(value) is type(one) and value == one for one in arguments)
    if origin is typing.Union or origin is types.UnionType:
        return _any_of([_check(one) for one in arguments])
    if origin in (list, set, frozenset):
        return _items(origin, _check(arguments[0]))
    if origin is dict:
        return _mapping(_check(arguments[0]), _check(arguments[1]))
    if origin is tuple:
        return _tuple(arguments)
    return _array(annotation, origin, arguments)


def _instance(kind: type) -> Check:
    return lambda value: isinstance(value, kind)


def _any_of(checks: list[Check | None]) -> Check | None:
    known = [check for check in checks if check is not None]
    return (lambda value: any(check(value) for check in known)) if len(known) == len(checks) else None


def _items(kind: type, check: Check | None) -> Check:
    if check is None:
        return _instance(kind)
    return lambda value: isinstance(value, kind) and all(map(check, value))  # type: ignore[call-overload]  # kind is one


def _mapping(key: Check | None, item: Check | None) -> Check:
    def check(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and (key is None or all(map(key, value)))
            and (item is None or all(map(item, value.values())))
        )

    return check


def _tuple(arguments: tuple[Any, ...]) -> Check:
    if len(arguments) == 2 and arguments[1] is ...:
        return _items(tuple, _check(arguments[0]))
    checks = [_check(one) for one in arguments]
    return lambda value: (
        isinstance(value, tuple)
        and len(value) == len(checks)
        and all(check is None or check(one) for check, one in zip(checks, value, strict=True))
    )


def _array(annotation: Any, origin: Any, arguments: tuple[Any, ...]) -> Check | None:
    """The check for ``np.ndarray`` and ``NDArray[np.float32]``. If numpy has not been imported, no annotation can name them."""
    numpy = sys.modules.get("numpy")
    if numpy is None or numpy.ndarray not in (annotation, origin):
        return None
    scalar = typing.get_args(arguments[1])[:1] if len(arguments) == 2 else ()
    if not scalar or not isinstance(scalar[0], type):
        return _instance(numpy.ndarray)
    return lambda value: isinstance(value, numpy.ndarray) and issubclass(value.dtype.type, scalar[0])
