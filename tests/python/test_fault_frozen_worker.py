"""Row 5: a worker is stopped past its lease while it runs tasks, wakes up and reports them; nobody
believes it."""

from __future__ import annotations

from typing import Any

import fault_tasks
import hustings as hs
from conftest import eventually
from fault_views import check_accounts, settle

TASKS = 8


def test_row_5_a_frozen_worker_wakes_up_and_its_completions_are_refused(
    gate: Any, record_property: Any
) -> None:
    config = hs.Config.ci(limits=hs.Limits(worker_lease_s=0.5))
    with hs.Cluster.local(
        3, name="frozen-worker", isolated=True, voters=1, slots=2, config=config
    ) as cluster:
        settle(cluster)
        held = [cluster.submit(fault_tasks.wait_here, gate.path) for _ in range(TASKS)]
        frozen = next(n for n in cluster.nodes if n.name == "n3")

        def running() -> int:
            members = cluster.snapshot().members
            return next((m.running for m in members if m.id == frozen.id and m.alive), -1)

        eventually(lambda: running() == 2)
        cluster.freeze(frozen.name)
        # Its lease runs out, and what it held is others' now.
        eventually(lambda: all(t["node"] != frozen.id for t in cluster.tasks("assigned")), 60)
        gate.open()
        outcomes = [f.result(60) for f in held]
        before = cluster.metrics()
        assert before["succeeded"] == TASKS
        cluster.resume(frozen.name)
        # It ran two of them to their end meanwhile and says so. What still waited there it may have
        # begun before it heard that it is others' now.
        eventually(lambda: running() == 0 and cluster.metrics()["late_completions"] >= 2, 60)
        assert [cluster.future(f.task_id).result(60) for f in held] == outcomes
        eventually(lambda: settle(cluster))
        assert cluster.submit(fault_tasks.breathe, 0.0).result(60) > 0
        check_accounts(cluster, TASKS + 1)
        after = cluster.metrics()
        assert 2 <= after["late_completions"] <= after["reassigned"], "each is refused once"
        record_property("late_completions_refused", after["late_completions"])
