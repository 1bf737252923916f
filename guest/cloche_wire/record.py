"""`Record`: the receiver's substitute for a dataclass or namedtuple, whose class it does not have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NoReturn

MAX_NAME: Final = 256
"""Maximum characters of the class name and of each field's name."""


class Record:
    """Immutable, ordered, named values: ``record.x``, ``record["x"]``, ``record[0]``, ``x, y = record``.

    Fields are attributes, so the record's own methods and attributes begin with an underscore, like those of a namedtuple. Two
    records are equal if their class names, fields and values are equal.

    Args:
        name: qualified name of the sender's class. Untrusted text if a guest has sent it.
        fields: names of the fields: distinct identifiers.
        values: one value for each field.

    Raises:
        ValueError: a field is not an identifier, two fields have the same name, or the number of values is wrong.
    """

    __slots__ = ("_fields", "_name", "_values")
    _fields: tuple[str, ...]
    _name: str
    _values: tuple[Any, ...]

    def __init__(self, name: str, fields: Iterable[str], values: Iterable[Any]) -> None:
        names, items = tuple(fields), tuple(values)
        if len(names) != len(items):
            raise ValueError("a record has one value for each field")
        if type(name) is not str or len(name) > MAX_NAME or not name.isprintable():
            raise ValueError("a record has a printable name")
        for field in names:
            if type(field) is not str or len(field) > MAX_NAME or not field.isidentifier():
                raise ValueError("a record's fields are identifiers")
        # after the check above all names are texts, whose hashes a guest cannot make collide
        if len(set(names)) != len(names):
            raise ValueError("two fields of a record have the same name")
        set_slot = object.__setattr__
        set_slot(self, "_name", name)
        set_slot(self, "_fields", names)
        set_slot(self, "_values", items)

    def _asdict(self) -> dict[str, Any]:
        """Field -> value, in order."""
        return dict(zip(self._fields, self._values, strict=True))

    def __getattr__(self, name: str) -> Any:
        if name not in Record.__slots__ and name in self._fields:
            return self._values[self._fields.index(name)]
        raise AttributeError(f"record {'?' if name in Record.__slots__ else self._name} has no field {name!r}")

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            if key in self._fields:
                return self._values[self._fields.index(key)]
            raise KeyError(key)
        return self._values[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a record is immutable")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a record is immutable")

    def __eq__(self, other: object) -> bool:
        if type(other) is not Record:
            return NotImplemented
        return (self._name, self._fields, self._values) == (other._name, other._fields, other._values)

    def __hash__(self) -> int:
        return hash((self._name, self._fields, self._values))

    def __reduce__(self) -> tuple[type[Record], tuple[str, tuple[str, ...], tuple[Any, ...]]]:
        return Record, (self._name, self._fields, self._values)

    def __repr__(self) -> str:
        return f"{self._name}({', '.join(f'{k}={v!r}' for k, v in self._asdict().items())})"
