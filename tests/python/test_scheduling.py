"""Where tasks run: needs, reach, policies, and steals, on real nodes."""

from __future__ import annotations

from typing import Any

import pytest

import hustings as hs
import sample_tasks
from conftest import eventually

GPU = {"gpu": 1}


def config(**knobs: Any) -> hs.Config:
    """Slow to suspect, and thieves whatever this machine's CPU does."""
    steal = knobs.pop("steal", hs.StealPolicy(cpu_floor=0.0))
    return hs.Config.ci(steal=steal, **knobs)


def ran_on(cluster: hs.Cluster, futures: list[Any]) -> set[str]:
    """Names of the nodes on which they ran."""
    for future in futures:
        future.result(60)
    known = {m.id: m.name for m in cluster.members()}
    return {known.get(str(future.node), str(future.node)) for future in futures}


def test_needs_are_hard_and_impossible_ones_say_so() -> None:
    zones = [{"zone": "eu"}, {"zone": "us"}, None]
    with hs.Cluster.local(
        3, name="needs", voters=1, labels=zones, resources=[None, GPU, None], config=config()
    ) as cluster:
        square = sample_tasks.square
        in_eu = square.options(labels={"zone": "eu"})
        assert ran_on(cluster, [in_eu.submit(i) for i in range(20)]) == {"n1"}
        with_gpu = cluster.options(resources={"gpu": 1})
        assert ran_on(cluster, [with_gpu.submit(square, i) for i in range(5)]) == {"n2"}
        (us,) = (m for m in cluster.members() if m.name == "n2")
        assert (us.labels, us.resources) == ({"zone": "us"}, {"gpu": 1.0})

        greedy = square.options(resources={"gpu": 4, "cpu": 1}).submit(7)
        why = eventually(lambda: greedy.why() if greedy.why().kind != "sending" else None)
        assert why.kind == "infeasible"
        assert "gpu=4 (0 of 3 offer so much, the most is 1)" in str(why)
        assert why.facts["unmet"] == 3
        assert square.submit(3).result(60) == 9, "nobody waits behind it"
        cluster.add_node("n4", resources={"gpu": 4})
        assert ran_on(cluster, [greedy]) == {"n4"}


def test_resources_are_not_shared(gate: Any) -> None:
    with hs.Cluster.local(
        2, name="gpus", voters=1, slots=4, resources=[GPU, None], config=config()
    ) as cluster:
        task = cluster.options(resources=GPU)
        first = task.submit(sample_tasks.pass_gate, gate.path, 1)
        second = task.submit(sample_tasks.pass_gate, gate.path, 2)
        eventually(lambda: first.why().kind == "running")
        assert second.why().kind == "full"
        gate.open()
        assert [first.result(60), second.result(60)] == [1, 2]
        # Two slots each, of four: two at once and no more.
        wide = cluster.options(resources={"cpu": 2, "gpu": 0.5})
        assert ran_on(cluster, [wide.submit(sample_tasks.square, i) for i in range(9)]) == {"n1"}


def test_a_task_out_of_reach_waits_until_its_node_moves() -> None:
    with hs.Cluster.local(
        3,
        name="reach",
        voters=1,
        positions=[0, 1, 9.0],
        resources=[None, None, GPU],
        config=config(assign_reach=2),
    ) as cluster:
        far = cluster.options(resources=GPU).submit(sample_tasks.square, 4)
        why = eventually(lambda: far.why() if far.why().kind == "out_of_reach" else None)
        assert "1 are out of reach" in str(why)
        assert "out_of_reach = wait" in str(why)
        assert not far.done()
        near = [cluster.submit(sample_tasks.square, i) for i in range(20)]
        assert ran_on(cluster, near) <= {"n1", "n2"}
        cluster.move("n3", (1.5, 0.5))
        assert ran_on(cluster, [far]) == {"n3"}
        moved = cluster.events.filter("member_moved")
        assert [row["detail"] for row in moved.to_dicts()] == ["(1.5, 0.5)"]
        assert {m.name: m.position for m in cluster.members()}["n3"] == (1.5, 0.5)
        with pytest.raises(hs.ConfigError, match="no such"):
            cluster.move("n9", 0)
        with pytest.raises(hs.ConfigError, match="position="):
            cluster.move("n3", (float("nan"), 0))


def test_relays_and_distances_by_name() -> None:
    chain = {("n1", "n2"): 1, ("n2", "n3"): 1, ("n1", "n3"): float("inf")}
    for policy, kind in (("relay", None), ("wait", "out_of_reach")):
        knobs = config(assign_reach=2, out_of_reach=policy, distances=chain)
        with hs.Cluster.local(
            3, name="relay", voters=1, resources=[None, None, GPU], config=knobs
        ) as cluster:
            far = cluster.options(resources=GPU).submit(sample_tasks.square, 4)
            if kind is None:
                assert ran_on(cluster, [far]) == {"n3"}
            else:
                eventually(lambda far=far, kind=kind: far.why().kind == kind)


@pytest.mark.parametrize("placement", ["auto", "window", "lpt", "p2c", "random"])
def test_every_policy_runs_everything_once(placement: str) -> None:
    knobs = config(placement=placement)
    with hs.Cluster.local(3, name="policy", voters=1, slots=2, config=knobs) as cluster:
        futures = [cluster.submit(sample_tasks.square, i) for i in range(300)]
        assert [f.result(60) for f in futures] == [i * i for i in range(300)]
        counters = cluster.metrics()
        assert (counters["succeeded"], counters["late_completions"]) == (300, 0)


def test_steals_are_counted_and_refusals_have_reasons(gate: Any) -> None:
    with hs.Cluster.local(
        2, name="thieves", voters=1, slots=1, config=config(placement="random")
    ) as cluster:
        jobs = [cluster.submit(sample_tasks.pass_gate, gate.path, i) for i in range(8)]
        fresh = cluster.add_node("n3", slots=1)
        eventually(lambda: cluster.metrics()["steals"] > 0, 60)
        eventually(lambda: any(t["node"] == fresh.id for t in cluster.tasks("assigned")))
        gate.open()
        assert sorted(f.result(60) for f in jobs) == list(range(8))

        def nothing_left() -> bool:
            steals = cluster.snapshot().steals
            return steals is not None and steals.refused["no_victim"] > 0

        eventually(nothing_left)
        steals = cluster.snapshot().steals
        assert steals is not None
        assert steals.asked > 0
        assert steals.granted > 0
        assert set(steals.refused) >= {"cpu_floor", "out_of_reach", "started", "no_profit"}


def test_a_thief_out_of_reach_gets_nothing(gate: Any) -> None:
    steal = hs.StealPolicy(cpu_floor=0.0, reach=1)
    with hs.Cluster.local(
        2, name="apart", voters=1, slots=1, config=config(placement="random", steal=steal)
    ) as cluster:
        jobs = [cluster.submit(sample_tasks.pass_gate, gate.path, i) for i in range(6)]
        cluster.add_node("n3", position=(0.0, 5.0), slots=1)

        def refused() -> bool:
            steals = cluster.snapshot().steals
            return steals is not None and steals.refused["out_of_reach"] > 0

        def stolen() -> bool:
            # The other two stand side by side, and may take from each other.
            return any(steal.thief == "n3" for steal in cluster.events.steals())

        eventually(refused)
        assert not stolen()
        cluster.move("n3", (0.0, 0.5))
        eventually(stolen, 60)
        gate.open()
        assert sorted(f.result(60) for f in jobs) == list(range(6))


def test_the_classic_profile_is_the_missions() -> None:
    classic = hs.Config.classic()
    steal = classic.steal
    assert (classic.placement, steal.cooldown_s, steal.cpu_floor) == ("random", 5.0, 0.7)
    assert (steal.reach, steal.batch, steal.random_victim, steal.profit) == (2.0, 1, True, 0.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"labels": {"zone": ""}}, "labels"),
        ({"labels": {f"l{i}": "x" for i in range(33)}}, "at most 32"),
        ({"resources": {"gpu": 0}}, "gpu=0"),
        ({"resources": {"gpu": float("nan")}}, "gpu=nan"),
        ({"resources": {"gpu": float("inf")}}, "gpu=inf"),
        ({"resources": {"gpu": 1e300}}, "gpu=1e"),
        ({"resources": {"gpu": -1}}, "gpu=-1"),
        ({"resources": {"cpu": 0}}, "whole slots"),
        ({"resources": {"cpu": 1.5}}, "whole slots"),
        ({"resources": {"cpu": 9_999}}, "whole slots"),
        ({"resources": {"a\nb": 1}}, "printable"),
        ({"priority": float("nan")}, "priority"),
    ],
)
def test_impossible_needs_are_refused_by_name(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sample_tasks.square.options(**options)


def test_needs_of_the_wrong_type_are_refused_by_name() -> None:
    for options in ({"labels": "eu"}, {"labels": {"zone": 1}}, {"resources": {"gpu": "1"}}):
        with pytest.raises(TypeError, match=r"labels|resources"):
            sample_tasks.square.options(**options)
    with pytest.raises(ValueError, match="a node's cpu is its slots"):
        hs.Node("n", resources={"cpu": 4})
    with pytest.raises(hs.ConfigError, match="labels: 2 for 3 nodes"):
        hs.Cluster.local(3, labels=[None, None])


def test_positions_and_distances_take_what_they_say() -> None:
    """Rows 18 and 19."""
    hs.Node("line", position=3)
    hs.Node("line", position=(3.0,))
    for bad in (float("nan"), (1.0, 2.0, 3.0), (), True, "3", (1e13, 0.0)):
        with pytest.raises(hs.ConfigError, match="position="):
            hs.Node("bad", position=bad)  # type: ignore[arg-type]
    given = hs.Config(distances={("a", "b"): 1, ("b", "c"): float("inf")}).distances
    assert given == {("a", "b"): 1.0, ("b", "c"): float("inf")}
    for bad in ({("a", "b"): -1}, {("a", "b"): float("nan")}, {"a": 1}, {("a", "a"): 1}, 3):
        with pytest.raises(hs.ConfigError, match="distances"):
            hs.Config(distances=bad)  # type: ignore[arg-type]
    with pytest.raises(hs.ConfigError, match="out_of_reach"):
        hs.Config(out_of_reach="shout")
    with pytest.raises(hs.ConfigError, match=r"placement.*choose one of auto, window"):
        hs.Config(placement="best")


def test_distances_travel_through_a_file_and_the_environment(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUSTINGS_DISTANCES", '[["a", "b", 2]]')
    monkeypatch.setenv("HUSTINGS_OUT_OF_REACH", "relay")
    config = hs.Config()
    assert (config.distances, config.out_of_reach) == ({("a", "b"): 2.0}, "relay")
    monkeypatch.setenv("HUSTINGS_DISTANCES", "a-b-2")
    with pytest.raises(hs.ConfigError, match="distances"):
        hs.Config()
