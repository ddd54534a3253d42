"""Reads elections, handovers and reigns from rows: sorts the rows by term once, then reads term
after term. Terms order what happened, not times: clocks differ."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .elections import Election, Handover, Phases, Reign
from .fault_spans import Fault, fault_word

Row = dict[str, Any]

STILL_LEADS_US = 1_000_000
"""A leader that writes its table this long after a handover began was not relieved by it."""

_SHELVES = {
    "suspected": "suspicions",
    "false_suspicion": "suspicions",
    "polled": "polls",
    "campaigned": "campaigns",
    "voted": "votes",
    "handover_started": "handovers",
    "scored": "scored",
    "stepped_down": "stepped_down",
}
_BEGINS_OUTAGE = {"killed", "frozen", "stopped", "node_stopped"}
_ENDS_OUTAGE = {"restarted", "resumed", "node_started"}


@dataclass
class ElectionHistory:
    """Everything about leaders that is in a history, in order of term."""

    elections: list[Election] = field(default_factory=list)
    handovers: list[Handover] = field(default_factory=list)
    reigns: list[Reign] = field(default_factory=list)


@dataclass
class _Term:
    """The rows of one term, by what they say, each list in order of time."""

    win: Row | None = None
    suspicions: list[Row] = field(default_factory=list)
    polls: list[Row] = field(default_factory=list)
    campaigns: list[Row] = field(default_factory=list)
    votes: list[Row] = field(default_factory=list)
    handovers: list[Row] = field(default_factory=list)
    scored: list[Row] = field(default_factory=list)
    stepped_down: list[Row] = field(default_factory=list)


@dataclass
class _Reign:
    """A leader, its term, and the terms after it that nobody won."""

    start: Row
    terms: list[_Term]

    @property
    def leader(self) -> str:
        return str(self.start["node"])

    @property
    def since_us(self) -> int:
        return int(self.start["at_us"])

    def handovers(self) -> list[Row]:
        return [row for row in self.terms[0].handovers if str(row["node"]) == self.leader]

    def handover(self) -> Row | None:
        """The last one, unless the leader led on long after it."""
        started = self.handovers()
        tables = self.terms[0].scored
        led_on = bool(started and tables) and (
            tables[-1]["at_us"] > started[-1]["at_us"] + STILL_LEADS_US
        )
        return started[-1] if started and not led_on else None

    def suspicions(self) -> tuple[dict[str, Row], int]:
        """Who suspects the leader since which row, and how many suspicions proved wrong."""
        standing: dict[str, Row] = {}
        wrong = 0
        for row in (row for term in self.terms for row in term.suspicions):
            if str(row["subject"]) != self.leader:
                continue
            if row["kind"] == "suspected":
                standing.setdefault(str(row["node"]), row)
            else:
                wrong += 1
                standing.pop(str(row["node"]), None)
        return standing, wrong


class _Outages:
    """When nodes were killed, frozen or stopped, by their ids."""

    def __init__(self) -> None:
        self._spans: dict[str, list[tuple[int, int | None]]] = {}

    def take(self, row: Row) -> None:
        fault = row["kind"] == "fault"
        word = fault_word(row) if fault else str(row["kind"])
        spans = self._spans.setdefault(str((fault and row["subject"]) or row["node"]), [])
        down = bool(spans) and spans[-1][1] is None
        if word in _BEGINS_OUTAGE and not down:
            spans.append((int(row["at_us"]), None))
        elif word in _ENDS_OUTAGE and down:
            spans[-1] = (spans[-1][0], int(row["at_us"]))

    def first_since(self, node: str, at_us: int) -> int | None:
        """When the node first went down from ``at_us`` on."""
        spans = self._spans.get(node, [])
        place = bisect_left(spans, at_us, key=_start)
        return spans[place][0] if place < len(spans) else None

    def last_before(self, node: str, at_us: int) -> tuple[int, int | None] | None:
        """The last outage that began by ``at_us``."""
        spans = self._spans.get(node, [])
        place = bisect_right(spans, at_us, key=_start)
        return spans[place - 1] if place else None


class _Partitions:
    """Which partitions were in force when."""

    def __init__(self, partitions: Sequence[Fault]) -> None:
        moments = {p.at_us for p in partitions} | {p.until_us for p in partitions}
        self._times = sorted(at for at in moments if at is not None)
        self._in_force: list[list[Fault]] = [[] for _ in self._times]
        for partition in partitions:
            place = bisect_left(self._times, partition.at_us)
            until = len(self._times)
            if partition.until_us is not None:
                until = bisect_left(self._times, partition.until_us)
            for covered in range(place, until):
                self._in_force[covered].append(partition)

    def at(self, at_us: int) -> list[Fault]:
        """Those that had begun and were not mended yet."""
        place = bisect_right(self._times, at_us)
        return self._in_force[place - 1] if place else []


def _start(span: tuple[int, int | None]) -> int:
    return span[0]


class ElectionReader:
    """Sorts rows by term, then reads term after term."""

    def __init__(
        self, rows: Iterable[Row], name_of: Callable[[object], str], faults: Sequence[Fault]
    ) -> None:
        self._name_of = name_of
        self._partitions = _Partitions([fault for fault in faults if fault.groups])
        self._terms: dict[int, _Term] = {}
        self._outages = _Outages()
        for row in rows:
            kind = row["kind"]
            shelf = _SHELVES.get(kind)
            if shelf is not None:
                getattr(self._term(row), shelf).append(row)
            elif kind == "became_leader":
                term = self._term(row)
                term.win = term.win or row
            elif kind in ("fault", "node_stopped", "node_started"):
                self._outages.take(row)

    def _term(self, row: Row) -> _Term:
        number = int(row["term"])
        found = self._terms.get(number)
        if found is None:
            found = self._terms[number] = _Term()
        return found

    def read(self) -> ElectionHistory:
        """All elections, handovers and reigns."""
        history = ElectionHistory()
        reign: _Reign | None = None
        for number in sorted(self._terms):
            term = self._terms[number]
            if term.win is not None:
                self._close(history, reign, self._election(reign, term.win, term))
                reign = _Reign(term.win, [term])
            elif reign is not None:
                reign.terms.append(term)
            elif number > 0 and term.scored:
                # The rows begin in the middle of a reign.
                reign = _Reign(term.scored[0], [term])
        self._close(history, reign, None)
        return history

    def _close(self, history: ElectionHistory, reign: _Reign | None, then: Election | None) -> None:
        """Adds what ended a reign, and the reign."""
        if reign is not None:
            history.handovers += self._handovers(reign, then)
            history.reigns.append(self._ended(reign, then))
        if then is not None:
            history.elections.append(then)

    def _election(self, reign: _Reign | None, win: Row, own: _Term) -> Election:
        winner, term, at = str(win["node"]), int(win["term"]), int(win["at_us"])
        change = _Change(winner, at)
        if reign is not None:
            standing, change.wrong = reign.suspicions()
            change.suspicion = standing.get(winner)
            self._explain(change, reign, standing)
        change.poll = self._poll(change, reign, term)
        change.campaign = next((r for r in reversed(own.campaigns) if r["node"] == winner), None)
        votes = {str(r["node"]) for r in own.votes if str(r["subject"]) == winner} | {winner}
        campaign = change.campaign or {}
        lost = change.lost_us
        return Election(
            term=term,
            leader=self._name_of(winner),
            at_us=at,
            cause=change.cause,
            previous=None if reign is None else self._name_of(reign.leader),
            duration_s=None if lost is None else max(0.0, (at - lost) / 1e6),
            score=float(win.get("score") or campaign.get("score") or 0.0),
            rank=int(campaign.get("rank", change.rank())),
            votes=len(votes),
            phases=change.phases(),
            terms=term - (0 if reign is None else int(reign.start["term"])),
            false_suspicions=change.wrong,
            best=change.best,
        )

    def _explain(self, change: _Change, reign: _Reign, standing: dict[str, Row]) -> None:
        """Why and when the leader was lost, and who should have followed."""
        handover = reign.handover()
        outage = self._outage(reign, change)
        if handover is not None and str(handover["subject"]) == change.winner:
            change.cause, change.lost_us = "handover", int(handover["at_us"])
        elif handover is not None and outage is None:
            change.cause, change.lost_us = "repair", int(handover["at_us"])
        else:
            change.cause = "failover"
            change.lost_us = self._lost_us(change, reign, outage, standing)
        until = change.at_us if change.lost_us is None else change.lost_us
        table = _table_at(reign.terms[0].scored, until)
        change.table = [row for row in table if str(row["subject"]) != reign.leader]
        change.best = self._best(change, reign)

    def _lost_us(
        self, change: _Change, reign: _Reign, outage: int | None, standing: dict[str, Row]
    ) -> int | None:
        if outage is not None:
            return outage
        old, new = self._name_of(reign.leader), self._name_of(change.winner)
        cuts = [p.at_us for p in self._partitions.at(change.at_us) if p.separates(old, new)]
        if cuts and max(cuts) >= reign.since_us:
            return max(cuts)
        if change.suspicion is not None:
            return _last_heard_us(change.suspicion)
        if standing:
            return min(map(_last_heard_us, standing.values()))
        words = [r["at_us"] for r in reign.terms[0].stepped_down if r["node"] == reign.leader]
        return int(words[-1]) if words else None

    def _outage(self, reign: _Reign, change: _Change) -> int | None:
        """When the leader went down, if that is why it was followed: it did not come back before
        the winner suspected it."""
        outage = self._outages.last_before(reign.leader, change.at_us)
        if outage is None or outage[0] < reign.since_us:
            return None
        suspected = change.at_us if change.suspicion is None else int(change.suspicion["at_us"])
        return outage[0] if outage[1] is None or outage[1] >= suspected else None

    def _best(self, change: _Change, reign: _Reign) -> str | None:
        """The best-ranked voter that the winner could reach and that did not go down."""
        partitions = self._partitions.at(change.at_us)
        lost_us = change.at_us if change.lost_us is None else change.lost_us
        winner = self._name_of(change.winner)
        for row in change.table:
            node = str(row["subject"])
            outage = self._outages.last_before(node, change.at_us)
            down = outage is not None and (outage[1] is None or outage[1] > lost_us)
            name = self._name_of(node)
            away = any(partition.separates(name, winner) for partition in partitions)
            if not down and not away:
                return name
        return None

    def _poll(self, change: _Change, reign: _Reign | None, term: int) -> Row | None:
        """The winner's first poll since its suspicion; of the founder, its first."""
        before = self._terms.get(term - 1)
        terms = reign.terms if reign is not None else [before] if before is not None else []
        since = 0 if change.suspicion is None else int(change.suspicion["at_us"])
        if reign is not None and change.suspicion is None:
            return None
        polls = (row for shelf in terms for row in shelf.polls)
        return next((r for r in polls if r["node"] == change.winner and r["at_us"] >= since), None)

    # --- the end of a reign

    def _handovers(self, reign: _Reign, then: Election | None) -> Iterator[Handover]:
        started, last = reign.handovers(), reign.handover()
        for row in started:
            outcome, leader, duration = "failed", None, None
            if row is last and then is None:
                outcome = "pending"
            elif row is last and then is not None and then.cause != "failover":
                outcome = "done" if then.cause == "handover" else "repaired"
                leader, duration = then.leader, (then.at_us - int(row["at_us"])) / 1e6
            yield Handover(
                from_node=self._name_of(reign.leader),
                to_node=self._name_of(row["subject"]),
                term=int(row["term"]),
                at_us=int(row["at_us"]),
                why=str(row.get("detail") or ""),
                outcome=outcome,
                leader=leader,
                duration_s=duration,
            )

    def _ended(self, reign: _Reign, then: Election | None) -> Reign:
        ends = [int(r["at_us"]) for r in reign.terms[0].stepped_down if r["node"] == reign.leader]
        down = self._outages.first_since(reign.leader, reign.since_us)
        ends += [] if down is None else [down]
        ends += [] if then is None else [then.at_us]
        until = max(reign.since_us, min(ends)) if ends else None
        term = int(reign.start["term"])
        return Reign(self._name_of(reign.leader), term, reign.since_us, until)


@dataclass
class _Change:
    """One change of leader, as far as it is understood."""

    winner: str
    at_us: int
    cause: str = "founding"
    lost_us: int | None = None
    suspicion: Row | None = None
    poll: Row | None = None
    campaign: Row | None = None
    wrong: int = 0
    table: list[Row] = field(default_factory=list)
    """The last table of the lost leader, best first, without it."""
    best: str | None = None

    def rank(self) -> int:
        """The winner's place in the table, or behind it."""
        nodes = [str(row["subject"]) for row in self.table]
        return nodes.index(self.winner) if self.winner in nodes else len(nodes)

    def phases(self) -> Phases:
        """Each step from the one before that is known."""
        rows = (self.suspicion, self.poll, self.campaign)
        took: list[float | None] = []
        before = self.lost_us
        for at in [*(None if row is None else int(row["at_us"]) for row in rows), self.at_us]:
            took.append(None if at is None or before is None else max(0.0, (at - before) / 1e3))
            before = before if at is None else at
        return Phases(*took)


def _last_heard_us(suspicion: Row) -> int:
    return int(suspicion["at_us"] - float(suspicion.get("value") or 0.0) * 1e6)


def _table_at(scored: list[Row], at_us: int) -> list[Row]:
    """The last whole table that was written by ``at_us``; each begins with rank 0."""
    end = bisect_right(scored, at_us, key=lambda row: int(row["at_us"]))
    while 0 < end < len(scored) and int(scored[end]["rank"]) > 0:
        end -= 1
    begin = end - 1
    while begin > 0 and int(scored[begin]["rank"]) > 0:
        begin -= 1
    return scored[max(begin, 0) : end]
