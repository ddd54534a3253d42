"""Row 4: the leader is stopped past its lease and goes on; nothing it knew is acted on any more."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import pytest

import hustings as hs
import sample_tasks
from conftest import eventually
from fault_views import (
    check_accounts,
    check_one_leader_per_term,
    leaders,
    settle,
    until,
    views,
    wait_successor,
)


@pytest.mark.parametrize("isolated", [True, False], ids=["process", "thread"])
def test_a_frozen_leader_wakes_up_as_a_follower(
    isolated: bool, gate: Any, record_property: Any
) -> None:
    config = hs.Config.ci(limits=hs.Limits(worker_lease_s=0.5))
    with hs.Cluster.local(3, name="frozen-leader", isolated=isolated, config=config) as cluster:
        first = settle(cluster)
        held = [cluster.submit(sample_tasks.pass_gate, gate.path, i) for i in range(9)]
        eventually(lambda: all(f.state == "accepted" for f in held))
        cluster.freeze(first)
        second, failover_s = wait_successor(cluster, first)
        # Longer than its lease: it is given up, and what it ran is given to others.
        eventually(lambda: all(t["node"] != first.id for t in cluster.tasks("assigned")), 60)
        later = [cluster.submit(sample_tasks.square, i) for i in range(20)]
        eventually(lambda: all(f.state == "accepted" for f in later), 60)
        cluster.resume(first)
        # From its very first answer on it claims nothing, and ends in the new term.
        new_term = views(cluster)[second].term
        seen = until(
            lambda: (view := views(cluster).get(first.name)) and view.term >= new_term,
            lambda: first.name in leaders(cluster),
        )
        assert not any(seen)
        gate.open()
        assert [f.result(60) for f in held] == list(range(9))
        assert [f.result(60) for f in later] == [i * i for i in range(20)]
        check_accounts(cluster, 29)
        check_one_leader_per_term(cluster)
        record_property("failover_s", round(failover_s, 3))
        record_property("late_completions_refused", cluster.metrics()["late_completions"])


def test_questions_that_wait_at_a_leader_do_not_keep_it_from_stepping_down() -> None:
    with (
        hs.Cluster.local(3, name="asked-leader", isolated=True, config=hs.Config.ci()) as cluster,
        contextlib.ExitStack() as clients,
    ):
        first = settle(cluster)
        assert cluster.submit(sample_tasks.square, 2).result(60) == 4
        addresses = [node.address for node in cluster.nodes]
        # Each of them asks every node who leads next, and more than a node has threads.
        connect = functools.partial(hs.Cluster.connect, *addresses, timeout=60)
        asking = [clients.enter_context(connect()) for _ in range(12)]
        cluster.freeze(first)
        second, _ = wait_successor(cluster, first)
        done = [c.submit(sample_tasks.square, i) for i, c in enumerate(asking)]
        assert [f.result(60) for f in done] == [i * i for i in range(12)]
        cluster.resume(first)
        eventually(lambda: views(cluster)[first.name].term >= views(cluster)[second].term, 30)
        eventually(lambda: cluster.snapshot().quorum.startswith("3 of 3"), 30)
