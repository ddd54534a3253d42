"""The history of a cluster as rows: filtered, summed up as elections, scores, faults and steals, or
made a data frame."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

from .election_history import ElectionHistory, ElectionReader
from .elections import Election, Failover, Handover, Reign
from .errors import ConfigError, did_you_mean
from .fault_spans import Fault, read_faults
from .frames import ROW_TYPES, arrow_table, pandas_frame, polars_frame
from .listing import Listing
from .summary import Steadiness, Summary, summarise

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped,unused-ignore]
    import polars
    import pyarrow  # type: ignore[import-untyped,unused-ignore]

Row = dict[str, Any]

KINDS = (
    "node_started",
    "node_stopped",
    "suspected",
    "false_suspicion",
    "polled",
    "poll_lost",
    "campaigned",
    "voted",
    "became_leader",
    "stepped_down",
    "followed",
    "handover_started",
    "scored",
    "score_corrected",
    "loaded",
    "storage_failed",
    "member_joined",
    "member_lost",
    "member_moved",
    "stolen",
    "copied",
    "retried",
    "reassigned",
    "late_completion",
    "fault",
)
"""Every value of the ``kind`` column."""

COLUMNS = (
    "seq",
    "at_us",
    "node",
    "node_name",
    "kind",
    "term",
    "subject",
    "score",
    "rank",
    "task_id",
    "attempt",
    "value",
    "detail",
)
"""The columns of a row; ``subject_name`` is added where the subject's name is known."""


@dataclass(frozen=True)
class Steal:
    """A task that an idle node took over."""

    task_id: str
    victim: str
    thief: str
    at_us: int

    def __repr__(self) -> str:
        return f"Steal({self.victim} -> {self.thief}, task {self.task_id})"


@dataclass(frozen=True)
class ScoreHistory:
    """What the leaders wrote down about one node's score, in order of time."""

    node: str
    at_us: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    """0 is the best: first in line."""

    def __repr__(self) -> str:
        last = f", last {self.scores[-1]:.2f} at rank {self.ranks[-1]}" if self.scores else ""
        return f"ScoreHistory({self.node}, {len(self.scores)} scores{last})"


class EventLog(Sequence[Row]):
    """Rows of history in order of time; frozen.

    Each row carries the wall clock of the node that wrote it (``at_us``, microseconds since 1970).
    On one machine, and in simulation, that is one clock; rows of several machines are ordered as
    well as their clocks agree. Elections are read in order of term, which needs no clock.
    """

    def __init__(
        self, rows: Iterable[Mapping[str, Any]], names: Mapping[str, str] | None = None
    ) -> None:
        self._rows = sorted(
            (dict(row) for row in rows),
            key=lambda r: (r.get("at_us", 0), r.get("node") or "", r.get("seq", 0)),
        )
        self._names = {str(k): v for k, v in (names or {}).items()}
        for row in self._rows:
            if row.get("node_name"):
                self._names.setdefault(str(row["node"]), row["node_name"])
        for row in self._rows:
            row["subject_name"] = self.name_of(row.get("subject"))

    def _part(self, rows: list[Row]) -> EventLog:
        """Some of these rows, which stay in order and are not copied."""
        part = EventLog((), self._names)
        part._rows = rows
        return part

    def name_of(self, node: object) -> str:
        """The name of a node by its id; the id itself where no name is known, empty for none."""
        text = "" if node is None else str(node)
        return self._names.get(text, text) if text.strip("0") else ""

    @property
    def nodes(self) -> list[str]:
        """The names of all nodes that wrote rows, ``n2`` before ``n10``."""
        seen = {self.name_of(node) for node in {row.get("node") for row in self._rows}}
        return sorted(seen - {""}, key=natural_order)

    def filter(
        self,
        *kinds: str,
        node: str | None = None,
        term: int | None = None,
        since_us: int | None = None,
        until_us: int | None = None,
    ) -> EventLog:
        """The rows of these kinds (all, if none is given), of a node (name or id), of a term, of a
        time."""
        for kind in kinds:
            if kind not in KINDS:
                near = did_you_mean(kind, KINDS)
                raise ConfigError(f"kind={kind!r}: no such kind{near}; they are {', '.join(KINDS)}")
        return self._part(
            [
                r
                for r in self._rows
                if (not kinds or r["kind"] in kinds)
                and (node is None or node in (r.get("node"), r.get("node_name")))
                and (term is None or r.get("term") == term)
                and (since_us is None or r["at_us"] >= since_us)
                and (until_us is None or r["at_us"] <= until_us)
            ]
        )

    # --- findings

    @cached_property
    def _faults(self) -> list[Fault]:
        return read_faults(self._rows, self.name_of)

    @cached_property
    def _history(self) -> ElectionHistory:
        return ElectionReader(self._rows, self.name_of, self._faults).read()

    def elections(self) -> Listing[Election]:
        """Every change of leader, the first included, in order of term."""
        return Listing("elections", self._history.elections)

    def failovers(self) -> Listing[Failover]:
        """The unplanned changes of leader."""
        found = (e for e in self._history.elections if e.cause == "failover")
        return Listing("failovers", map(Failover.of, found))

    def handovers(self) -> Listing[Handover]:
        """Every attempt of a leader to yield, and what came of it."""
        return Listing("handovers", self._history.handovers)

    def reigns(self) -> Listing[Reign]:
        """From when until when each leader led."""
        return Listing("reigns", self._history.reigns)

    def faults(self) -> Listing[Fault]:
        """What was broken on purpose, and until when."""
        return Listing("faults", self._faults)

    def scores(self) -> dict[str, ScoreHistory]:
        """The scores and ranks of every node, by name, as the leaders saw them.

        What a deposed leader wrote before it knew is left out.
        """
        found: dict[str, ScoreHistory] = {}
        newest = 0
        for row in self._rows:
            if row["kind"] == "became_leader":
                newest = max(newest, int(row["term"]))
            elif row["kind"] == "scored" and row["term"] >= newest:
                name = row["subject_name"]
                history = found.get(name)
                if history is None:
                    history = found[name] = ScoreHistory(name)
                history.at_us.append(int(row["at_us"]))
                history.scores.append(float(row["score"]))
                history.ranks.append(int(row["rank"]))
        return {name: found[name] for name in sorted(found, key=natural_order)}

    def steadiness(self) -> Steadiness:
        """How often leadership moved, and how long it was missing."""
        return self.summary().steadiness

    def reaction_s(self, at_us: int) -> float | None:
        """Seconds from a moment until leadership next moved to another node; ``None`` if it never
        did."""
        moves = (e for e in self._history.elections if e.previous not in (None, e.leader))
        return next(((e.at_us - at_us) / 1e6 for e in moves if e.at_us >= at_us), None)

    def summary(self) -> Summary:
        """The history in a few figures."""
        return summarise(self._rows, self.nodes, self._history, self._faults)

    def steals(self) -> Listing[Steal]:
        """The tasks that idle nodes took over."""
        return Listing(
            "steals",
            (
                Steal(
                    task_id=str(r["task_id"]),
                    victim=self.name_of(r["detail"]),
                    thief=r["subject_name"],
                    at_us=int(r["at_us"]),
                )
                for r in self._rows
                if r["kind"] == "stolen"
            ),
        )

    # --- rows

    def to_dicts(self) -> list[Row]:
        """The rows as dictionaries of your own."""
        return [dict(row) for row in self._rows]

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a frame of pandas, with a ``time`` column (UTC). Raises ``HustingsError``
        where pandas is missing."""
        return pandas_frame(self._rows, ROW_TYPES)

    def to_polars(self) -> polars.DataFrame:
        """The rows as a frame of polars, with the columns of :meth:`to_pandas`. Raises
        ``HustingsError`` where polars is missing."""
        return polars_frame(self._rows, ROW_TYPES)

    def to_arrow(self) -> pyarrow.Table:
        """The rows as a table of Arrow, with the columns of :meth:`to_pandas`. Raises
        ``HustingsError`` where pyarrow is missing."""
        return arrow_table(self._rows, ROW_TYPES)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> EventLog: ...
    def __getitem__(self, index: int | slice) -> Row | EventLog:
        if isinstance(index, slice):
            rows = self._rows[index]
            return self._part(rows if index.step is None or index.step > 0 else rows[::-1])
        return dict(self._rows[index])

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return (dict(row) for row in self._rows)

    def __repr__(self) -> str:
        elections = self.elections()
        last = f", last: {elections[-1]!r}" if elections else ""
        return f"EventLog({len(self)} rows, {len(elections)} elections{last})"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_() + self.elections()._repr_html_()


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Sorts ``n2`` before ``n10``."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]
