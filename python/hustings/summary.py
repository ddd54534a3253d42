"""A history in a few figures: who led how long, how often leadership moved, how long it was
missing."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .election_history import ElectionHistory
from .elections import Election, milliseconds
from .fault_spans import Fault
from .members import html_table


@dataclass(frozen=True)
class Steadiness:
    """How steady leadership was, from the first leader to the last row."""

    hours: float
    moves: int
    """Times another node took over, planned or not."""
    handovers: int
    failovers: int
    leaderless_s: float
    """Seconds without a leader, as far as their beginning is known."""
    led_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds each node led."""

    @property
    def moves_per_hour(self) -> float:
        """Moves of leadership per hour; 0 in a history without length."""
        return self.moves / self.hours if self.hours > 0 else 0.0

    def __repr__(self) -> str:
        rate = f"{self.moves_per_hour:.3g} moves per hour"
        split = f"{self.handovers} handovers, {self.failovers} failovers"
        return f"Steadiness({rate} over {self.hours:.3g} h: {split})"


@dataclass(frozen=True)
class Summary:
    """A history in a few figures."""

    rows: int
    nodes: tuple[str, ...]
    seconds: float
    leader: str | None
    """Who led last."""
    term: int
    elections: int
    causes: Mapping[str, int]
    """Elections by cause."""
    faults: int
    """Faults made on purpose."""
    false_suspicions: int
    best_won: tuple[int, int]
    """In how many failovers the best-ranked live voter won, of how many where that is known."""
    failover_s: tuple[float, float, float] | None
    """Median, 99th percentile and maximum of the failovers whose length is known."""
    steadiness: Steadiness

    def lines(self) -> list[tuple[str, str]]:
        """What there is to say, as (name, text)."""
        causes = ", ".join(f"{n} {cause}" for cause, n in self.causes.items()) or "none"
        lines = [
            ("rows", f"{self.rows} of {len(self.nodes)} nodes over {self.seconds:.3g} s"),
            ("leader", f"{self.leader or 'nobody'}, term {self.term}"),
            ("elections", f"{self.elections}: {causes}" if self.elections else "none"),
        ]
        if self.failover_s is not None:
            names = ("p50", "p99", "max")
            times = (milliseconds(s) for s in self.failover_s)
            text = ", ".join(f"{n} {t}" for n, t in zip(names, times, strict=True))
            lines.append(("failovers", text))
        won, known = self.best_won
        if known:
            lines.append(("best-ranked won", f"{won} of {known} failovers"))
        lines.append(("false suspicions", str(self.false_suspicions)))
        lines.append(("faults on purpose", str(self.faults)))
        return lines

    def __repr__(self) -> str:
        return "\n".join(f"{name:>17}  {text}" for name, text in self.lines())

    def _repr_html_(self) -> str:
        return html_table("Summary", (), self.lines())


def summarise(
    rows: Sequence[Mapping[str, Any]],
    nodes: Sequence[str],
    history: ElectionHistory,
    faults: Sequence[Fault],
) -> Summary:
    """The figures of a history whose rows are in order of time."""
    elections = history.elections
    last = elections[-1] if elections else None
    failovers = [e for e in elections if e.cause == "failover"]
    known = [e.best_won for e in failovers if e.best_won is not None]
    wrong = sum(row["kind"] == "false_suspicion" for row in rows)
    seconds = (rows[-1]["at_us"] - rows[0]["at_us"]) / 1e6 if rows else 0.0
    return Summary(
        rows=len(rows),
        nodes=tuple(nodes),
        seconds=seconds,
        leader=None if last is None else last.leader,
        term=0 if last is None else last.term,
        elections=len(elections),
        causes=Counter(e.cause for e in elections),
        faults=len(faults),
        false_suspicions=wrong,
        best_won=(sum(known), len(known)),
        failover_s=_spread([e.duration_s for e in failovers if e.duration_s is not None]),
        steadiness=measure_steadiness(history, rows[-1]["at_us"] if rows else 0),
    )


def measure_steadiness(history: ElectionHistory, end_us: int) -> Steadiness:
    """How steady leadership was until ``end_us``."""
    led: Counter[str] = Counter()
    for reign in history.reigns:
        until = end_us if reign.until_us is None else reign.until_us
        led[reign.leader] += max(0, until - reign.since_us)
    moves = [e for e in history.elections if e.previous is not None and e.previous != e.leader]
    begin_us = history.reigns[0].since_us if history.reigns else end_us
    return Steadiness(
        hours=max(0, end_us - begin_us) / 3.6e9,
        moves=len(moves),
        handovers=sum(e.cause == "handover" for e in moves),
        failovers=sum(e.cause == "failover" for e in moves),
        leaderless_s=sum(_known(history.elections)),
        led_s={node: us / 1e6 for node, us in sorted(led.items())},
    )


def _known(elections: Sequence[Election]) -> list[float]:
    return [e.duration_s for e in elections if e.duration_s is not None]


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of an ordered, non-empty sample do not exceed."""
    place = math.ceil(share * len(ordered)) - 1
    return ordered[min(len(ordered) - 1, max(0, place))]


def _spread(values: Sequence[float]) -> tuple[float, float, float] | None:
    if not values:
        return None
    ordered = sorted(values)
    return statistics.median(ordered), quantile(ordered, 0.99), ordered[-1]
