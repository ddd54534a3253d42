"""``EventLog``: rows in order of time, summed up."""

from __future__ import annotations

import re
import sys
from typing import Any

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
    rows.add(4.4, "n3", "handover_started", "n1", term=1)
    log = hs.EventLog(rows)
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


def test_rows_that_are_handed_out_are_copies() -> None:
    log = hs.EventLog(make_rows())
    for row in (log.to_dicts()[0], log[0], next(iter(log)), next(iter(log[:2]))):
        row["kind"] = "changed"
    assert log[0]["kind"] == "node_started"
    assert [row["seq"] for row in log[::-1]] == [row["seq"] for row in log]


@pytest.mark.parametrize("rows", [make_rows(), []])
def test_frames_have_the_same_columns_and_types_whatever_they_hold(rows: list[Any]) -> None:
    log = hs.EventLog(rows)
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    arrow = pytest.importorskip("pyarrow")
    frame, other, table = log.to_pandas(), log.to_polars(), log.to_arrow()
    names = list(frame.columns)
    assert names == other.columns == table.column_names
    assert (len(frame), len(other), len(table)) == (len(log),) * 3
    assert str(frame["time"].dtype) == "datetime64[us, UTC]"
    assert other.schema["time"] == polars.Datetime("us", "UTC")
    assert table.schema.field("time").type == arrow.timestamp("us", "UTC")
    whole = ["seq", "at_us", "term", "rank", "attempt"]
    for name in names:
        kind = "int64" if name in whole else "float64" if name in ("score", "value") else None
        if kind is not None:
            assert (str(frame[name].dtype), str(table.schema.field(name).type)) == (
                kind,
                kind.replace("float64", "double"),
            )
            assert other.schema[name] == (polars.Int64 if kind == "int64" else polars.Float64)
    assert isinstance(frame["kind"].dtype, pandas.CategoricalDtype)
    assert frame["time"].is_monotonic_increasing
    assert other["detail"].to_list() == table.column("detail").to_pylist()


def test_findings_become_frames_and_tables() -> None:
    pytest.importorskip("pandas")
    log = hs.EventLog(make_rows())
    frame = log.elections().to_pandas()
    assert list(frame["leader"]) == ["n3", "n1"]
    assert frame["win_ms"].iloc[1] == pytest.approx(10.0)
    assert "2 elections" in log.elections()._repr_html_()
    assert "0 handovers" in log.handovers()._repr_html_()


@pytest.mark.parametrize(
    ("method", "module", "extra"),
    [
        ("to_pandas", "pandas", "pandas"),
        ("to_polars", "polars", "polars"),
        ("to_arrow", "pyarrow", "arrow"),
    ],
)
def test_a_missing_extra_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, method: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    command = re.escape(f"pip install 'hustings[{extra}]'")
    with pytest.raises(hs.HustingsError, match=command):
        getattr(hs.EventLog(make_rows()), method)()


def test_html_escapes_what_nodes_are_called() -> None:
    rows = [{**row, "node_name": "<img onerror=x>"} for row in make_rows()]
    log = hs.EventLog(rows)
    for shown in (log, log.elections(), log.failovers(), log.faults(), log.summary()):
        card = shown._repr_html_()
        assert "<img" not in card
    assert "&lt;img" in log._repr_html_()
    # Colours come from the page, so that a dark one stays readable.
    assert "color:" not in log._repr_html_()


def test_scores_are_a_history_of_each_node() -> None:
    scores = hs.EventLog(make_rows()).scores()
    assert list(scores) == ["n1", "n2", "n3", "n4", "n5"]
    first = scores["n1"]
    assert len(first.at_us) == len(first.scores) == len(first.ranks) == 38
    assert (first.scores[0], first.ranks[0], scores["n5"].ranks[-1]) == (0.9, 0, 4)


def test_a_live_cluster_tells_its_elections(cluster: hs.Cluster) -> None:
    from conftest import eventually

    election = eventually(lambda: cluster.events.elections())[0]
    assert election.leader in {"n1", "n2", "n3"}
    assert election.term >= 1
