"""Breaking and mending the nodes of a local cluster on purpose, and noting it in its history."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TypeAlias

from . import _core
from .errors import ConfigError, did_you_mean
from .events import Row
from .local import LocalNode, LocalNodes
from .members import Leader, Member, Snapshot

AnyNode: TypeAlias = "LocalNode | Leader | Member | str"


class Faults(ABC):
    """The part of ``Cluster`` that kills, freezes, restarts and drains nodes."""

    _client: _core.Client
    _local: LocalNodes | None

    @abstractmethod
    def members(self) -> list[Member]:
        """Every node as the leader knows it."""

    @abstractmethod
    def snapshot(self, node: AnyNode | None = None, timeout: float = 5.0) -> Snapshot:
        """The cluster at this moment, as ``node`` sees it."""

    @abstractmethod
    def _check_open(self) -> None: ...

    @abstractmethod
    def _keep(self, row: Row) -> None: ...

    def kill(self, node: AnyNode | None) -> LocalNode:
        """Ends a node as a crash would: SIGKILL where it is a process, abort where it lives
        here."""
        found = self._local_node(node)
        if found.alive:
            self._note(found, "killed")
            found.kill()
        return found

    def freeze(self, node: AnyNode | None) -> LocalNode:
        """Stops a node: SIGSTOP where it is a process; where it lives here its threads are held.
        Its runners go on, but nobody hears of it."""
        found = self._local_node(node)
        found.freeze()
        self._note(found, "frozen")
        return found

    def resume(self, node: AnyNode | None) -> LocalNode:
        """Lets a frozen node go on."""
        found = self._local_node(node)
        found.resume()
        self._note(found, "resumed")
        self._tell_again(found)
        return found

    def restart(self, node: AnyNode | None) -> LocalNode:
        """Starts a killed node again, empty and under a new id."""
        found = self._local_node(node)
        assert self._local is not None
        fresh = self._local.restart(found, before_enter=self._tell_again)
        self._note(fresh, "restarted")
        return fresh

    def drain(self, node: AnyNode, timeout: float = 30.0) -> int:
        """Has a node hand over its leadership and its unstarted work; returns how many tasks it
        handed back."""
        address = self._address_of(node)
        return self._client.drain_node(address, timeout)

    def handover(self, to: AnyNode | None = None, timeout: float = 5.0) -> str:
        """Moves leadership to ``to``, or to the best other voter; returns the new leader's id."""
        target = None if to is None else self._member(to).id
        return self._client.handover(target, timeout)

    def _is_up(self, name: str) -> bool:
        """It can answer, as far as this script knows."""
        if self._local is None:
            return True
        return any(n.name == name and n.state == "running" for n in self._local.nodes)

    @abstractmethod
    def _tell_again(self, node: LocalNode) -> None:
        """A node is back: what is broken on purpose stays so."""

    def _unknown(self, wanted: str, known: Iterable[str]) -> ConfigError:
        names = sorted(known)
        return ConfigError(
            f"node={wanted!r}: no such node{did_you_mean(wanted, names)}; they are "
            f"{', '.join(names)}"
        )

    def _address_of(self, node: AnyNode) -> str:
        if isinstance(node, (LocalNode, Leader, Member)):
            return node.address
        for local in [] if self._local is None else self._local.nodes:
            if node in (local.name, local.id, local.address):
                return local.address
        return self._member(node).address

    def _member(self, node: AnyNode) -> Member:
        wanted = node if isinstance(node, str) else node.name
        members = self.members()
        found = [m for m in members if wanted in (m.name, m.id, m.address)]
        if not found:
            raise self._unknown(wanted, (m.name for m in members))
        if len(found) > 1:
            told = ", ".join(f"{m.id} ({'alive' if m.alive else 'gone'})" for m in found)
            raise ConfigError(f"node={wanted!r}: {len(found)} members go by it, give an id: {told}")
        return found[0]

    def _local_node(self, node: AnyNode | None) -> LocalNode:
        self._check_open()
        if self._local is None:
            raise ConfigError(
                "only the script that started a cluster (Cluster.local) can break its nodes"
            )
        if node is None:
            raise ConfigError("node is None: nobody leads at the moment; wait_leader() first")
        wanted = node if isinstance(node, str) else node.name
        for found in self._local.nodes:
            if wanted in (found.name, found.id, found.address):
                return found
        raise self._unknown(wanted, [n.name for n in self._local.nodes])

    def _note(self, node: LocalNode, what: str) -> None:
        row: Row = {
            "seq": 0,
            "at_us": time.time_ns() // 1000,
            "node": node.id,
            "node_name": node.name,
            "kind": "fault",
            "term": 0,
            "subject": node.id,
            "score": 0.0,
            "rank": 0,
            "task_id": None,
            "attempt": 0,
            "value": 0.0,
            "detail": what,
        }
        self._keep(row)
