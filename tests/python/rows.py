"""A made-up history: n3 leads, is killed, n1 takes over; n2 is frozen for a while."""

from __future__ import annotations

from typing import Any

IDS = {f"n{i}": f"{i:016x}" for i in range(1, 6)}
START_US = 1_700_000_000_000_000


def make_rows() -> list[dict[str, Any]]:
    """The rows, out of order, as several nodes would send them."""
    rows: list[dict[str, Any]] = []

    def add(at: float, node: str, kind: str, subject: str | None = None, **more: Any) -> None:
        row = {
            "seq": len(rows) + 1,
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
        rows.append({**row, **more})

    for node in IDS:
        add(0.0, node, "node_started")
        add(0.23, node, "voted", "n3", term=1)
    add(0.22, "n3", "campaigned", term=1, score=0.9)
    add(0.24, "n3", "became_leader", term=1, score=0.9)
    for quarter in range(2, 40):
        leader = "n3" if quarter < 18 else "n1"
        for i, node in enumerate(IDS):
            add(quarter / 4, leader, "scored", node, score=0.9 - 0.1 * i)
            add(quarter / 4, leader, "loaded", node, value=max(0, 300 - 8 * quarter))
    add(4.53, "n1", "became_leader", term=2, score=0.8)
    add(4.5, "n3", "fault", "n3", detail="killed")
    for i, node in enumerate(("n1", "n2", "n4", "n5")):
        add(4.508 + 0.002 * i, node, "suspected", "n3", value=0.02)
        add(4.524 + 0.001 * i, node, "voted", "n1", term=2)
    add(4.512, "n1", "polled", term=1)
    add(4.52, "n1", "campaigned", term=2, score=0.8)
    add(4.7, "n2", "fault", "n2", detail="frozen")
    add(6.9, "n2", "fault", "n2", detail="resumed")
    add(7.0, "n1", "late_completion", "n2", task_id="t1")
    add(9.0, "n1", "stolen", "n4", detail=IDS["n5"], task_id="t2")
    return rows
