"""Tables of pandas, polars, pyarrow and others as dicts of columns, which can be sent to a node, and back.

>>> from cloche import frames
>>> node.process(frames.from_pandas(frame))
>>> frames.to_pandas(node.process(...))

A column is a numpy array where numpy has its type, and a list of Python's values elsewhere. What would arrive as something else is
refused, and the error says what to pass instead. Nothing is imported but what the table is made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cloche.frames import _values

if TYPE_CHECKING:
    import pandas

__all__ = ["from_arrow", "from_pandas", "to_pandas"]


def from_arrow(table: Any) -> dict[str, Any]:
    """The columns of a table that exports Arrow's C data: of pyarrow, polars, duckdb, nanoarrow and others.

    - Integers, floats, booleans: an array; with nulls a list, whose nulls are None.
    - Timestamps without a zone, dates, durations: an array of ``datetime64`` or ``timedelta64`` in their unit; nulls are ``NaT``.
    - Timestamps with a zone, times of day: a list of `datetime.datetime`, `datetime.time`; nulls are None.
    - Strings, binary, decimals: a list of `str`, `bytes`, `decimal.Decimal`; nulls are None.
    - Categories (dictionaries): a list of their values.
    - Lists, structs, maps: a list of lists, of dicts, of lists of pairs.

    Arrays of numbers and times are read-only views of the table's memory, without a copy, if the table has one batch. Without
    numpy they are `cloche.Array`.

    Args:
        table: anything with ``__arrow_c_stream__`` or ``__arrow_c_array__`` whose items are rows.

    Raises:
        TypeError: `table` exports no Arrow data, or no rows; or a column has a type without a counterpart. The message names the
            column, and says what to do.
    """
    return _values.columns(table)


def from_pandas(frame: pandas.DataFrame) -> dict[Any, Any]:
    """The columns of a DataFrame.

    - Numpy's numbers, booleans and times: the array, without a copy. ``NaN`` and ``NaT`` stay what they are.
    - ``Int64``, ``boolean`` and their like: an array; with missing values a list, whose missing values are None.
    - Times with a zone: a list of `datetime.datetime`; missing ones are None.
    - Strings: a list of `str`; missing ones are None.
    - Categories: a list of their values.
    - Objects: a list of them; ``NA`` and ``NaT`` are None.
    - Types of pyarrow: as `from_arrow`.

    Args:
        frame: its index must be the plain one, which counts from 0: another one would be lost.

    Raises:
        TypeError: `frame` is no DataFrame, or has something that would be lost. The message names it, and says what to do.
    """
    found: dict[Any, Any] = _needed_module().columns(frame)
    return found


def to_pandas(columns: Any) -> pandas.DataFrame:
    """A DataFrame of columns that a node returned.

    An array becomes a column of its dtype. A list becomes what its values are: integers, floats or booleans (``Int64``, ``Float64``
    or ``boolean`` if some are None), strings, times of one zone; a column of objects if they are of several kinds.

    Args:
        columns: a mapping from labels to arrays and lists of one length. Untrusted: it is checked.

    Raises:
        TypeError: it is no such mapping; the message says what is wrong.
        ValueError: the columns have different lengths.
    """
    return _needed_module().frame(columns)


def _needed_module() -> Any:
    try:
        from cloche.frames import _pandas
    except ModuleNotFoundError as error:
        if error.name not in ("numpy", "pandas"):
            raise
        raise ModuleNotFoundError(
            f"tables of pandas need {error.name}, which is not installed: pip install pandas", name=error.name
        ) from None
    return _pandas
