"""What the nodes of a broken cluster say, each for itself, and what must hold in all of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import hustings as hs
from conftest import eventually


def views(cluster: hs.Cluster) -> dict[str, hs.Snapshot]:
    """What every node that answers says, by its name."""
    found = {}
    for node in cluster.nodes:
        if node.state == "running":
            with contextlib.suppress(hs.HustingsError):
                found[node.name] = cluster.snapshot(node, 1.0)
    return found


def leaders(cluster: hs.Cluster) -> set[str]:
    """Who says that it leads with its quorum."""
    return {name for name, view in views(cluster).items() if view.role == "leader"}


def other_names(cluster: hs.Cluster, *names: str) -> list[str]:
    """All nodes but these."""
    return [node.name for node in cluster.nodes if node.name not in names]


def reachable(view: hs.Snapshot) -> int:
    """The first number of ``"2 of 5 voters reachable, need 3"``."""
    return int(view.quorum.split()[0])


def settle(cluster: hs.Cluster) -> hs.Leader:
    """Waits until one node leads, all running ones follow it in one term, and all are members and
    within reach."""

    def settled() -> hs.Leader | None:
        seen = views(cluster)
        running = [node for node in cluster.nodes if node.state == "running"]
        ready = [view for view in seen.values() if view.role == "leader"]
        if len(seen) != len(running) or len(ready) != 1:
            return None
        by_leader = ready[0]
        agreed = all(
            view.leader is not None
            and (view.term, view.leader.name) == (by_leader.term, by_leader.node)
            for view in seen.values()
        )
        alive = {m.id for m in by_leader.members if m.alive}
        whole = reachable(by_leader) == sum(m.voter and m.alive for m in by_leader.members)
        complete = {node.id for node in running} <= alive
        return by_leader.leader if agreed and complete and whole else None

    found = eventually(settled, 60)
    assert found is not None
    return found


def wait_successor(cluster: hs.Cluster, of: hs.Leader) -> tuple[str, float]:
    """The next leader by its own word, and the seconds until it said so."""
    began = time.monotonic()
    name = eventually(lambda: next(iter(leaders(cluster) - {of.name}), None), 60)
    assert name is not None
    return name, time.monotonic() - began


def check_one_leader_per_term(cluster: hs.Cluster) -> None:
    """Election safety, by the history of all nodes."""
    won: dict[int, set[str]] = {}
    for row in cluster.events.filter("became_leader"):
        won.setdefault(row["term"], set()).add(row["node"])
    assert all(len(nodes) == 1 for nodes in won.values()), won


def check_accounts(cluster: hs.Cluster, submitted: int) -> None:
    """Every accepted task has one outcome, and all voters agree about it."""
    cluster.wait_idle(60)

    def agreed() -> bool:
        seen = [view.counters for view in views(cluster).values() if view.role != "worker"]
        return all(c["accepted"] == c["succeeded"] == submitted for c in seen)

    eventually(agreed, 60)


def refused(futures: Sequence[Any], timeout: float, words: str) -> None:
    """None is accepted by its deadline, and the reason is said."""
    for future in futures:
        with pytest.raises(hs.NoQuorumError, match=words):
            future.result(timeout if future is futures[0] else 0.02)
    assert all(future.state == "submitted" for future in futures)


def until(condition: Callable[[], object], watch: Callable[[], object]) -> list[object]:
    """Waits for ``condition``; returns everything ``watch`` saw meanwhile."""
    seen: list[object] = []

    def look() -> bool:
        seen.append(watch())
        return bool(condition())

    eventually(look, 60)
    return seen
