"""What to pass in place of a value: true of it, and found without running its code."""

from __future__ import annotations

import collections
import types
from typing import Any, NoReturn

import pytest

from cloche_wire import remedies
from cloche_wire.values import lower


def exits(*_: Any) -> NoReturn:
    """Code of a value that must not run."""
    raise SystemExit


def test_no_code_of_a_value_runs() -> None:
    """Nor of its class, nor of its metaclass."""

    class Meta(type):
        __getattr__ = exits
        __mro__ = property(exits)  # type: ignore[assignment]
        __dict__ = property(exits)  # type: ignore[assignment]

    class Odd(metaclass=Meta):
        __class__ = property(exits)  # type: ignore[assignment]
        __getattr__ = __getattribute__ = __iter__ = __len__ = __eq__ = __bool__ = __str__ = __repr__ = exits
        __hash__ = None  # type: ignore[assignment]

    assert remedies.of(Odd()) == "list(x)"


def raising(base: type) -> Any:
    """A class whose instances cannot be compared."""

    def refuses(self: Any, other: object) -> NoReturn:
        raise ValueError("no comparing")

    return type("Own", (base,), {"__eq__": refuses, "__hash__": None})


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (raising(str)("abc"), "str(x)"),
        (raising(int)(5), "int(x)"),
        (raising(float)(0.5), "float(x)"),
        (raising(complex)(1j), "complex(x)"),
        (raising(bytes)(b"abc"), "bytes(x)"),
    ],
    ids=lambda value: type(value).__mro__[1].__name__,
)
def test_the_remedy_of_a_value_that_cannot_be_compared_works(value: Any, remedy: str) -> None:
    """It is the value of a type that can be sent, of the same worth."""
    with pytest.raises(TypeError, match="cannot encode .*Own: as a .* it would be another value: pass") as refused:
        lower(value)
    assert str(refused.value).endswith(f"pass {remedy}")
    made = eval(remedy, {"x": value})
    assert type(made) in (str, int, float, complex, bytes)


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (types.SimpleNamespace(a=1), "vars(x)"),
        (collections.UserString("a"), "str(x)"),
        (type("Keys", (), {"keys": lambda self: [1], "__getitem__": lambda self, key: key})(), "dict(x)"),
        (type("Named", (), {"keys": [1]})(), "vars(x), or make its class a dataclass"),
        (type("NoItems", (collections.UserList,), {"__iter__": None})(), ""),
        (slice(1), "(x.start, x.stop, x.step)"),
        (object(), ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_remedy_of_other_values(value: object, remedy: str) -> None:
    assert remedies.of(value) == remedy


def test_a_class_without_a_module_name() -> None:
    kind = type("K", (), {"__iter__": lambda self: iter(())})
    kind.__module__ = 5  # type: ignore[assignment]
    assert remedies.of(kind()) == "list(x)"
