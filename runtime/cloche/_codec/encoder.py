"""Prepares values for cbor2: types that CBOR lacks become tags with content, and large bodies move out of line.

docs/reference/wire.md has the table of tags.

`is_flat` and `is_plain` recognise values that cbor2 can write unchanged, which is nearly every call. All others take one walk of
`Lowering`, which also refuses what cannot be sent: cycles, values in two places, nesting beyond `value_depth`, unknown types, and
dicts or sets whose keys would become equal by being sent.
"""

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
from cloche_wire import Op, abi, tags
from cloche_wire import values as wire
from cloche_wire.arrays import ARRAY_TAGS
from cloche_wire.record import Record

__all__ = ["ATOMS", "CONVERSIONS", "HAS_LIST", "NO_NAME", "UNCOMPARABLE", "Lowering", "is_flat", "is_plain", "path"]

ATOMS: Final = frozenset({int, float, bool, type(None)})
"""Types that cbor2 writes unchanged, whatever the value."""
HAS_LIST: Final = 0
"""A marker that `is_plain` adds to its set of object ids once it has met a list. No object has the id 0."""
_NUMBERS: Final = frozenset({int, float})
_INTEGERS: Final = {int}
_FLOATS: Final = {float}
_LARGE: Final = abi.OUT_OF_LINE_BYTES
_MUTABLE_TAGS: Final = frozenset(
    {*tags.TYPED_DTYPES, tags.ROW_MAJOR, tags.COLUMN_MAJOR, tags.NDARRAY, tags.READONLY, tags.MAP, tags.SET}
)
UNCOMPARABLE: Final = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, Warning)
"""What hashing and comparing keys can raise. Examples: a list has no hash; a Decimal cannot be compared with a numpy integer; numpy
issues warnings, which may be errors."""
CONVERSIONS: Final = "an enum arrives as its value, an object as its fields, a subclass as its base"
_UNCHANGED_KEYS: Final = ATOMS | {str, bytes, complex, date, datetime, time, timedelta, Decimal, Fraction, UUID}
"""Types whose values are sent unchanged, so that distinct keys stay distinct."""
_MAX_EXPONENT: Final = 425_000_000
_MIN_EXPONENT: Final = -849_999_999
"""Range of a Decimal's exponent in a guest, whose libmpdec is the 32-bit build (Modules/_decimal/libmpdec/mpdecimal.h)."""
_MAX_SUBSTITUTES: Final = 8
"""How often in a row a value may be replaced by another one (an enum by its value) before it is refused."""
_MAX_STEP: Final = 40
"""Characters of a key that a path shows."""
_MAX_STEPS: Final = 32
"""Steps that a path shows; those in the middle are left out."""


def is_flat(mapping: dict[Any, Any]) -> bool:
    """Whether a dict has only text keys and short plain values: the commonest message, checked in half the time of `is_plain`."""
    for name, item in mapping.items():
        if type(name) is not str:
            return False
        kind = type(item)
        if kind not in ATOMS and ((kind is not str and kind is not bytes) or len(item) >= _LARGE):
            return False
    return True


def is_plain(container: Any, depth: int, seen: set[int]) -> bool:
    """Whether cbor2 can write a container unchanged: only lists, dicts with text keys, short texts and bytes, and ATOMS are in it.

    False as well if the nesting is deeper than `depth`, or if one container is in two places. A text with lone surrogates counts as
    plain; cbor2 then raises UnicodeEncodeError. This is the hot path of every call: 40 ns for each item, where having cbor2 call an
    encoder for tuples and the like takes 130 ns.

    Args:
        container: a list or dict.
        depth: levels of containers allowed, this one included.
        seen: ids of the containers met so far; filled in, with HAS_LIST if there is a list.
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
        return False  # probably all numbers: `Lowering` packs them into one byte string, which is faster than checking each
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
    """A value cannot be sent.

    Args:
        text: the reason.
        limit: keywords of `EncodeError` if a limit is the reason.

    Attributes:
        steps: indexes and keys of the path to the value, innermost first. Each container appends its own while the exception
            propagates.
    """

    def __init__(self, text: str, limit: dict[str, Any] | None = None) -> None:
        super().__init__(text)
        self.limit = limit or {}
        self.steps: list[Any] = []


class NO_NAME:  # noqa: N801  # stands for a value
    """The step of a path that leads to an item of a set or to a key of a dict, which have neither index nor key."""


class Lowering:
    """One walk through one message, which collects the bodies that go out of line. Use a new instance for each message.

    Args:
        depth: levels of containers allowed (`value_depth`).
        shared: see `Codec`.

    Attributes:
        bodies: pairs of a buffer to place in guest memory and the list ``[address, length]`` that stands for the buffer in the
            lowered message. The caller fills in each address before it writes the message.
        outside: bytes of all bodies.
    """

    def __init__(self, depth: int, shared: Callable[[memoryview], int] | None = None) -> None:
        self._shared = shared
        self.bodies: list[tuple[Any, list[int]]] = []
        self.outside = 0
        self._depth = self._max_depth = depth
        self._seen: set[int] = set()
        self._enclosing: list[Any] = []
        self._held: list[
            Any
        ] = []  # keeps temporary objects alive: a new object could reuse the id of a freed one in `_seen`
        self._substitutes = 0

    def message(self, message: list[Any], root: str) -> list[Any]:
        """Lower a message ``[op, call, *operands]``.

        Args:
            message: the message; it is not changed.
            root: name of the operand in the path of an error; several operands are ``root[0]``, ``root[1]`` ... In a CALL it
                stands for the arguments: ``root[0]`` is a positional one, ``root.name`` one with a name.

        Returns:
            the message as cbor2 can write it.

        Raises:
            EncodeError: a value in the message cannot be sent; the error has its path.
        """
        try:
            return self._list(message)
        except _Refused as refused:
            steps = refused.steps[::-1]
            operand = steps[0] - 2 if steps and type(steps[0]) is int else 0
            steps[:1] = [operand] if len(message) > 3 and message[0] != Op.CALL else []
            raise EncodeError(str(refused), path(root, steps), **refused.limit) from refused.__cause__

    def _value(self, value: Any) -> Any:
        kind = type(value)
        if kind in ATOMS:
            return value
        if kind is str:
            return self._text(value)
        if kind is list:
            self._check_not_seen(value)
            return self._numbers(value) or self._list(value)
        if kind is dict:
            return self._dict(value)
        if kind is tuple:
            return CBORTag(tags.TUPLE, self._list(value))
        if kind is bytes:
            return self._bytes(value)
        if kind is bytearray:
            self._check_not_seen(value)
            return self._bytes(value)
        if kind is set or kind is frozenset:
            return self._set(value)
        return self._other(value)

    def _check_not_seen(self, value: Any) -> None:
        """Record a mutable value, and refuse one that the message contains already: identity would be lost by sending it twice."""
        if id(value) in self._seen:
            if any(value is outer for outer in self._enclosing):
                raise _Refused(f"a cycle: this {wire.type_name(value)} contains itself")
            raise _Refused(f"this {wire.type_name(value)} is in the value twice; send a copy in one of the places")
        self._seen.add(id(value))

    def _enter(self, value: Any) -> None:
        """Go one level deeper, into a container, if `value_depth` allows."""
        if not self._depth:
            allowed = self._max_depth
            raise _Refused(
                f"nested more than {allowed} containers deep (value_depth)",
                {"limit": "value_depth", "value": allowed, "reached": allowed + 1},
            )
        self._depth -= 1
        self._substitutes = 0
        self._enclosing.append(value)

    def _leave(self) -> None:
        self._depth += 1
        self._enclosing.pop()

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
        """Pack a long list of only 64-bit integers, or only floats, into one byte string; None for any other list."""
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
                lowered.append(self._value(item))  # noqa: PERF401  # the handler needs the length so far
        except _Refused as refused:
            refused.steps.append(len(lowered))
            raise
        self._leave()
        return lowered

    def _set(self, items: set[Any] | frozenset[Any]) -> CBORTag:
        if type(items) is set:
            self._check_not_seen(items)
        self._enter(items)
        self._check_distinct(items)
        try:
            lowered = [self._value(item) for item in items]
        except _Refused as refused:
            refused.steps.append(NO_NAME)
            raise
        self._leave()
        return CBORTag(tags.SET if type(items) is set else tags.FROZENSET, lowered)

    def _dict(self, mapping: dict[Any, Any]) -> Any:
        self._check_not_seen(mapping)
        self._enter(mapping)
        key: Any = NO_NAME
        plain = all(type(key) is str and (key.isascii() or _is_utf8(key)) for key in mapping)
        lowered: dict[str, Any] = {}
        flat: list[Any] = []
        if not plain:
            self._check_distinct(mapping)
        try:
            for key, value in mapping.items():  # the handler below uses `key`
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

    def _check_distinct(self, keys: Any) -> None:
        """Refuse keys (or items of a set) that would be equal, unhashable or incomparable on the other side."""
        if _UNCHANGED_KEYS.issuperset(map(type, keys)):
            return
        received = [_as_received(key, self._depth) for key in keys]
        try:
            different = len(set(received)) == len(received)
        except UNCOMPARABLE as error:
            raise _Refused(f"a key would have no hash, or could not be compared, on the other side: {error}") from None
        if not different:
            raise _Refused(f"two keys would be the same on the other side: {CONVERSIONS}")

    def _other(self, value: Any) -> Any:
        """Lower a value of a type that only `cloche_wire.values.lower` knows, or a subclass."""
        if any(value is outer for outer in self._enclosing):
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
                self._check_not_seen(value)
            substitutes = self._substitutes
            self._substitutes += 1
            self._enclosing.append(value)
            lowered = self._value(content)
            self._enclosing.pop()
            self._substitutes = substitutes
            return lowered
        if tag in _MUTABLE_TAGS:
            self._check_not_seen(value)
        if tag == tags.RECORD:
            return self._record(value, content)
        return self._tag(tag, content)

    def _record(self, value: Any, content: list[Any]) -> CBORTag:
        name, fields, values = content
        self._enclosing.append(value)
        try:
            lowered = self._list(values)
        except _Refused as refused:
            refused.steps[-1] = fields[refused.steps[-1]]
            raise
        self._enclosing.pop()
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


def _as_received(key: Any, depth: int) -> Any:
    """The key as the other side will decode it. A key that cannot be sent is returned unchanged: the walk refuses it later."""
    kind = type(key)
    if kind in _UNCHANGED_KEYS or not depth:
        return key
    if kind is tuple or kind is frozenset:
        return kind([_as_received(item, depth - 1) for item in key])
    try:
        tag, content = wire.lower(key)
        if tag is None:
            return _as_received(content, depth - 1)
        if tag == tags.RECORD:
            name, fields, values = content
            return Record(name, fields, [_as_received(value, depth - 1) for value in values])
        if tag in ARRAY_TAGS:
            return _Unhashable()
        return wire.lift(tag, content)
    except (TypeError, ValueError):
        return key


class _Unhashable:
    """Stands for an array, which cannot be a key on the other side."""

    __hash__ = None  # type: ignore[assignment]  # Python's way to make instances unhashable


def _check_exponent(value: Decimal) -> None:
    """Refuse a Decimal that the guest's 32-bit libmpdec cannot represent."""
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
    """Format the path to a value as a Python expression: ``params.filters[3].fn``.

    Args:
        root: name of the value at which the path begins.
        steps: indexes and keys from there, outermost first; NO_NAME for an item of a set or a key.
    """
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
