"""A cluster as a script sees it: started here or connected to, submitted to, looked at, broken on
purpose."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from . import _core
from .certs import check_folder
from .config import Config, StealPolicy
from .errors import ConfigError, NoClusterError, NoQuorumError, StoppedError, WaitTimeoutError
from .events import EventLog, Row
from .explanation import Explained
from .faults import AnyNode
from .future import Deadline
from .injector import FailureInjector
from .loads import LoadsArgument, resolve
from .local import (
    InProcessNode,
    LocalNode,
    LocalNodes,
    ProcessNode,
    node_dir,
    plan_places,
    plan_voters,
    wait_admitted,
)
from .members import Leader, LinkFault, Member, Snapshot, html_table, quorum_text
from .membership import Membership
from .node import Position, check_data_dir, check_slots, cores
from .submission import Submission, Submitter

MAX_EVENTS = 100_000
"""Rows a cluster keeps on this side."""
MAX_NAMES = 10_000
"""Nodes whose names are remembered for the history."""
MAX_SHOWN = 12
"""Faults listed in a card."""
_POLL_S = 0.02

_live: dict[str, Cluster] = {}
"""Every open cluster of this process by name, oldest first."""
_live_lock = threading.RLock()
_entered: ContextVar[tuple[Cluster, ...]] = ContextVar("hustings_entered", default=())


def current_cluster() -> Cluster:
    """The innermost ``with``, else the newest live cluster. Raises ``NoClusterError``."""
    entered = _entered.get()
    if entered:
        return entered[-1]
    try:
        return next(reversed(_live.values()))
    except StopIteration:
        raise NoClusterError(
            "there is no cluster here; start one (with hustings.Cluster.local(5) as c: ...) or "
            "connect to one "
            '(hustings.Cluster.connect("host:port"))'
        ) from None


class Cluster(Submitter, Membership, Explained):
    """A running cluster. Make one with :meth:`local` or :meth:`connect`."""

    def __init__(
        self,
        client: _core.Client,
        name: str,
        *,
        allow_pickle: bool,
        local: LocalNodes | None = None,
        isolated: bool = False,
    ) -> None:
        self.name = name
        self._client = client
        self._allow_pickle = allow_pickle
        self._local = local
        self._isolated = isolated
        self._open = True
        self._pid = os.getpid()
        self._rows: deque[Row] = deque(maxlen=MAX_EVENTS)
        self._next_row = 0
        self._names: dict[str, str] = {}
        self._wanted: dict[tuple[str, str], LinkFault] = {}
        self._rates: dict[str, float] = {}
        self._apart: set[str] = set()
        self._failing: FailureInjector | None = None
        self._breaking = threading.RLock()
        self._rows_lock = threading.Lock()
        with _live_lock:
            _live[name] = self

    @classmethod
    def local(
        cls,
        n: int = 5,
        *,
        name: str = "local",
        isolated: bool = False,
        voters: int | None = None,
        loads: LoadsArgument | None = None,
        positions: Sequence[Position] | None = None,
        slots: int | None = None,
        labels: Sequence[Mapping[str, str] | None] | None = None,
        resources: Sequence[Mapping[str, float] | None] | None = None,
        config: Config | None = None,
        data_dir: str | os.PathLike[str] | None = None,
    ) -> Cluster:
        """Starts ``n`` nodes on this machine; ``isolated``: each in a process of its own.

        A cluster of the same name is closed first, so that a notebook cell can be run again.
        Voters: the largest odd number up to min(n, 5), the others are workers. The cores are shared
        out: ``slots = max(1, cores // n)``. ``positions``, ``labels`` and ``resources`` are given
        per node. ``config.faults`` makes them fail by chance, see
        :meth:`fail_randomly`. With ``data_dir`` every node keeps its state in a folder of its own
        below it; started again with the same one, the cluster goes on where it ended. Raises
        ``StorageError`` and its kinds.
        """
        count, voting = plan_voters(n, voters)
        if config is not None and not isinstance(config, Config):
            raise ConfigError(f"config={config!r}: give a hustings.Config")
        names = [f"n{i + 1}" for i in range(count)]
        places = plan_places(count, positions, labels, resources)
        # The nodes share this machine: what one uses, every other measures as taken.
        knobs = (config or Config(steal=StealPolicy(cpu_floor=0.0))).resolved()
        nodes: list[LocalNode] = []
        for i, load in enumerate(resolve(loads, names)):
            options: dict[str, Any] = {
                "name": names[i],
                "listen": "127.0.0.1:0",
                "slots": max(1, cores() // count) if slots is None else check_slots(slots),
                **places[i],
                "allow_pickle": True,
                "allow_threads": True,
                "allow_faults": True,
                "load": load,
                "config": knobs,
                "data_dir": node_dir(check_data_dir(data_dir), names[i]),
            }
            nodes.append((ProcessNode if isolated else InProcessNode)(options, voter=i < voting))
        with _live_lock:
            namesake = _live.get(name)
        if namesake is not None:
            namesake.close()
        local = LocalNodes(nodes, voting)
        local.start()
        try:
            client = _core.Client(local.addresses(), allow_pickle=True)
            wait_admitted(client, set(names))
        except BaseException:
            local.close()
            raise
        made = cls(client, name, allow_pickle=True, local=local, isolated=isolated)
        if config is not None and config.faults is not None:
            made.fail_randomly(config.faults)
        return made

    @classmethod
    def connect(
        cls,
        *addresses: str,
        tls: str | os.PathLike[str] | None = None,
        allow_pickle: bool = False,
        timeout: float = 10.0,
    ) -> Cluster:
        """Connects to a running cluster through any of its nodes. ``tls``: the folder with a
        certificate, see :mod:`hustings.certs` (default: HUSTINGS_TLS; neither: no TLS).

        Raises ``AuthError`` where no node lets this certificate in, ``NoQuorumError`` where none
        answers.
        """
        if not addresses:
            raise ConfigError('connect: give at least one address, e.g. "127.0.0.1:7400"')
        try:
            client = _core.Client(
                addresses, allow_pickle=allow_pickle, timeout=timeout, tls=check_folder(tls)
            )
        except NoQuorumError as error:
            raise NoQuorumError(
                f"{error}; does a node run there? Any will do, and several may be named"
            ) from None
        name = f"connected-{uuid.uuid4().hex[:8]}"
        return cls(client, name, allow_pickle=allow_pickle)

    def _ids(self) -> dict[str, tuple[str, str]]:
        if self._local is None:
            return {m.name: (m.id, m.address) for m in self.members()}
        return {n.name: (n.id, n.address) for n in self._local.nodes}

    def _keep(self, row: Row) -> None:
        with self._rows_lock:
            self._rows.append(row)

    def _check_open(self) -> None:
        if not self._open:
            raise StoppedError(f"cluster {self.name!r} is closed; start or connect a new one")

    @classmethod
    async def local_async(cls, n: int = 5, **options: Any) -> Cluster:
        """:meth:`local` for a coroutine: ``async with await Cluster.local_async(3) as c``."""
        return await asyncio.to_thread(cls.local, n, **options)

    @classmethod
    async def connect_async(cls, *addresses: str, **options: Any) -> Cluster:
        """:meth:`connect` for a coroutine."""
        return await asyncio.to_thread(cls.connect, *addresses, **options)

    # --- looking

    @property
    def nodes(self) -> list[LocalNode] | list[Member]:
        """The nodes this script started; for a connection, the members."""
        return list(self._local.nodes) if self._local is not None else self.members()

    @property
    def leader(self) -> Leader | None:
        """Who leads now, or ``None``."""
        return Leader.from_status(self._client.status())

    @property
    def term(self) -> int:
        """The highest term known."""
        return int(self._client.status()["term"])

    @property
    def quorum(self) -> str:
        """``"3 of 5 voters reachable, need 3"``."""
        return quorum_text(self._client.status())

    @property
    def events(self) -> EventLog:
        """What happened so far, on all nodes, the dead ones included."""
        with self._rows_lock:
            self._next_row, fresh = self._client.records(self._next_row, MAX_EVENTS)
            self._rows.extend(fresh)
            rows = list(self._rows)
            # Also of nodes that were restarted or removed since.
            for node in [] if self._local is None else self._local.nodes:
                self._names[node.id] = node.name
            for forgotten in list(self._names)[:-MAX_NAMES]:
                del self._names[forgotten]
            names = dict(self._names)
        return EventLog(rows, names)

    def members(self) -> list[Member]:
        """Every node as the leader knows it, voters that are gone with ``alive=False``: they keep
        their seats until they come back, are replaced or removed."""
        return list(self.snapshot().members)

    def snapshot(self, node: AnyNode | None = None, timeout: float = 5.0) -> Snapshot:
        """The cluster at this moment, as ``node`` sees it; by default its leader (or any node, if
        none leads). Raises ``NoQuorumError`` if nobody answers."""
        address = None if node is None else self._address_of(node)
        return Snapshot.from_status(self._client.status(address, timeout))

    def metrics(self) -> dict[str, int]:
        """The cluster-wide counters: accepted, succeeded, retries, steals, late_completions and so
        on."""
        return dict(self.snapshot().counters)

    def tasks(
        self, state: str | None = None, limit: int = 1000, timeout: float = 5.0
    ) -> list[dict[str, Any]]:
        """Tasks the cluster holds: ``task_id``, ``function``, ``state``, ``node``, ``attempt``,
        ``key``. ``state="quarantined"`` lists those whose nodes or runners died too often.

        Never an old view: a quorum confirms the leader first. Raises ``NoQuorumError``.
        """
        return self._client.tasks(state, limit, timeout)

    def wait_leader(self, timeout: float = 30.0) -> Leader:
        """Blocks until a node leads with its quorum. Raises ``NoQuorumError``."""
        Deadline(timeout)
        return self._known_leader(self._client.wait_leader(timeout), timeout)

    async def wait_leader_async(self, timeout: float = 30.0) -> Leader:
        """:meth:`wait_leader` for a coroutine; cancelling it ends the wait."""
        Deadline(timeout)
        return self._known_leader(await self._client.wait_leader_async(timeout), timeout)

    def _known_leader(self, status: dict[str, Any], timeout: float) -> Leader:
        leader = Leader.from_status(status)
        if leader is None:
            raise WaitTimeoutError(f"no leader is known after {timeout} s: {self.quorum}")
        return leader

    def wait_idle(self, timeout: float = 30.0) -> None:
        """Blocks until the cluster holds no unfinished task. Raises ``WaitTimeoutError``."""
        deadline = Deadline(timeout)
        while True:
            counters = self.metrics()
            unfinished = counters.get("pending", 0) + counters.get("assigned", 0)
            if unfinished == 0 and self._client.pending() == 0:
                return
            if deadline.passed():
                raise WaitTimeoutError(f"{unfinished} tasks are unfinished after {timeout} s")
            time.sleep(_POLL_S)

    def watch(self, interval: float = 0.4) -> Any:
        """The live view as a widget of a notebook: nodes where they stand, votes, handovers and
        steals as they happen, and why tasks are where they are. Needs ``hustings[notebook]``.

        It looks every ``interval`` seconds. Raises ``ConfigError``, and ``HustingsError`` without
        ``anywidget``.
        """
        from . import watch

        return watch.watch(self, interval)

    # --- life

    def close(self) -> None:
        """Disconnects; a local cluster ends, with what it had not finished. Safe to call twice."""
        if not self._open or self._pid != os.getpid():
            return
        self._open = False
        with _live_lock:
            if _live.get(self.name) is self:
                del _live[self.name]
        if self._failing is not None:
            self._failing.stop(mend=False)
        try:
            self._client.close()
        finally:
            if self._local is not None:
                self._local.close()

    def __enter__(self) -> Cluster:
        self._check_open()
        _entered.set((*_entered.get(), self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        entered = list(_entered.get())
        if self in entered:
            del entered[len(entered) - 1 - entered[::-1].index(self)]
        _entered.set(tuple(entered))
        self.close()

    async def __aenter__(self) -> Cluster:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _entered.set(tuple(c for c in _entered.get() if c is not self))
        await asyncio.to_thread(self.close)

    def __repr__(self) -> str:
        if not self._open:
            return f"Cluster({self.name!r}, closed)"
        if self._local is None:
            return f"Cluster({self.name!r}, connected to {self._client.connected_to or 'nobody'})"
        alive = sum(n.alive for n in self._local.nodes)
        kind = "isolated" if self._isolated else "in this process"
        broken = f", {len(self._wanted)} links broken" if self._wanted else ""
        nodes = f"{alive} of {len(self._local.nodes)} nodes alive"
        return f"Cluster({self.name!r}, {nodes}, {kind}{broken})"

    def _repr_html_(self) -> str:
        if not self._open:
            return html_table(repr(self), (), ())
        now = self.snapshot()
        header = ("node", "role", "state", "score", "queued", "running", "address")
        rows: list[tuple[object, ...]] = []
        for m in now.members:
            leads = now.leader is not None and m.id == now.leader.id
            role = "leader" if leads else "voter" if m.voter else "worker"
            state = "alive" if m.alive else "gone"
            rows.append((m.name, role, state, f"{m.score:.2f}", m.queued, m.running, m.address))
        broken = [str(fault) for fault in self.faults()]
        rows += [("", "", "fault", text, "", "", "") for text in broken[:MAX_SHOWN]]
        if len(broken) > MAX_SHOWN:
            rows.append(("", "", "fault", f"... and {len(broken) - MAX_SHOWN} more", "", "", ""))
        return html_table(f"Cluster {self.name}: term {now.term}, {now.quorum}", header, rows)


@atexit.register
def _close_all() -> None:
    for cluster in list(_live.values()):
        cluster.close()


__all__ = ["Cluster", "Submission", "current_cluster"]
