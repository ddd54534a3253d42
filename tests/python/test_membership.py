"""Row 19, bad input 45: members come and go at run time; one change at a time, only safe ones."""

from __future__ import annotations

import threading
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
from hustings import _core

EVEN = "ignore:.* voters are even:hustings.errors.HustingsWarning"


def voters(cluster: hs.Cluster) -> set[str]:
    return {member.name for member in cluster.members() if member.voter}


def remove(cluster: hs.Cluster, by: str, name: str) -> None:
    """As an admin elsewhere does it: the removed node's process goes on."""
    address = next(node.address for node in cluster.nodes if node.name == by)
    with hs.Cluster.connect(address) as admin:
        admin.remove_node(name, grace=0)


def test_voters_and_workers_come_and_go_under_work(gate: Any) -> None:
    with hs.Cluster.local(3, name="coming-and-going", config=hs.Config.ci()) as cluster:
        first = settle(cluster)
        jobs = [cluster.submit(sample_tasks.square, i) for i in range(100)]
        worker = cluster.add_node()
        with pytest.warns(hs.HustingsWarning, match="4 voters are even"):
            fourth = cluster.add_node("fourth", voter=True)
        cluster.add_node("fifth", voter=True)
        assert (worker.name, worker.voter) == ("n4", False)
        assert voters(cluster) == {"n1", "n2", "n3", "fourth", "fifth"}
        # A task runs where it was put, and elsewhere once that node is removed.
        held = [cluster.submit(sample_tasks.pass_gate, gate.path, i) for i in range(12)]
        eventually(lambda: any(t["node"] == worker.id for t in cluster.tasks("assigned")))
        cluster.remove_node(worker, grace=0)
        eventually(lambda: all(t["node"] != worker.id for t in cluster.tasks("assigned")))
        gate.open()
        # The leader goes: it hands over first.
        with pytest.warns(hs.HustingsWarning, match="4 voters are even"):
            cluster.remove_node(first, grace=30)
        settle(cluster)
        assert cluster.events.elections()[-1].cause == "handover"
        cluster.remove_node(fourth)
        assert voters(cluster) == {"n1", "n2", "n3", "fifth"} - {first.name}
        assert {n.name for n in cluster.nodes} == voters(cluster)
        assert [f.result(60) for f in jobs] == [i * i for i in range(100)]
        assert [f.result(60) for f in held] == list(range(12))
        # The new group elects without the old one.
        second = settle(cluster)
        left = other_names(cluster, second.name)
        cluster.freeze(second)
        third, _ = wait_successor(cluster, second)
        assert third in left
        check_one_leader_per_term(cluster)


def test_unsafe_removals_are_refused_and_change_nothing() -> None:
    with hs.Cluster.local(1, name="last", config=hs.Config.ci()) as alone:
        settle(alone)
        with pytest.raises(hs.UnsafeMembershipChangeError, match="n1 is the last voter"):
            alone.remove_node("n1")
        assert alone.submit(sample_tasks.square, 2).result(60) == 4
        with pytest.raises(hs.ConfigError, match="did you mean 'n1'"):
            alone.remove_node("n11")
    with hs.Cluster.local(3, name="unsafe", config=hs.Config.ci()) as cluster:
        leader = settle(cluster)
        dead, living = other_names(cluster, leader.name)
        cluster.freeze(dead)
        eventually(lambda: cluster.quorum == "2 of 3 voters reachable, need 2")
        words = "1 of the 2 voters there would be are reachable, need 2"
        for name in (living, leader.name):
            with pytest.raises(hs.UnsafeMembershipChangeError, match=words):
                cluster.remove_node(name)
        assert len(voters(cluster)) == 3
        with pytest.warns(hs.HustingsWarning, match="2 voters are even"):
            cluster.remove_node(dead)
        assert cluster.quorum == "2 of 2 voters reachable, need 2"
        assert cluster.submit(sample_tasks.square, 3).result(60) == 9


def test_no_eighth_voter() -> None:
    with hs.Cluster.local(7, voters=7, name="seven", config=hs.Config.ci()) as cluster:
        settle(cluster)
        with pytest.raises(hs.ConfigError, match="7 nodes vote, the most there can be"):
            cluster.add_node(voter=True)
        # The leader itself refuses as well, whoever asks.
        stranger = hs.Node("n8", join=[cluster.wait_leader().address], voter=True)
        with pytest.raises(hs.InvalidPeersError, match="n8 would be voter 8 of at most 7"):
            stranger.start(30)
        stranger.abort()
        assert len(voters(cluster)) == 7


@pytest.mark.filterwarnings(EVEN)
def test_a_change_during_a_partition_is_one_sides_business() -> None:
    with hs.Cluster.local(5, name="torn", config=hs.Config.ci()) as cluster:
        old = settle(cluster)
        friend, *majority = other_names(cluster, old.name)
        cluster.partition([old.name, friend], majority)
        new, _ = wait_successor(cluster, old)
        # Until its lease is over the old one believes that it leads.
        eventually(lambda: leaders(cluster) == {new})
        inside = _core.Client([old.address], pinned=True)
        target = next(n for n in cluster.nodes if n.name == majority[0])
        with pytest.raises(hs.NoQuorumError):
            inside.remove_member(target.id, timeout=2)
        inside.close()
        # The other side removes one that it cannot reach, whose vote it does not need.
        remove(cluster, new, friend)
        assert voters(cluster) == {old.name, *majority}
        cluster.heal()
        # It comes back, hears that it was removed, and disturbs nobody from then on.
        mine = eventually(lambda: (v := views(cluster)[friend]).problem and v, 60)
        assert "was removed from its cluster" in str(mine.problem)
        assert (mine.role, mine.leader) == ("worker", None)
        eventually(lambda: views(cluster)[old.name].leader is not None)
        assert leaders(cluster) == {new}
        assert cluster.submit(sample_tasks.square, 3).result(60) == 9
        check_one_leader_per_term(cluster)


def test_a_voter_that_is_gone_is_told_and_can_be_removed_by_name_from_elsewhere() -> None:
    with hs.Cluster.local(3, name="gone", config=hs.Config.ci()) as cluster:
        leader = settle(cluster)
        dead = other_names(cluster, leader.name)[0]
        cluster.kill(dead)
        with hs.Cluster.connect(leader.address) as admin:
            states = {name: name != dead for name in ("n1", "n2", "n3")}
            # It stays so when its lease is over and it is no member any more.
            eventually(lambda: {m.name: m.alive for m in admin.members()} == states)
            eventually(lambda: [m.slots for m in admin.members() if m.name == dead] == [0])
            assert {m.name: m.alive for m in admin.members()} == states
            assert repr(admin.snapshot()).count("2 of 3 nodes alive") == 1
            with pytest.warns(hs.HustingsWarning, match="2 voters are even"):
                admin.remove_node(dead)
            assert {m.name for m in admin.members()} == set(states) - {dead}


@pytest.mark.filterwarnings(EVEN)
def test_a_removed_voter_that_was_not_told_is_not_heard() -> None:
    with hs.Cluster.local(4, voters=3, name="deaf", config=hs.Config.ci()) as cluster:
        leader = settle(cluster)
        name = next(n for n in other_names(cluster, leader.name) if n in voters(cluster))
        # It hears nothing, but can speak: it will suspect, and ask for votes.
        for other in other_names(cluster, name):
            cluster.cut(other, name)
        eventually(lambda: cluster.events.filter("poll_lost", node=name))
        remove(cluster, leader.name, name)

        def strangers() -> int:
            return sum(view.refusals["strangers"] for view in views(cluster).values())

        eventually(lambda: strangers() >= 5, 60)
        now = cluster.wait_leader()
        assert (now.name, now.term) == (leader.name, leader.term)
        assert cluster.submit(sample_tasks.square, 3).result(60) == 9


@pytest.mark.filterwarnings(EVEN)
def test_two_admins_at_once_never_make_two_groups() -> None:
    with hs.Cluster.local(5, name="admins", config=hs.Config.ci()) as cluster:
        leader = settle(cluster)
        targets = other_names(cluster, leader.name)[:2]
        outcomes: dict[str, str] = {}
        start = threading.Barrier(2)

        def remove(name: str) -> None:
            with hs.Cluster.connect(leader.address) as admin:
                start.wait(30)
                try:
                    admin.remove_node(name, grace=5)
                    outcomes[name] = "removed"
                except hs.MembershipChangeInProgressError as error:
                    outcomes[name] = str(error)

        threads = [threading.Thread(target=remove, args=(name,)) for name in targets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        removed = {name for name, outcome in outcomes.items() if outcome == "removed"}
        assert len(outcomes) == 2, outcomes
        assert removed, outcomes
        assert all("under way" in o for o in outcomes.values() if o != "removed")
        left = {n.name for n in cluster.nodes} - removed
        for name in left:
            eventually(
                lambda name=name: {m.name for m in views(cluster)[name].members if m.voter} == left
            )
        assert cluster.submit(sample_tasks.square, 3).result(60) == 9


@pytest.mark.filterwarnings(EVEN)
def test_a_newcomer_out_of_reach_holds_up_changes_only_and_gets_its_seat_later() -> None:
    with hs.Cluster.local(3, name="far-off", config=hs.Config.ci()) as cluster:
        leader = settle(cluster)
        config = hs.Config.ci()
        joins = [node.address for node in cluster.nodes]
        late = hs.Node("n4", join=joins, voter=True, allow_faults=True, config=config)
        late.bind()
        # It can speak and hears nothing: its wish arrives, the log does not reach it.
        told = _core.Client(joins)
        for node in cluster.nodes:
            told.inject_faults(node.address, [(node.id, late.id, True, 0.0, 0.0, 0.0)])
        late.enter()
        eventually(lambda: late.id in {m.id for m in cluster.members()})
        with pytest.raises(hs.MembershipChangeInProgressError, match="under way"):
            cluster.remove_node(other_names(cluster, leader.name)[0], grace=0)
        assert cluster.submit(sample_tasks.square, 3).result(60) == 9
        assert len(voters(cluster)) == 3
        cluster.heal()
        eventually(lambda: voters(cluster) == {"n1", "n2", "n3", "n4"}, 60)
        assert cluster.wait_leader().term == leader.term
        check_accounts(cluster, 1)
        told.close()
        late.abort()
