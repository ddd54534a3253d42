"""Rows 29 and 31: many clients come back at once, and one that reads nothing; neither costs the
others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from processes import Group, Spec

import hustings as hs
from conftest import HERE, alive, eventually

CLIENTS = 60
RESULTS = 2_000
RESULT_BYTES = 16_000
SLOW = """
import sys, time, hustings as hs
with hs.Cluster.connect(*sys.argv[3:], timeout=60) as c:
    fs = [c.submit("fault_tasks.answer", int(sys.argv[2])) for _ in range(int(sys.argv[1]))]
    while any(f.state == "submitted" for f in fs):
        time.sleep(0.01)
    print("accepted", flush=True)
    assert all(len(f.result(100)) == int(sys.argv[2]) for f in fs)
"""


def rss_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def voters(folder: Path, **more: Any) -> Group:
    return Group(Spec(folder, tasks=["fault_tasks"], profile="ci", cwd=HERE, **more))


def whole(client: hs.Cluster) -> bool:
    return client.snapshot().quorum.startswith("3 of 3")


def test_row_29_a_crowd_of_clients_comes_back_after_its_leader_died(
    tmp_path: Path, record_property: Any
) -> None:
    with voters(tmp_path, slots=1) as group:
        clients = [hs.Cluster.connect(*group.places, timeout=60) for _ in range(CLIENTS)]
        try:
            eventually(lambda: whole(clients[0]), 60)

            def round_s() -> float:
                began = time.monotonic()
                futures = [c.submit("fault_tasks.echo", str(n)) for n, c in enumerate(clients)]
                assert [f.result(90) for f in futures] == [str(n) for n in range(CLIENTS)]
                return time.monotonic() - began

            round_s()
            calm = min(round_s() for _ in range(3))
            leader = group[clients[0].wait_leader().name]
            leader.kill()
            record_property("first_round_s", round(round_s(), 2))
            after = min(round_s() for _ in range(10))
            record_property("calm_round_s", round(calm, 3))
            record_property("round_afterwards_s", round(after, 3))
            leader.start()
            eventually(lambda: whole(clients[0]), 60)
            counters = clients[0].metrics()
            assert counters["accepted"] == counters["succeeded"] == 15 * CLIENTS
        finally:
            for client in clients:
                client.close()


def test_row_31_a_client_that_reads_nothing_costs_nobody_else_anything(
    tmp_path: Path, record_property: Any
) -> None:
    with (
        voters(tmp_path, slots=2) as group,
        hs.Cluster.connect(*group.places, timeout=60) as client,
    ):
        eventually(lambda: whole(client), 60)
        assert client.submit("fault_tasks.echo", "warm").result(60) == "warm"
        before = {node.pid: rss_mib(node.pid) for node in group}
        argv = [sys.executable, "-c", SLOW, str(RESULTS), str(RESULT_BYTES), *group.places]
        slow = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        try:
            assert slow.stdout is not None
            assert slow.stdout.readline() == "accepted\n"
            slow.send_signal(signal.SIGSTOP)
            eventually(lambda: client.metrics()["succeeded"] == RESULTS + 1, 90)
            trips = []
            for n in range(100):
                began = time.monotonic()
                assert client.submit("fault_tasks.echo", str(n)).result(60) == str(n)
                trips.append(time.monotonic() - began)
            record_property("others_p99_ms", round(sorted(trips)[98] * 1e3, 1))
            grown = max(rss_mib(pid) - mib for pid, mib in before.items())
            record_property("node_grew_mib", round(grown, 1))
            # Once as state, and not again for each message that it does not take.
            assert grown < 5 * RESULTS * RESULT_BYTES / 2**20
            slow.send_signal(signal.SIGCONT)
            assert slow.wait(100) == 0
        finally:
            if alive(slow.pid):
                slow.send_signal(signal.SIGCONT)
                slow.kill()
            slow.wait()
            if slow.stdout is not None:
                slow.stdout.close()
