"""The history of a cluster as rows: filtered, summed up as elections, failovers and steals, or
made a data frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from .errors import ConfigError, HustingsError, did_you_mean
from .members import html_table

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped,unused-ignore]

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
    "loaded",
    "storage_failed",
    "member_joined",
    "member_lost",
    "stolen",
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
class Election:
    """How one node came to lead."""

    term: int
    leader: str
    at_us: int
    cause: str
    """``"founding"``, ``"failover"`` or ``"handover"``."""
    previous: str | None
    duration_s: float | None
    """Since the old leader was last there, by the clocks of the nodes."""
    score: float
    rank: int
    votes: int

    def __repr__(self) -> str:
        took = "" if self.duration_s is None else f", {_milliseconds(self.duration_s)}"
        return f"Election(term={self.term}, {self.leader} leads by {self.cause}{took})"


@dataclass(frozen=True)
class Failover:
    """An unplanned change of leader."""

    from_node: str
    to_node: str
    term: int
    at_us: int
    duration_s: float | None
    """From the fault, where this script caused it, else from the last sign of life, to the new
    leader."""

    def __repr__(self) -> str:
        took = "duration unknown" if self.duration_s is None else _milliseconds(self.duration_s)
        return f"Failover({self.from_node} -> {self.to_node}, {took})"


@dataclass(frozen=True)
class Steal:
    """A task that an idle node took over."""

    task_id: str
    victim: str
    thief: str
    at_us: int

    def __repr__(self) -> str:
        return f"Steal({self.victim} -> {self.thief}, task {self.task_id})"


class EventLog(Sequence[Row]):
    """Rows of history in order of time; frozen."""

    def __init__(
        self, rows: Iterable[Mapping[str, Any]], names: Mapping[str, str] | None = None
    ) -> None:
        self._rows = sorted(
            (dict(row) for row in rows),
            key=lambda r: (r.get("at_us", 0), r.get("node", ""), r.get("seq", 0)),
        )
        self._names = {str(k): v for k, v in (names or {}).items()}
        for row in self._rows:
            if row.get("node_name"):
                self._names.setdefault(str(row["node"]), row["node_name"])
        for row in self._rows:
            row["subject_name"] = self.name_of(row.get("subject"))

    def name_of(self, node: object) -> str:
        """The name of a node by its id; the id itself where no name is known, empty for none."""
        text = "" if node is None else str(node)
        return "" if not text.strip("0") else self._names.get(text, text)

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
                raise ConfigError(f"kind={kind!r}: no such kind{did_you_mean(kind, KINDS)}")
        rows = (
            r
            for r in self._rows
            if (not kinds or r["kind"] in kinds)
            and (node is None or node in (r.get("node"), r.get("node_name")))
            and (term is None or r.get("term") == term)
            and (since_us is None or r["at_us"] >= since_us)
            and (until_us is None or r["at_us"] <= until_us)
        )
        return EventLog(rows, self._names)

    def elections(self) -> list[Election]:
        """Every change of leader, the first included, in order of term."""
        wins: dict[int, Row] = {}
        for row in self._rows:
            if row["kind"] == "became_leader":
                wins.setdefault(int(row["term"]), row)
        elections: list[Election] = []
        previous: Row | None = None
        for term in sorted(wins):
            elections.append(self._election(wins[term], previous))
            previous = wins[term]
        return elections

    def _election(self, win: Row, previous: Row | None) -> Election:
        cause, duration = "founding", None
        if previous is not None:
            between = [r for r in self._rows if previous["at_us"] <= r["at_us"] <= win["at_us"]]
            handed = any(
                r["kind"] == "handover_started" and r["node"] == previous["node"] for r in between
            )
            cause = "handover" if handed else "failover"
            duration = _leaderless(between, previous, win)
        votes = sum(
            r["kind"] == "voted" and r["term"] == win["term"] and r["subject"] == win["node"]
            for r in self._rows
        )
        campaign = next(
            (
                r
                for r in reversed(self._rows)
                if r["kind"] == "campaigned"
                and r["node"] == win["node"]
                and r["at_us"] <= win["at_us"]
            ),
            win,
        )
        return Election(
            term=int(win["term"]),
            leader=self.name_of(win["node"]),
            at_us=int(win["at_us"]),
            cause=cause,
            previous=None if previous is None else self.name_of(previous["node"]),
            duration_s=duration,
            score=float(win.get("score") or campaign.get("score") or 0.0),
            rank=int(campaign.get("rank") or 0),
            votes=votes,
        )

    def failovers(self) -> list[Failover]:
        """The unplanned changes of leader."""
        return [
            Failover(e.previous or "", e.leader, e.term, e.at_us, e.duration_s)
            for e in self.elections()
            if e.cause == "failover"
        ]

    def steals(self) -> list[Steal]:
        """The tasks that idle nodes took over."""
        return [
            Steal(str(r["task_id"]), self.name_of(r["detail"]), r["subject_name"], int(r["at_us"]))
            for r in self._rows
            if r["kind"] == "stolen"
        ]

    def to_dicts(self) -> list[Row]:
        """The rows as dictionaries of your own."""
        return [dict(row) for row in self._rows]

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a data frame, with a ``time`` column (UTC). Needs pandas."""
        try:
            import pandas as pd
        except ImportError as error:
            raise HustingsError("to_pandas needs pandas: pip install 'hustings[all]'") from error
        frame = pd.DataFrame(self._rows, columns=[*COLUMNS, "subject_name"])
        frame.insert(0, "time", pd.to_datetime(frame["at_us"], unit="us", utc=True))
        return frame

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> EventLog: ...
    def __getitem__(self, index: int | slice) -> Row | EventLog:
        if isinstance(index, slice):
            return EventLog(self._rows[index], self._names)
        return dict(self._rows[index])

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.to_dicts())

    def __repr__(self) -> str:
        elections = self.elections()
        last = f", last: {elections[-1]!r}" if elections else ""
        return f"EventLog({len(self)} rows, {len(elections)} elections{last})"

    def _repr_html_(self) -> str:
        rows = [
            (
                e.term,
                e.leader,
                e.cause,
                "-" if e.duration_s is None else _milliseconds(e.duration_s),
                e.votes,
            )
            for e in self.elections()
        ]
        return html_table(
            f"{len(self)} events",
            ("term", "leader", "by", "without a leader for", "votes seen"),
            rows,
        )


def _leaderless(between: Sequence[Row], previous: Row, win: Row) -> float | None:
    """Seconds from the old leader's end to the new one's start: from the fault, the silence, or
    its own word."""
    old = previous["node"]
    faults = [
        r["at_us"]
        for r in between
        if r["kind"] == "fault"
        and r["detail"] in ("killed", "frozen", "stopped")
        and r["subject"] == old
    ]
    if faults:
        return float(win["at_us"] - faults[-1]) / 1e6
    silences = [
        r["at_us"] - float(r.get("value") or 0.0) * 1e6
        for r in between
        if r["kind"] == "suspected" and r["subject"] == old
    ]
    if silences:
        return max(0.0, float(win["at_us"] - min(silences)) / 1e6)
    words = [r["at_us"] for r in between if r["kind"] == "stepped_down" and r["node"] == old]
    return float(win["at_us"] - words[-1]) / 1e6 if words else None


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"
