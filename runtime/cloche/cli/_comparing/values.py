"""Compares two values exactly, and says where they differ and by how much. Values in, differences out: nothing is run here."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cloche.texts import line, short
from cloche_wire.record import Record

__all__ = ["ANY", "MOST", "Found", "Path", "Unstable", "compare", "shown", "where"]

Path: TypeAlias = "tuple[Any, ...]"
"""The keys and indices that lead to a value."""
ANY: Final = ...
"""Stands for every number in a place that is about all calls, outputs or items."""
MOST: Final = 200
"""Differences that are found in one comparison."""
_MOST_SHOWN: Final = 160


@dataclass(frozen=True, slots=True)
class Found:
    """One difference.

    Attributes:
        path: where it is.
        how: what is different.
        native: the native value, as text.
        sandbox: the sandbox's value, as text.
        relative: of two finite floats, the difference as a share of the larger one; None for all else.
    """

    path: Path
    how: str
    native: str
    sandbox: str
    relative: float | None = None


class Unstable:
    """Places whose values change from run to run.

    What is unstable in one call, or in one output of a stream, is unstable in all of them. If several items of a list are, all are:
    the order of a set, or of threads, is another one each time, and two runs show only some of the orders.

    Args:
        paths: places at which two runs have differed.
    """

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self.paths = frozenset(paths)
        starts = [_without_call(path) for path in self.paths]
        indices: dict[Path, set[int]] = {}
        for path in starts:
            for number, step in enumerate(path):
                if type(step) is int:
                    indices.setdefault(path[:number], set()).add(step)
        self._orders = {path for path, found in indices.items() if len(found) > 1}
        self._places = {self._general(path) for path in starts}

    def __contains__(self, path: Path) -> bool:
        return self._general(_without_call(path)) in self._places

    @property
    def places(self) -> list[Path]:
        """The places, with `ANY` for each call, output or item."""
        return sorted(self._places, key=repr)

    def _general(self, path: Path) -> Path:
        return tuple(ANY if path[:number] in self._orders else step for number, step in enumerate(path))


def _without_call(path: Path) -> Path:
    """The path, without the number of the call or of the output: but that a call raises in one run alone is about this call."""
    match path:
        case ("call", int(), _, *_) | ("stream", "output", int(), *_):
            place = 1 if path[0] == "call" else 2
            return (*path[:place], ANY, *path[place + 1 :])
    return path


def shown(value: Any) -> str:
    """A value on one line, cut, without control characters: it is a stranger's."""
    return line(_short(value), _MOST_SHOWN)


def _short(value: Any) -> str:
    try:
        return short(value)
    except ValueError:  # somewhere in it is a whole number with more digits than Python writes
        return f"<{type(value).__name__}>"


def where(path: Iterable[Any]) -> str:
    """A path as text: ``[0]['name']``."""
    return "".join("[...]" if step is ANY else f"[{line(_short(step), 80)}]" for step in path)


def compare(native: Any, sandbox: Any, unstable: Unstable | None = None) -> list[Found]:
    """The differences of two values: in types, in values to the last bit, in the order of what has one. NaN equals NaN.

    Args:
        native: the one.
        sandbox: the other.
        unstable: where the values differ from run to run anyway: only their types are compared.
    """
    ignored = Unstable() if unstable is None else unstable
    found: list[Found] = []
    todo: list[tuple[Path, Any, Any]] = [((), native, sandbox)]
    while todo and len(found) < MOST:
        path, one, other = todo.pop()
        if type(one) is not type(other):
            kinds = f"{type(one).__name__} natively, {type(other).__name__} in the sandbox"
            found.append(Found(path, kinds, shown(one), shown(other)))
            continue
        if path in ignored:
            continue
        inside = _inside(one, other)
        if inside is None:
            if (difference := _different(one, other)) is not None:
                found.append(Found(path, difference[0], shown(one), shown(other), difference[1]))
        elif isinstance(inside, str):
            found.append(Found(path, inside, shown(one), shown(other)))
        else:
            todo += [((*path, step), left, right) for step, left, right in inside][::-1]
    return found


def _inside(one: Any, other: Any) -> list[tuple[Any, Any, Any]] | str | None:
    """What two containers of one type consist of, in pairs; or how they differ; None for what is no container."""
    match one:
        case list() | tuple():
            if len(one) != len(other):
                return f"{len(one)} items natively, {len(other)} in the sandbox"
            return list(zip(range(len(one)), one, other, strict=True))
        case dict():
            if list(one) != list(other):
                return "its keys are in another order" if one.keys() == other.keys() else _keys(one, other)
            return [(key, value, other[key]) for key, value in one.items()]
        case Record():
            if (one._name, one._fields) != (other._name, other._fields):  # noqa: SLF001  # as of a namedtuple
                return "another class, or other fields"
            pairs = zip(one._asdict().items(), other._asdict().values(), strict=True)  # likewise
            return [(field, value, right) for (field, value), right in pairs]
    return None


def _keys(one: dict[Any, Any], other: dict[Any, Any]) -> str:
    missing = [key for key in one if key not in other]
    more = [key for key in other if key not in one]
    told = [f"lacks the key {shown(key)}" for key in missing[:3]] + [
        f"has the key {shown(key)} more" for key in more[:3]
    ]
    return f"in the sandbox it {' and '.join(told)}" if told else "its keys differ"


def _different(one: Any, other: Any) -> tuple[str, float | None] | None:
    """How two values of one type differ that have nothing in them; None: not at all."""
    if isinstance(one, float):
        return _floats(one, other)
    if isinstance(one, complex):
        return _floats(one.real, other.real) or _floats(one.imag, other.imag)
    np = sys.modules.get("numpy")
    if np is not None and isinstance(one, (np.ndarray, np.generic)):
        return _arrays(np, np.asarray(one), np.asarray(other))
    if hasattr(one, "shape") and hasattr(one, "data"):  # `cloche_wire.Array`: this program has no numpy
        same = (one.dtype, one.shape, bytes(one.data)) == (other.dtype, other.shape, bytes(other.data))
        return None if same else ("another array", None)
    if one == other or (one != one and other != other):  # NaN of Decimal, NaT
        return None
    if isinstance(one, (set, frozenset)):
        return f"{len(one - other)} items are natively alone in it, {len(other - one)} in the sandbox alone", None
    return "another value", None


def _floats(one: float, other: float) -> tuple[str, float | None] | None:
    if one == other:
        if math.copysign(1, one) == math.copysign(1, other):
            return None
        return "the sign of zero", 0.0
    if math.isnan(one) and math.isnan(other):
        return None
    if not (math.isfinite(one) and math.isfinite(other)):
        return "another value", None
    relative = abs(one - other) / max(abs(one), abs(other))
    return f"differs by {abs(one - other):.3g}, which is {relative:.2g} of it", relative


def _arrays(np: Any, one: Any, other: Any) -> tuple[str, float | None] | None:
    if one.dtype != other.dtype:
        return f"dtype {one.dtype} natively, {other.dtype} in the sandbox", None
    if one.shape != other.shape:
        return f"shape {one.shape} natively, {other.shape} in the sandbox", None
    if one.tobytes() == other.tobytes() and not one.dtype.hasobject:
        return None
    unequal = one != other
    if one.dtype.kind in "fcmM":
        unequal &= ~((one != one) & (other != other))  # NaN and NaT
    count = int(np.count_nonzero(unequal))
    if not count:
        # the bytes differ, the values do not: zeros of either sign, or payloads of NaN, which Python cannot see
        signs = one.dtype.kind == "f" and bool(np.any(np.signbit(one) != np.signbit(other), where=one == 0))
        return ("the sign of zeros", 0.0) if signs else None
    told = f"{count} of {one.size} items differ"
    if one.dtype.kind not in "fc":
        return told, None
    with np.errstate(all="ignore"):
        left, right = one[unequal], other[unequal]
        if not (np.isfinite(left).all() and np.isfinite(right).all()):
            return f"{told}, some of them NaN or infinite on one side alone", None
        kind = "longdouble" if one.dtype.kind == "f" else "clongdouble"
        apart = np.abs(left.astype(kind) - right.astype(kind))
        most = float(np.max(apart))
        # of the largest item, not of each: a sum of large items that ends near zero is exact to the large ones' last bit alone
        relative = most / max(float(np.max(np.abs(side[np.isfinite(side)]))) for side in (one, other))
        return f"{told}, by {most:.3g} at most, which is {relative:.2g} of the largest item", relative
