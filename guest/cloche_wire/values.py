"""Values of types that CBOR lacks (dates, decimals, records, arrays ...) to and from tag and content, on host and guest.

`lower` prepares a value for the wire, and trusts it. `lift` makes a value of received content, and trusts nothing: whatever the
content, it returns a value of the tag's type or raises ValueError, in time and memory linear in the content's size.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal, InvalidOperation
from enum import Enum
from fractions import Fraction
from itertools import islice
from typing import Any, Final
from uuid import UUID, SafeUUID

from cloche_wire import arrays, tags, zones
from cloche_wire.cost import Budget
from cloche_wire.record import Record
from cloche_wire.tagged import Opaque, Tagged

_MAX_KEY_DEPTH: Final = 64
_MOST_COPIES: Final = 1_000_000
_ATOMS: Final = frozenset({str, int, float, bool, bytes, type(None)})
MAX_FRACTION_BITS: Final = 4096
"""Maximum bits of a fraction's numerator and denominator, because reducing a fraction takes quadratic time."""

_OFFSET_IN_MICROSECONDS: Final = re.compile(r"(.+)([+-])(\d\d):(\d\d):(\d\d)\.(\d{6})")

Lowered = tuple["int | None", Any]
"""Tag and content; or None and a value of a plainer type that is sent in place of the value."""


def type_name(value: object) -> str:
    """The name of a value's type for error messages: qualified, without ``builtins.``."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def lower(value: Any) -> Lowered:
    """Prepare a value for the wire whose type neither CBOR nor the codecs of host and guest handle themselves.

    Raises:
        TypeError: values of this type cannot be sent.
        ValueError: this value cannot be sent.
    """
    function = _LOWER.get(type(value))
    lowered = function(value) if function else arrays.lower_numpy(value) or _lower_subclass(value)
    lowered = lowered or arrays.lower_exporter(value)
    if lowered is None:
        raise refusal(value)
    return lowered


def refusal(value: object, why: str = "") -> TypeError:
    """The error for a value that cannot be sent: its type, why, and what to pass instead."""
    from cloche_wire import remedies  # only here: few values are refused

    remedy = remedies.of(value)
    parts = [f"cannot encode {type_name(value)}", *([why] if why else []), *([f"pass {remedy}"] if remedy else [])]
    return TypeError(": ".join(parts))


def _lower_subclass(value: Any) -> Lowered | None:
    # `type` and `issubclass`, because `isinstance` believes an object's `__class__`
    kind = type(value)
    if issubclass(kind, Enum):
        return None, value.value
    if dataclasses.is_dataclass(kind):
        _check_only_fields(value)
        return _record(value, names := [field.name for field in dataclasses.fields(kind)], _fields_of(value, names))
    if issubclass(kind, tuple) and type(fields := getattr(kind, "_fields", None)) is tuple:
        return _record(value, list(fields), list(tuple.__iter__(value)))
    for base, function in _BASES:
        if issubclass(kind, base):
            return _as_base(value, base, function)
    return None


def _fields_of(value: object, names: list[str]) -> list[Any]:
    values = []
    for name in names:
        try:
            values.append(getattr(value, name))
        except AttributeError as error:
            raise ValueError(f"the field {name} of this {type_name(value)} has no value") from error
    return values


def _check_only_fields(value: Any) -> None:
    """Refuse a dataclass that has items as well, as a subclass of dict: a record has none."""
    for base, _ in _BASES:
        if issubclass(type(value), base) and (not hasattr(base, "__len__") or base.__len__(value)):
            raise TypeError(
                f"cannot encode {type_name(value)}: it has fields and is a {base.__name__}: pass {base.__name__}(x) or its fields"
            )


def _as_base(value: Any, base: type, lower_base: Callable[[Any], Lowered]) -> Lowered:
    """Check that an instance of a subclass is worth as much as what is sent in its place.

    Raises:
        TypeError: it is not: a time with nanoseconds, for example, or one that stands for "no time".
    """
    if base not in _COMPARED:
        lowered = lower_base(value)
        if base in _CONTAINERS:
            _check_shown(value, base, lowered[1])
        return lowered
    try:
        tag, copy = lowered = lower_base(value)
        if tag is not None:
            copy = lift(tag, copy)
        equal = bool(copy == value or (copy != copy and value != value))
    except Exception:  # the base has no such value, or none to compare with; comparing runs code of the class
        equal = False
    if not equal:
        raise refusal(value, f"as a {base.__name__} it would be another value")
    return lowered


def _check_shown(value: Any, base: Any, copy: Any) -> None:
    """Refuse a container that shows other items than it has, because it overrides how they are read."""
    kind: Any = type(value)
    if base is dict:
        if kind.__getitem__ is dict.__getitem__:
            return
        stored, shown = list(copy.values()), [value[key] for key in copy]
    elif kind.__iter__ is base.__iter__:
        return
    else:
        stored, shown = list(copy), list(islice(iter(value), len(copy) + 1))
    if len(stored) != len(shown) or any(a is not b and a != b for a, b in zip(stored, shown, strict=True)):
        raise TypeError(
            f"cannot encode {type_name(value)}: it shows other items than the {base.__name__} has: pass a {base.__name__} of them"
        )


def refuse_doubles(keys: Iterable[Any]) -> None:
    """Refuse keys of a dict, or items of a set, that would be equal on the other side (e.g. an enum and its value).

    Raises:
        ValueError: two of the keys would be equal.
    """
    found = Arriving(_MOST_COPIES)
    arriving = [found.key(key) for key in keys]
    if len(set(arriving)) != len(arriving):
        raise ValueError("two keys would be the same on the other side: an enum arrives as its value")


class Arriving:
    """Keys as the other side will decode them, as far as enums are concerned.

    A part that comes again is not looked at again, but it is counted: hashing what arrives looks at all of its copies.

    Args:
        copies: how many items may be in parts that come again.
    """

    def __init__(self, copies: int) -> None:
        self._copies = self._left = copies
        self._size = 0
        # with the part itself: a new object could reuse the id of a freed one
        self._done: dict[int, tuple[Any, Any, int]] = {}

    def key(self, key: Any, depth: int = _MAX_KEY_DEPTH) -> Any:
        """What a key, or a part of it, arrives as.

        Args:
            key: the key.
            depth: levels of containers to look into.

        Raises:
            TooManyCopies: it would arrive as more copies than are allowed.
        """
        if type(key) in _ATOMS or not depth:
            return key
        if (known := self._done.get(id(key))) is not None:
            _, arriving, size = known
            self._left -= size
            if self._left < 0:
                raise TooManyCopies(
                    f"what is in several places of a key would be sent as more than {self._copies} items", self._copies
                )
        else:
            before = self._size
            arriving = self._new(key, depth)
            size = 1 + self._size - before
            self._size = before
            self._done[id(key)] = key, arriving, size
        self._size += size
        return arriving

    def _new(self, key: Any, depth: int) -> Any:
        kind = type(key)
        if kind is tuple or kind is frozenset:
            return kind([self.key(item, depth - 1) for item in key])
        return self.key(key.value, depth - 1) if issubclass(kind, Enum) else key


class TooManyCopies(ValueError):
    """A key would be sent as too many items, because parts of it are in several places.

    Attributes:
        allowed: how many items of such parts are allowed.
    """

    def __init__(self, message: str, allowed: int) -> None:
        super().__init__(message)
        self.allowed = allowed


def _record(value: Any, names: list[Any], values: list[Any]) -> Lowered:
    record = Record(type(value).__qualname__, names, values)  # raises ValueError for names that cannot be sent
    return tags.RECORD, [record._name, names, values]


def _zone(value: datetime | time) -> str | None:
    zone = value.tzinfo
    if zone is None:
        return None
    zoneinfo = sys.modules.get("zoneinfo")
    key = zone.key if zoneinfo and isinstance(zone, zoneinfo.ZoneInfo) else None
    if key and zones.is_key(key):
        return str(key)
    if value.utcoffset() is None:
        raise ValueError(
            f"the zone of this {type(value).__name__} has no offset then, and no key: pass it without the zone"
        )
    return None


def _lower_datetime(value: datetime) -> Lowered:
    return tags.DATETIME, [datetime.isoformat(value), value.fold, _zone(value)]


def _lower_time(value: time) -> Lowered:
    return tags.TIME, [time.isoformat(value), value.fold, _zone(value)]


def _lower_fraction(value: Fraction) -> Lowered:
    pair = [value.numerator, value.denominator]
    if max(map(int.bit_length, pair)) > MAX_FRACTION_BITS:
        raise ValueError(f"a fraction of more than {MAX_FRACTION_BITS} bits cannot be sent")
    return tags.FRACTION, pair


_LOWER: Final[dict[type, Callable[[Any], Lowered]]] = {
    Tagged: lambda v: (v.tag, v.content),
    datetime: _lower_datetime,
    date: lambda v: (tags.DATE, date.isoformat(v)),
    time: _lower_time,
    timedelta: lambda v: (tags.TIMEDELTA, [v.days, v.seconds, v.microseconds]),
    Decimal: lambda v: (tags.DECIMAL, Decimal.__str__(v)),
    Fraction: _lower_fraction,
    UUID: lambda v: (tags.UUID, v.bytes),
    complex: lambda v: (tags.COMPLEX, [v.real, v.imag]),
    Record: lambda v: (tags.RECORD, [v._name, list(v._fields), list(v._values)]),
    Opaque: lambda v: (tags.OPAQUE, [v.digest, v.data]),
}
# Instances of subclasses are sent as their base class. datetime must precede date, its base; bool has no subclasses.
# Methods of the base (`int.__pos__` and the like) copy to the exact type even if the subclass overrides them.
_BASES: Final[tuple[tuple[type, Callable[[Any], Lowered]], ...]] = (
    (str, lambda v: (None, str.__str__(v))),
    (int, lambda v: (None, int.__pos__(v))),
    (float, lambda v: (None, float.__pos__(v))),
    (dict, lambda v: (None, dict.copy(v))),
    (list, lambda v: (None, list.copy(v))),
    (tuple, lambda v: (None, tuple.__getitem__(v, slice(None)))),
    (bytes, lambda v: (None, bytes.__getitem__(v, slice(None)))),
    (bytearray, lambda v: (None, bytes(v))),
    (set, lambda v: (None, set().union(v))),
    (frozenset, lambda v: (None, frozenset().union(v))),
    *((kind, function) for kind, function in _LOWER.items() if kind not in (Tagged, Record, Opaque)),
)


_CONTAINERS: Final = frozenset({dict, list, tuple, set, frozenset})
_COMPARED: Final = frozenset({str, int, float, bytes, datetime, date, time, timedelta, complex})
"""Types whose subclasses are compared with what is sent in their place. A decimal may refuse to be compared."""


def lift(tag: int, content: Any, budget: Budget | None = None) -> Any:
    """Make the value of a received tag.

    Args:
        tag: one of LIFTED_TAGS.
        content: content of the tag, already lifted.
        budget: charged for checks that are not linear; None: the sender is trusted.

    Raises:
        ValueError: the tag is none of LIFTED_TAGS, or the content is not valid for it.
        TooCostly: the budget does not suffice.
    """
    if tag in arrays.ARRAY_TAGS:
        return arrays.lift(tag, content, budget)
    if tag == tags.SCALAR:
        return arrays.lift_scalar(content, budget)
    function = _LIFT.get(tag)
    if function is None:
        raise ValueError(f"tag {tag} is not of the protocol")
    return function(content)


def _match(content: Any, *kinds: type | tuple[type, ...]) -> list[Any]:
    """Check that the content is a list of values of exactly these types, one each; a tuple of types allows any of them."""
    if type(content) is list and len(content) == len(kinds):
        for item, kind in zip(content, kinds, strict=True):
            if not (type(item) in kind if isinstance(kind, tuple) else type(item) is kind):
                break
        else:
            return content
    raise ValueError("a tag has content of the wrong type")


def _from_iso(kind: Any, text: str) -> Any:
    split = _OFFSET_IN_MICROSECONDS.fullmatch(text)
    if split is None:
        return kind.fromisoformat(text)
    # `fromisoformat` loses the sign of an offset of less than a second
    start, sign, *parts = split.groups()
    hours, minutes, seconds, microseconds = map(int, parts)
    offset = timedelta(hours=hours, minutes=minutes, seconds=seconds, microseconds=microseconds)
    return kind.fromisoformat(start).replace(tzinfo=timezone(-offset if sign == "-" else offset))


def _lift_iso(kind: Any, text: Any) -> Any:
    """Parse a date or time, but only in the spelling that `isoformat` writes: `fromisoformat` accepts many others."""
    if type(text) is str and len(text) <= 64:
        value = _from_iso(kind, text)
        if value.isoformat() == text:
            return value
    raise ValueError(f"not a {kind.__name__} in ISO 8601 in Python's notation")


def _in_zone(value: Any, fold: int, key: str | None) -> Any:
    """Put a datetime or time into the zone.

    It keeps its fixed offset if this machine does not know the zone, or knows another offset then: it stays the same moment.
    """
    if fold not in (0, 1):
        raise ValueError("fold is 0 or 1")
    if fold:
        value = value.replace(fold=fold)
    zone = None if key is None else zones.find(key)
    moved = value if zone is None else value.replace(tzinfo=zone)
    return moved if moved.utcoffset() == value.utcoffset() else value


def _lift_datetime(content: Any) -> datetime:
    text, fold, key = _match(content, str, int, (str, type(None)))
    value: datetime = _in_zone(_lift_iso(datetime, text), fold, key)
    return value


def _lift_time(content: Any) -> time:
    text, fold, key = _match(content, str, int, (str, type(None)))
    value: time = _in_zone(_lift_iso(time, text), fold, key)
    return value


def _lift_timedelta(content: Any) -> timedelta:
    parts = _match(content, int, int, int)
    try:
        value = timedelta(*parts)
    except OverflowError:
        raise ValueError("a timedelta out of range") from None
    if [value.days, value.seconds, value.microseconds] != parts:
        raise ValueError("a timedelta has less than a day of seconds and less than a second of microseconds")
    return value


def _lift_decimal(content: Any) -> Decimal:
    if type(content) is str and content.isascii() and "_" not in content and content.strip() == content:
        try:
            return Decimal(content)
        except InvalidOperation:
            pass
    raise ValueError("not a decimal in Python's notation")


def _lift_fraction(content: Any) -> Fraction:
    numerator, denominator = _match(content, int, int)
    if max(numerator.bit_length(), denominator.bit_length()) > MAX_FRACTION_BITS or denominator < 1:
        raise ValueError(f"a fraction has a denominator above 0 and at most {MAX_FRACTION_BITS} bits")
    return Fraction(numerator, denominator)


def _lift_uuid(content: Any) -> UUID:
    if type(content) is not bytes or len(content) != 16:
        raise ValueError("a UUID has 16 bytes")
    value = object.__new__(UUID)  # what UUID(bytes=content) does, in a third of the time
    object.__setattr__(value, "int", int.from_bytes(content, "big"))
    object.__setattr__(value, "is_safe", SafeUUID.unknown)
    return value


_LIFT: Final[dict[int, Callable[[Any], Any]]] = {
    tags.DATETIME: _lift_datetime,
    tags.DATE: lambda content: _lift_iso(date, content),
    tags.TIME: _lift_time,
    tags.TIMEDELTA: _lift_timedelta,
    tags.DECIMAL: _lift_decimal,
    tags.FRACTION: _lift_fraction,
    tags.UUID: _lift_uuid,
    tags.COMPLEX: lambda content: complex(*_match(content, float, float)),
    tags.RECORD: lambda content: Record(*_match(content, str, list, list)),
    tags.OPAQUE: lambda content: Opaque(*_match(content, bytes, bytes)),
}
LIFTED_TAGS: Final = arrays.ARRAY_TAGS | {tags.SCALAR, *_LIFT}
