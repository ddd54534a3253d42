"""The trials of ``election.py``: each disturbs a settled cluster once and returns what was seen."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from rig import (
    NODES,
    Rig,
    Stream,
    count_failed,
    first_acceptance,
    load,
    rss_mib,
    wait_for,
    wake_ups,
)

import hustings as hs
from hustings.usage import cpu_seconds

Result = dict[str, Any]

AFTERMATH_S = 0.6
"""How long a stream goes on after a handover."""
PHASES = ("suspected", "polled", "campaigned", "became_leader")


def kill(rig: Rig) -> Result:
    """SIGKILL of the leader; afterwards it is started again, empty."""
    leader = rig.settle()
    began, began_us = time.monotonic(), time.time_ns() // 1_000
    os.kill(leader.pid, signal.SIGKILL)
    result = after_fault(rig, leader, began, began_us)
    rig.cluster.kill(leader.name)
    rig.cluster.restart(leader.name)
    return result


def freeze(rig: Rig) -> Result:
    """SIGSTOP of the leader: silence without any evidence."""
    leader = rig.settle()
    began, began_us = time.monotonic(), time.time_ns() // 1_000
    rig.cluster.freeze(leader.name)
    result = after_fault(rig, leader, began, began_us)
    rig.cluster.resume(leader.name)
    return result


def partition(rig: Rig) -> Result:
    """The leader is cut off from the other nodes, though not from the client. Timed from before the
    nodes are told."""
    leader = rig.settle()
    others = [name for name in rig.names if name != leader.name]
    began, began_us = time.monotonic(), time.time_ns() // 1_000
    rig.cluster.partition([leader.name], others)
    result = after_fault(rig, leader, began, began_us)
    rig.cluster.heal()
    return result


def after_fault(rig: Rig, old: hs.Leader, began: float, began_us: int) -> Result:
    """What follows the loss of a leader."""
    accepted_ms, futures = first_acceptance(began)
    failed = count_failed(futures)

    def won() -> hs.EventLog | None:
        rows = rig.rows_since(began_us)
        return rows if any(r["kind"] == "became_leader" for r in rows) else None

    rows = wait_for("the new leader's row", won)
    firsts: dict[str, float] = {}
    for row in rows:
        if row["kind"] in PHASES and row["term"] >= old.term and row["node"] != old.id:
            firsts.setdefault(row["kind"], (row["at_us"] - began_us) / 1e3)
    wins = [r for r in rows if r["kind"] == "became_leader"]
    return {
        "accepted_ms": accepted_ms,
        "leader_ms": firsts.get("became_leader"),
        "phases_ms": firsts,
        "best_won": wins[-1]["node_name"] == rig.best_but(old.name),
        "terms": int(wins[-1]["term"]) - old.term,
        "failed": failed,
        **leaders_per_term(rows),
    }


def leaders_per_term(rows: hs.EventLog) -> Result:
    """Terms with more than one leader: what Raft forbids."""
    leaders: dict[int, set[str]] = {}
    for row in rows:
        if row["kind"] == "became_leader":
            leaders.setdefault(row["term"], set()).add(row["node"])
    return {"terms_with_two_leaders": sum(len(who) > 1 for who in leaders.values())}


def handover(rig: Rig, vain: bool = False) -> Result:
    """The leader hands over while tasks are submitted; ``vain``: to a node that is frozen, so that
    it must be repaired."""
    leader = rig.settle()
    target = rig.best_but(leader.name)
    stream = Stream()
    stream.start()
    time.sleep(0.1)
    if vain:
        rig.cluster.freeze(target)
    began, began_us = time.monotonic(), time.time_ns() // 1_000
    try:
        rig.cluster.handover(target)
        refused = False
    except hs.HustingsError:
        refused = True
    time.sleep(AFTERMATH_S)
    failed = stream.finish()
    gap = stream.longest_gap_ms(began, time.monotonic())
    rows = rig.rows_since(began_us)
    if vain:
        rig.cluster.resume(target)
    started = next((r["at_us"] for r in rows if r["kind"] == "handover_started"), None)
    won = next((r["at_us"] for r in rows if r["kind"] == "became_leader"), None)
    leaderless = (won - started) / 1e3 if started is not None and won is not None else None
    return {
        "gap_ms": gap,
        "leaderless_ms": leaderless,
        "moved": not refused,
        "tasks": len(stream.futures),
        "failed": failed,
        **leaders_per_term(rows),
    }


def idle(rig: Rig, seconds: float) -> Result:
    """What an idle cluster costs."""
    rig.settle()
    time.sleep(1.0)
    pids = rig.pids().values()
    cpu = sum(cpu_seconds(pid) for pid in pids)
    wakes = sum(wake_ups(pid) for pid in pids)
    began = time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    return {
        "cpu_percent_of_a_core": 100 * (sum(cpu_seconds(pid) for pid in pids) - cpu) / passed,
        "wake_ups_per_second": (sum(wake_ups(pid) for pid in pids) - wakes) / passed,
        "rss_mib_per_node": max(rss_mib(pid) for pid in pids),
        "seconds": passed,
    }


def calm(rig: Rig, seconds: float, loaded: bool) -> Result:
    """Watches a cluster to which nothing happens: every suspicion and every new term is false. The
    best node leads, as a worse one would be right to hand over."""
    leader = rig.settle()
    if leader.name != rig.best_but():
        rig.cluster.handover(rig.best_but())
        leader = rig.settle()
    began_us = time.time_ns() // 1_000
    tasks = 0
    if loaded:
        tasks = load(seconds)
    else:
        time.sleep(seconds)
    time.sleep(0.5)
    kinds = [row["kind"] for row in rig.rows_since(began_us)]
    return {
        "minutes": seconds / 60,
        "suspicions": kinds.count("suspected"),
        "false_suspicions_recalled": kinds.count("false_suspicion"),
        "elections": kinds.count("became_leader"),
        "handovers": kinds.count("handover_started"),
        "needless_terms": rig.cluster.term - leader.term,
        "tasks": tasks,
    }


__all__ = ["NODES", "calm", "freeze", "handover", "idle", "kill", "partition"]
