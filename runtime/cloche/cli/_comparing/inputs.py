"""Makes up what a node is called with: values of the types that its annotations name, or else a few of each usual kind.

The types come from a stranger's code, as plain values that `describe` has written in the sandbox. The same types give the same
values each time. No text has a character with which a path could lead anywhere: natively a node may do with a path what it likes.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import uuid
from collections.abc import Callable, Sequence
from itertools import combinations
from random import Random
from typing import Any, Final

__all__ = ["generated", "has_hypothesis", "params_for", "smallest"]

_LETTERS: Final = "abcxyzABCXYZ0189 ,;:!?()-_+*=é中😀\n\t"
_BORDERS: Final = (255, 2**15, 2**31 - 1, 2**31, -(2**31) - 1, 2**32, 2**53 + 1, 2**63, -(2**64))
"""Where a type of fewer bits than Python's would end."""
_INTEGERS: Final = sorted((*range(-100, 101), *_BORDERS), key=lambda number: (abs(number), number < 0))
_FLOATS: Final = (0.0, -0.0, 0.1, 1.5, -2.75, 1e-9, 1e6, 1e300, float("inf"), float("nan"))
_DEEP: Final = 8
_MOST: Final = 12
_TRIES: Final = 200


def has_hypothesis() -> bool:
    """Whether hypothesis is installed."""
    from importlib.util import find_spec

    return find_spec("hypothesis") is not None


def _numpy() -> Any:
    try:
        import numpy as np
    except ImportError:
        return None
    return np


def generated(kinds: Sequence[Any], count: int, *, spread: bool, numeric: bool) -> list[Any]:
    """Values to call a node with, the simple ones first.

    Args:
        kinds: the types of its positional parameters, as `describe` names them.
        count: how many.
        spread: whether each value is a tuple of arguments.
        numeric: whether the node's module uses numpy.
    """
    wanted = list(kinds) if spread else list(kinds[:1]) or [{"kind": "any"}]
    if not spread and (_is_any(wanted[0]) or not has_hypothesis()):
        return _corpus(numeric)[:count]
    if not has_hypothesis():
        return list(combinations(_corpus(numeric), len(wanted)))[:count]
    return _drawn(_strategy_of(wanted, spread=spread, numeric=numeric), count)


def smallest(
    kinds: Sequence[Any], fails: Callable[[Any], bool], *, spread: bool, numeric: bool, tries: int
) -> tuple[bool, Any]:
    """The smallest value for which `fails` is true, as far as hypothesis finds it: whether there is one, and which.

    Args:
        kinds: as for `generated`.
        fails: tries a value.
        spread: as for `generated`.
        numeric: as for `generated`.
        tries: how many values are tried.
    """
    if not spread and (not kinds or _is_any(kinds[0])):
        return False, None
    from hypothesis import HealthCheck, Phase, find, settings
    from hypothesis.errors import HypothesisException

    left = tries

    def condition(value: Any) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and fails(value)

    rules = settings(
        max_examples=tries, database=None, deadline=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    strategy = _strategy_of(list(kinds) if spread else list(kinds[:1]), spread=spread, numeric=numeric, shrinks=True)
    try:
        return True, find(strategy, condition, settings=rules, random=Random(0))
    except HypothesisException:
        return False, None


def params_for(needs: dict[str, Any]) -> list[dict[str, Any]]:
    """Sets of parameters to try for an ``__init__``, the usual ones first.

    Args:
        needs: name -> type.
    """
    if not needs:
        return [{}]
    usual: dict[str, Any] = {name: _USUAL.get(_kind(kind), lambda: None)() for name, kind in needs.items()}
    for name, kind in needs.items():
        if has_hypothesis() and _kind(kind) in ("literal", "union", "tuple", "fixed", "array"):
            usual[name] = _drawn(_strategy(kind, _DEEP, numeric=False), 3)[-1]
    others: tuple[Any, ...] = (1, 1.0, "a", [1, 2], {}) if all(_is_any(kind) for kind in needs.values()) else ()
    return [usual, *(dict.fromkeys(needs, value) for value in others)]


_USUAL: Final[dict[str, Callable[[], Any]]] = {
    "any": lambda: 1, "unknown": lambda: 1, "none": lambda: None, "bool": lambda: True, "int": lambda: 4, "float": lambda: 0.5,
    "complex": lambda: 1j, "str": lambda: "a", "bytes": lambda: b"a", "list": list, "dict": dict, "set": set,
    "frozenset": frozenset, "tuples": tuple, "scalar": lambda: 1,
    "datetime": lambda: datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC), "date": lambda: datetime.date(2020, 1, 2),
    "time": lambda: datetime.time(12), "timedelta": lambda: datetime.timedelta(seconds=1), "decimal": lambda: decimal.Decimal(1),
    "fraction": lambda: fractions.Fraction(1, 2), "uuid": lambda: uuid.UUID(int=1),
}  # fmt: skip


def _kind(kind: Any) -> str:
    found = kind.get("kind") if isinstance(kind, dict) else None
    return found if isinstance(found, str) else "any"


def _of(kind: Any) -> list[Any]:
    inside = kind.get("of")
    return inside[:20] if isinstance(inside, list) else []


def _is_any(kind: Any) -> bool:
    return _kind(kind) in ("any", "unknown")


def _drawn(strategy: Any, count: int) -> list[Any]:
    from hypothesis import HealthCheck, Phase, given, settings

    found: list[Any] = []
    seen: set[str] = set()

    @settings(
        max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )  # fmt: skip
    @given(strategy)
    def collect(value: Any) -> None:
        key = repr(value)
        if key not in seen:
            seen.add(key)
            found.append(value)

    collect()
    return found[:count]


def _strategy_of(kinds: list[Any], *, spread: bool, numeric: bool, shrinks: bool = False) -> Any:
    from hypothesis import strategies as st

    made = [_strategy(kind, _DEEP, numeric=numeric, shrinks=shrinks) for kind in kinds]
    return st.tuples(*made) if spread else made[0]


def _strategy(kind: Any, depth: int, *, numeric: bool, shrinks: bool = False) -> Any:
    from hypothesis import strategies as st

    def inner(one: Any) -> Any:
        return _strategy(one, depth - 1, numeric=numeric, shrinks=shrinks)

    of = _of(kind) if depth else []
    most = max(1, _MOST >> (_DEEP - depth))  # what is nested deep is small: sizes multiply
    match _kind(kind) if depth else "any":
        case "none":
            return st.none()
        case "bool":
            return st.booleans()
        case "int":
            # one choice of one list shrinks to its first item that will do; a choice of two strategies stays in the second
            few = st.sampled_from(_INTEGERS)
            return few if shrinks else st.one_of(few, st.sampled_from(_BORDERS))
        case "float":
            return st.one_of(st.floats(-1e6, 1e6), st.sampled_from(_FLOATS))
        case "complex":
            return st.complex_numbers(max_magnitude=1e6)
        case "str":
            return st.text(_LETTERS, max_size=40)
        case "bytes":
            return st.binary(max_size=40)
        case "list" | "tuples" | "set" | "frozenset" as shape if len(of) == 1:
            if shape in ("set", "frozenset"):
                hashable = _strategy(of[0], 1, numeric=False) if _kind(of[0]) in _HASHABLE else st.integers(-9, 9)
                return st.sets(hashable, max_size=most) if shape == "set" else st.frozensets(hashable, max_size=most)
            made = st.lists(inner(of[0]), max_size=most)
            return made if shape == "list" else made.map(tuple)
        case "tuple":
            return st.tuples(*map(inner, of))
        case "dict" if len(of) == 2:
            keys = inner(of[0]) if _kind(of[0]) in _HASHABLE else st.text(_LETTERS, max_size=8)
            return st.dictionaries(keys, inner(of[1]), max_size=max(1, most // 2))
        case "fixed" if isinstance(names := kind.get("names"), list) and len(names) == len(of):
            return st.fixed_dictionaries({str(name): inner(one) for name, one in zip(names, of, strict=True)})
        case "union" if of:
            return st.one_of(*map(inner, of))
        case "literal" if of:
            return st.sampled_from([value for value in of if type(value) in _LITERALS] or [None])
        case "datetime":
            return st.datetimes(datetime.datetime(1970, 1, 2), datetime.datetime(2100, 1, 1))  # noqa: DTZ001  # as usual
        case "date":
            return st.dates(datetime.date(1970, 1, 2), datetime.date(2100, 1, 1))
        case "time":
            return st.times()
        case "timedelta":
            return st.timedeltas(datetime.timedelta(-9), datetime.timedelta(9))
        case "decimal":
            return st.decimals(-1000, 1000, places=3)
        case "fraction":
            return st.fractions(-100, 100, max_denominator=100)
        case "uuid":
            return st.uuids()
        case "array" | "scalar" as shape if (np := _numpy()) is not None:
            return _array_strategy(np, str(kind.get("dtype", "")), scalar=shape == "scalar")
    return st.sampled_from(_corpus(numeric))


_HASHABLE: Final = frozenset(("none", "bool", "int", "float", "str", "bytes", "date", "datetime", "uuid", "literal"))
_LITERALS: Final = (bool, int, float, str, bytes, type(None))
_ARRAY_TYPES: Final = (
    "float32", "float64", "int16", "int32", "int64", "uint8", "bool", "int8", "uint16", "uint32", "uint64", "complex64",
    "complex128", "float16",
)  # fmt: skip


def _array_strategy(np: Any, dtype: str, *, scalar: bool) -> Any:
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as arrays

    chosen = np.dtype(dtype) if dtype in _ARRAY_TYPES else None
    if scalar:
        return arrays.from_dtype(chosen or np.dtype("float64"), allow_nan=False).map(
            (chosen or np.dtype("float64")).type
        )
    ready = st.sampled_from([one if chosen is None else one.astype(chosen) for one in _arrays(np)])
    types = st.just(chosen) if chosen is not None else st.sampled_from([np.dtype("float64"), np.dtype("float32")])
    made = types.flatmap(
        lambda kind: arrays.arrays(
            kind,
            arrays.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=9),
            elements=arrays.from_dtype(kind, **_bounds(kind)),
        )
    )
    return st.one_of(made, ready)


def _bounds(kind: Any) -> dict[str, Any]:
    if kind.kind == "f":
        return {
            "min_value": -1000,
            "max_value": 1000,
            "allow_nan": False,
            "allow_infinity": False,
            "allow_subnormal": False,
        }
    if kind.kind == "c":
        return {"max_magnitude": 1000, "allow_nan": False, "allow_infinity": False}
    return {}


def _arrays(np: Any) -> list[Any]:
    """Arrays of the usual kinds: vectors, frames of sound, an image, a table."""
    rises = np.arange(8.0)
    tone = np.sin(np.arange(1024) * 0.05)
    return [
        np.ones(4), rises, np.zeros(0), tone, tone.astype(np.float32), (tone * 32767).astype(np.int16),
        np.stack([tone[:64], tone[64:128]], axis=1), rises.reshape(2, 4), np.arange(6).reshape(2, 3),
        np.arange(48, dtype=np.uint8).reshape(4, 4, 3), np.array([True, False]), np.array([1.0, np.nan, -np.inf]),
    ]  # fmt: skip


def _corpus(numeric: bool) -> list[Any]:
    """A few values of each usual kind, for a node that does not say what it takes."""
    values: list[Any] = [
        1, 0, -7, 2.5, 0.1, "text", "", True, None, [1, 2, 3], [0.1, 0.2, 0.3], [], ["b", "a"], {"a": 1}, {}, (1, 2),
        {"name": "Ada", "age": 36, "tags": ["x"]}, {"text": "a few words"}, b"bytes", "A sentence, with words. é中😀", "12",
        [[1, 2], [3, 4]], [{"id": 1, "value": 2.5}, {"id": 2, "value": -1.0}], {1, 2, 3}, 1e-9, 1e300, float("nan"),
        float("inf"), -0.0, [3, 1, 2, 2], "b a b", 10, 100, 3.7, 2**31, 2**63, (1, {"session_id": "s"}),
    ]  # fmt: skip
    np = _numpy()
    if np is None:
        return values
    some = _arrays(np)
    with_rate = {"samples": some[4], "sample_rate": 16000}
    return [*some, with_rate, (some[4], {"sample_rate": 16000}), *values] if numeric else [*values, *some[:6]]
