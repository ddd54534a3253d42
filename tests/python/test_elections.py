"""Elections, handovers and faults as they are read from rows."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

import hustings as hs
from rows import IDS, START_US, Rows, make_elections, make_rows


def reign(*more: tuple[Any, ...]) -> Rows:
    """n1 leads five nodes from second 1 on, its table is n1 to n5; then ``more`` rows."""
    rows = Rows()
    for node in ("n1", "n2", "n3", "n4", "n5"):
        rows.add(0.5, node, "node_started")
    rows.add(1.0, "n1", "became_leader", "n1", term=1, score=0.9)
    for quarter in range(5, 12):
        rows.table(quarter / 4, "n1", 1, "n1", "n2", "n3", "n4", "n5")
    for row in more:
        rows.add(*row[:-1], **row[-1]) if isinstance(row[-1], dict) else rows.add(*row)
    return rows


def check(rows: Rows, cause: str, duration_ms: float | None, best: str | None) -> hs.Election:
    """The last election, after it was compared with what is expected."""
    election = hs.EventLog(rows).elections()[-1]
    took = None if election.duration_s is None else round(election.duration_s * 1e3, 3)
    assert (election.cause, took, election.best) == (cause, duration_ms, best)
    return election


def test_the_steps_of_a_failover_are_timed_by_the_winner() -> None:
    rows = reign()
    rows.fault(3.0, "killed", "n1")
    rows.campaign(3.1, "n2", 2, "n1", "n3", "n4")
    election = check(rows, "failover", 110.0, "n2")
    steps = election.phases
    took = (steps.suspicion_ms, steps.poll_ms, steps.campaign_ms, steps.win_ms)
    assert took == pytest.approx((100.0, 4.0, 3.0, 3.0))
    assert (election.votes, election.rank, election.terms, election.best_won) == (3, 0, 1, True)


def test_a_false_suspicion_is_counted_and_does_not_begin_the_failover() -> None:
    rows = reign(
        (1.5, "n3", "suspected", "n1", {"term": 1, "value": 0.2}),
        (1.51, "n3", "false_suspicion", "n1", {"term": 1, "value": 0.21}),
    )
    rows.campaign(3.1, "n2", 2, "n1", "n3")
    election = check(rows, "failover", 30.0, "n2")
    assert election.false_suspicions == 1


def test_failed_candidates_cost_terms() -> None:
    rows = reign((3.05, "n4", "campaigned", "n4", {"term": 2}))
    rows.campaign(3.1, "n2", 3, "n1", "n3")
    assert check(rows, "failover", 30.0, "n2").terms == 2


@pytest.mark.parametrize(
    ("dead", "best"), [((), "n2"), (("n2",), "n3"), (("n2", "n3", "n4"), "n5")]
)
def test_the_best_is_the_best_that_lived(dead: tuple[str, ...], best: str) -> None:
    rows = reign()
    rows.fault(1.3, "killed", "n5")
    rows.fault(1.4, "restarted", "n5")
    for node in ("n1", *dead):
        rows.fault(3.0, "killed", node)
    rows.campaign(3.1, "n5", 2, "n1", "n3")
    assert check(rows, "failover", 110.0, best).best_won == (best == "n5")


def test_what_the_leader_wrote_after_the_loss_does_not_count() -> None:
    rows = reign()
    rows.add(2.99, "n1", "fault", "n1", detail="partitioned: n1 n2 | n3 n4 n5")
    rows.campaign(3.1, "n3", 2, "n1", "n4", "n5")
    rows.table(3.05, "n1", 1, "n1", "n2", "n5", "n4", "n3")
    election = check(rows, "failover", 120.0, "n3")
    assert election.best_won


def test_half_a_table_is_no_table() -> None:
    rows = reign()
    rows.add(2.999, "n1", "scored", "n5", term=1, rank=0)
    rows.add(3.001, "n1", "scored", "n4", term=1, rank=1)
    rows.fault(3.0, "killed", "n1")
    rows.campaign(3.1, "n2", 2, "n1", "n3")
    check(rows, "failover", 110.0, "n2")


def test_a_freeze_that_ended_unnoticed_explains_nothing() -> None:
    rows = reign()
    rows.fault(1.5, "frozen", "n1")
    rows.fault(1.6, "resumed", "n1")
    rows.campaign(3.1, "n2", 2, "n1", "n3")
    check(rows, "failover", 30.0, "n2")


def test_a_leader_that_froze_is_lost_although_it_wakes_up() -> None:
    rows = reign()
    rows.fault(3.0, "frozen", "n1")
    rows.campaign(3.12, "n2", 2, "n1", "n3")
    rows.fault(5.0, "resumed", "n1")
    rows.add(5.001, "n1", "stepped_down", "n1", term=1)
    log = hs.EventLog(rows)
    assert log.elections()[-1].duration_s == pytest.approx(0.13)
    first = log.reigns()[0]
    assert (first.until_us, first.since_us) == (START_US + 3_000_000, START_US + 1_000_000)


def test_handovers_are_done_repaired_failed_or_pending() -> None:
    rows = reign()
    rows.handover(3.0, "n1", 1, "n3")
    rows.handover(4.0, "n3", 2, "n5", winner="n3")
    rows.handover(5.0, "n3", 3, "n5", winner="n4")
    # n4 asks n2, nothing happens, and it leads on until it is lost.
    rows.add(6.0, "n4", "handover_started", "n2", term=4)
    rows.table(7.5, "n4", 4, "n4", "n2", "n3")
    rows.campaign(8.0, "n2", 5, "n4", "n3")
    rows.add(9.0, "n2", "handover_started", "n3", term=5)
    log = hs.EventLog(rows)
    causes = [e.cause for e in log.elections()]
    assert causes == ["founding", "handover", "repair", "repair", "failover"]
    assert [(h.outcome, h.leader) for h in log.handovers()] == [
        ("done", "n3"),
        ("repaired", "n3"),
        ("repaired", "n4"),
        ("failed", None),
        ("pending", None),
    ]
    assert log.handovers()[0].duration_s == pytest.approx(0.002)
    assert log.elections()[1].best_won is False
    steady = log.steadiness()
    # The repair that left n3 in place moved nothing.
    assert (steady.moves, steady.handovers, steady.failovers) == (3, 1, 1)


def test_a_leader_killed_in_its_handover_fails_over() -> None:
    rows = reign((2.9, "n1", "handover_started", "n2", {"term": 1}))
    rows.fault(2.901, "killed", "n1")
    rows.fault(2.901, "killed", "n2")
    rows.campaign(3.1, "n3", 2, "n1", "n4", "n5")
    check(rows, "failover", 209.0, "n3")
    assert [h.outcome for h in hs.EventLog(rows).handovers()] == ["failed"]


def test_terms_order_elections_where_clocks_disagree() -> None:
    rows = make_elections(6)
    for row in rows:
        # The clock of n2 is an hour behind.
        if row["node"] == IDS["n2"]:
            row["at_us"] -= 3_600_000_000
    log = hs.EventLog(rows)
    assert [e.term for e in log.elections()] == [1, 2, 3, 4, 5, 6]
    assert {e.leader for e in log.elections()} == {"n1", "n2", "n3"}
    assert all(e.phases.win_ms == pytest.approx(3.0) for e in log.elections()[1:])
    assert all((e.duration_s or 0.0) >= 0.0 for e in log.elections())


def test_a_history_that_begins_in_a_reign_knows_who_led() -> None:
    rows = reign()
    rows.campaign(3.1, "n2", 2, "n1", "n3")
    later = hs.EventLog(rows).filter(since_us=START_US + 1_100_000)
    (election,) = later.elections()
    assert (election.cause, election.previous) == ("failover", "n1")


def test_without_tables_nobody_knows_who_was_best() -> None:
    rows = Rows()
    rows.add(1.0, "n1", "became_leader", "n1", term=1)
    rows.campaign(3.1, "n2", 2, "n1", "n3")
    election = check(rows, "failover", 30.0, None)
    assert election.best_won is None


def test_a_plain_raft_election_has_no_poll_and_no_suspicion() -> None:
    rows = reign()
    rows.fault(3.0, "killed", "n1")
    rows.add(3.3, "n3", "became_leader", "n3", term=2)
    election = check(rows, "failover", 300.0, "n2")
    assert (election.phases.suspicion_ms, election.phases.win_ms) == (None, pytest.approx(300.0))


def spans(rows: Rows) -> list[tuple[str, str, str, float | None]]:
    """What, who, to whom, and for how many seconds."""
    return [
        (f.what, f.node or " ".join("".join(g) for g in f.groups), f.listener, lasted(f))
        for f in hs.EventLog(rows).faults()
    ]


def lasted(fault: hs.Fault) -> float | None:
    return None if fault.until_us is None else (fault.until_us - fault.at_us) / 1e6


def test_faults_of_nodes_are_spans() -> None:
    rows = reign()
    rows.fault(1.0, "killed", "n1")
    rows.fault(2.0, "restarted", "n1")
    rows.fault(2.5, "frozen", "n2")
    rows.fault(3.0, "killed", "n2")
    rows.add(4.0, "n3", "fault", "n3", detail="clock", value=2.0)
    rows.add(4.5, "n3", "fault", "n3", detail="clock", value=1.0)
    assert spans(rows) == [
        ("killed", "n1", "", 1.0),
        ("frozen", "n2", "", 0.5),
        ("killed", "n2", "", None),
        ("clock", "n3", "", 0.5),
    ]


def test_faults_of_links_end_one_by_one_or_all_at_once() -> None:
    rows = reign()
    rows.add(1.0, "n1", "fault", None, detail="partitioned: n1 n2 | n3 n4 n5")
    rows.add(1.1, "n3", "fault", "n4", detail="delayed", value=0.05)
    rows.add(1.2, "n3", "fault", "n4", detail="delayed", value=0.1)
    rows.add(1.3, "n4", "fault", "n3", detail="lossy", value=0.1)
    rows.add(1.4, "n2", "fault", "n1", detail="cut")
    rows.add(1.5, "n4", "fault", "n3", detail="lossy", value=0.0)
    rows.add(1.6, "n2", "fault", "n1", detail="healed")
    # Of the simulator: a node is cut off, twice at once, and each is mended by itself.
    rows.add(2.0, "n1", "fault", None, detail="partitioned: n5 | n1 n2 n3 n4")
    rows.add(2.1, "n1", "fault", None, detail="partitioned: n4 | n1 n2 n3 n5")
    rows.add(2.2, "n5", "fault", "n5", detail="healed")
    rows.add(3.0, "n1", "fault", None, detail="healed")
    assert spans(rows) == [
        ("partitioned", "n1n2 n3n4n5", "", 2.0),
        ("delayed", "n3", "n4", 0.1),
        ("delayed", "n3", "n4", 1.8),
        ("lossy", "n4", "n3", 0.2),
        ("cut", "n2", "n1", 0.2),
        ("partitioned", "n5 n1n2n3n4", "", 0.2),
        ("partitioned", "n4 n1n2n3n5", "", 0.9),
    ]
    whole, *_, cut_off = hs.EventLog(rows).faults()
    assert (whole.separates("n1", "n3"), whole.separates("n1", "n2")) == (True, False)
    assert (whole.isolated, cut_off.isolated) == ("", "n4")


def test_who_is_behind_any_partition_could_not_have_won() -> None:
    rows = reign()
    rows.add(2.0, "n1", "fault", None, detail="partitioned: n2 | n1 n3 n4 n5")
    rows.add(2.9, "n1", "fault", None, detail="partitioned: n3 | n1 n2 n4 n5")
    rows.add(3.0, "n1", "fault", None, detail="partitioned: n1 | n2 n3 n4 n5")
    rows.campaign(3.1, "n5", 2, "n1", "n4")
    assert check(rows, "failover", 110.0, "n4").best_won is False


def lines_run(rows: Rows) -> int:
    """Lines of hustings' own code, and turns of its inner loops, that reading elections takes."""
    log = hs.EventLog(rows)
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if "hustings" not in frame.f_code.co_filename:
            return None
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        log.elections()
        log.handovers()
        log.faults()
        log.scores()
        log.summary()
    finally:
        sys.settrace(before)
    return count


def test_twice_the_history_is_twice_the_work() -> None:
    once, twice = lines_run(make_elections(200)), lines_run(make_elections(400))
    assert twice < 2.1 * once
    # One long reign, with one election at its end.
    once, twice = (lines_run(make_elections(2, tables=n)) for n in (500, 1_000))
    assert twice < 2.1 * once


def test_a_cluster_seen_by_its_rows_alone() -> None:
    summary = hs.EventLog(make_rows()).summary()
    assert (summary.leader, summary.term, summary.elections, summary.faults) == ("n1", 2, 2, 2)
    assert summary.best_won == (1, 1)
    assert summary.failover_s == pytest.approx((0.03, 0.03, 0.03))
    assert "1 founding, 1 failover" in repr(summary)
    assert summary.steadiness.led_s == pytest.approx({"n1": 5.22, "n3": 4.26})
    empty = hs.EventLog([])
    assert (empty.summary().leader, empty.elections(), empty.scores()) == (None, [], {})
    assert empty.steadiness().moves_per_hour == 0.0
