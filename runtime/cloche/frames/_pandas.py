"""DataFrames of pandas. The only module that imports pandas, when it is first needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cloche.frames import _values
from cloche_wire.array import Array

__all__ = ["columns", "frame"]

_WIDE = 1 << 63


def columns(table: Any) -> dict[Any, Any]:
    """See `cloche.frames.from_pandas`."""
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"{type(table).__name__} is no DataFrame: of a Series, pass x.to_frame()")
    index = table.index
    if not (isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1 and index.name is None):
        raise TypeError(
            f"the index{f' {index.name!r}' if index.name is not None else ''} would be lost: pass frame.reset_index(), "
            "or frame.reset_index(drop=True) if it means nothing"
        )
    _values.check_labels(table.columns)
    found = {}
    for label, series in table.items():
        try:
            found[label] = _column(series)
        except TypeError as error:
            raise TypeError(f"column {label!r}: {error}") from None
    return found


def _column(series: Any) -> Any:
    dtype = series.dtype
    if isinstance(dtype, np.dtype):
        return series.to_numpy() if dtype.kind != "O" else [_plain(item) for item in series.array]
    if isinstance(dtype, pd.DatetimeTZDtype):
        if (series.dt.nanosecond > 0).any():
            raise TypeError(
                'its times have nanoseconds, which Python\'s do not: round them (x.dt.floor("us")), or drop the time zone'
            )
        if (zone := getattr(dtype.tz, "zone", None)) is not None:  # of pytz: only its offset would arrive
            from zoneinfo import ZoneInfo

            series = series.dt.tz_convert(ZoneInfo(zone))
        try:
            return [_plain(item) for item in series.array]
        except (ValueError, OverflowError):
            raise TypeError("it has times beyond the years 1 to 9999: drop the time zone") from None
    if isinstance(dtype, pd.CategoricalDtype):
        found = _column(dtype.categories.to_series())
        values = found.tolist() if isinstance(found, np.ndarray) and found.dtype.kind not in "mM" else found
        return [None if code < 0 else values[code] for code in series.cat.codes]
    if isinstance(dtype, pd.ArrowDtype):
        return _values.columns(series.to_frame("column"))["column"]
    if isinstance(dtype, pd.StringDtype):
        return _listed(series)
    if type(dtype).__name__ in ("PeriodDtype", "IntervalDtype"):
        raise TypeError(f"{dtype} has no counterpart: pass x.astype(str)")
    if isinstance(dtype, pd.SparseDtype):
        raise TypeError("it is sparse: pass x.sparse.to_dense()")
    kind = getattr(dtype, "numpy_dtype", None)
    if isinstance(kind, np.dtype):  # Int64, Float64, boolean ...
        if not series.isna().any():
            return series.to_numpy(dtype=kind)
        return [
            None if item is pd.NA else item.item() if isinstance(item, np.generic) else item for item in series.array
        ]
    raise TypeError(f"{dtype} has no counterpart: pass x.astype(object), or a numpy dtype")


def _listed(series: Any) -> list[Any]:
    """The items as Python's values, with None for those that are missing."""
    items: list[Any] = series.to_numpy(dtype=object, na_value=None).tolist()
    return items


def _plain(item: Any) -> Any:
    """An item of a column of objects or of times."""
    if item is pd.NA or item is pd.NaT:
        return None
    return item.to_pydatetime() if type(item) is pd.Timestamp and not item.nanosecond else item


def frame(columns: Any) -> Any:
    """See `cloche.frames.to_pandas`."""
    if not isinstance(columns, Mapping):
        raise TypeError(f"{type(columns).__name__} is no dict of columns")
    made: dict[Any, Any] = {}
    lengths: dict[int, Any] = {}
    for label, column in columns.items():
        values = np.asarray(column) if isinstance(column, Array) else column
        if isinstance(values, np.ndarray):
            if values.ndim != 1:
                raise TypeError(f"column {label!r} has {values.ndim} dimensions: a column has one")
            if values.dtype.kind == "V":
                raise TypeError(f"column {label!r} is an array of {values.dtype}, for which pandas has no column")
            if values.dtype.kind in "mM" and np.datetime_data(values.dtype)[0] in ("ps", "fs", "as"):
                raise TypeError(f"column {label!r} is an array of {values.dtype}: pandas' times have nanoseconds")
            made[label] = values if values.flags.writeable else values.copy()
        elif isinstance(values, list):
            made[label] = _series(values)
        else:
            raise TypeError(f"column {label!r} is {type(column).__name__}: a column is an array or a list")
        lengths.setdefault(len(values), label)
    if len(lengths) > 1:
        (one, first), (other, second), *_ = lengths.items()
        raise ValueError(f"column {first!r} has {one} items, and column {second!r} {other}")
    table = pd.DataFrame(dict(enumerate(made.values())))
    if made:  # labels of several kinds would be made into one: integers into floats, None into NaN
        same = len({type(label) for label in made}) == 1
        table.columns = pd.Index(list(made), dtype=None if same else "object", tupleize_cols=False)
    return table


def _series(values: list[Any]) -> Any:
    """A list as a column of the dtype that all of its values have."""
    kinds = {type(value) for value in values}
    missing = type(None) in kinds
    kinds.discard(type(None))
    if len(kinds) == 1:
        (kind,) = kinds
        if kind is bool:
            return pd.array(values, dtype="boolean" if missing else "bool")
        if kind is int and all(value is None or -_WIDE <= value < _WIDE for value in values):
            return pd.array(values, dtype="Int64" if missing else "int64")
        if kind is float:
            return _floats(values) if missing else pd.Series(values, dtype="float64")
        if kind is str:
            return pd.Series(values, dtype="str" if int(pd.__version__.split(".")[0]) >= 3 else "object")
        if kind.__module__ == "datetime" and kind.__name__ in ("datetime", "timedelta"):
            made = pd.Series(values)
            if made.dtype.kind in "mM":
                return made
    return pd.Series(values, dtype="object")


def _floats(values: list[Any]) -> Any:
    """Floats of which some are missing: NaN is a value beside them."""
    missing = np.array([value is None for value in values])
    return pd.arrays.FloatingArray(np.array([0.0 if value is None else value for value in values]), missing)
