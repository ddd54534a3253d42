"""Made-up histories, row by row."""

from __future__ import annotations

from typing import Any

IDS = {f"n{i}": f"{i:016x}" for i in range(1, 26)}
START_US = 1_700_000_000_000_000


class Rows(list[dict[str, Any]]):
    """Rows as nodes would send them; ``at`` is in seconds."""

    def add(self, at: float, node: str, kind: str, subject: str | None = None, **more: Any) -> None:
        """One row."""
        row = {
            "seq": len(self) + 1,
            "at_us": START_US + round(at * 1e6),
            "node": IDS[node],
            "node_name": node,
            "kind": kind,
            "term": 0,
            "subject": IDS[subject] if subject else None,
            "score": 0.0,
            "rank": 0,
            "task_id": None,
            "attempt": 0,
            "value": 0.0,
            "detail": "",
        }
        self.append({**row, **more})

    def fault(self, at: float, detail: str, node: str = "n1", subject: str | None = None) -> None:
        """Something is broken or mended; of one node unless ``subject`` is given."""
        self.add(at, node, "fault", subject or node, detail=detail)

    def table(self, at: float, leader: str, term: int, *best_first: str) -> None:
        """The leader's view of the scores."""
        for rank, node in enumerate(best_first):
            score = round(0.9 - 0.1 * rank, 2)
            self.add(at, leader, "scored", node, term=term, score=score, rank=rank)

    def campaign(self, at: float, winner: str, term: int, old: str, *voters: str) -> None:
        """All suspect ``old`` at ``at``, after 20 ms of silence; 10 ms later ``winner`` leads."""
        for i, voter in enumerate((winner, *voters)):
            self.add(at + i / 1e4, voter, "suspected", old, term=term - 1, value=0.02)
        self.add(at + 0.004, winner, "polled", old, term=term - 1, score=0.8)
        self.add(at + 0.007, winner, "campaigned", winner, term=term, score=0.8)
        for i, voter in enumerate(voters):
            self.add(at + 0.008 + i / 1e4, voter, "voted", winner, term=term)
        self.add(at + 0.010, winner, "became_leader", winner, term=term, score=0.8)

    def handover(self, at: float, old: str, term: int, to: str, winner: str | None = None) -> None:
        """``old`` yields to ``to``; 2 ms later ``winner`` leads in the next term."""
        self.add(at, old, "handover_started", to, term=term, detail="drain")
        self.add(at + 0.001, old, "stepped_down", old, term=term)
        winner = winner or to
        self.add(at + 0.002, winner, "became_leader", winner, term=term + 1, score=0.7)


def make_rows() -> Rows:
    """n3 leads, is killed, n1 takes over; n2 is frozen for a while."""
    rows = Rows()
    nodes = ("n1", "n2", "n3", "n4", "n5")
    for node in nodes:
        rows.add(0.0, node, "node_started")
        rows.add(0.23, node, "voted", "n3", term=1)
    rows.add(0.22, "n3", "campaigned", term=1, score=0.9)
    rows.add(0.24, "n3", "became_leader", term=1, score=0.9)
    for quarter in range(2, 40):
        leader, term = ("n3", 1) if quarter <= 18 else ("n1", 2)
        rows.table(quarter / 4 - 0.01, leader, term, *nodes)
        for node in nodes:
            rows.add(quarter / 4, leader, "loaded", node, value=max(0, 300 - 8 * quarter))
    rows.add(4.53, "n1", "became_leader", term=2, score=0.8)
    rows.fault(4.5, "killed", "n3")
    for i, node in enumerate(("n1", "n2", "n4", "n5")):
        rows.add(4.508 + 0.002 * i, node, "suspected", "n3", term=1, value=0.02)
        rows.add(4.524 + 0.001 * i, node, "voted", "n1", term=2)
    rows.add(4.512, "n1", "polled", term=1)
    rows.add(4.52, "n1", "campaigned", term=2, score=0.8)
    rows.fault(4.7, "frozen", "n2")
    rows.fault(6.9, "resumed", "n2")
    rows.add(7.0, "n1", "late_completion", "n2", task_id="t1")
    rows.add(9.0, "n1", "stolen", "n4", detail=IDS["n5"], task_id="t2")
    return rows


def make_elections(count: int, tables: int = 4) -> Rows:
    """As many leaders, one after the other: each is killed, followed and restarted."""
    rows = Rows()
    nodes = ("n1", "n2", "n3")
    rows.add(0.0, "n1", "became_leader", "n1", term=1)
    for term in range(2, count + 1):
        at = float(term)
        old, new, third = (nodes[(term + i) % 3] for i in (1, 2, 3))
        for i in range(tables):
            rows.table(at - 0.9 + 0.1 * i, old, term - 1, *nodes)
        rows.fault(at - 0.1, "killed", old)
        rows.campaign(at, new, term, old, third)
        rows.fault(at + 0.02, "restarted", old)
    return rows
