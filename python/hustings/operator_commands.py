"""What ``hustings events``, ``tasks``, ``cancel``, ``remove``, ``drain`` and ``handover`` do; each
returns its exit code."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from datetime import datetime
from typing import Any

from .cluster import Cluster
from .errors import ConfigError, TaskNotFoundError
from .events import KINDS, EventLog
from .tasks import task_id_bytes

QUIET_S = 0.3
"""So long nothing new must come before what the nodes remember counts as told."""
LOOK_S = 0.1
STEADY = ("scored", "score_corrected", "loaded")
"""What is written several times a second; shown where it is asked for."""


def print_events(cluster: Cluster, arguments: Namespace) -> int:
    """Prints what the nodes remember, in order, and with ``--follow`` what happens from then on."""
    if arguments.last is not None and arguments.last < 1:
        raise ConfigError(f"--last={arguments.last}: give 1 or more")
    log = _pick(_remembered(cluster, arguments.timeout), arguments)
    rows = list(log)
    _print_rows(rows[-arguments.last :] if arguments.last else rows, log, arguments.json)
    seen = {_key(row) for row in rows}
    while arguments.follow:
        time.sleep(LOOK_S)
        log = _pick(cluster.events, arguments)
        fresh = [row for row in log if _key(row) not in seen]
        seen.update(map(_key, fresh))
        _print_rows(fresh, log, arguments.json)
    return 0


def _remembered(cluster: Cluster, timeout: float) -> EventLog:
    end = time.monotonic() + timeout
    log, quiet_until = cluster.events, time.monotonic() + QUIET_S
    while time.monotonic() < (quiet_until if len(log) else end):
        time.sleep(LOOK_S)
        more = cluster.events
        if len(more) != len(log):
            log, quiet_until = more, min(end, time.monotonic() + QUIET_S)
    return log


def _pick(log: EventLog, arguments: Namespace) -> EventLog:
    kinds = arguments.kind or [kind for kind in KINDS if arguments.all or kind not in STEADY]
    return log.filter(*kinds, node=arguments.node)


def _key(row: dict[str, Any]) -> tuple[Any, Any]:
    return row["node"], row["seq"]


def _print_rows(rows: list[dict[str, Any]], log: EventLog, as_json: bool) -> None:
    for row in rows:
        print(json.dumps(row) if as_json else _line(row, log), flush=True)


def _line(row: dict[str, Any], log: EventLog) -> str:
    at = datetime.fromtimestamp(row["at_us"] / 1e6).isoformat(" ", "milliseconds")
    told = [f"{at}  {row.get('node_name') or row['node']:<10} {row['kind']:<16}"]
    told += [f"term {row['term']}"] if row.get("term") else []
    if row.get("subject"):
        told.append(row.get("subject_name") or log.name_of(row["subject"]))
    told += [f"{name} {row[name]:.3g}" for name in ("score", "value") if row.get(name)]
    told += [f"task {row['task_id']}"] if row.get("task_id") else []
    told += [str(row["detail"])] if row.get("detail") else []
    return "  ".join(told).rstrip()


def print_tasks(cluster: Cluster, arguments: Namespace) -> int:
    """Prints tasks, a line each."""
    tasks = cluster.tasks(arguments.state, arguments.limit, arguments.timeout)
    if arguments.json:
        print(json.dumps(tasks))
        return 0
    names = {member.id: member.name for member in cluster.members()}
    for task in tasks:
        node = names.get(str(task["node"]), task["node"] or "-")
        key = f"  key={task['key']}" if task["key"] else ""
        told = f"{task['state']:<11} {node:<10} attempt {task['attempt']}  {task['function']}{key}"
        print(f"{task['task_id']}  {told}")
    if len(tasks) == arguments.limit:
        print(f"... at most {arguments.limit} are shown; --limit shows more")
    return 0


def cancel(cluster: Cluster, arguments: Namespace) -> int:
    """Cancels tasks; 1 if one of them had an outcome, or runs and was not to be killed."""
    left = "has an outcome" if arguments.kill else "runs (--kill ends it), or has an outcome"
    done: dict[str, str] = {}
    # One that is no id spoils all, before any of them is cancelled.
    for task, identity in [(task, task_id_bytes(task)) for task in arguments.task_ids]:
        try:
            done[task] = "cancelled" if cluster.cancel(identity, kill=arguments.kill) else left
        except TaskNotFoundError:
            done[task] = "is not known: never accepted, or forgotten"
        if not arguments.json:
            print(f"{task}  {done[task]}")
    if arguments.json:
        print(json.dumps({task: told == "cancelled" for task, told in done.items()}))
    return 0 if all(told == "cancelled" for told in done.values()) else 1


def remove(cluster: Cluster, arguments: Namespace) -> int:
    """Removes a member, dead or alive."""
    cluster.remove_node(arguments.node, grace=arguments.grace, timeout=arguments.timeout)
    told = f"removed; {cluster.quorum}"
    print(json.dumps({"removed": arguments.node}) if arguments.json else told)
    return 0


def drain(cluster: Cluster, arguments: Namespace) -> int:
    """Has a node hand back what it has not begun, and waits for the rest."""
    handed = cluster.drain(arguments.node, arguments.grace)
    told = f"drained; {handed} tasks handed back; it takes no more until it is started again"
    print(json.dumps({"node": arguments.node, "handed_back": handed}) if arguments.json else told)
    return 0


def hand_over(cluster: Cluster, arguments: Namespace) -> int:
    """Moves leadership and says to whom."""
    cluster.handover(arguments.node, arguments.timeout)
    leader = cluster.wait_leader(arguments.timeout)
    told = {"leader": leader.name, "term": leader.term}
    print(json.dumps(told) if arguments.json else f"{leader.name} leads in term {leader.term}")
    return 0
