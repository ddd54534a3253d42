"""What ``hustings status`` and ``members`` print."""

from __future__ import annotations

import json

from .cluster import Cluster


def print_status(cluster: Cluster, as_json: bool) -> int:
    """Who leads, the quorum, members, faults and tasks; 0, or 1 while nobody leads."""
    status = cluster._client.status()
    now = cluster.snapshot()
    faults = [str(fault) for fault in cluster.faults()]
    if as_json:
        print(json.dumps(status))
        return 0
    print(f"leader  {now.leader or 'none'}\nquorum  {now.quorum}")
    for member in now.members:
        print(f"  {member!r}")
    for fault in faults:
        print(f"fault   {fault}")
    print("tasks   " + ", ".join(f"{name} {count}" for name, count in now.counters.items()))
    return 0 if now.leader is not None else 1


def print_members(cluster: Cluster, as_json: bool) -> int:
    """Every member, and how the quorum stands; 0."""
    status = cluster._client.status()
    now = cluster.snapshot()
    if as_json:
        print(json.dumps(status["members"]))
        return 0
    for member in now.members:
        print(f"{member.id}  {member!r}")
    print(now.quorum)
    return 0
