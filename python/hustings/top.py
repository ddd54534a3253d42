"""``hustings top``: who leads, how fit and how busy each node is, and what moves, again and again
in a terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from .cluster import Cluster
from .errors import ConfigError, HustingsError
from .members import Member, Snapshot, quorum_text

MIN_INTERVAL_S = 0.1
MAX_INTERVAL_S = 3600.0
_BAR = 12
_MOVING = ("accepted", "succeeded", "failed", "retries", "steals", "reassigned")
"""Counters shown with how fast they grow."""
_CLEAR = "\x1b[H\x1b[J"
_LATEST = 6
"""Lines of what happened last."""
_READ = 4_096
_WORDS = {
    "suspected": "{node} hears nothing of {subject}",
    "became_leader": "{node} leads in term {term}",
    "handover_started": "{node} hands over to {subject}: {detail}",
    "member_joined": "{detail} joined",
    "member_lost": "{subject} is gone",
    "storage_failed": "{node}: storage failed: {detail}",
    "fault": "fault: {detail} {subject}",
    "stolen": "{subject} took tasks from {detail}",
}
"""What is told of what happens, by kind."""


def check(interval: float, count: int | None) -> None:
    """Refuses an interval or a count out of bounds."""
    if not MIN_INTERVAL_S <= interval <= MAX_INTERVAL_S:
        bounds = f"{MIN_INTERVAL_S:g} to {MAX_INTERVAL_S:g} seconds"
        raise ConfigError(f"--interval {interval:g}: give {bounds}")
    if count is not None and count < 1:
        raise ConfigError(f"--count {count}: give at least 1")


def run(cluster: Cluster, interval: float, count: int | None, *, as_json: bool) -> int:
    """Shows the cluster every ``interval`` seconds, ``count`` times or until Ctrl-C. Returns the
    exit code: 1 if the last time nobody answered."""
    live = sys.stdout.isatty() and not as_json
    before: tuple[float, Mapping[str, int]] | None = None
    shown, failed = 0, False
    latest = Latest()
    try:
        while True:
            now = time.monotonic()
            try:
                status, failed = cluster._client.status(), False
            except HustingsError as error:
                status, failed = {"error": str(error)}, True
            if as_json:
                print(json.dumps(status), flush=True)
            else:
                latest.read(cluster, status)
                text = _no_answer(status) if failed else draw(status, before, now, latest.lines)
                print((_CLEAR if live else "") + text, flush=True)
            if not failed:
                before = now, status["counters"]
            shown += 1
            if count is not None and shown >= count:
                return int(failed)
            time.sleep(interval)
    except KeyboardInterrupt:
        return int(failed)


class Latest:
    """What happened last, a line each; the same again and again is told once."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=_LATEST)
        self._after = 0
        self._names: dict[str, str] = {}

    def read(self, cluster: Cluster, status: Mapping[str, Any]) -> None:
        """Reads on in the history."""
        self._names.update((m["id"], m["name"]) for m in status.get("members", ()))
        self._after, rows = cluster._client.records(self._after, _READ)
        for row in sorted(rows, key=lambda row: row["at_us"]):
            self._names[row["node"]] = row["node_name"]
            words = _WORDS.get(row["kind"])
            if words is None:
                continue
            about = row["subject"] or ""
            told = {**row, "node": row["node_name"], "subject": self._names.get(about, about)}
            line = words.format_map(told)
            if not self.lines or self.lines[-1].partition("  ")[2] != line:
                at = time.strftime("%H:%M:%S", time.localtime(row["at_us"] / 1e6))
                self.lines.append(f"{at}  {line}")


def draw(
    status: Mapping[str, Any],
    before: tuple[float, Mapping[str, int]] | None,
    now: float,
    latest: Iterable[str] = (),
) -> str:
    """One view, as lines of text; ``before``: when the last one was, and its counters."""
    view = Snapshot.from_status(status)
    leader = view.leader.name if view.leader is not None else "NOBODY"
    lines = [
        f"leader {leader}   term {view.term}   {quorum_text(status)}   {time.strftime('%H:%M:%S')}",
        "",
        f"{'node':12} {'role':8} {'state':8} {'score':{_BAR + 5}} {'cpu free':>8} {'mem free':>8} "
        f"{'queued':>7} {'running':>8}",
    ]
    lines += [_row(member, view) for member in view.members]
    counters = view.counters
    lines += ["", f"pending {counters.get('pending', 0)}   assigned {counters.get('assigned', 0)}"]
    for name in _MOVING:
        rate = ""
        if before is not None and now > before[0]:
            grown = counters.get(name, 0) - before[1].get(name, 0)
            rate = f"{max(0, grown) / (now - before[0]):12.1f} /s"
        lines.append(f"{name:12} {counters.get(name, 0):>12}{rate}")
    lines += [f"fault        {fault}" for fault in view.faults]
    happened = list(latest)
    lines += ["", *happened] if happened else []
    width = _columns()
    return "\n".join(_shown(line)[:width] for line in lines)


def _row(member: Member, view: Snapshot) -> str:
    leads = view.leader is not None and member.id == view.leader.id
    role = "leader" if leads else "voter" if member.voter else "worker"
    score = min(1.0, max(0.0, member.score))
    bar = ("#" * round(score * _BAR)).ljust(_BAR, ".")
    busy = f"{member.queued:>7} {member.running:>4}/{member.slots:<3}"
    cpu, memory = (_percent(member.load.get(f"{name}_available")) for name in ("cpu", "memory"))
    return (
        f"{member.name[:12]:12} {role:8} {member.state:8} {member.score:4.2f} {bar} "
        f"{cpu:>8} {memory:>8} {busy}"
    )


def _percent(value: object) -> str:
    return f"{value:.0%}" if isinstance(value, (int, float)) else "-"


def _no_answer(status: Mapping[str, Any]) -> str:
    return f"{time.strftime('%H:%M:%S')}  no answer: {_shown(status['error'])}"


def _shown(text: str) -> str:
    """Names come from other machines: what a terminal would obey is left out."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        return 120
