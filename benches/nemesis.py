"""Breaks a running group of node processes at random, and puts it together again."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from processes import Group, NodeProcess, descendants, port_is_free, runs, wait_until

import hustings as hs

WHOLE_S = 60.0
"""How long a cluster may take to be whole again once all its processes run."""
LOOK_TIMEOUT_S = 1.0
RASH = 0.25
"""In disk mode: share of faults that do not wait until the last one is mended."""
WEIGHTS = {
    "kill leader": 40.0,
    "kill voter": 20.0,
    "kill worker": 14.0,
    "kill all voters": 5.0,
    "freeze": 7.0,
    "terminate": 6.0,
    "terminate twice": 2.0,
    "terminate at an election": 2.0,
    "terminate at the start": 1.0,
    "handover": 6.0,
    "rolling restart": 0.0,
}
"""What may happen, and how often one beside the other; without disks no majority is struck at
once."""
DISK_ONLY = ("kill all voters", "terminate at an election")
KEPT = re.compile(r"identity|lock|seal|log\.redb|snapshot-\d+-\d+")
"""What a data directory may hold; whatever else is left behind is a stray."""
CUT_SHORT = 3


@dataclass
class Strike:
    """One fault: what was done to whom, and when it was over."""

    kind: str
    nodes: list[str]
    at_us: int
    whole: bool
    """Whether all nodes were there and in their places before."""
    led: bool
    """Whether the leader was among the struck."""
    mended_us: int = 0
    killed: int = 0
    """Processes ended by SIGKILL."""
    exit_codes: list[int] = field(default_factory=list)
    """Of processes that were asked to stop."""
    drain_s: list[float] = field(default_factory=list)
    """How long they took."""
    complaints: list[str] = field(default_factory=list)
    """What they left behind, and codes they should not have ended with."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class NeverWholeError(Exception):
    """All processes run, and yet the cluster does not come together."""


class Nemesis:
    """Strikes one after the other. In memory mode never more than a minority of the voters is down
    or without its memory; with disks anything may happen to anybody."""

    def __init__(
        self, group: Group, seed: int, watch: hs.Cluster, only: Sequence[str] = ()
    ) -> None:
        self.group = group
        self.random = random.Random(seed)
        self.watch = watch
        self.disk = group.spec.disk
        self.strikes: list[Strike] = []
        self.slowest_s = 0.0
        """The longest time until the group was whole again after its last process was started."""
        weights = {kind: 1.0 for kind in only} or WEIGHTS
        self._weights = {k: w for k, w in weights.items() if self.disk or k not in DISK_ONLY}
        if group.spec.workers == 0:
            self._weights.pop("kill worker", None)
        self._acts: dict[str, Callable[[str], Strike]] = {
            "kill leader": self._kill_leader,
            "kill voter": self._kill_voter,
            "kill worker": self._kill_worker,
            "kill all voters": self._kill_all_voters,
            "freeze": self._freeze,
            "terminate": self._terminate,
            "terminate twice": self._terminate_twice,
            "terminate at an election": self._terminate_at_an_election,
            "terminate at the start": self._terminate_at_the_start,
            "handover": self._hand_over,
            "rolling restart": self._roll,
        }

    # --- looking

    def leader(self) -> NodeProcess | None:
        """Who leads, as far as can be seen."""
        try:
            found = self.watch.snapshot(timeout=LOOK_TIMEOUT_S).leader
        except hs.HustingsError:
            return None
        names = {node.name: node for node in self.group}
        return names.get(found.name) if found is not None else None

    def is_whole(self) -> bool:
        """All run, a leader is there, every founder has its seat, everybody is admitted."""
        if not all(node.alive and not node.frozen for node in self.group):
            return False
        try:
            now = self.watch.snapshot(timeout=LOOK_TIMEOUT_S)
        except hs.HustingsError:
            return False
        voters = len(self.group.voters)
        seats = {m.id for m in now.members if m.voter and m.alive}
        admitted = {m.id for m in now.members if m.alive}
        return (
            now.leader is not None
            and now.quorum.startswith(f"{voters} of {voters} ")
            and seats >= {node.id for node in self.group.voters}
            and admitted >= {node.id for node in self.group}
        )

    def await_whole(self) -> None:
        """Waits for :meth:`is_whole`. Raises ``NeverWholeError``, which is a broken promise too."""
        began = time.monotonic()
        try:
            wait_until("a whole cluster", self.is_whole, WHOLE_S, every_s=0.05)
        except TimeoutError:
            last = self.strikes[-1] if self.strikes else None
            ids = {node.name: (node.id, node.alive) for node in self.group}
            try:
                seen: object = self.watch.snapshot(timeout=LOOK_TIMEOUT_S)
            except hs.HustingsError as error:
                seen = error
            raise NeverWholeError(
                f"not whole after {WHOLE_S} s; last: {last}; ids: {ids}; seen: {seen}; "
                f"members: {getattr(seen, 'members', None)}"
            ) from None
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    # --- striking

    def strike(self) -> Strike:
        """One fault, and its end; the cluster is on its way to be whole again then."""
        if not (self.disk and self.random.random() < RASH):
            self.await_whole()
            # The next fault meets the heartbeats, the load and the log at a random moment.
            time.sleep(self.random.uniform(0.0, 0.5))
        kind = self.random.choices(list(self._weights), list(self._weights.values()))[0]
        done = self._acts[kind](kind)
        done.mended_us = _now_us()
        self.strikes.append(done)
        return done

    def mend(self) -> None:
        """Everybody goes on or is started; waits until the group is whole."""
        for node in self.group:
            if node.frozen:
                node.resume()
        self.group.start([node for node in self.group if not node.alive])
        self.await_whole()

    def _begin(self, kind: str, nodes: Sequence[NodeProcess], leader: NodeProcess | None) -> Strike:
        whole = self.is_whole()
        led = leader is not None and leader in nodes
        return Strike(kind, [node.name for node in nodes], _now_us(), whole, led)

    def _pause(self) -> None:
        time.sleep(self.random.choice((0.0, self.random.uniform(0.0, 0.3), 0.8)))

    def _anybody(self, leader: NodeProcess | None) -> NodeProcess:
        """Each node as often as the other, the leader twice as often."""
        return self.random.choice([*self.group, *([leader] if leader else [])])

    # --- by SIGKILL

    def _kill(self, kind: str, nodes: Sequence[NodeProcess], leader: NodeProcess | None) -> Strike:
        made = self._begin(kind, nodes, leader)
        self.group.kill(nodes)
        made.killed = len(nodes)
        self._pause()
        self.group.start(nodes)
        return made

    def _kill_leader(self, kind: str) -> Strike:
        leader = self.leader()
        if leader is None:
            return self._kill_voter("kill voter")
        return self._kill(kind, [leader], leader)

    def _kill_voter(self, kind: str) -> Strike:
        leader = self.leader()
        others = [node for node in self.group.voters if node is not leader]
        return self._kill(kind, [self.random.choice(others)], leader)

    def _kill_worker(self, kind: str) -> Strike:
        workers = [node for node in self.group if not node.voter]
        return self._kill(kind, [self.random.choice(workers)], self.leader())

    def _kill_all_voters(self, kind: str) -> Strike:
        return self._kill(kind, self.group.voters, self.leader())

    # --- by SIGSTOP

    def _freeze(self, kind: str) -> Strike:
        leader = self.leader()
        node = self._anybody(leader)
        made = self._begin(kind, [node], leader)
        node.freeze()
        # Shorter than a worker's lease, and longer.
        time.sleep(self.random.choice((0.05, 0.4, 1.5, 4.0)))
        node.resume()
        return made

    # --- by SIGTERM

    def _terminate(self, kind: str) -> Strike:
        leader = self.leader()
        node = self._anybody(leader)
        made = self._begin(kind, [node], leader)
        self._stop(node, made)
        self._pause()
        self.group.start([node])
        return made

    def _terminate_twice(self, kind: str) -> Strike:
        leader = self.leader()
        node = self._anybody(leader)
        made = self._begin(kind, [node], leader)
        self._stop(node, made, again_after_s=self.random.uniform(0.0, 0.1))
        self.group.start([node])
        return made

    def _terminate_at_an_election(self, kind: str) -> Strike:
        leader = self.leader()
        others = [node for node in self.group.voters if node is not leader]
        node = self.random.choice(others)
        struck = [node, *([leader] if leader else [])]
        made = self._begin(kind, struck, leader)
        if leader is not None:
            leader.kill()
            made.killed = 1
        time.sleep(self.random.uniform(0.0, 0.1))
        # It is still a voter while it finishes what it runs.
        node.terminate()
        self._await_end(node, made, (0,))
        self.group.start([n for n in struck if not n.alive])
        return made

    def _terminate_at_the_start(self, kind: str) -> Strike:
        leader = self.leader()
        node = self._anybody(leader)
        made = self._begin(kind, [node], leader)
        node.kill()
        made.killed = 1
        node.launch()
        time.sleep(self.random.uniform(0.0, 0.8))
        node.terminate()
        # A Python that has not come to our first line yet ends by the signal itself.
        self._await_end(node, made, (0, -15))
        self.group.start([node])
        return made

    def _roll(self, kind: str) -> Strike:
        leader = self.leader()
        made = self._begin(kind, self.group.nodes, leader)
        for node in self.group:
            self.await_whole()
            self._stop(node, made)
            self.group.start([node])
        self.await_whole()
        return made

    def _stop(self, node: NodeProcess, made: Strike, again_after_s: float | None = None) -> None:
        """SIGTERM, and everything that must be true after the end."""
        node.terminate()
        if again_after_s is not None:
            time.sleep(again_after_s)
            node.terminate()
        self._await_end(node, made, (0,) if again_after_s is None else (0, CUT_SHORT))

    def _await_end(self, node: NodeProcess, made: Strike, allowed: Sequence[int]) -> None:
        runners = descendants(node.pid)
        began = time.monotonic()
        code = node.wait()
        made.drain_s.append(time.monotonic() - began)
        made.exit_codes.append(code)
        if code not in allowed:
            made.complaints.append(f"{node.name} ended with {code}: {node.last_words()[-200:]}")
        if not port_is_free(node.place):
            made.complaints.append(f"{node.name} is gone and {node.place} is not free")
        try:
            wait_until("its runners to end", lambda: not any(map(runs, runners)), 5.0)
        except TimeoutError:
            made.complaints.append(f"{node.name} is gone and its runners are not")
        if node.data_dir.exists():
            strays = {name for name in os.listdir(node.data_dir) if not KEPT.fullmatch(name)}
            if strays:
                made.complaints.append(f"{node.name} left {', '.join(sorted(strays))}")

    def _hand_over(self, kind: str) -> Strike:
        leader = self.leader()
        made = self._begin(kind, [leader] if leader else [], leader)
        try:
            self.watch.handover()
        except hs.HustingsError:
            made.kind = "handover refused"
        return made


def _now_us() -> int:
    return time.time_ns() // 1_000
