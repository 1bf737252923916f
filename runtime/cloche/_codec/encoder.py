"""Any value as one that cbor2 writes as the protocol wants it: what it has no types for becomes tags."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final
from uuid import UUID

from cbor2 import CBORTag

from cloche._codec.optional_numpy import load_numpy
from cloche.errors import EncodeError
from cloche_wire import abi, tags
from cloche_wire import values as wire
from cloche_wire.arrays import ARRAY_TAGS
from cloche_wire.record import Record

__all__ = ["ARRIVALS", "ATOMS", "HAS_LIST", "NO_NAME", "UNCOMPARABLE", "Lowering", "is_flat", "is_plain", "path"]

ATOMS: Final = frozenset({int, float, bool, type(None)})
HAS_LIST: Final = 0
"""What `is_plain` adds to the ids of what it has seen if a list is among it: no object has this one."""
_NUMBERS: Final = frozenset({int, float})
_INTEGERS: Final = {int}
_FLOATS: Final = {float}
_LARGE: Final = abi.OUT_OF_LINE_BYTES
_MUTABLE_TAGS: Final = frozenset(
    {*tags.TYPED_DTYPES, tags.ROW_MAJOR, tags.COLUMN_MAJOR, tags.NDARRAY, tags.READONLY, tags.MAP, tags.SET}
)
UNCOMPARABLE: Final = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, Warning)
"""What hashing and comparing keys can raise: a list has no hash, a Decimal is not compared with a numpy integer, numpy warns."""
ARRIVALS: Final = "an enum arrives as its value, an object as its fields, a subclass as its base"
_KEPT: Final = ATOMS | {str, bytes, complex, date, datetime, time, timedelta, Decimal, Fraction, UUID}
"""Keys of these types that differ arrive as different ones."""
_MAX_EXPONENT: Final = 425_000_000
_MIN_EXPONENT: Final = -849_999_999
"""Of a Decimal in a guest: its libmpdec is that of 32-bit machines (Modules/_decimal/libmpdec/mpdecimal.h)."""
_MAX_SUBSTITUTES: Final = 8
_MAX_STEP: Final = 40
_MAX_STEPS: Final = 32


def is_flat(mapping: dict[Any, Any]) -> bool:
    """Whether a dict has nothing but text keys and short plain values: what is sent most, in half the time of `is_plain`."""
    for name, item in mapping.items():
        if type(name) is not str:
            return False
        kind = type(item)
        if kind not in ATOMS and ((kind is not str and kind is not bytes) or len(item) >= _LARGE):
            return False
    return True


def is_plain(container: Any, depth: int, seen: set[int]) -> bool:
    """Whether cbor2 writes the list or dict as it is: lists, dicts with text keys, short texts and bytes, numbers.

    It says no as well if there is more than `depth` of nesting, or a container in two places. It may say yes of a text
    with lone surrogates: cbor2 then raises UnicodeEncodeError. This is the hot path of every call: each item costs it
    40 ns, where asking cbor2 to call an encoder for tuples and the like costs 130.
    """
    key = id(container)
    if key in seen or not depth:
        return False
    seen.add(key)
    items = container
    if type(container) is dict:
        for name in container:
            if type(name) is not str:
                return False
        items = container.values()
    elif len(container) >= abi.NUMBERS_SHORTEST and type(container[0]) in _NUMBERS and type(container[-1]) in _NUMBERS:
        return False  # likely all numbers: one byte string is written faster than so many items are looked at
    else:
        seen.add(HAS_LIST)
    for item in items:
        kind = type(item)
        if kind in ATOMS:
            continue
        if kind is str or kind is bytes:
            if len(item) >= _LARGE:
                return False
        elif kind is dict or kind is list:
            if not is_plain(item, depth - 1, seen):
                return False
        else:
            return False
    return True


class _Refused(Exception):
    """A value cannot be sent. `steps` is the way to it, innermost first, filled in as this passes the containers."""

    def __init__(self, text: str, limit: dict[str, Any] | None = None) -> None:
        super().__init__(text)
        self.limit = limit or {}
        self.steps: list[Any] = []


class NO_NAME:  # noqa: N801  # stands for a value
    """A step to something that has no index and no key: a set's item, or a key."""


class Lowering:
    """One walk through one message.

    Attributes:
        bodies: what must be placed in guest memory before the message can be written: each a buffer, and the list
            ``[address, length]`` that stands for it in the message and still lacks the address.
        outside: bytes of all bodies.
    """

    def __init__(self, depth: int, shared: Callable[[memoryview], int] | None = None) -> None:
        self._shared = shared
        self.bodies: list[tuple[Any, list[int]]] = []
        self.outside = 0
        self._depth = self._max_depth = depth
        self._seen: set[int] = set()
        self._around: list[Any] = []
        self._held: list[Any] = []  # so that no address in `_seen` is used again
        self._substitutes = 0

    def message(self, message: list[Any], root: str) -> list[Any]:
        """The message ``[op, call, *operands]``, lowered.

        Args:
            message: as above; it is not changed.
            root: what the operand is called in a path; with several operands, ``root[0]``, ``root[1]`` ...

        Raises:
            EncodeError: something in it cannot be sent.
        """
        try:
            return self._list(message)
        except _Refused as refused:
            steps = refused.steps[::-1]
            operand = steps[0] - 2 if steps and type(steps[0]) is int else 0
            steps[:1] = [operand] if len(message) > 3 else []
            raise EncodeError(str(refused), path(root, steps), **refused.limit) from refused.__cause__

    def _value(self, value: Any) -> Any:
        kind = type(value)
        if kind in ATOMS:
            return value
        if kind is str:
            return self._text(value)
        if kind is list:
            self._meet(value)
            return self._numbers(value) or self._list(value)
        if kind is dict:
            return self._dict(value)
        if kind is tuple:
            return CBORTag(tags.TUPLE, self._list(value))
        if kind is bytes:
            return self._bytes(value)
        if kind is bytearray:
            self._meet(value)
            return self._bytes(value)
        if kind is set or kind is frozenset:
            return self._set(value)
        return self._other(value)

    def _meet(self, value: Any) -> None:
        if id(value) in self._seen:
            if any(value is outer for outer in self._around):
                raise _Refused(f"a cycle: this {wire.type_name(value)} contains itself")
            raise _Refused(f"this {wire.type_name(value)} is in the value twice; send a copy in one of the places")
        self._seen.add(id(value))

    def _enter(self, value: Any) -> None:
        if not self._depth:
            allowed = self._max_depth
            raise _Refused(
                f"nested more than {allowed} containers deep (value_depth)",
                {"limit": "value_depth", "value": allowed, "reached": allowed + 1},
            )
        self._depth -= 1
        self._substitutes = 0
        self._around.append(value)

    def _leave(self) -> None:
        self._depth += 1
        self._around.pop()

    def _text(self, text: str) -> Any:
        if not text.isascii():
            try:
                data = text.encode()
            except UnicodeEncodeError:
                return CBORTag(tags.SURROGATES, text.encode("utf-8", "surrogatepass"))
            return self._body(tags.TEXT_AT, data) if len(data) >= _LARGE else text
        return self._body(tags.TEXT_AT, text.encode()) if len(text) >= _LARGE else text

    def _bytes(self, data: bytes | bytearray) -> Any:
        return self._body(tags.BYTES_AT, data) if len(data) >= _LARGE else bytes(data)

    def _array_body(self, buffer: Any) -> Any:
        view = memoryview(buffer)
        if self._shared is not None and (address := self._shared(view)):
            return CBORTag(tags.SHARED_AT, [address, view.nbytes])
        return self._body(tags.BODY_AT, view) if view.nbytes >= _LARGE else view.tobytes()

    def _body(self, tag: int, data: Any) -> CBORTag:
        size = memoryview(data).nbytes
        place = [0, size]
        self.bodies.append((data, place))
        self.outside += size
        return CBORTag(tag, place)

    def _numbers(self, items: list[Any]) -> CBORTag | None:
        """A long list of nothing but 64-bit integers, or nothing but floats, as one byte string; None: it is another."""
        if len(items) < abi.NUMBERS_SHORTEST or not self._depth:
            return None
        kinds = set(map(type, items))
        if kinds != _INTEGERS and kinds != _FLOATS:
            return None
        kind = int(kinds == _FLOATS)
        try:
            packed = array(tags.NUMBERS_FORMATS[kind], items)
        except OverflowError:
            return None
        if sys.byteorder == "big":
            packed.byteswap()
        return CBORTag(tags.NUMBERS, [kind, self._array_body(packed)])

    def _list(self, items: Iterable[Any]) -> list[Any]:
        self._enter(items)
        lowered: list[Any] = []
        try:
            for item in items:
                lowered.append(self._value(item))  # noqa: PERF401  # its length is the step, if an item is refused
        except _Refused as refused:
            refused.steps.append(len(lowered))
            raise
        self._leave()
        return lowered

    def _set(self, items: set[Any] | frozenset[Any]) -> CBORTag:
        if type(items) is set:
            self._meet(items)
        self._enter(items)
        self._doubles(items)
        try:
            lowered = [self._value(item) for item in items]
        except _Refused as refused:
            refused.steps.append(NO_NAME)
            raise
        self._leave()
        return CBORTag(tags.SET if type(items) is set else tags.FROZENSET, lowered)

    def _dict(self, mapping: dict[Any, Any]) -> Any:
        self._meet(mapping)
        self._enter(mapping)
        key: Any = NO_NAME
        plain = all(type(key) is str and (key.isascii() or _is_utf8(key)) for key in mapping)
        lowered: dict[str, Any] = {}
        flat: list[Any] = []
        if not plain:
            self._doubles(mapping)
        try:
            for key, value in mapping.items():  # the step, if a value is refused
                if plain:
                    lowered[key] = self._value(value)
                else:
                    flat += self._key(key), self._value(value)
        except _Refused as refused:
            refused.steps.append(key)
            raise
        self._leave()
        return lowered if plain else CBORTag(tags.MAP, flat)

    def _key(self, key: Any) -> Any:
        try:
            return self._value(key)
        except _Refused as refused:
            raise _Refused(f"a key: {refused}") from refused.__cause__

    def _doubles(self, keys: Any) -> None:
        """Refuse keys that would no longer be different, or no keys, when they have arrived."""
        if _KEPT.issuperset(map(type, keys)):
            return
        arriving = [_arriving(key, self._depth) for key in keys]
        try:
            different = len(set(arriving)) == len(arriving)
        except UNCOMPARABLE as error:
            raise _Refused(f"a key would have no hash, or could not be compared, on the other side: {error}") from None
        if not different:
            raise _Refused(f"two keys would be the same on the other side: {ARRIVALS}")

    def _other(self, value: Any) -> Any:
        if any(value is outer for outer in self._around):
            raise _Refused(f"a cycle: this {wire.type_name(value)} contains itself")
        if self._substitutes == _MAX_SUBSTITUTES:
            raise _Refused(f"cannot encode {wire.type_name(value)}: it stands for another value, and that for another")
        if hasattr(type(value), "__dlpack__") or hasattr(type(value), "__array_interface__"):
            load_numpy()
        try:
            tag, content = wire.lower(value)
        except (TypeError, ValueError) as error:
            raise _Refused(str(error)) from error
        self._held.append(content)
        if tag == tags.DECIMAL:
            _check_exponent(value)
        if tag is None:
            if type(content) in (list, dict, set, bytearray):
                self._meet(value)
            substitutes = self._substitutes
            self._substitutes += 1
            self._around.append(value)
            lowered = self._value(content)
            self._around.pop()
            self._substitutes = substitutes
            return lowered
        if tag in _MUTABLE_TAGS:
            self._meet(value)
        if tag == tags.RECORD:
            return self._record(value, content)
        return self._tag(tag, content)

    def _record(self, value: Any, content: list[Any]) -> CBORTag:
        name, fields, values = content
        self._around.append(value)
        try:
            lowered = self._list(values)
        except _Refused as refused:
            refused.steps[-1] = fields[refused.steps[-1]]
            raise
        self._around.pop()
        return CBORTag(tags.RECORD, [name, fields, lowered])

    def _tag(self, tag: int, content: Any) -> CBORTag:
        if tag in tags.TYPED_DTYPES:
            content = self._array_body(content)
        elif tag == tags.ROW_MAJOR or tag == tags.COLUMN_MAJOR:
            content = [content[0], self._tag(content[1].tag, content[1].content)]
        elif tag == tags.NDARRAY:
            content = [*content[:3], self._array_body(content[3])]
        elif tag == tags.READONLY:
            content = self._tag(content.tag, content.content)
        elif tag == tags.OPAQUE:
            content = [content[0], self._bytes(content[1])]
        return CBORTag(tag, content)


def _arriving(key: Any, depth: int) -> Any:
    """What the other side will have instead of a key. The key itself, if it cannot be sent: the walk says so, and where."""
    kind = type(key)
    if kind in _KEPT or not depth:
        return key
    if kind is tuple or kind is frozenset:
        return kind([_arriving(item, depth - 1) for item in key])
    try:
        tag, content = wire.lower(key)
        if tag is None:
            return _arriving(content, depth - 1)
        if tag == tags.RECORD:
            name, fields, values = content
            return Record(name, fields, [_arriving(value, depth - 1) for value in values])
        if tag in ARRAY_TAGS:
            return _Unhashable()
        return wire.lift(tag, content)
    except (TypeError, ValueError):
        return key


class _Unhashable:
    """Stands for an array, which is never a key."""

    __hash__ = None  # type: ignore[assignment]  # that is how a class says so


def _check_exponent(value: Decimal) -> None:
    if -_MAX_EXPONENT <= Decimal.adjusted(value) <= _MAX_EXPONENT or not Decimal.is_finite(value):
        return
    exponent = Decimal.as_tuple(value).exponent
    if Decimal.adjusted(value) > _MAX_EXPONENT or int(exponent) < _MIN_EXPONENT:
        raise _Refused(
            f"a decimal in a guest has exponents from {_MIN_EXPONENT} to {_MAX_EXPONENT}, this one {exponent}"
        )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def path(root: str, steps: list[Any]) -> str:
    """The way to a value as a Python programmer would write it: ``params.filters[3].fn``."""
    parts = [_step(step) for step in steps]
    if len(parts) > _MAX_STEPS:
        parts[_MAX_STEPS // 2 : -_MAX_STEPS // 2] = [" ... "]
    way = root + "".join(parts)
    return way if root else way.removeprefix(".")


def _step(step: Any) -> str:
    if step is NO_NAME:
        return "{}"
    if type(step) is str:
        if len(step) > _MAX_STEP:
            return f"[{step[:_MAX_STEP]!r}...]"
        return f".{step}" if step.isidentifier() else f"[{step!r}]"
    if type(step) in ATOMS and (type(step) is not int or -(1 << 63) <= step < 1 << 63):
        return f"[{step!r}]"
    return f"[{type(step).__name__}]"
