"""Row 8: the leader can send and not hear, or hear and not send; it loses its lease, somebody else
leads, and terms do not run away."""

from __future__ import annotations

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
    settle,
    views,
    wait_successor,
)


@pytest.mark.parametrize("deaf", [True, False], ids=["sends-cannot-hear", "hears-cannot-send"])
def test_a_leader_with_half_a_link_is_replaced(deaf: bool, record_property: Any) -> None:
    with hs.Cluster.local(5, name="one-way", config=hs.Config.ci()) as cluster:
        old = settle(cluster)
        others = other_names(cluster, old.name)
        for other in others:
            cluster.cut(*((other, old.name) if deaf else (old.name, other)))
        second, took_s = wait_successor(cluster, old)
        eventually(lambda: leaders(cluster) == {second})
        jobs = [cluster.submit(sample_tasks.square, i) for i in range(10)]
        assert [f.result(60) for f in jobs] == [i * i for i in range(10)]
        # Stable: the half-linked node may do what it can, and no term is spent on it.
        term = views(cluster)[second].term
        for i in range(10):
            assert cluster.submit(sample_tasks.square, i).result(60) == i * i
        assert views(cluster)[second].term == term
        assert leaders(cluster) == {second}
        cluster.heal()
        final = settle(cluster)
        assert final.term <= old.term + 2, "terms were spent on half a link"
        check_accounts(cluster, 20)
        check_one_leader_per_term(cluster)
        record_property("time_to_successor_s", round(took_s, 3))
        record_property("terms_used", final.term - old.term)
