"""Rows as data frames of pandas, polars and Arrow: the same columns and types in each. None of
them is imported before it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import HustingsError

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped,unused-ignore]
    import polars
    import pyarrow  # type: ignore[import-untyped,unused-ignore]

ROW_TYPES = {
    "seq": int,
    "at_us": int,
    "node": str,
    "node_name": str,
    "kind": "category",
    "term": int,
    "subject": str,
    "score": float,
    "rank": int,
    "task_id": str,
    "attempt": int,
    "value": float,
    "detail": str,
    "subject_name": str,
}
"""The columns of a frame of events and their types; ``time`` (UTC, microseconds) stands before
them."""

Rows = Sequence[Mapping[str, Any]]


def optional_module(name: str, caller: str) -> Any:
    """A module that an extra brings. Raises ``HustingsError`` with the command that installs it."""
    try:
        return import_module(name)
    except ImportError as error:
        extra = {"pyarrow": "arrow", "matplotlib.pyplot": "viz", "anywidget": "notebook"}.get(
            name, name
        )
        package = name.partition(".")[0]
        raise HustingsError(f"{caller} needs {package}: pip install 'hustings[{extra}]'") from error


def pandas_frame(rows: Rows, types: Mapping[str, Any] | None) -> pandas.DataFrame:
    """A frame of pandas; without ``types`` it finds them itself."""
    pd = optional_module("pandas", "to_pandas")
    if types is None:
        frame = pd.DataFrame(list(rows))
    else:
        kinds = {int: "int64", float: "float64", str: "string"}
        frame = pd.DataFrame(
            {
                name: pd.Series(column, dtype=kinds.get(kind, kind))
                for (name, kind), column in zip(types.items(), _columns(rows, types), strict=True)
            }
        )
    if "at_us" in frame:
        frame.insert(
            0, "time", pd.to_datetime(frame["at_us"], unit="us", utc=True).dt.as_unit("us")
        )
    return frame


def polars_frame(rows: Rows, types: Mapping[str, Any]) -> polars.DataFrame:
    """A frame of polars."""
    pl = optional_module("polars", "to_polars")
    kinds = {int: pl.Int64, float: pl.Float64, str: pl.String, "category": pl.Categorical}
    columns = dict(zip(types, _columns(rows, types), strict=True))
    frame = pl.DataFrame(columns, schema={name: kinds[kind] for name, kind in types.items()})
    time = pl.col("at_us").cast(pl.Datetime("us", "UTC")).alias("time")
    ordered: polars.DataFrame = frame.select(time, *types)
    return ordered


def arrow_table(rows: Rows, types: Mapping[str, Any]) -> pyarrow.Table:
    """A table of Arrow."""
    pa = optional_module("pyarrow", "to_arrow")
    words = pa.dictionary(pa.int32(), pa.string())
    kinds = {int: pa.int64(), float: pa.float64(), str: pa.string(), "category": words}
    columns = dict(zip(types, _columns(rows, types), strict=True))
    arrays = {"time": pa.array(columns["at_us"], pa.timestamp("us", "UTC"))}
    for name, kind in types.items():
        arrays[name] = pa.array(columns[name], kinds[kind])
    return pa.table(arrays)


def _columns(rows: Rows, types: Mapping[str, Any]) -> list[list[Any]]:
    """Column by column; what a row lacks is missing, or zero where it is a number."""
    zero = {int: 0, float: 0.0}
    return [[row.get(name, zero.get(kind)) for row in rows] for name, kind in types.items()]
