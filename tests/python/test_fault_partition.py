"""Row 7: a symmetric partition with the leader in the minority; one side decides, the other says
why not."""

from __future__ import annotations

import time
from typing import Any

import hustings as hs
import sample_tasks
from conftest import eventually
from fault_views import (
    check_accounts,
    check_one_leader_per_term,
    leaders,
    other_names,
    reachable,
    settle,
    views,
)
from hustings import _core


def pinned(address: str) -> hs.Cluster:
    """A script that speaks to one node, whatever happens."""
    client = _core.Client([address], allow_pickle=True, pinned=True)
    return hs.Cluster(client, f"pinned-{address}", allow_pickle=True)


def test_the_minority_refuses_and_the_majority_goes_on(record_property: Any) -> None:
    with hs.Cluster.local(5, name="partition", config=hs.Config.ci()) as cluster:
        old = settle(cluster)
        friend, *majority = other_names(cluster, old.name)
        with pinned(old.address) as inside:
            assert inside.submit(sample_tasks.square, 2).result(60) == 4
            cluster.partition([old.name, friend], majority)
            cut = time.monotonic()
            stuck = [inside.submit(sample_tasks.square, i) for i in range(5)]
            both = 0.0
            last = time.monotonic()
            while leaders(cluster) != (ready := leaders(cluster) & set(majority)) or not ready:
                now = time.monotonic()
                both += (now - last) * (len(leaders(cluster)) == 2)
                last = now
                assert now < cut + 60
            assert len(ready) == 1
            # The minority knows how it stands, on both of its nodes, and names no leader.
            eventually(
                lambda: all(
                    view.leader is None and reachable(view) <= 2
                    for name, view in views(cluster).items()
                    if name not in majority
                )
            )
            mine = views(cluster)[old.name]
            assert (mine.role, mine.quorum) == ("candidate", "2 of 5 voters reachable, need 3")
            eventually(lambda: (now := cluster.leader) is not None and now.name in majority)
            jobs = [cluster.submit(sample_tasks.square, i) for i in range(20)]
            assert [f.result(60) for f in jobs] == [i * i for i in range(20)]
            # Nothing was acknowledged inside.
            assert [f.state for f in stuck] == ["submitted"] * 5
            cluster.heal()
            healed = time.monotonic()
            assert [f.result(60) for f in stuck] == [i * i for i in range(5)]
            settle(cluster)
            record_property("healed_to_settled_s", round(time.monotonic() - healed, 3))
            record_property("two_self_styled_leaders_s", round(both, 3))
        check_accounts(cluster, 26)
        check_one_leader_per_term(cluster)
        words = [row["detail"] for row in cluster.events.filter("fault")]
        side = " ".join([old.name, friend])
        assert words == [f"partitioned: {side} | {' '.join(majority)}", "healed"]


def test_a_leader_that_was_replaced_denies_no_task_that_the_cluster_knows() -> None:
    lease = hs.ElectionConfig(lease_s=20.0)
    with hs.Cluster.local(3, name="stale", config=hs.Config.ci(election=lease)) as cluster:
        old = settle(cluster)
        with pinned(old.address) as inside:
            others = other_names(cluster, old.name)
            cluster.partition([old.name], others)
            eventually(lambda: (now := cluster.leader) is not None and now.name in others)
            done = cluster.submit(sample_tasks.square, 3)
            assert done.result(60) == 9
            # By its lease the old one still leads, and it never heard of that task.
            asked = inside.future(done.task_id)
            stuck = inside.submit(sample_tasks.square, 4)
            other = cluster.submit(sample_tasks.square, 5)
            assert other.result(60) == 25
            assert not asked.done(), asked
            cluster.heal()
            assert asked.result(60) == 9
            assert stuck.result(60) == 16
