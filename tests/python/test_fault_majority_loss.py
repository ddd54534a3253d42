"""Row 6: a majority is gone and comes back; meanwhile nothing is accepted, then all goes on."""

from __future__ import annotations

import time
from typing import Any

import pytest

import hustings as hs
import sample_tasks
from conftest import eventually
from fault_views import (
    check_accounts,
    check_one_leader_per_term,
    leaders,
    other_names,
    refused,
    settle,
    views,
)


def test_without_a_majority_nothing_is_accepted_and_with_it_all_is(record_property: Any) -> None:
    with hs.Cluster.local(5, name="majority", config=hs.Config.ci()) as cluster:
        leader = settle(cluster)
        assert cluster.submit(sample_tasks.square, 3).result(60) == 9
        before = cluster.metrics()["accepted"]
        lost = other_names(cluster, leader.name)[:3]
        for name in lost:
            cluster.freeze(name)
        eventually(lambda: not leaders(cluster))
        eventually(lambda: cluster.quorum == "2 of 5 voters reachable, need 3")
        eventually(lambda: cluster.leader is None)  # its followers stop naming it with its lease
        jobs = [cluster.submit(sample_tasks.square, i) for i in range(10)]
        refused(jobs, 0.5, "2 of 5 voters reachable, need 3")
        with pytest.raises(hs.NoQuorumError, match="2 of 5 voters reachable, need 3"):
            cluster.wait_leader(0.2)
        with pytest.raises(hs.NoQuorumError):
            cluster.tasks(timeout=0.5)  # what cannot be confirmed is not read
        assert all(v.counters["accepted"] == before for v in views(cluster).values())
        back = time.monotonic()
        for name in lost:
            cluster.resume(name)
        eventually(lambda: any(f.state != "submitted" for f in jobs), 60)
        record_property("return_to_first_ack_s", round(time.monotonic() - back, 3))
        assert [f.result(60) for f in jobs] == [i * i for i in range(10)]
        check_accounts(cluster, before + 10)
        check_one_leader_per_term(cluster)
