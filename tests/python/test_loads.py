"""``loads``: a labelled synthetic load for every node, the same for each seed."""

from __future__ import annotations

from typing import Any

import pytest

import hustings as hs
from conftest import eventually


def test_sources_are_the_same_for_the_same_seed_and_differ_between_nodes() -> None:
    for make in (lambda s: hs.loads.wandering(seed=s), lambda s: hs.loads.noise(seed=s)):
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


@pytest.mark.parametrize(
    "make",
    [
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
        eventually(lambda: cluster.leader is not None and cluster.leader.term > first.term)
        second = cluster.wait_leader()
        rest = [name for name in scores if name != first.name]
        assert second.name == max(rest, key=lambda name: scores[name])
