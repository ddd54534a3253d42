"""Row 9: partial partitions. A leader that a majority hears stays; one that it does not is replaced
by somebody whom it does."""

from __future__ import annotations

from itertools import combinations
from typing import Any

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
)


def cut_both(cluster: hs.Cluster, a: str, b: str) -> None:
    cluster.cut(a, b)
    cluster.cut(b, a)


def wait_polls(cluster: hs.Cluster, node: str, rounds: int) -> None:
    """``node`` asked the voters in vain so often since now."""

    def lost() -> int:
        return len(cluster.events.filter("poll_lost", node=node))

    before = lost()
    eventually(lambda: lost() >= before + rounds, 60)


def work(cluster: hs.Cluster, count: int) -> None:
    jobs = [cluster.submit(sample_tasks.square, i) for i in range(count)]
    assert [f.result(60) for f in jobs] == [i * i for i in range(count)]


def test_a_follower_that_alone_lost_the_leader_disturbs_nobody(record_property: Any) -> None:
    """A-B cut, both see C: where a library with plain timeouts changes leaders for ever."""
    with hs.Cluster.local(3, name="triangle", config=hs.Config.ci()) as cluster:
        leader = settle(cluster)
        lonely = other_names(cluster, leader.name)[0]
        cut_both(cluster, leader.name, lonely)
        wait_polls(cluster, lonely, 5)
        work(cluster, 10)
        assert leaders(cluster) == {leader.name}
        assert views(cluster)[lonely].leader is None
        cluster.heal()
        assert settle(cluster).term == leader.term
        check_accounts(cluster, 10)
        record_property("leader_changes", 0)


def test_a_chain_has_a_leader_with_a_majority_around_it(record_property: Any) -> None:
    """1-2-3-4-5, each hears only its neighbours: 2, 3 and 4 hear a majority, the ends do not."""
    with hs.Cluster.local(5, name="chain", config=hs.Config.ci()) as cluster:
        first = settle(cluster)
        # The leader at one end: it must go.
        chain = [first.name, *other_names(cluster, first.name)]
        for a, b in combinations(range(5), 2):
            if b - a > 1:
                cut_both(cluster, chain[a], chain[b])
        middle = set(chain[1:4])
        eventually(lambda: len(leaders(cluster)) == 1 and leaders(cluster) <= middle, 60)
        term = cluster.wait_leader().term
        work(cluster, 10)
        # Whoever cannot hear the leader asks in vain; nothing changes.
        led = next(iter(leaders(cluster)))
        far = chain[-1] if chain.index(led) < 3 else chain[0]
        wait_polls(cluster, far if far != first.name else chain[1], 3)
        assert leaders(cluster) == {led}
        assert cluster.wait_leader().term == term
        cluster.heal()
        settle(cluster)
        check_accounts(cluster, 10)
        check_one_leader_per_term(cluster)
        changes = len(cluster.events.elections()) - 1
        record_property("leader_changes", changes)
        assert changes <= 2


def test_the_hub_takes_over_when_only_it_reaches_everybody(record_property: Any) -> None:
    """All links are cut but those of one node, and that node hears the old leader well: the leader
    must notice by itself that it has lost its quorum."""
    with hs.Cluster.local(5, name="hub", config=hs.Config.ci()) as cluster:
        old = settle(cluster)
        hub, *rest = other_names(cluster, old.name)
        for a, b in combinations([old.name, *rest], 2):
            cut_both(cluster, a, b)
        eventually(lambda: leaders(cluster) == {hub}, 60)
        work(cluster, 10)
        cluster.heal()
        final = settle(cluster)
        check_accounts(cluster, 10)
        check_one_leader_per_term(cluster)
        record_property("terms_used", final.term - old.term)
        assert final.term <= old.term + 3
