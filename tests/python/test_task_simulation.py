"""``TaskSimulation``: assignment and stealing imagined, its figures and what it refuses."""

from __future__ import annotations

import math

import pytest

import hustings as hs
from hustings import _core


def simulation(**arguments: object) -> hs.TaskSimulation:
    given: dict[str, object] = {"workload": hs.Workload(tasks=200), "seed": 3, **arguments}
    return hs.TaskSimulation(8, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(hs.WORKLOADS))
def test_every_workload_comes_out_near_its_bound(name: str) -> None:
    work = hs.Workload(tasks=400, **hs.WORKLOADS[name])
    run = simulation(workload=work).run()
    assert run.finished == run.tasks == 400
    assert (run.failed, run.flaws, run.late) == (0, 0, 0)
    assert 1.0 <= run.over_bound < 3.0
    assert run.busy_s > 0


def test_both_sides_of_the_border_judge_the_same_history() -> None:
    run = simulation(churn=(1.0, 0.3), leader_dies_at_s=[0.5, 1.0]).run()
    assert run.deaths > 0
    assert run.finished == run.tasks
    found = _core.check_history(run.task_rows)
    assert found["accepted"] == found["outcomes"] == run.tasks
    assert found["lost"] == found["double"] == found["contradicting"] == []


def test_the_same_seed_gives_the_same_run_alone_and_in_a_sweep() -> None:
    one = simulation().run()
    again, other = simulation().sweep([3, 4])
    assert (one.makespan_s, one.steals, one.entries) == (
        again.makespan_s,
        again.steals,
        again.entries,
    )
    assert other.makespan_s != one.makespan_s
    assert list(again.task_rows) == []


def test_stealing_pays_and_the_classic_steals_hardly_help() -> None:
    def over(config: hs.Config) -> float:
        return simulation(config=config).run().over_bound

    steals = over(hs.Config(placement="random"))
    none = over(hs.Config(placement="random", steal=hs.StealPolicy(per_task=0)))
    classic = over(hs.Config.classic())
    assert steals < 1.15 < min(none, classic)


def test_where_everybody_stands_decides_who_gets_work() -> None:
    config = hs.Config(assign_reach=1.5, steal=hs.StealPolicy(per_task=0))
    run = simulation(positions=hs.grid(8, 1), config=config).run()
    busy = {row["node"] for row in run.task_rows if row["kind"] == "started"}
    assert 0 < len(busy) < 8
    assert run.reach[0] == 1.5
    xs = [run.positions[name][0] for name in busy]
    assert max(xs) - min(xs) <= 3.0


def test_tasks_that_come_one_by_one_are_compared_with_one_ideal_queue() -> None:
    work = hs.Workload(tasks=1_000, sizes="exponential", rho=0.7)
    run = simulation(workload=work).run()
    assert run.stays.p99 >= run.ideal.p99 * 0.9
    assert run.stays.p50 < run.ideal.p50 * 1.5


def test_what_thieves_were_refused_is_told_by_reason() -> None:
    run = simulation(config=hs.Config(placement="random"), cpu_available=0.1).run()
    assert run.steals == 0
    assert run.calls > 0
    assert run.refused["cpu_floor"] > 0


def test_a_run_says_what_it_came_to() -> None:
    run = simulation().run()
    assert "200 of 200 tasks on 8 workers" in repr(run)
    assert "lower bound" in run._repr_html_()
    assert math.isclose(run.over_bound, run.makespan_s / run.bound_s)
    assert len(run.events) > 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"slots": 0}, "slots=0"),
        ({"speeds": ()}, "speeds"),
        ({"speeds": (1.0, 0.0)}, r"speeds\[1\]=0.0"),
        ({"positions": [(0.0, 0.0)]}, "positions: 1 for 8"),
        ({"positions": [(0.0, math.nan)] * 8}, r"positions\[0\]=nan"),
        ({"latency_s": (0.2, 0.1)}, "latency_s"),
        ({"cpu_available": 2}, "cpu_available=2"),
        ({"churn": (0.0, 1.0)}, "churn"),
        ({"workload": 3}, "workload=3"),
        ({"config": "lan"}, "config='lan'"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_what_cannot_be_imagined_is_refused_by_name(
    arguments: dict[str, object], text: str
) -> None:
    with pytest.raises(hs.ConfigError, match=text):
        simulation(**arguments)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"tasks": 0}, "workload.tasks=0"),
        ({"sizes": "paretto"}, "did you mean 'pareto'"),
        ({"mean_s": 0}, "workload.mean_s=0"),
        ({"straggling": 1.5}, "workload.straggling=1.5"),
        ({"knowledge": "all"}, "workload.knowledge='all'"),
        ({"rho": 0}, "workload.rho=0"),
    ],
)
def test_impossible_work_is_refused_by_name(arguments: dict[str, object], text: str) -> None:
    with pytest.raises(hs.ConfigError, match=text):
        hs.Workload(**arguments)  # type: ignore[arg-type]


def test_workers_are_bounded() -> None:
    with pytest.raises(hs.ConfigError, match="workers=0"):
        hs.TaskSimulation(0)
    with pytest.raises(hs.ConfigError, match="columns=0"):
        hs.grid(0, 3)
