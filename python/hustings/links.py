"""Faults of the links between nodes and of their clocks: cut, slow, lossy, wrong."""

from __future__ import annotations

import contextlib
import math
import threading
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from .errors import ConfigError, NoQuorumError, WaitTimeoutError
from .failures import RandomFailures
from .faults import AnyNode, Faults
from .injector import FailureInjector
from .local import LocalNode
from .members import ClockFault, LinkFault

MAX_DELAY_S = 60.0
"""The longest delay of one message, and the longest jitter."""
RATES = (0.01, 100.0)
"""How wrong a clock may be made to run."""
CALL_TIMEOUT_S = 5.0
"""How long a node may take to answer one fault call."""
FAULTS_TIMEOUT_S = 1.0
"""How long a node may take to say which faults it suffers."""


class LinkFaults(Faults):
    """The part of ``Cluster`` that breaks and mends links and clocks.

    Needs nodes that take fault calls: those of :meth:`Cluster.local`, or ones started with
    ``allow_faults=True``. Links between scripts and nodes are never broken.
    """

    _wanted: dict[tuple[str, str], LinkFault]
    """What this script asked for and has not healed, by names; a restarted node gets it too."""
    _rates: dict[str, float]
    """Clocks this script made wrong."""
    _apart: set[str]
    """Nodes that random failures keep from all others."""
    _failing: FailureInjector | None
    _breaking: threading.RLock
    """Held by whoever breaks or mends: random failures have a thread of their own."""

    @abstractmethod
    def _ids(self) -> dict[str, tuple[str, str]]:
        """Id and address of every node by its name."""

    def partition(self, *groups: Iterable[AnyNode] | AnyNode) -> None:
        """Cuts all words between nodes of different groups, both ways, at once.

        Args:
            groups: Names of nodes, or nodes; nodes in no group keep all their links.

        Raises:
            ConfigError: An unknown node, a node in two groups, or fewer than two groups.
            FaultInjectionDisabledError: A node was not started with leave.
        """
        names = [self._group(group) for group in groups]
        if len(names) < 2:
            raise ConfigError(
                f"partition: {len(names)} groups; give at least two, as two arguments"
            )
        seen: set[str] = set()
        for name in (name for group in names for name in group):
            if name in seen:
                raise ConfigError(f"partition: {name!r} is in two groups; each node has one side")
            seen.add(name)
        pairs = [
            (a, b)
            for i, ours in enumerate(names)
            for theirs in names[:i] + names[i + 1 :]
            for a in ours
            for b in theirs
        ]
        note = "partitioned: " + " | ".join(" ".join(group) for group in names)
        self._change(pairs, note, cut=True)

    def cut(self, source: AnyNode, target: AnyNode) -> None:
        """From now on ``target`` hears nothing of ``source``; the other way stays open."""
        self._change([self._pair(source, target)], cut=True)

    def delay(
        self,
        source: AnyNode | None,
        target: AnyNode | None,
        seconds: float,
        jitter: float = 0.0,
    ) -> None:
        """Every message of ``source`` to ``target`` takes ``seconds`` longer, and up to ``jitter``
        seconds more by chance; ``None``: of all, to all. Zero mends it. Order is kept."""
        seconds = _bounded("seconds", seconds, 0.0, MAX_DELAY_S)
        jitter = _bounded("jitter", jitter, 0.0, MAX_DELAY_S)
        self._change(self._pairs(source, target), delay_s=seconds, jitter_s=jitter)

    def drop(self, source: AnyNode | None, target: AnyNode | None, ratio: float) -> None:
        """Loses this share of the messages of ``source`` to ``target``, in [0, 1]; ``None``: of
        all, to all. Zero mends it.

        A question or answer that is lost is gone; what travels on a stream is sent again after
        0.2 s, as TCP would, and everything behind it waits.
        """
        self._change(self._pairs(source, target), drop=_bounded("ratio", ratio, 0.0, 1.0))

    def clock_rate(self, node: AnyNode, rate: float) -> None:
        """Makes a node's clock run ``rate`` times as fast as it should, in [0.01, 100]; 1 is right.

        Everything the node times itself is affected: when it suspects, polls and hands over, its
        lease, its score's smoothing. What the consensus library times itself, its heartbeats above
        all, is not.
        """
        rate = _bounded("rate", rate, *RATES)
        self._check_open()
        with self._breaking:
            name = self._name(node)
            self._inject(self._ids()[name][1], clock_rate=rate)
            self._rates[name] = rate

    def heal(self) -> None:
        """Ends every fault of links and clocks; killed and frozen nodes stay as they are."""
        self._check_open()
        with self._breaking:
            self._wanted.clear()
            self._rates.clear()
            self._apart.clear()
            note = "healed"
            for name, (_, address) in sorted(self._ids().items()):
                if self._is_up(name):
                    self._inject(address, heal=True, note=note)
                    note = ""

    def faults(self) -> list[LinkFault | ClockFault]:
        """The faults in force, as the nodes themselves say; who is down or frozen is left out."""
        ids = self._ids()
        names = {identity: name for name, (identity, _) in ids.items()}
        links: dict[tuple[str, str], LinkFault] = {}
        clocks: list[LinkFault | ClockFault] = []
        for name, (_, address) in sorted(ids.items()):
            if not self._is_up(name):
                continue
            with contextlib.suppress(NoQuorumError):  # it does not answer
                status = self._client.status(address, FAULTS_TIMEOUT_S)
                found = (LinkFault.from_row(row, names) for row in status["faults"])
                links.update({(f.source, f.target): f for f in found})
                if status["clock_rate"] != 1.0:
                    clocks.append(ClockFault(name, status["clock_rate"]))
        known = [f for pair, f in sorted(links.items()) if all(end in ids for end in pair)]
        return [*known, *clocks]

    # --- random failures

    def fail_randomly(self, failures: RandomFailures) -> FailureInjector:
        """Lets the nodes of this local cluster fail and come back by chance, in a thread of its
        own, until ``stop()`` of what is returned, the end of its ``with`` block, or :meth:`close`.

        Raises:
            ConfigError: Not a local cluster, or failures are under way already.
        """
        self._check_open()
        if not isinstance(failures, RandomFailures):
            raise ConfigError(f"failures={failures!r}: give a RandomFailures(...)")
        if self._local is None:
            raise ConfigError("fail_randomly: only a local cluster; its nodes are yours to break")
        if self._failing is not None and self._failing.running:
            raise ConfigError("fail_randomly: failures are under way; stop() them first")
        self._failing = FailureInjector(self, failures, [n.name for n in self._local.nodes])
        return self._failing

    def _down(self, name: str, kind: str) -> None:
        if kind == "kill":
            self.kill(name)
        elif kind == "freeze":
            self.freeze(name)
        else:
            self.partition([name], [other for other in self._ids() if other != name])
            self._apart.add(name)

    def _up(self, name: str, kind: str) -> None:
        if kind == "kill":
            self.restart(name)
        elif kind == "freeze":
            self.resume(name)
        else:
            self._apart.discard(name)
            rest = [other for other in self._ids() if other not in self._apart and other != name]
            pairs = [pair for other in rest for pair in ((name, other), (other, name))]
            sides = [*sorted(self._apart), " ".join(sorted([*rest, name]))]
            note = "partitioned: " + " | ".join(sides) if self._apart else "healed"
            self._change(pairs, note, cut=False)

    def _standing(self) -> set[str]:
        """The nodes that run and are not alone on their side of a partition."""
        return {name for name in self._ids() if self._is_up(name)} - self._apart

    # --- one change, at both of its ends

    def _change(self, pairs: list[tuple[str, str]], note: str = "", **values: Any) -> None:
        self._check_open()
        with self._breaking:
            wanted = dict(self._wanted)
            for pair in pairs:
                wanted[pair] = replace(wanted.get(pair, LinkFault(*pair)), **values)
            changed = {pair: wanted[pair] for pair in pairs}
            ends = {end for pair in pairs for end in pair}
            told = [name for name in sorted(ends) if self._is_up(name)]
            for name in told:
                self._tell(name, {})  # whoever refuses does so before anything is broken
            for name in told:
                # The first writes the row of history for all of them.
                row = note if name == told[0] else ""
                self._tell(name, changed, quiet=bool(note), note=row)
            self._wanted = {pair: f for pair, f in wanted.items() if not f.quiet}

    def _tell(
        self,
        name: str,
        faults: dict[tuple[str, str], LinkFault],
        *,
        quiet: bool = False,
        note: str = "",
    ) -> None:
        """Sets those of ``faults`` that concern ``name`` there; one that is down is told later."""
        ids = self._ids()
        if name not in ids or not self._is_up(name):
            return
        self._inject(ids[name][1], self._links(name, faults), quiet=quiet, note=note)

    def _links(self, name: str, faults: dict[tuple[str, str], LinkFault]) -> list[Any]:
        ids = self._ids()
        return [
            (ids[f.source][0], ids[f.target][0], f.cut, f.drop, f.delay_s, f.jitter_s)
            for pair, f in faults.items()
            if name in pair and all(end in ids for end in pair)
        ]

    def _tell_again(self, node: LocalNode) -> None:
        """A node is back, perhaps under a new id: it and the others learn what is still broken."""
        with self._breaking:
            concerned = {pair: f for pair, f in self._wanted.items() if node.name in pair}
            others = {end for pair in concerned for end in pair} - {node.name}
            for name in others:
                self._tell(name, concerned, quiet=True)
            rate = self._rates.get(node.name)
            links = self._links(node.name, concerned)
            self._inject(node.address, links, heal=True, clock_rate=rate, quiet=True)

    def _inject(self, address: str, links: Any = (), **options: Any) -> None:
        try:
            self._client.inject_faults(address, list(links), timeout=CALL_TIMEOUT_S, **options)
        except WaitTimeoutError as error:
            raise WaitTimeoutError(
                f"{error}; is the node frozen? Others may have been told: heal() mends them"
            ) from error

    # --- names

    def _group(self, group: Iterable[AnyNode] | AnyNode) -> list[str]:
        if isinstance(group, str) or not isinstance(group, Iterable):
            group = [group]
        names = [self._name(node) for node in group]
        if not names:
            raise ConfigError("partition: a group is empty; give each side at least one node")
        return names

    def _name(self, node: AnyNode) -> str:
        known = self._ids()
        wanted = node if isinstance(node, str) else node.name
        if wanted in known:
            return wanted
        for name, (identity, address) in known.items():
            if wanted in (identity, address):
                return name
        raise self._unknown(wanted, known)

    def _pair(self, source: AnyNode, target: AnyNode) -> tuple[str, str]:
        pair = (self._name(source), self._name(target))
        if pair[0] == pair[1]:
            raise ConfigError(f"{pair[0]} -> {pair[1]}: a node's words to itself cannot be broken")
        return pair

    def _pairs(self, source: AnyNode | None, target: AnyNode | None) -> list[tuple[str, str]]:
        if source is not None and target is not None:
            return [self._pair(source, target)]
        names = list(self._ids())
        sources = names if source is None else [self._name(source)]
        targets = names if target is None else [self._name(target)]
        return [(a, b) for a in sources for b in targets if a != b]


def _bounded(field: str, value: object, least: float, most: float) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or not least <= value <= most
    ):
        raise ConfigError(f"{field}={value!r}: give a number from {least:g} to {most:g}")
    return float(value)


__all__ = ["LinkFaults"]
