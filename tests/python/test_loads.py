"""``loads``: a labelled synthetic load for every node, the same for each seed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

import hustings as hs
from conftest import eventually


def test_sources_are_the_same_for_the_same_seed_and_differ_between_nodes() -> None:
    for make in (
        lambda s: hs.loads.wandering(seed=s),
        lambda s: hs.loads.noise(seed=s),
        lambda s: hs.loads.spikes(seed=s),
    ):
        assert make(7).for_node(0) == make(7).for_node(0)
        assert make(7).for_node(0) != make(8).for_node(0)
        assert make(7).for_node(0) != make(7).for_node(1)
        values = make(7).for_node(2)["values"]
        assert all(0.0 <= v <= 1.0 for v in values)
        assert len(values) == 3600 * 4


def test_constant_and_steps_are_what_they_say() -> None:
    assert hs.loads.constant([0.9, 0.2]).for_node(1)["cpu"] == 0.2
    steps = hs.loads.steps((0, 0.9), (30, 0.2)).for_node(0)
    assert (steps["times"], steps["values"]) == ([0.0, 30.0], [0.9, 0.2])


def test_spikes_are_as_frequent_and_as_long_as_they_say() -> None:
    nodes = [hs.loads.spikes(0.8, 0.5, every_s=50, length_s=10).for_node(i) for i in range(40)]
    values = [value for node in nodes for value in node["values"]]
    assert set(values) == {0.8, 0.3}
    busy = values.count(0.3) / len(values)
    assert busy == pytest.approx(10 / 60, rel=0.1)
    begun = sum(a > b for node in nodes for a, b in itertools.pairwise(node["values"]))
    assert begun / len(nodes) == pytest.approx(3600 / 60, rel=0.1)
    noisy = hs.loads.spikes(deviation=0.05).for_node(0)["values"]
    assert len(set(noisy)) > 1000


def test_a_recording_is_replayed_from_rows_or_from_a_file(tmp_path: Path) -> None:
    rows = [{"time_s": 5, "cpu": 0.9, "memory": 0.5}, {"time_s": 7, "cpu": 0.2}]
    file = tmp_path / "load.csv"
    file.write_text("time_s,cpu,memory,note\n5,0.9,0.5,x\n7,0.2,,y\n")
    for recording in (rows, file, str(file), [(5, 0.9, 0.5), (7, 0.2)]):
        made = hs.loads.replay(recording, memory=0.7, uptime_s=1).for_node(3)
        assert made == {
            "kind": "trace",
            "times": [0.0, 2.0],
            "values": [0.9, 0.2],
            "memories": [0.5, 0.7],
            "uptime_s": 1.0,
        }


def test_each_node_may_begin_elsewhere_in_a_recording() -> None:
    made = hs.loads.replay([(0, 0.1), (1, 0.2), (3, 0.3)], shift_s=2.0)
    nodes = [made.for_node(i) for i in range(3)]
    assert [node["values"] for node in nodes] == [[0.1, 0.2, 0.3], [0.2, 0.3, 0.1], [0.3, 0.1, 0.2]]
    assert [node["times"] for node in nodes] == [[0, 1, 3], [0, 2, 4], [0, 2, 3]]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "give a header with time_s, cpu"),
        ("time,cpu\n0,1\n", "give a header with time_s, cpu"),
        ("time_s,cpu\n0,1\n1,x\n", "row 2"),
        ("time_s,cpu\n0,nan\n", r"values\[0\]"),
        ("time_s,cpu\n1,1\n0,1\n", r"times\[1\]"),
        ("time_s,cpu,memory\n0,1,7\n", r"memory\[0\]"),
    ],
)
def test_a_bad_recording_is_refused_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "load.csv"
    file.write_text(text)
    with pytest.raises(hs.ConfigError, match=problem):
        hs.loads.replay(file)
    with pytest.raises(hs.ConfigError, match=r"no\.csv"):
        hs.loads.replay(tmp_path / "no.csv")


def test_memory_of_a_recording_reaches_the_nodes() -> None:
    source = hs.loads.replay([(0, 0.5, 0.25)])
    with hs.Cluster.local(1, name="memories", loads=source, config=hs.Config.ci()) as cluster:
        cluster.wait_leader()

        def told() -> dict[str, Any] | None:
            load = cluster.members()[0].load
            return load if load.get("memory_available") == 0.25 else None

        assert eventually(told)["synthetic"]


def test_a_node_with_a_process_of_its_own_measures_itself() -> None:
    assert hs.loads.measured(own_process=True).for_node(0)["own_process"]
    with hs.Cluster.local(1, name="alone", isolated=True, config=hs.Config.ci()) as cluster:
        cluster.wait_leader()
        load = eventually(lambda: cluster.members()[0].load)
        assert not load["synthetic"]
        assert 0.0 <= load["cpu_available"] <= 1.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: hs.loads.spikes(every_s=0),
        lambda: hs.loads.spikes(depth=2),
        lambda: hs.loads.spikes(deviation=-1),
        lambda: hs.loads.replay([]),
        lambda: hs.loads.replay([(0,)]),
        lambda: hs.loads.replay([(0, 1)], shift_s=-1),
        lambda: hs.loads.constant(1.5),
        lambda: hs.loads.constant(float("nan")),
        lambda: hs.loads.constant([]),
        lambda: hs.loads.constant("0.5"),
        lambda: hs.loads.trace([0, 1], [0.5]),
        lambda: hs.loads.trace([1, 2], [0.5, 0.5]),
        lambda: hs.loads.trace([0, 0], [0.5, 0.5]),
        lambda: hs.loads.steps(),
        lambda: hs.loads.wandering(pull_s=0),
        lambda: hs.loads.noise(deviation=-1),
    ],
)
def test_a_bad_load_is_refused(make: Any) -> None:
    with pytest.raises(hs.ConfigError):
        make()


def test_the_best_loaded_survivor_takes_over_and_every_load_is_labelled() -> None:
    scores = {"n1": 0.3, "n2": 0.95, "n3": 0.5}
    config = hs.Config.ci(election=hs.ElectionConfig(score_tau_s=0))
    with hs.Cluster.local(3, name="loads", loads=scores, config=config) as cluster:
        first = cluster.wait_leader()
        ranking = ["n2", "n3", "n1"]
        eventually(
            lambda: [m.name for m in sorted(cluster.members(), key=lambda m: -m.score)] == ranking
        )
        eventually(lambda: all(m.load.get("synthetic") for m in cluster.members()))

        def rounds() -> int:
            return sum(r["subject_name"] == "n2" for r in cluster.events.filter("scored"))

        # The ranking must have reached everybody before the leader dies; it is told more often
        # than the scores are written down.
        before = rounds()
        eventually(lambda: rounds() >= before + 2)
        cluster.kill(first)
        eventually(lambda: (now := cluster.leader) is not None and now.term > first.term)
        second = cluster.wait_leader()
        rest = [name for name in scores if name != first.name]
        assert second.name == max(rest, key=lambda name: scores[name])
