"""Five hosts with addresses of their own, TLS on every connection, one node that joins by token
while work goes on, the leader's host cut off and healed: nothing is lost and nothing done twice."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hustings as hs
from conftest import eventually
from hustings import certs
from hustings.verdict import check_history
from namespace_tasks import square_slowly
from namespaces import Hosts, why_not

TASKS = 10_000
CHUNK = 50
PORT = 7400
DESK = 7401
NAMES = ["a", "b", "c", "d", "e"]

pytestmark = [pytest.mark.timeout(300)]


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    missing = why_not()
    if missing is not None:
        pytest.skip(missing)
    with Hosts(len(NAMES)) as made:
        yield made


class Trial:
    """The nodes on the hosts."""

    def __init__(self, hosts: Hosts, place: Path) -> None:
        self.hosts, self.place = hosts, place
        self.ca = place / "ca"
        certs.create_authority(self.ca)
        founders = [f"{hosts.address(i)}:{PORT}" for i in range(3)]
        self.founders = founders
        for i, name in enumerate(NAMES[:4]):
            certs.issue("peer", name, ca=self.ca, out=place / name, hosts=[hosts.address(i)])
        for role in ("client", "admin"):
            certs.issue(role, role, ca=self.ca, out=place / role)
        admit = ["--ca", str(self.ca), "--admit", f"{hosts.address(0)}:{DESK}"]
        for i in range(3):
            self.start(i, "--voters", "3", *(admit if i == 0 else []))
        self.start(3)

    def start(self, i: int, *more: str) -> None:
        name = NAMES[i]
        command = [sys.executable, "-m", "hustings", "node", "--tls", str(self.place / name)]
        listen = f"{self.hosts.address(i)}:{PORT}"
        options = ["--listen", listen, "--join", ",".join(self.founders), "--slots", "2"]
        data = ["--data-dir", str(self.place / f"data-{name}"), "--tasks", "namespace_tasks"]
        log = self.place / f"{name}.log"
        command += [*options, *data, *more]
        self.hosts.run(i, command, log, HUSTINGS_LOG="warning")

    def connect(self, role: str = "client") -> hs.Cluster:
        return hs.Cluster.connect(*self.founders, tls=self.place / role, timeout=60)

    def said(self) -> str:
        return "\n".join(p.read_text(errors="replace")[-3_000:] for p in self.place.glob("*.log"))


def judge(futures: list[hs.Future[Any]]) -> Any:
    """Every task as the client saw it."""
    rows: list[dict[str, Any]] = []
    for x, future in enumerate(futures):
        value, token = future.result(60)
        assert value == x * x
        task = {"task": future.task_id, "token": None}
        rows += [{"kind": "submitted", **task}, {"kind": "accepted", **task}]
        rows.append({"kind": "outcome", **task, "outcome": f"{value} by {token}"})
    return rows


def test_nothing_is_lost_or_done_twice_on_five_hosts_whose_leader_is_cut_off(
    hosts: Hosts, tmp_path: Path
) -> None:
    trial = Trial(hosts, tmp_path)
    try:
        with trial.connect() as cluster:
            run_trial(trial, cluster)
    except BaseException:
        print(trial.said())
        raise


def run_trial(trial: Trial, cluster: hs.Cluster) -> None:
    hosts = trial.hosts
    eventually(lambda: len(cluster.members()) == 4, 60)
    first = cluster.wait_leader()
    cut = NAMES.index(first.name)
    futures: list[hs.Future[Any]] = []
    told: dict[str, float] = {}
    began = time.monotonic()
    for x in range(TASKS):
        futures.append(square_slowly.submit(x))
        if x == TASKS * 2 // 10:
            at = f"{hosts.address(0)}:{DESK}"
            token = certs.create_token("e", ca=trial.ca, at=at, hosts=[hosts.address(4)])
            (trial.place / "token").write_text(token)
            trial.start(4, "--token", f"@{trial.place / 'token'}")
        if x == TASKS * 5 // 10:
            eventually(lambda: any(m.name == "e" and m.alive for m in cluster.members()), 60)
            told["joined"] = time.monotonic() - began
            hosts.cut(cut)
            since = time.monotonic()
            eventually(lambda: (now := cluster.leader) and now.name != first.name, 60)
            told["leaderless"] = time.monotonic() - since
        if x == TASKS * 8 // 10:
            hosts.heal(cut)
        if x % CHUNK == 0:
            hs.wait(futures[-5 * CHUNK :][:1], timeout=60)
    hs.wait(futures, timeout=120)
    told["done"] = time.monotonic() - began
    rows = judge(futures)
    eventually(lambda: all(m.alive for m in cluster.members()) and len(cluster.members()) == 5, 60)
    # Asked again, by another client: the final word is the same.
    with trial.connect("admin") as other:
        known = {t["task_id"]: t for t in other.tasks(limit=100_000)}
        for future in futures[:: TASKS // 50]:
            if str(future.task_id) in known:
                value, token = other.future(future.task_id).result(30)
                rows.append(
                    {
                        "kind": "outcome",
                        "task": future.task_id,
                        "token": None,
                        "outcome": f"{value} by {token}",
                    }
                )
    verdict = check_history(rows)
    counters = cluster.metrics()
    print(f"{verdict}\n{told}\n{counters}")
    assert verdict.ok
    assert counters["succeeded"] == TASKS == counters["accepted"]
    by_node = {m.name for m in cluster.members()}
    assert by_node == set(NAMES)
