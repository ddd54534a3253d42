"""Copies of attempts that take too long: of idempotent tasks only; whichever ends first counts."""

from __future__ import annotations

import json
from typing import Any

import pytest

import fault_tasks
import hustings as hs
from conftest import eventually, run_command
from fault_views import settle

LESSONS = 12


def config(**knobs: Any) -> hs.Config:
    """No lease runs out here: what a node holds that does not answer, only a copy can bring."""
    steal = hs.StealPolicy(cpu_floor=0.0)
    return hs.Config.ci(steal=steal, limits=hs.Limits(worker_lease_s=600), **knobs)


def teach(cluster: hs.Cluster, path: str) -> None:
    """Until the leader knows what such calls usually take: the path is as long, and is there."""
    known = "/" * len(path)
    for _ in range(LESSONS):
        hs.gather(*[fault_tasks.stall_first.submit(known) for _ in range(3)], timeout=60)


def test_a_straggler_ends_by_its_copy_and_is_killed(gate: Any) -> None:
    with hs.Cluster.local(3, name="copies", voters=1, slots=1, config=config()) as cluster:
        teach(cluster, gate.path)
        late = fault_tasks.stall_first.submit(gate.path)
        assert late.result(60) == 2, "the gate is shut: only the second attempt can return"
        kinds = [step.kind for step in late.history()]
        assert kinds == ["accepted", "assigned", "copied", "succeeded"]
        first, copy = late.history()[1:3]
        assert (first.attempt, copy.attempt) == (1, 2)
        assert first.node != copy.node
        # The first one is killed, though its gate never opens.
        eventually(lambda: all(m.running == 0 for m in cluster.snapshot().members))
        counters = cluster.metrics()
        assert (counters["copies"], counters["copies_first"]) == (1, 1)
        (row,) = cluster.events.filter("copied").to_dicts()
        assert (row["subject_name"], row["detail"]) == (copy.node, first.node)


def test_the_command_line_says_that_a_task_may_run_twice(gate: Any) -> None:
    with hs.Cluster.local(2, name="submits", voters=1, slots=1, config=config()) as cluster:
        teach(cluster, gate.path)
        address = cluster.members()[0].address
        call = ("submit", "fault_tasks.stall_first", json.dumps([gate.path]))
        done = run_command(*call, "--idempotent", "--json", "--connect", address)
        assert done.returncode == 0, done
        assert json.loads(done.stdout)["result"] == 2, "only the second attempt can return"


def test_why_tells_of_the_copy(gate: Any) -> None:
    with hs.Cluster.local(2, name="why-copies", voters=1, slots=1, config=config()) as cluster:
        known = "/" * len(gate.path)
        hs.gather(*[fault_tasks.stall_twice.submit(known) for _ in range(LESSONS)], timeout=60)
        both = fault_tasks.stall_twice.submit(gate.path)
        why = eventually(lambda: both.why() if "has a copy" in str(both.why()) else None)
        assert why.kind == "running"
        assert why.facts["copy_attempt"] == 2
        assert why.facts["copy_node"] != why.facts["node"]
        assert both.cancel(kill=True)
        eventually(lambda: all(m.running == 0 for m in cluster.snapshot().members))


def test_without_leave_nothing_is_copied(gate: Any) -> None:
    off = config(speculate=False)
    with hs.Cluster.local(2, name="no-copies", voters=1, slots=1, config=off) as cluster:
        teach(cluster, gate.path)
        late = fault_tasks.stall_first.submit(gate.path)
        eventually(lambda: late.why().kind == "running" and late.why().facts["since_s"] > 1.5)
        assert cluster.metrics()["copies"] == 0
        gate.open()
        assert late.result(60) == 1
    with pytest.raises(TypeError, match="idempotent=1"):
        hs.task(idempotent=1)(len)


def test_tasks_of_a_frozen_node_end_by_their_copies(gate: Any) -> None:
    near = {"zone": "near"}
    with hs.Cluster.local(
        3,
        name="frozen-copies",
        isolated=True,
        voters=1,
        slots=1,
        labels=[near, near, None],
        config=config(),
    ) as cluster:
        settle(cluster)
        teach(cluster, gate.path)
        busy = fault_tasks.wait_here.options(labels=near)
        held = [busy.submit(gate.path) for _ in range(2)]
        eventually(lambda: all(f.why().kind == "running" for f in held))
        cluster.freeze("n3")
        # The only idle node is the one that is frozen, and its lease is ten minutes.
        known = "/" * len(gate.path)
        tasks = [fault_tasks.stall_first.submit(known) for _ in range(2)]
        frozen = next(n for n in cluster.nodes if n.name == "n3")
        eventually(lambda: any(t["node"] == frozen.id for t in cluster.tasks("assigned")))
        before = cluster.metrics()
        gate.open()
        hs.gather(*held, *tasks, timeout=120)
        counters = cluster.metrics()
        assert counters["succeeded"] == before["succeeded"] + 4
        assert counters["copies_first"] >= 1
        assert counters["reassigned"] == 0
        cluster.resume("n3")
        eventually(lambda: settle(cluster))
        assert [cluster.future(f.task_id).result(60) for f in tasks] == [f.result() for f in tasks]
