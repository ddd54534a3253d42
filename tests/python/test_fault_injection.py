"""Faults as a feature: off unless allowed, one end of a link at a time, visible, written down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import hustings as hs
import sample_tasks
from conftest import eventually, run_command
from fault_views import leaders, other_names, settle, views, wait_successor


@pytest.fixture(scope="module")
def broken() -> Iterator[hs.Cluster]:
    """Three nodes in this process to break and mend."""
    with hs.Cluster.local(3, name="broken", config=hs.Config.ci()) as made:
        settle(made)
        yield made


def rows(cluster: hs.Cluster, since: int) -> list[tuple[str, str, str, float]]:
    """(writer, subject, detail, value) of the faults after the first ``since``."""
    return [
        (r["node_name"], r["subject_name"], r["detail"], r["value"])
        for r in cluster.events.filter("fault")
    ][since:]


def test_a_node_takes_fault_calls_only_with_leave() -> None:
    """Bad input 52."""
    with pytest.warns(hs.HustingsWarning):
        node = hs.Node("careful", config=hs.Config.ci()).start()
    with hs.Cluster.connect(str(node.address)) as cluster:
        for attempt in (
            lambda: cluster.clock_rate("careful", 2.0),
            lambda: cluster.heal(),
        ):
            with pytest.raises(hs.FaultInjectionDisabledError, match="allow_faults=True"):
                attempt()
        assert cluster.faults() == []
    assert not node.events.filter("fault")
    node.stop()


def test_whoever_lacks_leave_keeps_all_its_links_whole() -> None:
    with pytest.warns(hs.HustingsWarning):
        bold = hs.Node("bold", allow_faults=True, config=hs.Config.ci()).start()
    careful = hs.Node("careful", join=[str(bold.address)], config=hs.Config.ci()).start()
    with hs.Cluster.connect(str(bold.address)) as cluster:
        eventually(lambda: len(cluster.members()) == 2)
        for attempt in (
            lambda: cluster.partition("bold", "careful"),
            lambda: cluster.cut("bold", "careful"),
            lambda: cluster.delay(None, None, 1),
        ):
            with pytest.raises(hs.FaultInjectionDisabledError):
                attempt()
        assert cluster.faults() == []
        cluster.clock_rate("bold", 1.5)
        assert [str(f) for f in cluster.faults()] == ["bold: clock runs 1.5 times as fast"]
        assert "clock runs 1.5" in bold._repr_html_()
    careful.stop()
    bold.stop()


def test_every_fault_is_a_row_and_shows_until_it_is_mended(broken: hs.Cluster) -> None:
    before = len(broken.events.filter("fault"))
    broken.cut("n1", "n2")
    broken.delay("n2", "n3", 0.002, jitter=0.001)
    broken.drop("n2", "n3", 0.25)
    broken.clock_rate("n3", 1.25)
    assert {str(fault) for fault in broken.faults()} == {
        "n1 -> n2: cut",
        "n2 -> n3: loses 25%, 2 ms late + up to 1 ms",
        "n3: clock runs 1.25 times as fast",
    }
    assert {str(fault) for fault in broken.snapshot("n1").faults} == {"n1 -> n2: cut"}
    assert len(broken.snapshot("n3").faults) == 2
    assert "2 links broken" in repr(broken)
    assert "n1 -&gt; n2: cut" in broken._repr_html_()
    broken.delay("n2", "n3", 0)
    broken.partition(["n1"], ["n2", "n3"])
    broken.heal()
    assert broken.faults() == []
    expected = [
        ("n1", "n2", "cut", 0.0),
        ("n2", "n3", "delayed", 0.002),
        ("n2", "n3", "lossy", 0.25),
        ("n3", "n3", "clock", 1.25),
        ("n2", "n3", "delayed", 0.0),
        ("n1", "", "partitioned: n1 | n2 n3", 0.0),
        ("n1", "", "healed", 0.0),
        ("n3", "n3", "clock", 1.0),
    ]
    eventually(lambda: len(rows(broken, before)) == len(expected))
    assert sorted(rows(broken, before)) == sorted(expected)


def test_what_is_broken_stays_so_for_a_node_that_comes_back() -> None:
    with hs.Cluster.local(3, name="comes-back", config=hs.Config.ci()) as cluster:
        leader = settle(cluster)
        name, other = other_names(cluster, leader.name)
        cluster.kill(name)
        cluster.partition([name], [leader.name, other])
        fresh = cluster.restart(name)
        # It knows where to ask, and asks in vain.
        assert {str(f) for f in cluster.faults()} == {
            f"{a} -> {b}: cut"
            for a, b in [(name, leader.name), (leader.name, name), (name, other), (other, name)]
        }
        assert cluster.submit(sample_tasks.square, 3).result(60) == 9
        assert fresh.id not in {m.id for m in cluster.members() if m.alive}
        cluster.heal()
        eventually(lambda: fresh.id in {m.id for m in cluster.members() if m.voter and m.alive})
        assert settle(cluster).term == leader.term


def test_a_frozen_node_is_told_of_faults_when_it_goes_on() -> None:
    with hs.Cluster.local(3, name="told-late", config=hs.Config.ci()) as cluster:
        leader = settle(cluster)
        cluster.freeze(leader)
        with pytest.raises(hs.StoppedError, match="frozen, not running"):
            cluster.freeze(leader)
        cluster.partition([leader.name], other_names(cluster, leader.name))
        second, _ = wait_successor(cluster, leader)
        cluster.resume(leader)
        assert len(cluster.faults()) == 4
        assert leaders(cluster) == {second}
        cluster.heal()
        assert settle(cluster).name == second


def test_a_clock_that_runs_wrong_costs_at_most_an_election(broken: hs.Cluster) -> None:
    """A follower whose clock races suspects early; one that hears the leader does not agree."""
    leader = settle(broken)
    hasty = other_names(broken, leader.name)[0]
    broken.clock_rate(hasty, 20.0)
    eventually(lambda: broken.events.filter("poll_lost", node=hasty))
    assert broken.submit(sample_tasks.square, 3).result(60) == 9
    assert leaders(broken) == {leader.name}
    broken.heal()
    assert settle(broken).term == leader.term


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        (lambda c: c.partition(["n1"]), "1 groups"),
        (lambda c: c.partition(["n1"], []), "a group is empty"),
        (lambda c: c.partition(["n1", "n2"], ["n2"]), "'n2' is in two groups"),
        (lambda c: c.partition(["n1"], ["m2"]), "'m2': no such node; they are n1, n2, n3"),
        (lambda c: c.cut("n1", "n1"), "words to itself"),
        (lambda c: c.cut("n1", "nobody"), "'nobody': no such node"),
        (lambda c: c.delay("n1", "n2", -1), "seconds=-1: give a number from 0 to 60"),
        (lambda c: c.delay("n1", "n2", 61), "seconds=61"),
        (lambda c: c.delay("n1", "n2", 1, jitter=float("nan")), "jitter=nan"),
        (lambda c: c.drop("n1", "n2", 1.5), "ratio=1.5: give a number from 0 to 1"),
        (lambda c: c.drop("n1", "n2", True), "ratio=True"),
        (lambda c: c.drop("n1", "n2", "0.5"), "ratio='0.5'"),
        (lambda c: c.clock_rate("n1", 0), "rate=0: give a number from 0.01 to 100"),
        (lambda c: c.clock_rate("n1", float("inf")), "rate=inf"),
        (lambda c: c.clock_rate("n9", 1), "'n9': no such node"),
    ],
)
def test_an_impossible_fault_is_refused_by_name(
    broken: hs.Cluster, attempt: Any, words: str
) -> None:
    with pytest.raises(hs.ConfigError, match=words):
        attempt(broken)
    assert broken.faults() == []


def test_the_command_line_shows_faults_and_members(broken: hs.Cluster) -> None:
    leader = settle(broken)
    broken.cut("n1", "n3")
    asked = run_command("status", "--connect", leader.address)
    assert "fault   n1 -> n3: cut" in asked.stdout
    asked = run_command("members", "--connect", leader.address)
    assert asked.stdout.count("voter, alive") == 3
    assert asked.stdout.endswith("3 voters reachable, need 2\n")
    asked = run_command("members", "--json", "--connect", leader.address)
    assert {m["name"] for m in json.loads(asked.stdout)} == {"n1", "n2", "n3"}
    asked = run_command("remove", "n9", "--connect", leader.address)
    assert (asked.returncode, "no such node" in asked.stderr) == (2, True)
    assert all(node.name in asked.stderr for node in broken.nodes)
    broken.heal()
    assert all(not view.faults for view in views(broken).values())
