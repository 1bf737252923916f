"""Prepares values for cbor2: types that CBOR lacks become tags with content, and large bodies move out of line.

docs/reference/wire.md has the table of tags.

`is_flat` and `is_plain` recognise values that cbor2 can write unchanged, which is nearly every call. All others take one walk of
`Lowering`, which also refuses what cannot be sent: cycles, nesting beyond `value_depth`, unknown types, and dicts or sets whose
keys would become equal by being sent.

A value becomes a tree: what is in several places is sent in each. Such a tree can be exponentially larger than the value. So a
container that comes again is not walked again, its items are counted against `value_nodes`, and `request_bytes` holds while bytes
are made, not only at the end.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar, Final
from uuid import UUID

from cbor2 import CBORTag

from cloche._codec.cbor import TooLarge
from cloche._codec.optional_numpy import load_numpy
from cloche.errors import EncodeError
from cloche_wire import Op, abi, tags
from cloche_wire import values as wire
from cloche_wire.arrays import ARRAY_TAGS
from cloche_wire.record import Record

__all__ = ["ATOMS", "CONVERSIONS", "NO_NAME", "UNCOMPARABLE", "Lowering", "comes_again", "is_flat", "is_plain", "path"]

ATOMS: Final = frozenset({int, float, bool, type(None)})
"""Types that cbor2 writes unchanged, whatever the value."""
_NUMBERS: Final = frozenset({int, float})
_INTEGERS: Final = {int}
_FLOATS: Final = {float}
_LARGE: Final = abi.OUT_OF_LINE_BYTES
UNCOMPARABLE: Final = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, Warning)
"""What hashing and comparing keys can raise. Examples: a list has no hash; a Decimal cannot be compared with a numpy integer; numpy
issues warnings, which may be errors."""
CONVERSIONS: Final = "an enum arrives as its value, an object as its fields, a subclass as its base"
_UNCHANGED_KEYS: Final = ATOMS | {str, bytes, complex, date, datetime, time, timedelta, Decimal, Fraction, UUID}
"""Types whose values are sent unchanged, so that distinct keys stay distinct."""
_SCALARS: Final = ATOMS | {str, bytes}
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


def is_plain(container: Any, depth: int, found: list[int]) -> bool:
    """Whether cbor2 can write a container unchanged: only lists, dicts with text keys, short texts and bytes, and ATOMS are in it.

    False as well if the nesting is deeper than `depth` (as a cycle is), or if there are too many items. A text with lone surrogates
    counts as plain; cbor2 then raises UnicodeEncodeError. This is the hot path of every call: 40 ns for each item, where having
    cbor2 call an encoder for tuples and the like takes 130 ns.

    Args:
        container: a list or dict.
        depth: levels of containers allowed, this one included.
        found: two numbers that are updated: how many items more are allowed (negative afterwards: there are too many), and whether
            there is a list.
    """
    left = found[0] = found[0] - len(container)
    if left < 0 or not depth:
        return False
    items = container
    if type(container) is dict:
        for name in container:
            if type(name) is not str:
                return False
        items = container.values()
    elif len(container) >= abi.NUMBERS_SHORTEST and type(container[0]) in _NUMBERS and type(container[-1]) in _NUMBERS:
        return False  # probably all numbers: `Lowering` packs them into one byte string, which is faster than checking each
    else:
        found[1] = True
    for item in items:
        kind = type(item)
        if kind in ATOMS:
            continue
        if kind is str or kind is bytes:
            if len(item) >= _LARGE:
                return False
        elif kind is dict or kind is list:
            if not is_plain(item, depth - 1, found):
                return False
        else:
            return False
    return True


def comes_again(container: Any) -> bool:
    """Whether a list or dict is in the value twice. It looks only into exact lists and dicts, and takes linear time."""
    seen, left = {id(container)}, [container]
    while left:
        outer = left.pop()
        for item in outer.values() if type(outer) is dict else outer:
            kind = type(item)
            if kind is dict or kind is list:
                if id(item) in seen:
                    return True
                seen.add(id(item))
                left.append(item)
    return False


_Known = tuple[Any, int, int]
"""What a container became (None: it has bodies), how many items are in it, and the depth that was allowed there."""
_OPEN: Final[_Known] = (None, 0, 0)
"""Stands for a container that the walk is inside of."""
_FLAT: Final[_Known] = (None, 1, 0)
"""Stands for a container without others in it: not worth keeping what it became."""


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
        copies: items that may be sent again, because what they are in is in several places (`value_nodes`).
        room: bytes that the message may take (`request_bytes`).
        shared: see `Codec`.

    Attributes:
        items: items so far.
        bodies: pairs of a buffer to place in guest memory and the list ``[address, length]`` that stands for the buffer in the
            lowered message. The caller fills in each address before it writes the message.
        outside: bytes of all bodies.
    """

    def __init__(self, depth: int, copies: int, room: int, shared: Callable[[memoryview], int] | None = None) -> None:
        self._shared = shared
        self.items = 0
        self._copies = self._max_copies = copies
        self._room = self._max_room = room
        self.bodies: list[tuple[Any, list[int]]] = []
        self.outside = 0
        self._depth = self._max_depth = depth
        self._known: dict[int, _Known] = {}
        # keeps temporary objects alive: a new object could reuse the id of a freed one in `_known`
        self._held: list[Any] = []
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
            TooLarge: it takes more bytes than there is room for.
        """
        try:
            self._depth -= 1
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
        if kind is bytes or kind is bytearray:
            return self._bytes(value)
        known = self._known.get(id(value))
        if known is not None and (again := self._again(value, known)) is not None:
            return again
        lower = self._CONTAINERS.get(kind)
        return self._other(value) if lower is None else self._container(value, lower)

    def _container(self, value: Any, lower: Callable[[Lowering, Any], Any]) -> Any:
        """Lower a container, one level deeper if `value_depth` allows, and keep what it became, for when it comes again."""
        known, key = self._known, id(value)
        known[key] = _OPEN
        depth, items, outside = self._depth, self.items, self.outside
        if not depth:
            allowed = self._max_depth
            raise _Refused(
                f"nested more than {allowed} containers deep (value_depth)",
                {"limit": "value_depth", "value": allowed, "reached": allowed + 1},
            )
        self._depth = depth - 1
        self._substitutes = 0
        size = len(value)
        self.items = items + size
        lowered = lower(self, value)
        self._depth = depth
        count = self.items - items
        # a body belongs to one place: the guest frees it when that part of the value dies
        known[key] = _FLAT if count == size else (lowered if self.outside == outside else None, count, depth)
        return lowered

    def _stand_in(self, value: Any, lower: Callable[[Lowering, Any], Any], content: Any) -> Any:
        """As `_container`, for an object that is sent as its content, which is a container."""
        known, key = self._known, id(value)
        known[key] = _OPEN
        depth, items, outside = self._depth, self.items, self.outside
        lowered = lower(self, content)
        known[key] = (lowered if self.outside == outside else None, self.items - items, depth)
        return lowered

    def _again(self, value: Any, known: _Known) -> Any:
        """What a container became before, if it can be sent as that again. None: it has to be lowered again.

        Deeper inside than before, it may pass `value_depth`. So no container is lowered more than `value_depth` times, but for
        those with bodies, which `request_bytes` bounds.
        """
        if known is _OPEN:
            raise _Refused(f"a cycle: this {wire.type_name(value)} contains itself")
        lowered, items, depth = known
        if known is _FLAT:
            self._copies -= len(value)
        elif depth > self._depth:
            lowered = None
        if lowered is not None:
            self.items += items
        self._copies -= 1 if lowered is None else 1 + items
        if self._copies < 0:
            allowed = self._max_copies
            raise _Refused(
                f"what is in several places would be sent as more than {allowed} items (value_nodes)",
                {"limit": "value_nodes", "value": allowed, "reached": allowed - self._copies},
            )
        return lowered

    def _charge(self, size: int) -> None:
        """Spend bytes of the message's limit, before they are made."""
        self._room -= size
        if self._room < 0:
            raise TooLarge(self._max_room - self._room)

    def _text(self, text: str) -> Any:
        if not text.isascii():
            try:
                data = text.encode()
            except UnicodeEncodeError:
                self._charge(len(text))
                return CBORTag(tags.SURROGATES, text.encode("utf-8", "surrogatepass"))
            return self._body(tags.TEXT_AT, data) if len(data) >= _LARGE else text
        return self._body(tags.TEXT_AT, text.encode()) if len(text) >= _LARGE else text

    def _bytes(self, data: bytes | bytearray) -> Any:
        if len(data) >= _LARGE:
            return self._body(tags.BYTES_AT, data)
        if type(data) is not bytes:
            self._charge(len(data))
        return bytes(data)

    def _array_body(self, buffer: Any) -> Any:
        view = memoryview(buffer)
        if self._shared is not None and (address := self._shared(view)):
            return CBORTag(tags.SHARED_AT, [address, view.nbytes])
        if view.nbytes >= _LARGE:
            return self._body(tags.BODY_AT, view)
        self._charge(view.nbytes)
        return view.tobytes()

    def _body(self, tag: int, data: Any) -> CBORTag:
        size = memoryview(data).nbytes
        self._charge(size)
        place = [0, size]
        self.bodies.append((data, place))
        self.outside += size
        return CBORTag(tag, place)

    def _numbers(self, items: list[Any]) -> CBORTag | None:
        """Pack a long list of only 64-bit integers, or only floats, into one byte string; None for any other list."""
        if len(items) < abi.NUMBERS_SHORTEST or 8 * len(items) > self._room:
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
        lowered: list[Any] = []
        try:
            for item in items:
                lowered.append(item if type(item) in ATOMS else self._value(item))  # noqa: PERF401  # for the handler
        except _Refused as refused:
            refused.steps.append(len(lowered))
            raise
        return lowered

    def _list_or_numbers(self, items: list[Any]) -> Any:
        return self._numbers(items) or self._list(items)

    def _tuple(self, items: tuple[Any, ...]) -> CBORTag:
        return CBORTag(tags.TUPLE, self._list(items))

    def _set(self, items: set[Any] | frozenset[Any]) -> CBORTag:
        self._check_distinct(items)
        try:
            lowered = [self._value(item) for item in items]
        except _Refused as refused:
            refused.steps.append(NO_NAME)
            raise
        return CBORTag(tags.SET if type(items) is set else tags.FROZENSET, lowered)

    def _dict(self, mapping: dict[Any, Any]) -> Any:
        key: Any = NO_NAME
        plain = all(type(key) is str and (key.isascii() or _is_utf8(key)) for key in mapping)
        lowered: dict[str, Any] = {}
        flat: list[Any] = []
        if not plain:
            self._check_distinct(mapping)
        try:
            for key, value in mapping.items():  # the handler below uses `key`
                if plain:
                    lowered[key] = value if type(value) in ATOMS else self._value(value)
                else:
                    flat += self._key(key), self._value(value)
        except _Refused as refused:
            refused.steps.append(key)
            raise
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
        found = _Received(self._max_copies)
        try:
            received = [found.key(key, self._depth) for key in keys]
        except wire.TooManyCopies as error:
            allowed = error.allowed
            raise _Refused(
                f"{error} (value_nodes)", {"limit": "value_nodes", "value": allowed, "reached": allowed + 1}
            ) from None
        try:
            different = len(set(received)) == len(received)
        except UNCOMPARABLE as error:
            raise _Refused(f"a key would have no hash, or could not be compared, on the other side: {error}") from None
        if not different:
            raise _Refused(f"two keys would be the same on the other side: {CONVERSIONS}")

    def _other(self, value: Any) -> Any:
        """Lower a value of a type that only `cloche_wire.values.lower` knows, or a subclass."""
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
            if type(content) in _SCALARS:  # may come as often as it likes
                return self._value(content)
            return self._stand_in(value, Lowering._substitute, content)
        if tag == tags.RECORD:
            return self._stand_in(value, Lowering._record, content)
        return self._tag(tag, content)

    def _substitute(self, content: Any) -> Any:
        substitutes = self._substitutes
        self._substitutes += 1
        lowered = self._value(content)
        self._substitutes = substitutes
        return lowered

    def _record(self, content: list[Any]) -> CBORTag:
        name, fields, values = content
        try:
            lowered = self._container(values, Lowering._list)
        except _Refused as refused:
            if refused.steps:  # else the record itself is too deep inside
                refused.steps[-1] = fields[refused.steps[-1]]
            raise
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
        elif type(content) is str:  # of a decimal, for example
            self._charge(len(content))
        return CBORTag(tag, content)

    _CONTAINERS: ClassVar[dict[type, Callable[[Lowering, Any], Any]]] = {
        list: _list_or_numbers,
        dict: _dict,
        tuple: _tuple,
        set: _set,
        frozenset: _set,
    }


class _Received(wire.Arriving):
    """Keys as the other side will decode them. A key that cannot be sent stays unchanged: the walk refuses it later."""

    def _new(self, key: Any, depth: int) -> Any:
        kind = type(key)
        if kind in _UNCHANGED_KEYS:
            return key
        if kind is tuple or kind is frozenset:
            return super()._new(key, depth)
        try:
            tag, content = wire.lower(key)
            if tag is None:
                return self.key(content, depth - 1)
            if tag == tags.RECORD:
                name, fields, values = content
                return Record(name, fields, [self.key(value, depth - 1) for value in values])
            if tag in ARRAY_TAGS:
                return _Unhashable()
            return wire.lift(tag, content)
        except wire.TooManyCopies:
            raise
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
