"""Rows 27 and 28: memory, file descriptors and ports run out; one runner or one request fails, no
node and no vote."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from processes import Group, Spec

import fault_tasks
import hustings as hs
from conftest import HERE, eventually, run_command
from fault_views import settle
from hustings.usage import cpu_seconds

GROUPS = Path("/sys/fs/cgroup/memory")
"""Where control groups of version 1 bound memory."""


def rss_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_row_27_a_task_without_memory_fails_and_its_node_does_not_notice(
    isolated: hs.Cluster, record_property: Any
) -> None:
    leader = settle(isolated)
    before = {node.pid: rss_mib(node.pid) for node in isolated.nodes}
    greedy = [isolated.submit(fault_tasks.hoard, 600 << 20) for _ in range(3)]
    for future in greedy:
        with pytest.raises(MemoryError):
            future.result(90)
    assert isolated.submit(fault_tasks.echo, "on").result(60) == "on"
    after = settle(isolated)
    assert (after.id, after.term) == (leader.id, leader.term)
    grown = max(rss_mib(pid) - mib for pid, mib in before.items())
    assert grown < 100
    record_property("node_grew_mib", round(grown, 1))


def test_row_27_the_kernel_ends_a_runner_and_only_that(
    isolated: hs.Cluster, record_property: Any
) -> None:
    group = GROUPS / f"hustings-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group for memory can be made here ({error})")
    try:
        leader = settle(isolated)
        pids = {node.name: node.pid for node in isolated.nodes}
        doomed = isolated.submit(fault_tasks.hoard_in, str(group), 96 << 20)
        with pytest.raises(hs.TaskLostError, match="crash budget"):
            doomed.result(90)
        assert isolated.submit(fault_tasks.echo, "on").result(60) == "on"
        after = settle(isolated)
        assert (after.id, after.term) == (leader.id, leader.term)
        assert {node.name: node.pid for node in isolated.nodes if node.alive} == pids
        record_property("runners_lost", doomed.attempt)
    finally:
        eventually(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


def test_row_28_a_leader_without_descriptors_sheds_and_recovers(
    tmp_path: Path, record_property: Any
) -> None:
    spec = Spec(tmp_path / "nodes", tasks=["fault_tasks"], profile="ci", slots=1, cwd=HERE)
    with Group(spec) as group, hs.Cluster.connect(*group.places, timeout=60) as client:
        leader = client.wait_leader()
        # A node brings the functions it knows when it is admitted.
        eventually(lambda: len(client.members()) == len(group.places))
        assert client.submit("fault_tasks.echo", "warm").result(60) == "warm"
        node = group[leader.name]
        used = len(os.listdir(f"/proc/{node.pid}/fd"))
        before = resource.prlimit(node.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (used + 4, before[1]))
        host, _, port = node.place.rpartition(":")
        with contextlib.ExitStack() as stack:
            for _ in range(60):
                probe = stack.enter_context(socket.socket())
                probe.connect((host, int(port)))
            began, cpu = time.monotonic(), cpu_seconds(node.pid)
            futures = [client.submit("fault_tasks.echo", str(n)) for n in range(30)]
            assert [f.result(90) for f in futures] == [str(n) for n in range(30)]
            time.sleep(2)
            share = (cpu_seconds(node.pid) - cpu) / (time.monotonic() - began)
            assert node.alive
        # A loop that asks again and again for what it cannot have would take a whole core.
        assert share < 0.8
        record_property("cpu_share_while_starved", round(share, 2))
        resource.prlimit(node.pid, resource.RLIMIT_NOFILE, before)

        def admitted() -> bool:
            with hs.Cluster.connect(node.place, timeout=5) as late:
                return late.submit("fault_tasks.echo", "late").result(30) == "late"

        eventually(admitted, 60)
        assert len(client.members()) == 3


def test_row_28_a_port_that_is_taken_is_said_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = run_command("node", "--listen", place)
    assert refused.returncode == 2
    assert f"cannot listen on {place}" in refused.stderr
