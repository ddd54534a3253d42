"""SIGTERM and Ctrl-C: what a node finishes, what it gives back, and with which code it ends
(guarantee G11)."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from processes import Group, NodeProcess, Spec, port_is_free

import hustings as hs
from conftest import HERE, eventually, run_command


def voters(folder: Path, **more: Any) -> Group:
    return Group(Spec(folder, tasks=["fault_tasks"], profile="ci", cwd=HERE, **more))


def whole(client: hs.Cluster) -> bool:
    return client.snapshot().quorum.startswith("3 of 3")


def status_of(node: NodeProcess) -> dict[str, Any]:
    said = run_command("status", "--connect", node.place, "--json")
    status: dict[str, Any] = json.loads(said.stdout)
    return status


def await_running(client: hs.Cluster, *nodes: NodeProcess) -> None:
    """Until each of them runs one task."""
    seen: list[object] = []

    def look() -> bool:
        running = {m.id: m.running for m in client.members()}
        seen[:] = [client.members(), client.tasks()]
        return all(running.get(node.id) == 1 for node in nodes)

    try:
        eventually(look, 60)
    except AssertionError:
        said = {node.name: node.last_words() for node in nodes}
        raise AssertionError(f"they do not run one each: {seen}; they said: {said}") from None


def test_a_stopping_node_finishes_what_runs_and_hands_back_what_waits(
    tmp_path: Path, gate: Any
) -> None:
    with (
        voters(tmp_path, slots=1) as group,
        hs.Cluster.connect(*group.places, timeout=60) as client,
    ):
        eventually(lambda: whole(client), 60)
        futures = [client.submit("fault_tasks.wait_here", gate.path) for _ in range(9)]
        leader = group[client.wait_leader().name]
        await_running(client, *group)
        leader.terminate()
        eventually(lambda: client.wait_leader().name != leader.name, 60)
        eventually(lambda: sum(t["node"] == leader.id for t in client.tasks("assigned")) == 1, 60)
        assert leader.alive, "it still runs one"
        gate.open()
        assert leader.wait() == 0
        assert port_is_free(leader.place)
        pids = [f.result(60) for f in futures]
        # The one it had begun it finished: nobody ran it again.
        assert len(set(pids)) == 3
        assert client.metrics()["reassigned"] == client.metrics()["late_completions"] == 0


@pytest.mark.parametrize("how", ["the grace ends", "a second signal"])
def test_what_is_cut_off_runs_elsewhere_and_the_code_says_so(
    tmp_path: Path, gate: Any, how: str
) -> None:
    grace = 0.5 if how == "the grace ends" else 60.0
    with (
        voters(tmp_path, slots=1, grace_s=grace) as group,
        hs.Cluster.connect(*group.places, timeout=60) as client,
    ):
        eventually(lambda: whole(client), 60)
        futures = [client.submit("fault_tasks.wait_here", gate.path) for _ in range(9)]
        await_running(client, *group)
        node = group["n2"]
        node.terminate()
        if how == "a second signal":
            eventually(lambda: "stops" in node.last_words())
            node.signal(signal.SIGINT)
        assert node.wait() == 3
        eventually(lambda: all(t["node"] != node.id for t in client.tasks("assigned")), 60)
        gate.open()
        assert all(f.result(60) > 0 for f in futures)
        assert client.metrics()["succeeded"] == 9


def test_nodes_that_are_all_stopped_at_once_do_not_wait_for_each_other(
    tmp_path: Path, record_property: Any
) -> None:
    with (
        voters(tmp_path, slots=1, grace_s=100.0) as group,
        hs.Cluster.connect(*group.places, timeout=60) as client,
    ):
        eventually(lambda: whole(client), 60)
        futures = [client.submit("fault_tasks.breathe", 0.2) for _ in range(30)]
        await_running(client, *group)
        accepted = [f.task_id for f in futures if f.running()]
        assert accepted
        began = time.monotonic()
        for node in group:
            node.terminate()
        # Long before the grace: the last ones have no majority, and nobody to report to.
        assert {node.wait(50) for node in group} <= {0, 3}
        record_property("ended_after_s", round(time.monotonic() - began, 2))
        group.start()
        assert all(client.future(task).result(60) > 0 for task in accepted)
        assert all(f.result(60) > 0 for f in futures)
        assert client.metrics()["succeeded"] == 30


def test_a_node_alone_refuses_work_while_it_finishes(tmp_path: Path, gate: Any) -> None:
    spec = Spec(tmp_path, voters=1, tasks=["fault_tasks"], profile="ci", slots=1, cwd=HERE)
    with Group(spec) as group, hs.Cluster.connect(*group.places, timeout=60) as client:
        node = group["n1"]
        first = client.submit("fault_tasks.wait_here", gate.path)
        await_running(client, node)
        node.terminate()
        eventually(lambda: "stops" in node.last_words())
        # Its client stays, and hears neither yes nor no.
        eventually(lambda: status_of(node)["draining"])
        late = client.submit("fault_tasks.echo", "late")
        gate.open()
        assert first.result(60) > 0
        assert node.wait() == 0
        assert late.state == "submitted"
        node.start()
        assert late.result(60) == "late"
        assert client.metrics()["succeeded"] == 2
