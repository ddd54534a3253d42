"""What a history tells about leaders: elections, failovers, handovers, reigns. Frozen findings.

The times of rows come from the wall clocks of the nodes that wrote them. On one machine, and in
simulation, they are one clock; where a figure needs the clocks of two nodes, its field says so.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phases:
    """The steps of the winner, each in milliseconds since the one before; ``None``: no such step.

    All but the first are by one clock, the winner's own.
    """

    suspicion_ms: float | None = None
    """From the loss of the leader until the winner suspected it. A fault that was caused by a
    script is timed by the script's clock."""
    poll_ms: float | None = None
    """Until it asked the voters: its rank times the rank delay."""
    campaign_ms: float | None = None
    """Until it asked for votes: the poll, lost rounds included."""
    win_ms: float | None = None
    """Until it led."""


@dataclass(frozen=True)
class Election:
    """How one node came to lead."""

    term: int
    leader: str
    at_us: int
    cause: str
    """``"founding"``, ``"failover"``, ``"handover"`` or ``"repair"`` (of a handover whose target
    did not take over)."""
    previous: str | None
    duration_s: float | None
    """Without a leader: since the fault, the handover, or else the winner's last sign of life from
    the old one. The first two may be by another clock than the end."""
    score: float
    rank: int
    """Its place among those that could follow the old leader; 0 is the best."""
    votes: int
    """Voters known to have voted for it, itself included."""
    phases: Phases = Phases()
    terms: int = 1
    """Terms it took: more than one if candidates failed in between."""
    false_suspicions: int = 0
    """How often a voter suspected the previous leader wrongly while it led."""
    best: str | None = None
    """The best-ranked voter that was live, by the old leader's last table; ``None``: no table."""

    @property
    def best_won(self) -> bool | None:
        """Whether the best-ranked live voter won; ``None`` if the ranking is not known."""
        return None if self.best is None else self.best == self.leader

    def __repr__(self) -> str:
        took = "" if self.duration_s is None else f", {milliseconds(self.duration_s)}"
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
    phases: Phases = Phases()
    best_won: bool | None = None
    """Whether the best-ranked live voter took over; ``None`` if the ranking is not known."""

    @classmethod
    def of(cls, election: Election) -> Failover:
        """The failover that an election was."""
        return cls(
            from_node=election.previous or "",
            to_node=election.leader,
            term=election.term,
            at_us=election.at_us,
            duration_s=election.duration_s,
            phases=election.phases,
            best_won=election.best_won,
        )

    def __repr__(self) -> str:
        took = "duration unknown" if self.duration_s is None else milliseconds(self.duration_s)
        return f"Failover({self.from_node} -> {self.to_node}, {took})"


@dataclass(frozen=True)
class Handover:
    """A leader's attempt to yield."""

    from_node: str
    to_node: str
    """Whom it chose."""
    term: int
    """The term it ended, or should have."""
    at_us: int
    why: str
    outcome: str
    """``"done"``; ``"repaired"``: another took over, perhaps the old leader again; ``"failed"``:
    the old leader went on, or was lost; ``"pending"``: the rows end before it was decided."""
    leader: str | None
    """Who led then."""
    duration_s: float | None
    """Until that one led; by the clocks of both."""

    def __repr__(self) -> str:
        took = "" if self.duration_s is None else f" in {milliseconds(self.duration_s)}"
        return f"Handover({self.from_node} -> {self.to_node}, {self.outcome}{took})"


@dataclass(frozen=True)
class Reign:
    """From when until when one node led."""

    leader: str
    term: int
    since_us: int
    until_us: int | None
    """When it went down, stepped down or was followed; ``None``: it still leads."""


def milliseconds(seconds: float) -> str:
    """``"84 ms"``, or seconds where that is shorter."""
    return f"{seconds * 1e3:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"
