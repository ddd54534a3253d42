"""What befalls the cluster during the demo: its leader killed, a worker frozen and resumed, the
entry node killed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from .cluster import Cluster
from .errors import HustingsError
from .local import LocalNode
from .members import Leader, Snapshot

LEASE_S = 1.0
"""The demo's worker lease: after this silence the frozen node's work goes to others."""
MAX_FREEZES = 5
"""How often a node is frozen until one of its completions comes too late."""


class Incidents:
    """What happens to the cluster while it works, one step at a time and never waiting."""

    def __init__(
        self, cluster: Cluster, leader: Leader, entry: str | None, say: Callable[[str], None]
    ) -> None:
        self._cluster = cluster
        self._leader = leader
        self._entry = entry
        self._say = say
        self._step = self._kill_leader
        self._victim: LocalNode | None = None
        self._freezes = 0
        self._since = 0.0
        self._late_before = 0
        self.finished = False
        self.frozen: str | None = None
        self.entry_killed: str | None = None

    def advance(self, done: int, half: int) -> None:
        """Takes the next step if its time has come."""
        if self.finished or done < half:
            return
        try:
            self._step()
        except HustingsError:
            # Nobody leads at this moment; the step is tried again.
            return

    def settle(self) -> None:
        """Leaves no node frozen."""
        if self._victim is not None and self._victim.state == "frozen":
            self._cluster.resume(self._victim)

    def _kill_leader(self) -> None:
        leader = self._cluster.leader or self._leader
        self._leader = leader
        killed = self._cluster.kill(leader)
        self._say(f"half-way: SIGKILL to the leader {killed.name} (pid {killed.pid})")
        self._step = self._freeze_worker

    def _freeze_worker(self) -> None:
        now = self._cluster.snapshot()
        if now.leader is None or now.leader.id == self._leader.id:
            return
        if self._freezes == 0 and self._victim is None:
            self._say(f"{now.leader.name} leads in term {now.leader.term}")
        victim = self._busiest(now)
        if victim is None:
            return
        self._late_before = now.counters.get("late_completions", 0)
        self._victim = self._cluster.freeze(victim)
        self.frozen = victim.name
        self._freezes += 1
        self._since = time.monotonic()
        self._say(f"SIGSTOP to {victim.name}, in the middle of its work")
        self._step = self._resume_worker

    def _busiest(self, now: Snapshot) -> LocalNode | None:
        """The node with most assigned tasks, leader and entry excepted."""
        held = Counter(str(row.get("node")) for row in self._cluster.tasks("assigned", 10_000))
        leader = now.leader.id if now.leader is not None else ""
        candidates = [
            node
            for node in self._cluster.nodes
            if isinstance(node, LocalNode)
            and node.state == "running"
            and node.id != leader
            and node.name != self._entry
            and held.get(node.id, 0) > 0
        ]
        return max(candidates, key=lambda node: held[node.id], default=None)

    def _resume_worker(self) -> None:
        assert self._victim is not None
        if time.monotonic() - self._since < LEASE_S:
            return
        held = any(
            row.get("node") == self._victim.id for row in self._cluster.tasks("assigned", 10_000)
        )
        if held:
            return
        self._cluster.resume(self._victim)
        self._say(f"its work went to others: SIGCONT to {self._victim.name}")
        self._since = time.monotonic()
        self._step = self._await_late_completion

    def _await_late_completion(self) -> None:
        late = self._cluster.metrics().get("late_completions", 0) - self._late_before
        if late > 0:
            self._say(f"{late} late completions of {self.frozen} arrived and were refused")
            self._step = self._kill_entry
        elif time.monotonic() - self._since > 3 * LEASE_S:
            again = self._freezes < MAX_FREEZES
            self._step = self._freeze_worker if again else self._kill_entry

    def _kill_entry(self) -> None:
        if self._entry is not None:
            self._cluster.kill(self._entry)
            self.entry_killed = self._entry
            self._say(f"SIGKILL to {self._entry}, the node the client first spoke to")
        self._step = self._await_steal

    def _await_steal(self) -> None:
        self.finished = self._cluster.metrics().get("steals", 0) > 0
