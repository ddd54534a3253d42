"""``EventLog``: rows in order of time, summed up."""

from __future__ import annotations

import pytest

import hustings as hs
from rows import START_US, make_rows


def test_rows_are_in_order_and_names_are_known() -> None:
    log = hs.EventLog(make_rows())
    times = [row["at_us"] for row in log]
    assert times == sorted(times)
    assert {row["subject_name"] for row in log.filter("scored")} == {"n1", "n2", "n3", "n4", "n5"}
    assert len(log[:3]) == 3
    assert log[0]["kind"] == "node_started"


def test_a_crash_is_a_failover_measured_from_the_kill() -> None:
    log = hs.EventLog(make_rows())
    first, second = log.elections()
    assert (first.cause, first.leader, first.votes, first.previous) == ("founding", "n3", 5, None)
    assert (second.cause, second.leader, second.votes) == ("failover", "n1", 4)
    (failover,) = log.failovers()
    assert repr(failover) == "Failover(n3 -> n1, 30 ms)"


def test_without_the_fault_the_silence_counts() -> None:
    rows = [row for row in make_rows() if row["kind"] != "fault"]
    (failover,) = hs.EventLog(rows).failovers()
    assert failover.duration_s == pytest.approx(0.042)


def test_a_handover_is_no_failover() -> None:
    rows = make_rows()
    handover = {**rows[0], "at_us": START_US + 4_400_000, "kind": "handover_started"}
    handover |= {"node": f"{3:016x}", "node_name": "n3", "term": 1}
    log = hs.EventLog([*rows, handover])
    assert log.failovers() == []
    assert log.elections()[-1].cause == "handover"


def test_steals_name_both_sides() -> None:
    (steal,) = hs.EventLog(make_rows()).steals()
    assert (steal.victim, steal.thief, steal.task_id) == ("n5", "n4", "t2")


def test_filters_narrow_and_refuse_unknown_kinds() -> None:
    log = hs.EventLog(make_rows())
    assert {r["kind"] for r in log.filter("voted", "polled")} == {"voted", "polled"}
    assert len(log.filter("voted", node="n3", term=1)) == 1
    assert len(log.filter(since_us=START_US + 9_500_000)) < len(log)
    with pytest.raises(hs.ConfigError, match="did you mean 'voted'"):
        log.filter("votet")


def test_to_dicts_are_copies_and_to_pandas_has_a_time() -> None:
    log = hs.EventLog(make_rows())
    log.to_dicts()[0]["kind"] = "changed"
    assert log[0]["kind"] == "node_started"
    pytest.importorskip("pandas")
    frame = log.to_pandas()
    assert len(frame) == len(log)
    assert str(frame["time"].dt.tz) == "UTC"
    assert frame["time"].is_monotonic_increasing


def test_the_html_card_escapes_what_nodes_are_called() -> None:
    rows = [{**row, "node_name": "<img onerror=x>"} for row in make_rows()]
    card = hs.EventLog(rows)._repr_html_()
    assert "<img" not in card
    assert "&lt;img" in card


def test_a_live_cluster_tells_its_elections(cluster: hs.Cluster) -> None:
    from conftest import eventually

    election = eventually(lambda: cluster.events.elections())[0]
    assert election.leader in {"n1", "n2", "n3"}
    assert election.term >= 1
