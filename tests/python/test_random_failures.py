"""``RandomFailures``: a plan by a seed, carried out on a live cluster, a majority spared."""

from __future__ import annotations

import time
from typing import Any

import pytest

import hustings as hs
import sample_tasks
from conftest import eventually
from fault_views import check_one_leader_per_term, settle
from hustings.injector import spares_majority


def test_it_is_a_frozen_description() -> None:
    failures = hs.RandomFailures(60, 10, kinds=["kill", "freeze", "kill"], seed=7)
    assert (failures.mtbf_s, failures.mttr_s) == (60.0, 10.0)
    assert failures.kinds == ("kill", "freeze")
    assert failures == hs.RandomFailures(60.0, 10.0, kinds=("kill", "freeze"), seed=7)
    assert failures.spare_majority


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: hs.RandomFailures(0, 1), "mtbf_s=0: give seconds from 0.01"),
        (lambda: hs.RandomFailures(1, float("nan")), "mttr_s=nan"),
        (lambda: hs.RandomFailures(float("inf"), 1), "mtbf_s=inf"),
        (lambda: hs.RandomFailures("1", 1), "mtbf_s='1'"),
        (lambda: hs.RandomFailures(True, 1), "mtbf_s=True"),
        (lambda: hs.RandomFailures(1, 1, kinds=()), "at least one of kill, freeze, partition"),
        (lambda: hs.RandomFailures(1, 1, kinds="kill"), "give a tuple"),
        (lambda: hs.RandomFailures(1, 1, kinds=("freze",)), "did you mean 'freeze'"),
        (lambda: hs.RandomFailures(1, 1, seed=-1), "seed=-1"),
        (lambda: hs.RandomFailures(1, 1, seed=2**64), "seed="),
        (lambda: hs.RandomFailures(1, 1, spare_majority=0), "spare_majority=0"),
        (lambda: hs.Config(faults="often"), "faults='often'"),
    ],
)
def test_a_bad_description_is_refused_by_name(make: Any, words: str) -> None:
    with pytest.raises(hs.ConfigError, match=words):
        make()


def test_nodes_fail_and_come_back_and_no_task_is_lost(record_property: Any) -> None:
    failures = hs.RandomFailures(0.8, 0.4, kinds=("kill", "freeze", "partition"), seed=11)
    config = hs.Config.ci(limits=hs.Limits(worker_lease_s=1.0, crash_budget=1000))
    with hs.Cluster.local(5, name="unlucky", config=config) as cluster:
        settle(cluster)
        results = []
        began = time.monotonic()
        with cluster.fail_randomly(failures) as unlucky:
            with pytest.raises(hs.ConfigError, match="under way"):
                cluster.fail_randomly(failures)
            while sum(unlucky.counts[kind] for kind in failures.kinds) < 8:
                jobs = [cluster.submit(sample_tasks.square, i) for i in range(10)]
                results += [f.result(60) for f in jobs]
                assert time.monotonic() - began < 90, (unlucky, list(unlucky.troubles))
            assert "FailureInjector(running, " in repr(unlucky)
        assert not unlucky.running
        assert results == [i * i for i in range(10)] * (len(results) // 10)
        assert not unlucky.troubles, list(unlucky.troubles)
        settle(cluster)
        assert cluster.faults() == []
        check_one_leader_per_term(cluster)
        for kind, count in unlucky.counts.items():
            record_property(kind, count)
        record_property("tasks", len(results))


def test_a_seat_that_nobody_has_taken_yet_counts_for_the_majority() -> None:
    def member(i: int, voter: bool) -> hs.Member:
        row = {"id": f"{i:016x}", "name": f"n{i}", "address": f"h:{i}", "slots": 1}
        return hs.Member.from_row({**row, "voter": voter, "alive": True})

    # Of five voters two were killed and are back, empty, under other ids: they have no seats yet.
    members = tuple(member(i, voter=i > 2) for i in range(1, 6))
    leader = hs.Leader("n5", "h:5", members[4].id, 1, 1, 0.9)
    seen = hs.Snapshot(leader, 1, "3 of 5", members, {}, seats=5)
    everybody = {m.name for m in members}
    assert not spares_majority(seen, everybody, "n3")
    assert spares_majority(seen, everybody, "n1")
    all_seated = tuple(member(i, voter=True) for i in range(1, 6))
    whole = hs.Snapshot(leader, 1, "5 of 5", all_seated, {}, seats=5)
    assert spares_majority(whole, everybody, "n3")
    # One of them stands for two seats while it takes the place of who it was.
    joint = hs.Snapshot(leader, 1, "5 of 6", all_seated, {}, seats=6)
    assert spares_majority(joint, everybody, "n3")
    assert not spares_majority(joint, everybody - {"n4"}, "n3")


def test_a_config_with_faults_begins_at_once_and_ends_with_the_cluster() -> None:
    config = hs.Config.ci(faults=hs.RandomFailures(0.2, 0.05, kinds=("freeze",), seed=3))
    with hs.Cluster.local(3, name="doomed", config=config) as cluster:
        details = {"frozen", "resumed"}
        eventually(lambda: {r["detail"] for r in cluster.events.filter("fault")} >= details)
        with pytest.raises(hs.ConfigError, match="under way"):
            cluster.fail_randomly(hs.RandomFailures(1, 1))


def test_a_lone_voter_is_always_spared_and_only_ones_own_nodes_fail() -> None:
    with hs.Cluster.local(1, name="spared", config=hs.Config.ci()) as cluster:
        settle(cluster)
        with cluster.fail_randomly(hs.RandomFailures(0.05, 0.05, kinds=("kill",))) as spared:
            eventually(lambda: spared.counts["spared"] >= 3)
        assert spared.counts["kill"] == 0
        assert cluster.nodes[0].state == "running"
        with hs.Cluster.connect(cluster.nodes[0].address) as other:
            with pytest.raises(hs.ConfigError, match="only a local cluster"):
                other.fail_randomly(hs.RandomFailures(1, 1))
            with pytest.raises(hs.ConfigError, match="give a RandomFailures"):
                other.fail_randomly(0.5)  # type: ignore[arg-type]
