"""A list of findings that a notebook shows as a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeVar

from .frames import pandas_frame
from .members import html_table

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped,unused-ignore]

T = TypeVar("T")

SHOWN = 20
"""Rows of a table in a notebook; the last ones are shown."""


class Listing(list[T]):
    """A list of one kind of finding, in order."""

    def __init__(self, title: str, items: Iterable[T] = ()) -> None:
        super().__init__(items)
        self._title = title

    def to_dicts(self) -> list[dict[str, Any]]:
        """One flat dictionary per finding."""
        return [_flat(asdict(item)) for item in self]  # type: ignore[call-overload]

    def to_pandas(self) -> pandas.DataFrame:
        """One row per finding, with a ``time`` column (UTC). Needs pandas."""
        return pandas_frame(self.to_dicts(), None)

    def _repr_html_(self) -> str:
        shown = self[-SHOWN:]
        title = f"{len(self)} {self._title}"
        if len(self) > len(shown):
            title += f", the last {len(shown)}"
        if not shown:
            return html_table(title, (), ())
        header = [f.name for f in fields(shown[0])]  # type: ignore[arg-type]
        rows = ([_cell(getattr(item, name)) for name in header] for item in shown)
        return html_table(title, [name.replace("_", " ") for name in header], rows)


def _flat(item: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in item.items():
        flat.update(value if isinstance(value, dict) else {name: value})
    return flat


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
