"""Tables of pandas, pyarrow and polars as columns, and back. What these libraries say themselves is what is compared with.

Without the libraries the tests are skipped; tests/docs/test_recipes.py runs them in an environment that has them.
"""

from __future__ import annotations

import datetime as dt
import decimal
import gc
import sys
from typing import Any

import numpy as np
import pytest

from cloche import frames

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

MAJOR = int(pd.__version__.split(".")[0])
UNIT = "us" if MAJOR >= 3 else "ns"
"""In what pandas keeps times that come from Python's."""
TABLE = pa.table({
    "int": [1, 2, 3, 4],
    "small": pa.array([1, -2, 3, 4], pa.int8()),
    "null ints": pa.array([1, None, 3, 4]),
    "floats": [1.5, float("inf"), -0.0, 2],
    "null floats": [1.5, None, 2, 3],
    "bools": [True, False, True, True],
    "null bools": [True, None, False, True],
    "strings": ["a", None, "ü" * 20, ""],
    "large strings": pa.array(["a", None, "b", ""], pa.large_string()),
    "string views": pa.array(["a", None, "a string of more than twelve bytes", "b" * 12], pa.string_view()),
    "binary": [b"1", None, b"\xff", b""],
    "fixed": pa.array([b"ab", None, b"cd", b"ef"], pa.binary(2)),
    "decimals": [decimal.Decimal("1.20"), None, decimal.Decimal("-345.67"), decimal.Decimal(0)],
    "large decimals": pa.array([decimal.Decimal(10) ** 60, None, decimal.Decimal(-1), None], pa.decimal256(70, 2)),
    "times": [dt.time(1, 2, 3, 4), None, dt.time(4), dt.time(23, 59)],
    "seconds": pa.array([1, None, 3, 86399], pa.time32("s")),
    "zone": pa.array([1_000, None, -3_000, 0], pa.timestamp("us", "Europe/Berlin")),
    "offset": pa.array([1, None, 3, 0], pa.timestamp("s", "-02:30")),
    "lists": [[1], None, [], [2, None]],
    "large lists": pa.array([[1], None, [], [2]], pa.large_list(pa.int64())),
    "list views": pa.array([[1], None, [], [2, 3]], pa.list_view(pa.int64())),
    "fixed lists": pa.array([[1, 2], None, [3, 4], [5, 6]], pa.list_(pa.int32(), 2)),
    "structs": [{"a": 1, "b": None}, {"a": 2, "b": "x"}, None, {"a": 3, "b": "y"}],
    "deep": [[{"a": [1]}], None, [{"a": None}], []],
    "maps": pa.array([[("k", 1)], None, [], [("k", 2), ("l", None)]], pa.map_(pa.string(), pa.int64())),
    "categories": pa.array(["x", "y", None, "x"]).dictionary_encode(),
    "nulls": pa.nulls(4),
})  # fmt: skip
LAYOUTS = {
    "whole": lambda table: table,
    "a slice": lambda table: table.slice(1, 2),
    "batches": lambda table: pa.concat_tables([table.slice(0, 1), table.slice(1, 2), table.slice(3)]),
    "one batch": lambda table: table.combine_chunks().to_batches()[0],
    "an array of structs": lambda table: table.combine_chunks().to_batches()[0].slice(1).to_struct_array(),
    "without rows": lambda table: table.slice(0, 0),
}


def plain(column: Any) -> list[Any]:
    return column if isinstance(column, list) else column.tolist()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", TABLE.column_names)
def test_the_items_are_those_that_pyarrow_gives(name: str, layout: str) -> None:
    """By value and type; slices and batches have offsets into their buffers, which are easily forgotten."""
    table = LAYOUTS[layout](TABLE.select([name]))
    if isinstance(table, pa.StructArray):
        expected = [row[name] for row in table.to_pylist()]
    else:
        expected = table.to_pydict()[name]
    found = plain(frames.from_arrow(table)[name])
    assert found == expected
    assert [type(item) for item in found] == [type(item) for item in expected]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_without_a_zone_keep_their_unit(unit: str) -> None:
    """Nulls are NaT, which is what numpy has for them."""
    table = pa.table({
        "t": pa.array([1, None, -3], pa.timestamp(unit)), "d": pa.array([1, None, -3], pa.duration(unit)),
        "full": pa.array([1, 2, 3], pa.timestamp(unit)),
    })  # fmt: skip
    found = frames.from_arrow(table)
    assert [str(found[name].dtype) for name in table.column_names] == [
        f"datetime64[{unit}]", f"timedelta64[{unit}]", f"datetime64[{unit}]",
    ]  # fmt: skip
    np.testing.assert_array_equal(found["t"], np.array([1, "NaT", -3], f"M8[{unit}]"))
    np.testing.assert_array_equal(found["d"], np.array([1, "NaT", -3], f"m8[{unit}]"))


def test_dates_are_days() -> None:
    table = pa.table({"a": [dt.date(2020, 1, 2), None], "b": pa.array([dt.date(1, 1, 1), None], pa.date64())})
    found = frames.from_arrow(table)
    np.testing.assert_array_equal(found["a"], np.array(["2020-01-02", "NaT"], "M8[D]"))
    np.testing.assert_array_equal(found["b"], np.array(["0001-01-01", "NaT"], "M8[ms]"))


def test_numbers_are_not_copied_and_outlive_the_table() -> None:
    table = pa.table({"x": np.arange(1000.0), "t": np.arange(1000).astype("M8[us]")})
    found = frames.from_arrow(table)
    for name in ("x", "t"):
        assert np.shares_memory(found[name], table[name].chunk(0).to_numpy())
    assert not found["x"].flags.writeable
    del table
    gc.collect()
    assert found["x"].sum() == 499_500


def test_the_producers_memory_is_given_back() -> None:
    gc.collect()
    before = pa.total_allocated_bytes()
    found = frames.from_arrow(pa.table({"x": pa.array(range(100_000)), "s": ["a"] * 100_000}))
    assert pa.total_allocated_bytes() > before
    del found
    gc.collect()
    assert pa.total_allocated_bytes() == before


def test_polars_needs_no_pyarrow() -> None:
    table = pl.DataFrame({
        "i": [1, None], "f": [1.0, 2.0], "s": ["x", "a string of more than twelve bytes"],
        "c": pl.Series(["u", "v"], dtype=pl.Categorical), "e": pl.Series(["u", "v"], dtype=pl.Enum(["u", "v"])),
        "d": [dt.date(2020, 1, 1), None], "l": [[1], []],
    })  # fmt: skip
    found = frames.from_arrow(table)
    assert {name: plain(column) for name, column in found.items()} == table.to_dict(as_series=False)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (3, "int exports no Arrow data"),
        (pa.array([1]), "is one column and no table"),
        (pa.Table.from_arrays([pa.array([1])] * 2, ["a", "a"]), "two columns are called 'a'"),
        (pa.table({"a": pa.array([1], pa.timestamp("ns", "UTC"))}), "column 'a': its times have nanoseconds"),
        (pa.table({"a": pa.array([1], pa.time64("ns"))}), "column 'a': its times have nanoseconds"),
        (pa.table({"a": pa.array([1], pa.timestamp("s", "Mars/Olympus"))}), "its time zone 'Mars/Olympus' is not known"),
        (pa.table({"a": pa.array([1 << 60], pa.timestamp("s", "UTC"))}), "beyond the years 1 to 9999"),
        (pa.table({"a": pa.array([(1, 2, 3)], pa.month_day_nano_interval())}), "column 'a': Arrow's type 'tin' has no"),
        (pa.table({"a": pa.array([(1 << 32) - 1], pa.uint32()).view(pa.time32("s"))}), "column 'a': .* beyond 23:59:59"),
        (pa.table({"a": pa.array([86400], pa.int32()).view(pa.time32("s"))}), "column 'a': .* beyond 23:59:59"),
        (pa.table({"a": pa.array([-1 << 63, 0]).view(pa.timestamp("us"))}), "column 'a': .* would arrive as a missing one"),
        (pa.table({"a": pa.array([-1 << 63, None]).view(pa.duration("s"))}), "column 'a': .* would arrive as a missing one"),
        (pa.table({"a": pa.array([-62135596800], pa.timestamp("s", "America/Lima"))}), "beyond the years 1 to 9999"),
        (pa.table({"a": pa.array([1], pa.timestamp("s", "America"))}), "its time zone 'America' is not known"),
        (pa.table({"a": pa.array([1], pa.timestamp("s", "-03"))}), "its time zone '-03' is not known"),
        (pa.table({"a": pa.array([1], pa.timestamp("s", "+99:99"))}), r"its time zone '\+99:99' is not known"),
        (pa.table({"a": pa.array([b"\xff"]).view(pa.string())}), "column 'a': it has a text that is no UTF-8"),
        (pa.table({"a": pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1], pa.int8()))}), "'arrow.bool8' has no"),
        (pa.table({"a": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"a" * 16], pa.binary(16)))[:0]}), "'arrow.uuid'"),
        (pd.DataFrame({"a": pd.period_range("2020", periods=2, freq="D")}), "column 'a': its type 'pandas.period' has no"),
        (pl.DataFrame({"a": pl.Series([object()], dtype=pl.Object)}), "column 'a': it has Python's objects"),
        (pa.array([{"a": 1}, None]), "some of its rows are null as a whole"),
        (pl.Series([{"a": 1}, None]), "some of its rows are null as a whole"),
        (pa.table({"a": pa.RunEndEncodedArray.from_arrays([1], ["x"])}), r"column 'a': Arrow's type '\+r' has no"),
    ],
)  # fmt: skip
def test_what_would_be_lost_is_refused(table: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        frames.from_arrow(table)


def test_a_part_of_rows_has_the_items_of_that_part() -> None:
    """Arrow's offset of an array of structs is not in the arrays of its fields."""
    rows = [
        {"a": i, "b": [i, None] * i, "c": {"d": str(i)}, "e": [("k", i)], "f": None if i == 2 else i > 2}
        for i in range(20)
    ]
    kind = pa.struct({
        "a": pa.int64(), "b": pa.list_(pa.int64()), "c": pa.struct({"d": pa.string()}), "e": pa.map_(pa.string(), pa.int8()),
        "f": pa.bool_(),
    })  # fmt: skip
    array = pa.array(rows, kind)
    for table in (
        array[9:17],
        pa.chunked_array([array[9:12], array[12:12], array[12:17]]),
        pl.Series([{**row, "e": None} for row in rows])[9:17],
    ):
        found = frames.from_arrow(table)
        assert found["a"].tolist() == list(range(9, 17))
        assert found["b"] == [row["b"] for row in rows[9:17]]
        assert found["c"] == [row["c"] for row in rows[9:17]]
        assert list(map(bool, found["f"])) == [True] * 8
    assert frames.from_arrow(array[9:17])["e"] == [row["e"] for row in rows[9:17]]


def test_a_table_without_rows_has_columns_of_the_same_kinds() -> None:
    """Also if it has no batch: the node finds arrays where it finds them otherwise."""
    with_rows, without = (
        frames.from_arrow(TABLE.select(["int", "bools", "strings", "categories"])),
        TABLE.schema.empty_table(),
    )
    found = frames.from_arrow(without.select(["int", "bools", "strings", "categories"]))
    assert {name: getattr(column, "dtype", list) for name, column in found.items()} == {
        name: getattr(column, "dtype", list) for name, column in with_rows.items()
    }
    times = pa.schema(
        {"t": pa.timestamp("ms"), "d": pa.date32(), "s": pa.duration("ns"), "z": pa.timestamp("s", "UTC")}
    )
    found = frames.from_arrow(times.empty_table())
    assert [str(getattr(column, "dtype", column)) for column in found.values()] == [
        "datetime64[ms]", "datetime64[D]", "timedelta64[ns]", "[]"
    ]  # fmt: skip


def test_what_lies_under_a_null_is_not_read() -> None:
    strings = pa.Array.from_buffers(pa.string(), 2, [
        pa.py_buffer(b"\2"), pa.array([0, 1, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xffa")
    ])  # fmt: skip
    assert frames.from_arrow(pa.table({"a": strings})) == {"a": [None, "a"]}


FRAME = {
    "ints": np.array([1, 2], "i2"),
    "floats": np.array([1, np.nan]),
    "complex": np.array([1j, 2]),
    "bools": np.array([True, False]),
    "times": np.array(["2020-01-01", "NaT"], "M8[us]"),
    "spans": np.array([1, "NaT"], "m8[ns]"),
}


@pytest.mark.parametrize("name", FRAME)
def test_columns_of_numpy_are_the_arrays(name: str) -> None:
    """Their dtype, their NaN and NaT, and no copy."""
    frame = pd.DataFrame({name: FRAME[name]})
    found = frames.from_pandas(frame)[name]
    assert found.dtype == FRAME[name].dtype
    assert np.shares_memory(found, frame[name].to_numpy())
    np.testing.assert_array_equal(found, FRAME[name])
    back = frames.to_pandas({name: found})
    pd.testing.assert_frame_equal(back, frame)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.array([1, 2], "Int64"), [1, 2]),
        (pd.array([1, None], "Int64"), [1, None]),
        (pd.array([(1 << 63) - 1, None], "Int64"), [(1 << 63) - 1, None]),
        (pd.array([1.5, None], "Float64"), [1.5, None]),
        (pd.array([True, None], "boolean"), [True, None]),
        (pd.array(["a", None], "string"), ["a", None]),
        (pd.Series(["a", None], dtype="str"), ["a", None]),
        (pd.Series([1, "a", pd.NA, pd.NaT, None], dtype="object"), [1, "a", None, None, None]),
        (pd.Categorical(["b", None, "a"]), ["b", None, "a"]),
        (pd.Categorical([2, None, 1]), [2, None, 1]),
        (pd.array([1, None], pd.ArrowDtype(pa.int64())), [1, None]),
        (pd.array(["x", None], pd.ArrowDtype(pa.string())), ["x", None]),
    ],
)
def test_columns_of_other_types_are_lists(column: Any, expected: list[Any]) -> None:
    found = plain(frames.from_pandas(pd.DataFrame({"x": column}))["x"])
    assert found == expected
    assert [type(item) for item in found] == [type(item) for item in expected]


def test_times_with_a_zone_keep_it() -> None:
    times = pd.to_datetime(["2020-07-01 12:00", None]).tz_localize("Europe/Berlin")
    first, second = frames.from_pandas(pd.DataFrame({"t": times}))["t"]
    assert (first.isoformat(), first.tzinfo.key, second) == ("2020-07-01T12:00:00+02:00", "Europe/Berlin", None)
    back = frames.to_pandas({"t": [first, second]})
    assert str(back["t"].dtype) == f"datetime64[{UNIT}, Europe/Berlin]"


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        ([1], "list is no DataFrame"),
        (pd.Series([1]), "Series is no DataFrame: of a Series, pass x.to_frame"),
        (pd.DataFrame({"a": [1]}).set_index("a"), "the index 'a' would be lost: pass frame.reset_index"),
        (pd.DataFrame({"a": [1, 2]})[1:], "the index would be lost"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns are called 'a'"),
        (pd.DataFrame({"a": pd.period_range("2020", periods=2, freq="D")}), "column 'a': period.* has no counterpart"),
        (pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}), "column 'a': it is sparse"),
        (
            pd.DataFrame({"a": np.array(["20000-01-01"], "M8[s]")})["a"].dt.tz_localize("UTC").to_frame(),
            "'a': .* the years 1 to",
        ),
        (pd.DataFrame({"a": pd.to_datetime([1], utc=True)}), "column 'a': its times have nanoseconds"),
    ],
)
def test_what_a_frame_would_lose_is_refused(frame: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        frames.from_pandas(frame)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], "int64"), ([1, None], "Int64"), ([(1 << 63) - 1, None], "Int64"), ([1 << 63], "object"), ([1.5, 2.0], "float64"),
        ([1.5, None, float("nan")], "Float64"), ([True], "bool"), ([True, None], "boolean"), (["a", None], "str" if MAJOR >= 3 else "object"),
        ([dt.datetime(2020, 1, 1), None], f"datetime64[{UNIT}]"), ([dt.timedelta(1)], f"timedelta64[{UNIT}]"), ([1, 1.5], "object"),
        ([True, 1], "object"), ([None, None], "object"), ([], "object"), ([[1], {"a": 2}], "object"),
    ],
)  # fmt: skip
def test_a_list_becomes_what_its_values_are(values: list[Any], dtype: str) -> None:
    """Never a number that is nearly the one that was sent."""
    found = frames.to_pandas({"x": values})["x"]
    assert str(found.dtype) == dtype
    assert [None if item is pd.NA or item is pd.NaT or item is None else item for item in found][:2] == [
        None if value is None or value is pd.NaT else value for value in values
    ][:2] or values[0] == "a"


def test_missing_floats_are_not_nan() -> None:
    found = frames.to_pandas({"x": [None, 1.5, float("nan")]})["x"]
    assert found.iloc[0] is pd.NA and found.iloc[1] == 1.5 and np.isnan(found.iloc[2])
    assert str(frames.from_pandas(frames.to_pandas({"x": [None, 1.5]}))) == "{'x': [None, 1.5]}"


@pytest.mark.parametrize(
    ("columns", "kind", "text"),
    [
        ([1], TypeError, "list is no dict of columns"),
        ({"a": 3}, TypeError, "column 'a' is int: a column is an array or a list"),
        ({"a": np.zeros((2, 2))}, TypeError, "column 'a' has 2 dimensions"),
        ({"a": np.array([1], "M8[ps]")}, TypeError, "column 'a' is an array of datetime64.ps."),
        ({"a": np.zeros(2, "i4,f4")}, TypeError, "column 'a' is an array of .* for which pandas has no column"),
        ({"a": [1], "b": [1, 2]}, ValueError, "column 'a' has 1 items, and column 'b' 2"),
    ],
)
def test_what_a_node_returns_is_checked(columns: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        frames.to_pandas(columns)


def test_labels_of_any_kind_stay() -> None:
    frame = frames.to_pandas({("a", 1): [1], 2: [2], None: [3]})
    assert list(frame.columns) == [("a", 1), 2, None]
    for labels in ([1, 2.5], [1 << 63, 1.5], [None, 3], [True, 2]):
        found = list(frames.to_pandas({label: [1] for label in labels}).columns)
        assert found == labels and [type(label) for label in found] == [type(label) for label in labels]
    assert list(frames.from_pandas(frame)) == [("a", 1), 2, None]


def test_a_column_that_a_node_returned_can_be_written_to() -> None:
    array = np.arange(2)
    array.flags.writeable = False
    frame = frames.to_pandas({"x": array})
    frame.loc[0, "x"] = 5
    assert (frame["x"].tolist(), array.tolist()) == ([5, 1], [0, 1])


def test_without_pandas_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "cloche.frames._pandas", raising=False)
    monkeypatch.delattr(frames, "_pandas", raising=False)
    monkeypatch.setitem(sys.modules, "pandas", None)  # type: ignore[arg-type]
    with pytest.raises(ModuleNotFoundError, match="pandas, which is not installed: pip install pandas"):
        frames.from_pandas(3)
