"""Every way a task may take its process down, on the node that leads: are its heartbeats late, is
the outcome right, and how soon does the next attempt run?

Heartbeats are read off the loopback interface, with the kernel's own times, so neither the node nor
Python is asked. That wants root: ``python benches/runner_deaths.py --rounds 5``.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import ctypes
import json
import os
import select
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wire import Wire, cadence, sockets_of

import hustings as hs

HERE = {"victim": "yes"}
HEARTBEAT_S = hs.Config().resolved()["election.heartbeat_s"]
MOST_LATE = 2.0
"""Intervals by which a heartbeat may be late."""
TIMEOUT_S = 0.5
PATIENCE_S = 60.0
QUIET_S = 2.0
"""How long the cadence is looked at before anything happens."""
GROUPS = Path("/sys/fs/cgroup/memory")
MEMORY_BYTES = 96 << 20


# --- tasks ----------------------------------------------------------------------------------------


def _again(mark: str) -> bool:
    """Whether this is the second attempt."""
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return True
    return False


@hs.task
def stamp() -> tuple[float, int]:
    """When it ran, and where."""
    return time.time(), os.getpid()


@hs.task
def segfault(mark: str, _: str) -> float:
    if not _again(mark):
        ctypes.string_at(0)
    return time.time()


@hs.task
def leave(mark: str, _: str) -> float:
    if not _again(mark):
        os._exit(3)
    return time.time()


@hs.task
def hoard(mark: str, group: str) -> float:
    """Allocates in a control group until the kernel ends it."""
    if not _again(mark):
        folder = Path(group)
        (folder / "memory.limit_in_bytes").write_text(str(MEMORY_BYTES))
        (folder / "cgroup.procs").write_text(str(os.getpid()))
        hoarded = [bytearray(os.urandom(1 << 10)) * (1 << 10) for _ in range(400)]
        raise MemoryError(f"the kernel let it have {len(hoarded)} MiB")
    return time.time()


@hs.task
def wait_for_sigkill(mark: str, _: str) -> float:
    if not _again(mark):
        time.sleep(1e6)
    return time.time()


@hs.task(timeout=TIMEOUT_S)
def loop(_: str, __: str) -> None:
    while True:
        pass


@hs.task(timeout=TIMEOUT_S)
def sleep(_: str, __: str) -> None:
    time.sleep(1e6)


@hs.task(timeout=TIMEOUT_S)
def hold_the_gil(_: str, __: str) -> int:
    return sum(range(10**13))


# --- one way to die -------------------------------------------------------------------------------


@dataclass
class Seen:
    """What was seen of one way in all rounds."""

    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    replaced_s: list[float] = field(default_factory=list)
    spared: int = 0
    """Rounds in which the process lived on."""


def end_of(pid: int) -> tuple[Callable[[], float], Callable[[], None]]:
    """Tells when a process has ended, if it has."""
    handle, at = os.pidfd_open(pid), [0.0]

    def watch() -> None:
        if select.select([handle], [], [], PATIENCE_S)[0]:
            at[0] = time.time()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return (lambda: at[0]), (lambda: os.close(handle))


def one_round(task: Any, kill: bool, folder: Path, group: str, seen: Seen, number: int) -> None:
    """Lets one attempt die, and looks at what follows."""
    where: Any = stamp.options(labels=HERE)
    _, pid = where.submit().result(PATIENCE_S)
    ended, close = end_of(pid)
    mark = folder / f"{task.name.rpartition('.')[2]}-{number}"
    future = task.options(labels=HERE).submit(str(mark), group)
    after = where.submit()
    if kill:
        while not mark.exists():
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
    try:
        began = future.result(PATIENCE_S)
        outcome = f"value at attempt {future.attempt}"
    except hs.TaskTimeoutError:
        outcome, began = "TaskTimeoutError", after.result(PATIENCE_S)[0]
    _, next_pid = after.result(PATIENCE_S)
    seen.outcomes[outcome] += 1
    if next_pid == pid:
        seen.spared += 1
    else:
        seen.replaced_s.append(began - ended())
    close()


WAYS: list[tuple[str, Any, str]] = [
    ("segfault", segfault, "value at attempt 2"),
    ("`os._exit(3)`", leave, "value at attempt 2"),
    ("memory limit (control group)", hoard, "value at attempt 2"),
    ("SIGKILL", wait_for_sigkill, "value at attempt 2"),
    ("endless loop, timeout", loop, "TaskTimeoutError"),
    ("`time.sleep(1e6)`, timeout", sleep, "TaskTimeoutError"),
    ("loop in C that holds the GIL, timeout", hold_the_gil, "TaskTimeoutError"),
]


@contextlib.contextmanager
def memory_group() -> Iterator[str]:
    """A control group for one task to fill."""
    group = GROUPS / f"hustings-bench-{os.getpid()}"
    group.mkdir()
    yield str(group)
    while (group / "cgroup.procs").read_text():
        time.sleep(0.05)
    group.rmdir()


def run(rounds: int, folder: Path) -> dict[str, Any]:
    """All ways, on the leader of a cluster of three processes."""
    labels: list[dict[str, str] | None] = [HERE, None, None]
    loads = [0.1, 0.6, 0.6]
    with (
        hs.Cluster.local(3, isolated=True, slots=1, labels=labels, loads=loads) as cluster,
        Wire() as wire,
        memory_group() as group,
    ):
        leader = lead(cluster)
        stamp.options(labels=HERE).submit().result(PATIENCE_S)
        others = [node for node in cluster.nodes if node.name != "n1"]
        wire.ports = frozenset(int(node.address.rpartition(":")[2]) for node in others)
        began = time.time()
        time.sleep(QUIET_S)
        quiet = (began, time.time())
        (victim,) = (node for node in cluster.nodes if node.name == "n1")
        lines = heartbeat_lines(wire, victim.pid)
        rows = []
        for name, task, right in WAYS:
            seen = Seen()
            start = time.time()
            for number in range(rounds):
                one_round(task, task is wait_for_sigkill, folder, group, seen, number)
            gaps = [g for line in lines for g in cadence(wire.seen[line], (start, time.time()))]
            rows.append(figures(name, right, seen, gaps))
        after = cluster.wait_leader()
        kinds = collections.Counter(row["kind"] for row in cluster.events.to_dicts())
        calm = [g for line in lines for g in cadence(wire.seen[line], quiet)]
    return {
        "rounds": rounds,
        "quiet": {"messages": len(calm), "gap_ms_max": round(1e3 * max(calm), 1)},
        "same_leader_and_term": (after.id, after.term) == (leader.id, leader.term),
        "suspicions": kinds["suspected"],
        "ways": rows,
    }


def lead(cluster: hs.Cluster) -> hs.Leader:
    """The first node, once it leads."""
    leader = cluster.wait_leader()
    if leader.name != "n1":
        cluster.handover("n1")
    while (leader := cluster.wait_leader()).name != "n1":
        time.sleep(0.05)
    return leader


def heartbeat_lines(wire: Wire, pid: int) -> list[tuple[int, int]]:
    """To each other node, that connection of the process ``pid`` on which it speaks most often
    while there is nothing else to say."""
    own = sockets_of(pid)
    return [
        max((len(v), k) for k, v in wire.seen.items() if k[1] == port and k[0] in own)[1]
        for port in wire.ports
    ]


def figures(name: str, right: str, seen: Seen, gaps: list[float]) -> dict[str, Any]:
    """What a page shows of one way."""
    return {
        "way": name,
        "right": seen.outcomes[right],
        "outcomes": dict(seen.outcomes),
        "spared": seen.spared,
        "replaced_ms": [round(1e3 * s, 1) for s in seen.replaced_s],
        "messages": len(gaps),
        "gap_ms_p50": round(1e3 * statistics.median(gaps), 1),
        "gap_ms_max": round(1e3 * max(gaps), 1),
        "late_by_heartbeats": round(max(0.0, max(gaps) / HEARTBEAT_S - 1), 2),
    }


def table(result: dict[str, Any]) -> str:
    """The result as a page shows it."""
    lines = [
        "| an attempt ends by | outcome right | heartbeats late by at most | next attempt after |",
        "|---|---|---|---|",
    ]
    for row in result["ways"]:
        times = row["replaced_ms"]
        text = "process lives on"
        if times:
            text = f"{times[0]:.0f} ms, then {statistics.median(times[1:] or times):.0f} ms (p50)"
        lines.append(
            f"| {row['way']} | {row['right']} of {result['rounds']} | "
            f"{row['late_by_heartbeats']:.1f} intervals | {text} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Prints the table, and 1 if a heartbeat was late by more than two intervals or an outcome
    wrong."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None, help="folder for the figures as JSON")
    chosen = parser.parse_args()
    # What dying tasks say last is not what is looked at here.
    os.environ.setdefault("HUSTINGS_LOG", "off")
    with tempfile.TemporaryDirectory() as folder:
        result = run(chosen.rounds, Path(folder))
    print(table(result))
    print({key: value for key, value in result.items() if key != "ways"})
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
        (chosen.out / "runner_deaths.json").write_text(json.dumps(result, indent=1) + "\n")
    good = all(
        row["right"] == chosen.rounds and row["late_by_heartbeats"] <= MOST_LATE
        for row in result["ways"]
    )
    return 0 if good and result["same_leader_and_term"] else 1


if __name__ == "__main__":
    sys.exit(main())
