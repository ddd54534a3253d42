"""``Cluster``: started, looked at, broken, and found by those who submit."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest

import hustings as hs
import sample_tasks
from conftest import alive, eventually


def test_a_local_cluster_says_what_it_is(cluster: hs.Cluster) -> None:
    leader = cluster.wait_leader()
    assert repr(leader).startswith(f"Leader({leader.name}, term=")
    assert cluster.leader is not None
    assert cluster.leader.name in {"n1", "n2", "n3"}
    assert cluster.term >= 1
    assert eventually(lambda: cluster.quorum == "3 of 3 voters reachable, need 2")
    members = eventually(lambda: len(cluster.members()) == 3 and cluster.members())
    assert {m.name for m in members} == {"n1", "n2", "n3"}
    assert all(m.voter for m in members)
    assert "n1" in cluster._repr_html_()
    assert "<script" not in cluster._repr_html_()
    assert "3 of 3 nodes alive" in repr(cluster)


def test_counters_tasks_and_idleness(cluster: hs.Cluster, gate: Any) -> None:
    before = cluster.metrics()["succeeded"]
    held = sample_tasks.pass_gate.submit(gate.path)
    eventually(lambda: held.task_id in {t["task_id"] for t in cluster.tasks("assigned")})
    with pytest.raises(hs.WaitTimeoutError, match="unfinished"):
        cluster.wait_idle(timeout=0.1)
    gate.open()
    cluster.wait_idle()
    assert cluster.metrics()["succeeded"] == before + 1


def test_the_innermost_with_wins_and_a_namesake_is_replaced() -> None:
    with hs.Cluster.local(1, name="outer", config=hs.Config.ci()) as outer:
        assert hs.current_cluster() is outer
        with hs.Cluster.local(1, name="inner", config=hs.Config.ci()) as inner:
            assert hs.current_cluster() is inner
            with hs.Cluster.local(1, name="inner", config=hs.Config.ci()) as again:
                assert again is not inner
                with pytest.raises(hs.StoppedError):
                    inner.submit(len, "x")
                assert again.submit(len, "abc").result(30) == 3
        assert hs.current_cluster() is outer


def test_a_closed_cluster_refuses_work() -> None:
    made = hs.Cluster.local(1, name="closing", config=hs.Config.ci())
    made.wait_leader()
    made.close()
    made.close()
    with pytest.raises(hs.StoppedError):
        made.submit(len, "x")
    assert repr(made) == "Cluster('closing', closed)"


async def test_a_cluster_is_an_asynchronous_context_too() -> None:
    async with hs.Cluster.local(1, name="async", config=hs.Config.ci()) as made:
        assert await made.submit(len, "four") == 4


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"n": 0}, hs.ConfigError, "n=0"),
        ({"n": 10_000}, hs.ConfigError, "n=10000"),
        ({"n": True}, hs.ConfigError, "n=True"),
        ({"n": 3, "voters": 0}, hs.ConfigError, "voters=0"),
        ({"n": 3, "voters": 5}, hs.ConfigError, "voters=5"),
        ({"n": 3, "slots": 0}, hs.ConfigError, "slots=0"),
        ({"n": 2, "positions": [(0, 0)]}, hs.ConfigError, "positions"),
        ({"n": 1, "positions": [(float("nan"), 0)]}, hs.ConfigError, "position="),
        ({"n": 2, "loads": [0.5]}, hs.ConfigError, "loads"),
        ({"n": 1, "loads": {"n9": 0.5}}, hs.ConfigError, "n9"),
        ({"n": 1, "config": {"heartbeat_s": 1}}, hs.ConfigError, "config="),
    ],
)
def test_bad_arguments_are_refused_before_anything_starts(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        hs.Cluster.local(**arguments, name="never")


def test_an_even_number_of_voters_is_warned_about() -> None:
    with pytest.warns(hs.HustingsWarning, match="even"):
        made = hs.Cluster.local(2, voters=2, name="even", config=hs.Config.ci())
    made.wait_leader()
    made.close()


def test_workers_are_members_that_do_not_vote() -> None:
    with hs.Cluster.local(4, name="workers", config=hs.Config.ci()) as made:
        made.wait_leader()
        members = eventually(lambda: len(made.members()) == 4 and made.members())
        assert sum(m.voter for m in members) == 3


@pytest.mark.parametrize(
    "address",
    [
        "nonsense",
        "127.0.0.1",
        "127.0.0.1:0",
        "127.0.0.1:70000",
        "http://127.0.0.1:7400",
        "::1:7400",
        "a@b:1",
    ],
)
def test_a_wrong_address_is_shown_the_right_form(address: str) -> None:
    with pytest.raises(hs.InvalidAddressError, match="host:port"):
        hs.Cluster.connect(address)
    with pytest.raises(hs.ConfigError, match="at least one address"):
        hs.Cluster.connect()


def test_nobody_at_the_address_is_an_error_within_the_timeout() -> None:
    with pytest.raises(hs.HustingsError):
        hs.Cluster.connect("127.0.0.1:1", timeout=0.5).submit(len, "x").result(1)


def test_a_connection_without_pickle_sends_names_and_data_only(cluster: hs.Cluster) -> None:
    sample_tasks.square.submit(1).result(30)
    address = cluster.nodes[0].address
    with hs.Cluster.connect(address) as plain:
        assert plain.submit(sample_tasks.square, 6).result(30) == 36
        with pytest.raises(hs.TaskNotRegisteredError, match="--tasks"):
            plain.submit(lambda x: x, 1)
        with pytest.raises(hs.NotSerializableError, match=r"args\[0\]\[1\]"):
            plain.submit(sample_tasks.square, [1, object()])
        with pytest.raises(hs.CodecRefusedError):
            plain.options(codec="pickle").submit(sample_tasks.square, 1).result(30)


def test_only_who_started_nodes_can_break_them(cluster: hs.Cluster) -> None:
    with hs.Cluster.connect(cluster.nodes[0].address) as other, pytest.raises(hs.ConfigError):
        other.kill("n1")
    with pytest.raises(hs.ConfigError, match="they are n1, n2, n3"):
        cluster.kill("m1")
    with pytest.raises(hs.StoppedError, match="running, not frozen"):
        cluster.resume("n1")


def test_the_leader_is_killed_and_no_task_is_lost(isolated: hs.Cluster) -> None:
    first = isolated.wait_leader()
    jobs = [isolated.submit(sample_tasks.square, i) for i in range(300)]
    killed = isolated.kill(isolated.leader)
    assert killed.name == first.name
    assert sum(f.result(60) for f in jobs) == sum(i * i for i in range(300))
    second = isolated.wait_leader()
    assert second.name != first.name
    assert second.term > first.term
    failover = eventually(lambda: isolated.events.failovers())[-1]
    assert (failover.from_node, failover.to_node) == (first.name, second.name)
    assert failover.duration_s is not None
    assert failover.duration_s < 30
    assert repr(failover).startswith(f"Failover({first.name} -> {second.name}, ")


def test_a_killed_node_comes_back_under_a_new_id(isolated: hs.Cluster) -> None:
    isolated.wait_leader()
    victim = next(n for n in isolated.nodes if isolated.leader and n.name != isolated.leader.name)
    isolated.kill(victim)
    fresh = isolated.restart(victim)
    assert fresh.name == victim.name
    assert fresh.id != victim.id
    eventually(lambda: any(m.id == fresh.id and m.alive for m in isolated.members()), 60)
    assert isolated.submit(sample_tasks.square, 3).result(60) == 9


def test_a_frozen_workers_tasks_run_elsewhere_and_its_late_word_is_refused(gate: Any) -> None:
    steal = hs.StealPolicy(cpu_floor=0.0)
    config = hs.Config.ci(limits=hs.Limits(worker_lease_s=0.5), placement="random", steal=steal)
    with hs.Cluster.local(3, isolated=True, name="frozen", config=config) as made:
        leader = made.wait_leader()
        eventually(lambda: sum(m.alive for m in made.members()) == 3)
        jobs = [made.submit(sample_tasks.pass_gate, gate.path, i) for i in range(12)]
        victim = next(n for n in made.nodes if n.name != leader.name)
        eventually(lambda: any(t["node"] == victim.id for t in made.tasks("assigned")))
        made.freeze(victim)
        eventually(lambda: all(t["node"] != victim.id for t in made.tasks("assigned")), 60)
        gate.open()
        assert sorted(f.result(60) for f in jobs) == list(range(12))
        made.resume(victim)
        eventually(lambda: made.metrics()["late_completions"] > 0, 60)
        assert made.metrics()["succeeded"] == 12


def test_the_entry_node_dies_and_its_clients_results_do_not(
    isolated: hs.Cluster, gate: Any
) -> None:
    leader = isolated.wait_leader()
    entry = next(n for n in isolated.nodes if n.name != leader.name)
    with hs.Cluster.connect(entry.address, allow_pickle=True) as client:
        jobs = [client.submit(sample_tasks.pass_gate, gate.path, i) for i in range(20)]
        eventually(lambda: all(f.state == "accepted" for f in jobs))
        isolated.kill(entry.name)
        gate.open()
        assert [f.result(60) for f in jobs] == list(range(20))


def test_without_a_quorum_nothing_is_accepted(isolated: hs.Cluster) -> None:
    leader = isolated.wait_leader()
    for node in list(isolated.nodes):
        if node.name != leader.name:
            isolated.kill(node.name)
    future = isolated.submit(sample_tasks.square, 2)
    eventually(lambda: isolated.leader is None)
    with pytest.raises(hs.NoQuorumError, match="1 of 3 voters reachable, need 2"):
        future.result(2)
    assert future.state in ("submitted", "rejected")


def test_functions_reach_later_and_restarted_nodes(isolated: hs.Cluster) -> None:
    factor = 7
    assert isolated.submit(lambda x: x * factor, 2).result(60) == 14

    def where(_: int) -> int:
        return os.getppid() * factor // factor

    victim = next(n for n in isolated.nodes if isolated.leader and n.name != isolated.leader.name)
    isolated.kill(victim)
    fresh = isolated.restart(victim)
    eventually(lambda: any(m.id == fresh.id and m.alive for m in isolated.members()), 60)
    eventually(lambda: fresh.pid in set(isolated.map(where, range(60))), 90)


def test_drain_moves_leadership_away(isolated: hs.Cluster) -> None:
    leader = isolated.wait_leader()
    isolated.drain(leader)
    eventually(lambda: isolated.leader is not None and isolated.leader.name != leader.name, 60)
    assert isolated.submit(sample_tasks.square, 2).result(60) == 4


def test_handover_moves_leadership_to_whom_it_is_given(isolated: hs.Cluster) -> None:
    leader = isolated.wait_leader()
    heir = next(n for n in isolated.nodes if n.name != leader.name)
    isolated.handover(heir.name)
    eventually(lambda: isolated.leader is not None and isolated.leader.name == heir.name, 60)
    assert not isolated.events.failovers()
    assert isolated.events.elections()[-1].cause == "handover"


def test_a_killed_node_leaves_no_runner_behind(isolated: hs.Cluster) -> None:
    runner = isolated.submit(sample_tasks.runner_pid).result(60)
    busy = isolated.submit(sample_tasks.loop_for_ever)
    eventually(lambda: any(m.running for m in isolated.members()))
    pids = [n.pid for n in isolated.nodes]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(runner), 10)
    assert not busy.done()


def test_work_is_submitted_from_many_threads(cluster: hs.Cluster) -> None:
    results: list[int] = []

    def submit_some(base: int) -> None:
        results.extend(hs.gather(*(sample_tasks.square.submit(base + i) for i in range(20))))

    threads = [threading.Thread(target=submit_some, args=(20 * t,)) for t in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == [i * i for i in range(100)]
