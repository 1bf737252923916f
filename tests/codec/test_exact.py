"""A value arrives equal and as a type that docs/reference/types.md names, or it is refused: with its path, and what to pass instead."""

from __future__ import annotations

import argparse
import array
import collections
import dataclasses
import enum
import importlib
import io
import ipaddress
import pathlib
import re
import types
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloche import EncodeError
from cloche._codec.codec import Codec
from cloche_wire import tags
from cloche_wire.record import Record
from cloche_wire.values import lift

from . import strategies as s

BERLIN = ZoneInfo("Europe/Berlin")


class Exact(datetime):
    """As pandas' Timestamp: a datetime with nanoseconds."""

    nanosecond = 0

    def __eq__(self, other: object) -> bool:
        return datetime.__eq__(self, other) and not self.nanosecond

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = datetime.__hash__


class Never(datetime):
    """As pandas' NaT: equal to nothing."""

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Far(datetime):
    """As a Timestamp of the year 20000."""

    def isoformat(self, *_: Any) -> str:  # type: ignore[override]
        return "20000-01-01T00:00:00"

    def __eq__(self, other: object) -> bool:
        raise ValueError("year 20000 is out of range")

    __hash__ = datetime.__hash__


class Long(timedelta):
    """As pandas' Timedelta: with nanoseconds."""

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    __hash__ = timedelta.__hash__


class Unknown(tzinfo):
    """A zone whose offset depends on the day: a time has none."""

    def utcoffset(self, when: datetime | None) -> timedelta | None:
        return None if when is None else timedelta(hours=1)

    def dst(self, when: datetime | None) -> None:
        return None

    def tzname(self, when: datetime | None) -> str:
        return "somewhere"


class Quantity(np.ndarray):
    """An array with a unit."""


def with_unit() -> np.ndarray:
    quantity = np.zeros(2).view(Quantity)
    quantity.unit = "m"  # type: ignore[attr-defined]
    return quantity


class Showing(list):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[Any]:
        return iter([9])


class Endless(list):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[Any]:
        while True:
            yield 1


class Doubling(dict):  # type: ignore[type-arg]
    def __getitem__(self, key: Any) -> Any:
        return 2 * super().__getitem__(key)


class Counting(dict):  # type: ignore[type-arg]
    """Overrides how items are read, and shows those that it has."""

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key)


class Pretender:
    """What a proxy or a mock says of itself."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return dict


@dataclasses.dataclass
class Both(dict):  # type: ignore[type-arg]
    x: int = 0


@dataclasses.dataclass(slots=True)
class Unset:
    x: int = dataclasses.field(init=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: int
    y: int = dataclasses.field(init=False, default=2)
    z: dataclasses.InitVar[int] = 3


class Permission(enum.Flag):
    READ = 1
    WRITE = 2


def foreign(module: str, name: str, *bases: type) -> Any:
    """An object that has the name of another library's."""
    return type(name, bases, {"__module__": module, "__qualname__": name})()


def both(items: Any) -> Any:
    items.update(k=1)
    return items


NS = 'pass x.to_datetime64(), or x.floor("us") without its nanoseconds'
REFUSED: dict[str, tuple[Any, str]] = {
    "nanoseconds": ([Exact(2024, 1, 1), (late := Exact(2024, 1, 2))], "Exact: as a datetime it would be another value"),
    "no time": (Never(1, 1, 1), "Never: as a datetime it would be another value"),
    "year 20000": (Far(1, 1, 1), "Far: as a datetime it would be another value"),
    "long timedelta": (Long(5), "Long: as a timedelta it would be another value"),
    "time in a zone without offset": (
        time(12, tzinfo=Unknown()),
        "the zone of this time has no offset then, and no key: pass it without the zone",
    ),
    "array with a unit": (with_unit(), "Quantity: it is more than an array: pass numpy.asarray(x)"),
    "list that shows others": (Showing([1]), "Showing: it shows other items than the list has: pass a list of them"),
    "list that has no end": (Endless([1]), "Endless: it shows other items than the list has: pass a list of them"),
    "dict that shows others": (Doubling(a=1), "Doubling: it shows other items than the dict has: pass a dict of them"),
    "dict and dataclass": (both(Both(1)), "Both: it has fields and is a dict: pass dict(x) or its fields"),
    "field without a value": (Unset(), "the field x of this tests.codec.test_exact.Unset has no value"),
    "class of another": (Pretender(), "Pretender: pass vars(x), or make its class a dataclass"),
    "range": (range(3), "cannot encode range: pass list(x)"),
    "deque": (collections.deque([1], 3), "cannot encode collections.deque: pass list(x)"),
    "keys": ({1: 2}.keys(), "cannot encode dict_keys: pass list(x)"),
    "values": ({1: 2}.values(), "cannot encode dict_values: pass list(x)"),
    "items": ({1: 2}.items(), "cannot encode dict_items: pass list(x)"),
    "map": (map(str, []), "cannot encode map: pass list(x)"),
    "generator": ((x for x in ()), "cannot encode generator: pass list(x)"),
    "mappingproxy": (types.MappingProxyType({}), "cannot encode mappingproxy: pass dict(x)"),
    "UserDict": (collections.UserDict(), "cannot encode collections.UserDict: pass dict(x)"),
    "ChainMap": (collections.ChainMap(), "cannot encode collections.ChainMap: pass dict(x)"),
    "UserList": (collections.UserList(), "cannot encode collections.UserList: pass list(x)"),
    "UserString": (collections.UserString(""), "cannot encode collections.UserString: pass str(x)"),
    "SimpleNamespace": (types.SimpleNamespace(a=1), "cannot encode types.SimpleNamespace: pass vars(x)"),
    "Namespace": (argparse.Namespace(), "cannot encode argparse.Namespace: pass vars(x)"),
    "path": (pathlib.PurePosixPath("a"), ".PurePosixPath: pass str(x)"),
    "address": (ipaddress.ip_address("::1"), "cannot encode ipaddress.IPv6Address: pass str(x)"),
    "network": (ipaddress.ip_network("10.0.0.0/8"), "cannot encode ipaddress.IPv4Network: pass str(x)"),
    "pattern": (re.compile("a"), "cannot encode re.Pattern: pass x.pattern"),
    "zone": (BERLIN, "cannot encode zoneinfo.ZoneInfo: pass x.key"),
    "timezone": (UTC, "cannot encode datetime.timezone: pass str(x)"),
    "exception": (KeyError("x"), "cannot encode KeyError: pass str(x)"),
    "BytesIO": (io.BytesIO(), "cannot encode _io.BytesIO: pass x.getvalue()"),
    "slice": (slice(1), "cannot encode slice: pass (x.start, x.stop, x.step)"),
    "object array": (np.array([None]), "cannot encode an array of dtype object: pass x.tolist()"),
    "longdouble": (np.longdouble(1), f'of dtype {np.dtype(np.longdouble)}: pass x.astype("f8")'),
    "clongdouble": (np.zeros(2, np.clongdouble), f'of dtype {np.dtype(np.clongdouble)}: pass x.astype("c16")'),
    "StringDType": (np.array(["a"], np.dtypes.StringDType()), 'of dtype StringDType(): pass x.astype("U")'),
    "masked": (np.ma.masked_array([1], [1]), "cannot encode a masked array: send .filled(), or .data and .mask"),
    "masked item": (np.ma.masked, "cannot encode a masked array: send .filled(), or .data and .mask"),
    "DataFrame": (foreign("pandas", "DataFrame"), 'cannot encode pandas.DataFrame: pass x.to_dict("records")'),
    "old DataFrame": (foreign("pandas.core.frame", "DataFrame"), 'DataFrame: pass x.to_dict("records")'),
    "Series": (foreign("pandas", "Series"), "cannot encode pandas.Series: pass x.to_list() or x.to_numpy()"),
    "NA": (foreign("pandas._libs.missing", "NAType"), "NAType: pass None"),
    "table": (foreign("pyarrow.lib", "Table"), "cannot encode pyarrow.lib.Table: pass x.to_pylist()"),
    "scalar of arrow": (foreign("pyarrow.lib", "Scalar"), "cannot encode pyarrow.lib.Scalar: pass x.as_py()"),
    "polars": (foreign("polars.dataframe.frame", "DataFrame"), "frame.DataFrame: pass x.to_dicts()"),
    "image": (foreign("PIL.Image", "Image"), "cannot encode PIL.Image.Image: pass numpy.asarray(x)"),
    "sparse": (foreign("scipy.sparse._base", "_spbase"), "_spbase: pass x.toarray()"),
    "struct": (foreign("msgspec", "Struct"), "cannot encode msgspec.Struct: pass msgspec.to_builtins(x)"),
    "pydantic 1": (foreign("pydantic.main", "BaseModel"), "cannot encode pydantic.main.BaseModel: pass x.dict()"),
}  # fmt: skip
late.nanosecond = 7  # type: ignore[attr-defined]
PATHS = {"nanoseconds": "[1]"}


def check_both(native: Any, codec: Codec, value: Any, text: str, path: str = "") -> None:
    for wrap, step in ((lambda x: x, ""), (lambda x: {"a": [(x,)]}, ".a[0][0]")):
        with pytest.raises(EncodeError) as host:
            codec.encode([2, 7, wrap(value)], "data")
        assert host.value.path == f"data{step}{path}"
        assert str(host.value).startswith(f"data{step}{path}: ")
        assert str(host.value).endswith(text)
        assert "\n" not in str(host.value)
        with pytest.raises((TypeError, ValueError)) as guest:
            native.reply([0, wrap(value)])
        assert str(guest.value) == str(host.value).replace("data", "result", 1)


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_change_is_refused(native: Any, codec: Codec, name: str) -> None:
    """Word for word the same in both directions, with the path once and what to pass instead."""
    value, text = REFUSED[name]
    check_both(native, codec, value, text, PATHS.get(name, ""))


LIBRARIES: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "NaT": ("pandas", lambda m: m.NaT, 'pass None or numpy.datetime64("NaT")'),
    "NaT in records": (
        "pandas",
        lambda m: m.DataFrame({"seen": m.to_datetime(["2024-01-01", None])}).to_dict("records")[1]["seen"],
        'pass None or numpy.datetime64("NaT")',
    ),
    "Timestamp": ("pandas", lambda m: m.Timestamp("2024-01-01 00:00:00.000000001"), NS),
    "far Timestamp": ("pandas", lambda m: m.Timestamp(np.datetime64("20000-01-01", "s")), NS),
    "Timedelta": ("pandas", lambda m: m.Timedelta(1, "ns"), NS.replace("datetime", "timedelta")),
    "DataFrame": ("pandas", lambda m: m.DataFrame(), 'pass x.to_dict("records")'),
    "Series": ("pandas", lambda m: m.Series([1]), "pass x.to_list() or x.to_numpy()"),
    "Index": ("pandas", lambda m: m.Index([1]), "pass x.to_list() or x.to_numpy()"),
    "Categorical": ("pandas", lambda m: m.Categorical(["a"]), "pass x.tolist() or x.to_numpy()"),
    "NA": ("pandas", lambda m: m.NA, "pass None"),
    "Table": ("pyarrow", lambda m: m.table({"a": [1]}), "pass x.to_pylist()"),
    "Array": ("pyarrow", lambda m: m.array([1, None]), "pass x.to_pylist()"),
    "Scalar": ("pyarrow", lambda m: m.scalar(1), "pass x.as_py()"),
    "polars": ("polars", lambda m: m.DataFrame({"a": [1]}), "pass x.to_dicts()"),
    "palette": (
        "PIL.Image",
        lambda m: m.new("P", (2, 1)),
        'cannot encode an image with a palette: pass numpy.asarray(x.convert("RGBA"))',
    ),
    "sparse": ("scipy.sparse", lambda m: m.coo_array(np.eye(2)), "pass x.toarray()"),
    "bfloat16": ("ml_dtypes", lambda m: np.zeros(2, m.bfloat16), 'of dtype bfloat16: pass x.astype("f4")'),
    "float8": ("ml_dtypes", lambda m: m.float8_e4m3fn(1), 'of dtype float8_e4m3fn: pass x.astype("f4")'),
    "msgspec": ("msgspec", lambda m: m.defstruct("P", [("x", int)])(1), "pass msgspec.to_builtins(x)"),
    "attrs": ("attrs", lambda m: m.make_class("P", ["x"])(1), "pass attrs.asdict(x)"),
    "pydantic": ("pydantic", lambda m: m.create_model("P", x=(int, 1))(), "pass x.model_dump()"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIBRARIES)
def test_other_libraries_values_are_refused(native: Any, codec: Codec, name: str) -> None:
    """The real ones, where they are installed."""
    module, make, text = LIBRARIES[name]
    library = pytest.importorskip(module)
    check_both(native, codec, make(library), text)


CARRIED: dict[str, tuple[Any, Any]] = {
    "datetime of another class": (Exact(2024, 1, 1, 12, tzinfo=BERLIN, fold=1), datetime(2024, 1, 1, 12, tzinfo=BERLIN, fold=1)),
    "second of an hour twice": (
        datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1), datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1)
    ),
    "offset below a second": (
        x := datetime(2024, 1, 1, tzinfo=timezone(timedelta(seconds=-1, microseconds=5))), x
    ),
    "another tzinfo": (datetime(2024, 1, 1, tzinfo=Unknown()), datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
    "time in a zone": (time(12, tzinfo=BERLIN), time(12, tzinfo=BERLIN)),
    "time with an offset": (y := time(12, tzinfo=timezone(timedelta(minutes=-90))), y),
    "flag": (Permission.READ | Permission.WRITE, 3),
    "IntEnum": (enum.IntEnum("E", "A").A, 1),
    "OrderedDict": (collections.OrderedDict([("b", 1), ("a", 2)]), {"b": 1, "a": 2}),
    "defaultdict": (collections.defaultdict(list, a=[1]), {"a": [1]}),
    "Counter": (collections.Counter("aab"), {"a": 2, "b": 1}),
    "dict that shows what it has": (Counting(a=[1]), {"a": [1]}),
    "NaN of a subclass": (type("F", (float,), {})("nan"), float("nan")),
    "signalling NaN": (Decimal("sNaN12"), Decimal("sNaN12")),
    "negative zero": (Decimal("-0E+5"), Decimal("-0E+5")),
    "complex zeros": (complex(-0.0, float("nan")), complex(-0.0, float("nan"))),
    "subnormal": (5e-324, 5e-324),
    "fraction": (Fraction(-1, 3), Fraction(-1, 3)),
    "NUL at the end of a numpy.str_": (np.str_("a\0"), "a\0"),
    "NUL at the end of a numpy.bytes_": (np.bytes_(b"\0"), b"\0"),
    "NaT of numpy": (np.datetime64("NaT", "25s"), np.datetime64("NaT", "25s")),
    "nanoseconds of numpy": (np.datetime64("2024-01-01T00:00:00.123456789"), np.datetime64("2024-01-01T00:00:00.123456789")),
    "timedelta without a unit": (np.timedelta64(3), np.timedelta64(3)),
    "matrix": (np.array([[1, 2]]).view(np.matrix), np.array([[1, 2]])),
    "ndarray of another class": (np.zeros(2).view(Quantity), np.zeros(2)),
    "every second byte": (memoryview(bytes(range(6)))[::2], None),
    "array.array": (array.array("d", [1.5]), np.array([1.5])),
    "frozen dataclass": (Frozen(1), Record("Frozen", ["x", "y"], [1, 2])),
    "dict and dataclass, without items": (Both(1), Record("Both", ["x"], [1])),
}  # fmt: skip


@pytest.mark.parametrize("name", CARRIED)
def test_what_arrives_is_worth_the_same(crossing: Callable[[Any], Any], name: str) -> None:
    """In type and value as docs/reference/types.md has it."""
    sent, arrives = CARRIED[name]
    if arrives is None:
        assert crossing(sent).tolist() == [0, 2, 4]
    else:
        assert s.same(crossing(sent), arrives)


UNITS = ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as", "10us", "25s", "generic")


@pytest.mark.parametrize("kind", ["M8", "m8"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("unit", UNITS)
def test_numpys_times_keep_their_unit(crossing: Callable[[Any], Any], kind: str, order: str, unit: str) -> None:
    """Scalars and arrays, NaT too: they carry what datetime cannot."""
    values = np.array([0, 1, -1, (1 << 63) - 1, -(1 << 63)], "i8")
    dtype = np.dtype(f"{order}{kind}" + ("" if unit == "generic" else f"[{unit}]"))
    sent = values.view(np.dtype(dtype).newbyteorder("=")).astype(dtype)
    assert s.same(crossing(sent), sent)
    for scalar in sent:
        assert s.same(crossing(scalar), scalar)


def test_a_zone_of_another_offset_does_not_move_a_moment() -> None:
    """Sender and receiver may have other data of a zone; or the sender lies."""
    right = lift(tags.DATETIME, ["2024-07-01T12:00:00+02:00", 0, "Europe/Berlin"])
    assert right.tzinfo is BERLIN or right.tzinfo.key == "Europe/Berlin"
    other = lift(tags.DATETIME, ["2024-07-01T12:00:00+05:00", 0, "Europe/Berlin"])
    assert other.tzinfo == timezone(timedelta(hours=5))
    naive = lift(tags.DATETIME, ["2024-07-01T12:00:00", 0, "Europe/Berlin"])
    assert naive.tzinfo is None


odd_moments = st.builds(
    lambda base, delta, kind: (kind(base.year, base.month, base.day, base.hour, tzinfo=base.tzinfo), delta),
    st.datetimes(timezones=s.zones), st.integers(0, 3), st.sampled_from([datetime, Exact]),
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(odd_moments)
def test_a_subclass_arrives_equal_or_not_at_all(
    native: Any, codec: Codec, crossing: Callable[[Any], Any], made: tuple[Any, int]
) -> None:
    """The rule for every subclass: what is sent in its place is equal to it."""
    moment, nanoseconds = made
    if type(moment) is Exact:
        moment.nanosecond = nanoseconds  # type: ignore[attr-defined]
        if nanoseconds:
            check_both(native, codec, moment, "Exact: as a datetime it would be another value")
            return
    arrived = crossing(moment)
    assert type(arrived) is datetime
    assert arrived == moment
    assert arrived.fold == moment.fold


class Changing(list):  # type: ignore[type-arg]
    """Changes whatever encloses it while it is looked at."""

    def __init__(self, victim: Any, items: Any = ()) -> None:
        super().__init__(items)
        self.victim = victim

    def __iter__(self) -> Iterator[Any]:
        self.victim.clear()
        return super().__iter__()


class Raising(str):
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    __hash__ = str.__hash__


class Metaclass(type):
    """Raises when anything is asked of its classes."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__mro__", "__module__", "__qualname__"):
            return super().__getattribute__(name)
        raise AttributeError(name)


class Silent(metaclass=Metaclass):
    pass


def test_objects_that_meddle(native: Any, codec: Codec) -> None:
    """A guest's objects run their code while they are encoded. That ends in an error, and the codec goes on."""
    victim: list[Any] = []
    victim += [Changing(victim, [1]), 2, 3]
    with pytest.raises(ValueError, match="changed while it was encoded"):
        native.reply([0, victim])
    with pytest.raises(TypeError, match="it would be another value"):
        native.reply([0, [Raising("a")]])
    with pytest.raises(TypeError, match="cannot encode"):
        native.reply([0, [Silent()]])
    with pytest.raises(EncodeError, match="cannot encode"):
        codec.encode([2, 7, [Silent()]], "data")
    for nameless in (type("N", (), {"__module__": 3}), type("N", (), {"__module__": None})):
        with pytest.raises(TypeError, match="cannot encode"):
            native.reply([0, nameless()])
    assert native.loads(native.dumps([1])) == [1]


def test_a_refusal_imports_nothing_of_others() -> None:
    """Types of other libraries are recognised by their names."""
    remedies = importlib.import_module("cloche_wire.remedies")
    imported = {name for name, value in vars(remedies).items() if isinstance(value, types.ModuleType)}
    assert imported == set()
    assert remedies.of(foreign("torch", "Tensor")).startswith("x.detach()")
    assert remedies.of(object()) == ""
    assert remedies.of(date) == "x.__name__"
