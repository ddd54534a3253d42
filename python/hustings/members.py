"""Frozen views of a cluster: leader, members, snapshot. Cheap, comparable, never live."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Leader:
    """The node that leads."""

    name: str
    address: str
    id: str
    pid: int
    term: int
    score: float

    def __repr__(self) -> str:
        return f"Leader({self.name}, term={self.term}, score={self.score:.2f})"

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> Leader | None:
        """The leader as ``status`` knows it, or ``None``."""
        leader = str(status.get("leader_node") or "")
        me = status.get("me") or {}
        if status.get("role") == "leader" and (not leader or leader == me.get("id")):
            return cls._from_member(me, status, float(status.get("score") or 0.0))
        for member in status.get("members") or ():
            if member["id"] == leader:
                return cls._from_member(member, status, float(member.get("score") or 0.0))
        return None

    @classmethod
    def _from_member(
        cls, member: Mapping[str, Any], status: Mapping[str, Any], score: float
    ) -> Leader:
        return cls(
            name=str(member.get("name") or ""),
            address=str(member.get("address") or ""),
            id=str(member.get("id") or ""),
            pid=int(member.get("pid") or 0),
            term=int(status.get("term") or 0),
            score=score,
        )


@dataclass(frozen=True)
class Member:
    """A node as the leader knows it. A voter that is gone keeps its seat until it comes back, is
    replaced or removed; of it no more is known than id, name and address."""

    id: str
    name: str
    address: str
    pid: int
    slots: int
    position: tuple[float, float]
    voter: bool
    alive: bool
    score: float
    queued: int
    running: int
    load: Mapping[str, Any]
    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)
    draining: bool = False
    """It takes no more work."""

    @property
    def state(self) -> str:
        """``"alive"``, ``"draining"`` or ``"gone"``."""
        return ("draining" if self.draining else "alive") if self.alive else "gone"

    def __repr__(self) -> str:
        role = "voter" if self.voter else "worker"
        busy = f"queued={self.queued}, running={self.running}"
        told = f"{self.name}, {role}, {self.state}, score={self.score:.2f}, {busy}"
        return f"Member({told}, {self.address})"

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Member:
        """A member out of a status."""
        return cls(
            id=str(row["id"]),
            name=str(row.get("name") or ""),
            address=str(row.get("address") or ""),
            pid=int(row.get("pid") or 0),
            slots=int(row.get("slots") or 0),
            position=(float(row.get("x") or 0.0), float(row.get("y") or 0.0)),
            voter=bool(row.get("voter")),
            alive=bool(row.get("alive")),
            draining=bool(row.get("draining")),
            score=float(row.get("score") or 0.0),
            queued=int(row.get("queued") or 0),
            running=int(row.get("running") or 0),
            load=dict(row.get("load") or {}),
            labels=dict(row.get("labels") or {}),
            resources=dict(row.get("resources") or {}),
        )


@dataclass(frozen=True)
class LinkFault:
    """What words of ``source`` to ``target`` suffer (names of nodes)."""

    source: str
    target: str
    cut: bool = False
    drop: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0

    @classmethod
    def from_row(cls, row: Mapping[str, Any], names: Mapping[str, str]) -> LinkFault:
        """A fault out of a status; ``names`` by id."""
        return cls(
            source=names.get(str(row["source"]), str(row["source"])),
            target=names.get(str(row["target"]), str(row["target"])),
            cut=bool(row["cut"]),
            drop=float(row["drop"]),
            delay_s=float(row["delay_s"]),
            jitter_s=float(row["jitter_s"]),
        )

    @property
    def quiet(self) -> bool:
        """It is none."""
        return not (self.cut or self.drop or self.delay_s or self.jitter_s)

    def __str__(self) -> str:
        words = ["cut"] if self.cut else []
        if self.drop:
            words.append(f"loses {self.drop:.0%}")
        if self.delay_s or self.jitter_s:
            jitter = f" + up to {self.jitter_s * 1e3:g} ms" if self.jitter_s else ""
            words.append(f"{self.delay_s * 1e3:g} ms late{jitter}")
        return f"{self.source} -> {self.target}: {', '.join(words) or 'whole'}"


@dataclass(frozen=True)
class ClockFault:
    """A clock that runs ``rate`` times as fast as it should."""

    node: str
    rate: float

    def __str__(self) -> str:
        return f"{self.node}: clock runs {self.rate:g} times as fast"


@dataclass(frozen=True)
class StealCounts:
    """What became of idle nodes' requests for work, since the leader leads."""

    asked: int
    """How often idle nodes asked."""
    granted: int
    """Tasks that a victim gave up for a thief."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """What came to nothing, by reason. Requests: ``"not_eligible"``, ``"not_idle"``,
    ``"cpu_floor"``, ``"no_victim"``, ``"out_of_reach"``, ``"needs_unmet"``,
    ``"stolen_too_often"``, ``"no_profit"``. Single tasks: ``"started"`` (or finished), and
    ``"thief_gone"``."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any] | None) -> StealCounts | None:
        """The counts out of a status."""
        if row is None:
            return None
        return cls(int(row["asked"]), int(row["granted"]), dict(row["refused"]))


@dataclass(frozen=True)
class Snapshot:
    """A cluster at one moment, as one node saw it."""

    leader: Leader | None
    term: int
    quorum: str
    members: tuple[Member, ...]
    counters: Mapping[str, int]
    faults: tuple[LinkFault | ClockFault, ...] = ()
    """Faults made on purpose that the node which was asked is an end of."""
    node: str = ""
    """Whose view it is."""
    role: str = ""
    """What that node is: ``"leader"`` (with its quorum's lease), ``"candidate"`` (also a leader
    without), ``"follower"`` or ``"worker"``."""
    problem: str | None = None
    """Why that node can never be a member, or is none any more."""
    refusals: Mapping[str, int] = field(default_factory=dict)
    """Calls of other nodes it refused: ``wrong_cluster``, ``wrong_node``, ``strangers`` (polls and
    votes of nodes that are no voters)."""
    steals: StealCounts | None = None
    """Steals since that node leads; ``None`` where it does not."""
    seats: int = 0
    """Voters of the group; also those that are gone and whose place nobody has taken yet, which
    are no ``members``."""

    def __repr__(self) -> str:
        alive = sum(m.alive for m in self.members)
        faults = f", {len(self.faults)} faults" if self.faults else ""
        return (
            f"Snapshot({self.leader}, {alive} of {len(self.members)} nodes alive, {self.quorum}"
            f"{faults})"
        )

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> Snapshot:
        """A snapshot out of a status."""
        members = [Member.from_row(row) for row in status.get("members") or ()]
        me = str((status.get("me") or {}).get("name") or "")
        names = {m.id: m.name for m in members}
        faults: list[LinkFault | ClockFault] = [
            LinkFault.from_row(row, names) for row in status.get("faults") or ()
        ]
        rate = float(status.get("clock_rate") or 1.0)
        if rate != 1.0:
            faults.append(ClockFault(me, rate))
        return cls(
            leader=Leader.from_status(status),
            term=int(status.get("term") or 0),
            quorum=quorum_text(status),
            members=tuple(sorted(members, key=lambda m: m.name)),
            counters={k: int(v) for k, v in (status.get("counters") or {}).items()},
            faults=tuple(faults),
            node=me,
            role=str(status.get("role") or ""),
            problem=status.get("problem") or None,
            refusals=dict(status.get("refusals") or {}),
            steals=StealCounts.from_row(status.get("steals")),
            seats=int(status.get("voters") or 0),
        )


def quorum_text(status: Mapping[str, Any]) -> str:
    """``"3 of 5 voters reachable, need 3"``."""
    voters = int(status.get("voters") or 0)
    reachable = int(status.get("voters_reachable") or 0)
    return f"{reachable} of {voters} voters reachable, need {voters // 2 + 1}"


def future_card(task_id: str, state: str, node: str | None, attempts: int) -> str:
    """A future in a notebook."""
    header = ("task", "state", "node", "attempts")
    return html_table(f"Future: {state}", header, [(task_id, state, node or "", attempts or "")])


def html_table(title: str, header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A card without script, every value escaped, readable on light and dark."""

    def cells(tag: str, values: Iterable[object]) -> str:
        style = "text-align:left;padding:2px 10px 2px 0"
        return "".join(f'<{tag} style="{style}">{html.escape(str(v))}</{tag}>' for v in values)

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    box = "border:1px solid #8888;border-radius:6px;padding:8px 12px;display:inline-block"
    return (
        f'<div style="{box}"><div style="font-weight:600">{html.escape(title)}</div>'
        f"<table><thead><tr>{cells('th', header)}</tr></thead><tbody>{body}</tbody></table></div>"
    )
