"""Row 34: all nodes are idle but one, and victims and thieves die in the middle of it; no task is
lost or run for two."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import fault_tasks
import hustings as hs
from conftest import eventually
from fault_views import check_accounts

TASKS = 600
ROUNDS = 4


def wait_for_steals(cluster: hs.Cluster, seen: int) -> None:
    """Until there was one more, or nothing is left to steal."""

    def stolen() -> bool:
        counters = cluster.metrics()
        return counters["steals"] > seen or counters["pending"] + counters["assigned"] == 0

    eventually(stolen, 60)


def test_row_34_victims_and_thieves_die_in_a_storm_of_steals(
    tmp_path: Path, record_property: Any
) -> None:
    chance = random.Random(34)
    policy = hs.StealPolicy(cpu_floor=0.0, cooldown_s=0.0)
    limits = hs.Limits(crash_budget=1_000, node_queue=TASKS)
    config = hs.Config.ci(steal=policy, limits=limits, placement="random")
    with hs.Cluster.local(
        5, name="storm", isolated=True, voters=1, slots=1, config=config
    ) as cluster:
        futures = [
            cluster.submit(fault_tasks.breathe, 0.001 if n % 25 else 0.2) for n in range(TASKS)
        ]
        for _ in range(ROUNDS):
            wait_for_steals(cluster, cluster.metrics()["steals"])
            victim = cluster.kill(chance.choice(["n2", "n3", "n4", "n5"]))
            cluster.restart(victim.name)
            futures += [cluster.submit(fault_tasks.breathe, 0.001) for _ in range(TASKS // 4)]
        assert all(f.result(60) > 0 for f in futures)
        check_accounts(cluster, len(futures))
        counters = cluster.metrics()
        assert counters["lost"] == counters["failed"] == 0
        record_property("steals_per_task", round(counters["steals"] / len(futures), 3))
        record_property("reassigned", counters["reassigned"])
