"""Members of a running cluster: nodes that are added and nodes that are removed."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Mapping
from typing import Any

from .errors import (
    ConfigError,
    HustingsError,
    HustingsWarning,
    StoppedError,
    WaitTimeoutError,
)
from .faults import AnyNode
from .founders import MAX_VOTERS
from .links import LinkFaults
from .loads import LoadSource
from .local import MAX_NODES, POLL_S, LocalNode
from .node import Position, check_position, check_slots
from .offers import check_labels, check_resources


class Membership(LinkFaults):
    """The part of ``Cluster`` that adds and removes members while it runs."""

    def add_node(
        self,
        name: str | None = None,
        *,
        voter: bool = False,
        position: Position = (0.0, 0.0),
        slots: int | None = None,
        labels: Mapping[str, str] | None = None,
        resources: Mapping[str, float] | None = None,
        load: LoadSource | Mapping[str, Any] | None = None,
        timeout: float = 60.0,
    ) -> LocalNode:
        """Starts a node on this machine and joins it to this local cluster.

        Args:
            name: Unique in the cluster; the next free ``n1``, ``n2``, ... by default.
            voter: It gets a vote, after it has caught up with the log; otherwise it is a worker.
                An even number of voters is warned about.
            position: Where it stands.
            slots: Callbacks it runs at once; as many as the first node by default.
            labels: What it says of itself; nothing by default.
            resources: What it offers besides slots; nothing by default.
            load: What it says about its resources; it measures by default.
            timeout: Seconds until it must be a member (and vote).

        Raises:
            ConfigError: A bad argument, a name in use, or an eighth voter.
            WaitTimeoutError: It was not admitted (or given its vote) in time; it keeps trying.
        """
        self._check_open()
        if self._local is None:
            raise ConfigError(
                "add_node: only a local cluster starts nodes; elsewhere run `hustings node --join`"
            )
        nodes = self._local.nodes
        if len(nodes) >= MAX_NODES:
            raise ConfigError(f"add_node: {len(nodes)} nodes are the limit of a local cluster")
        taken = {node.name for node in nodes}
        if name in taken:
            raise ConfigError(f"name={name!r}: a node of this cluster has that name")
        free = (f"n{i}" for i in range(1, MAX_NODES + 2))
        options: dict[str, Any] = {
            "name": name or next(n for n in free if n not in taken),
            "listen": "127.0.0.1:0",
            "position": check_position(position),
            "labels": check_labels(labels),
            "resources": check_resources(resources, cpu=False),
            "load": load.for_node(len(nodes)) if isinstance(load, LoadSource) else load,
        }
        if slots is not None:
            options["slots"] = check_slots(slots)
        if voter:
            self._check_seat(str(options["name"]))
        fresh = self._local.add(options, voter, before_enter=self._tell_again)
        self._wait_member(fresh, timeout)
        return fresh

    def move(self, node: AnyNode, position: Position, *, timeout: float = 10.0) -> None:
        """Says where a member stands from now on; reach is measured anew at once. What it holds
        stays there. A node that is restarted stands where it was started.

        Args:
            node: Which, by name, id or address.
            position: Two coordinates, or one on a line.
            timeout: Seconds until that must be committed.

        Raises:
            ConfigError: No such member, or no such place.
            NoQuorumError: No majority could write it down.
        """
        self._check_open()
        place = check_position(position)
        _, identity, _ = self._identify(node, self._find_local(node))
        self._client.move_member(identity, place, timeout)

    def remove_node(self, node: AnyNode, *, grace: float = 10.0, timeout: float = 30.0) -> None:
        """Removes a member for good: it hands back its work and, if it leads, leadership; then
        its vote and its name go. A node of a local cluster is ended as well.

        Args:
            node: Which, by name, id or address; it may be dead.
            grace: Seconds it may take to finish running tasks; what is left runs elsewhere.
            timeout: Seconds until the removal must be committed.

        Raises:
            UnsafeMembershipChangeError: No voter would be left, or no reachable majority of them.
            MembershipChangeInProgressError: Members change one at a time.
            NoQuorumError: No majority could decide it.
            ConfigError: No such member.
        """
        self._check_open()
        local = self._find_local(node)
        name, identity, address = self._identify(node, local)
        odd = self._client.remove_member(identity, check_only=True, timeout=timeout)
        if local.state == "running" if local is not None else self._answers(identity):
            with contextlib.suppress(HustingsError):  # gone or not done: its tasks go elsewhere
                self._client.drain_node(address, grace)
        self._client.remove_member(identity, timeout=timeout)
        if odd:
            warnings.warn(odd, HustingsWarning, stacklevel=2)
        self._wanted = {pair: f for pair, f in self._wanted.items() if name not in pair}
        self._rates.pop(name, None)
        if local is not None and self._local is not None:
            self._local.dismiss(local)

    def _find_local(self, node: AnyNode) -> LocalNode | None:
        wanted = node if isinstance(node, str) else node.name
        for local in [] if self._local is None else self._local.nodes:
            if wanted in (local.name, local.id, local.address):
                return local
        return None

    def _identify(self, node: AnyNode, local: LocalNode | None) -> tuple[str, str, str]:
        if local is not None:
            return local.name, local.id, local.address
        member = self._member(node)
        return member.name, member.id, member.address

    def _answers(self, identity: str) -> bool:
        return any(m.id == identity and m.alive for m in self.members())

    def _check_seat(self, name: str) -> None:
        voters = sum(m.voter for m in self.members())
        if voters >= MAX_VOTERS:
            raise ConfigError(
                f"add_node({name!r}, voter=True): {voters} nodes vote, the most there can be; add "
                "it as a worker, or remove a voter first"
            )
        if voters % 2:
            warnings.warn(
                f"{voters + 1} voters are even: they survive no more failures than {voters} do",
                HustingsWarning,
                stacklevel=3,
            )

    def _wait_member(self, node: LocalNode, timeout: float) -> None:
        end = time.monotonic() + timeout
        while True:
            members = {m.id: m for m in self.members()}
            found = members.get(node.id)
            if found is not None and found.alive and (found.voter or not node.voter):
                return
            if node.state != "running":
                raise StoppedError(f"node {node.name} is {node.state} before it was a member")
            problem = self._problem(node)
            if problem:
                raise ConfigError(f"add_node({node.name!r}): {problem}")
            if time.monotonic() >= end:
                what = "a voter" if found is not None and found.alive else "a member"
                raise WaitTimeoutError(f"node {node.name} is not {what} after {timeout} s")
            time.sleep(POLL_S)

    def _problem(self, node: LocalNode) -> str:
        try:
            return str(self._client.status(node.address, 1.0)["problem"] or "")
        except HustingsError:
            return ""


__all__ = ["Membership"]
