"""A node in this process: ``Node``."""

from __future__ import annotations

import os
import socket
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeAlias

from . import _core, certs
from .config import Config
from .errors import ConfigError, HustingsWarning, InvalidPeersError, StoppedError
from .events import EventLog
from .founders import check_founders
from .interpreter import runner_argv, runner_env
from .loads import LoadSource
from .members import Leader, Member, Snapshot, html_table
from .offers import check_labels, check_resources
from .tasks import Task, as_task

Position: TypeAlias = "tuple[float, float] | tuple[float] | float"
"""Where a node stands: two coordinates, or one on a line."""

MAX_SLOTS = 4_096
"""Callbacks one node may run at once."""


def default_name(tls: str | None) -> str:
    """That of the certificate, else one of this process."""
    if tls is not None:
        return certs.read(tls).name
    return f"{socket.gethostname().split('.')[0]}-{os.getpid()}"


def cores() -> int:
    """CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def check_position(value: object) -> tuple[float, float]:
    """A position is two finite numbers, or one on a line. Raises ``ConfigError``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = (value, 0.0)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and len(value) == 1:
        value = (value[0], 0.0)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and len(value) == 2:
        x, y = value
        if all(
            isinstance(c, (int, float)) and not isinstance(c, bool) and abs(c) < 1e12
            for c in (x, y)
        ):
            return float(x), float(y)
    raise ConfigError(f"position={value!r}: give two finite numbers, e.g. (0.0, 1.5), or one")


def check_data_dir(value: object) -> str | None:
    """A data directory is a path, or ``None``."""
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ConfigError(f"data_dir={value!r}: give the path of a folder, or None")
    return str(os.fspath(value))


def check_endpoint(name: str, value: object, is_open: object) -> tuple[str, bool] | None:
    """An address to be looked at and whether it is open, or ``None``; who opens none means
    something else."""
    if value is None:
        if is_open:
            raise ConfigError(f"{name}_open: there is nothing to open; give {name}='HOST:PORT' too")
        return None
    if not isinstance(value, str):
        raise ConfigError(f"{name}={value!r}: give 'HOST:PORT', e.g. '127.0.0.1:0', or None")
    return value, bool(is_open)


def check_slots(value: object) -> int:
    """Slots are a whole number from 1 to ``MAX_SLOTS``."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SLOTS:
        raise ConfigError(f"slots={value!r}: give a whole number from 1 to {MAX_SLOTS}")
    return value


def _addresses(join: Sequence[str]) -> list[str]:
    """A list of addresses; one text has commas in between."""
    if isinstance(join, str):
        return [part.strip() for part in join.split(",") if part.strip()]
    return list(join)


def _check_config(config: object) -> Config:
    if config is not None and not isinstance(config, Config):
        raise ConfigError(f"config={config!r}: give a hustings.Config")
    return config or Config()


def _check_clients(listen: str | None, advertise: str | None) -> tuple[str, str | None] | None:
    if listen is None and advertise is not None:
        raise ConfigError("advertise_clients: give listen_clients='HOST:PORT' too")
    return None if listen is None else (listen, advertise)


def _check_otlp(otlp: object) -> str | None:
    if otlp is not None and not isinstance(otlp, str):
        raise TypeError(f"otlp={otlp!r}: give the address of a collector, or None")
    return otlp


def _check_admission(
    admit: str | None, ca: str | os.PathLike[str] | None
) -> tuple[str, str | os.PathLike[str]] | None:
    if admit is not None and ca is not None:
        return admit, ca
    if admit is None and ca is None:
        return None
    raise ConfigError("admit, ca: to admit nodes takes both, HOST:PORT and a folder")


class Node:
    """A node of a cluster in this process; its elections, network and task queue run natively.

    Founding voters are all given the same list: ``Node("a", listen="10.0.0.1:7400", voters=3,
    join=[three addresses])``. With ``join`` alone the node joins an existing cluster, as a worker,
    or asks to become a voter with ``voter=True``. With neither it founds a cluster of its own, and
    warns. ``advertise``: the ``HOST:PORT`` under which the others reach the node, where that is not
    where it listens: behind a port mapping, or with ``listen="0.0.0.0:7400"``. ``allow_faults``:
    whoever can reach it may break its links and its clock (``Cluster.partition`` and so on).

    ``listen_clients``: a listener of their own for clients, so that a firewall can part them from
    the nodes. Then ``listen`` is for nodes alone, and each listener sends whoever belongs to the
    other there. ``advertise_clients`` is to it what ``advertise`` is to ``listen``.

    ``allow_threads``: tasks with ``run_in="thread"`` run in threads of this process; without, in
    processes of their own like all others.

    ``slots`` tasks run at once. ``labels`` and ``resources`` (``{"gpu": 1, "memory": 8e9}``) are
    what tasks may ask for; a task runs nowhere else. ``position``: two coordinates, or one.

    With ``data_dir`` (a folder of its own, made if missing) its log, vote and state are on disk:
    nothing is confirmed before it is synced, and a node that is started again with it, also at
    another address, goes on under the same id. Without, they are in memory, and a node that is
    started again is a new one.

    ``metrics`` and ``http`` are addresses, ``"127.0.0.1:9464"`` for instance: there Prometheus
    reads ``/metrics``, and a browser sees the cluster live. Both are for reading only, plain text,
    and on loopback, unless ``metrics_open`` or ``http_open`` says that other machines may read
    along.

    ``otlp``, ``"http://127.0.0.1:4317"`` for instance: the OpenTelemetry collector that is sent the
    spans of traced tasks while this node leads; by default that of OTEL_EXPORTER_OTLP_ENDPOINT.
    Only builds with the cargo feature ``otel`` can.

    ``tls``: the folder with this node's certificate, see :mod:`hustings.certs` (default:
    HUSTINGS_TLS). Then all its connections are inside TLS, it may listen beyond loopback, and its
    name is the certificate's. ``http_tls``: the folder of a client's certificate, with which the
    page asks its cluster there. ``admit="HOST:PORT"`` with ``ca``, the authority's folder: it gives
    nodes that have a token their certificate there.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        listen: str = "127.0.0.1:0",
        advertise: str | None = None,
        listen_clients: str | None = None,
        advertise_clients: str | None = None,
        join: Sequence[str] = (),
        voters: int | None = None,
        voter: bool = False,
        position: Position = (0.0, 0.0),
        slots: int | None = None,
        labels: Mapping[str, str] | None = None,
        resources: Mapping[str, float] | None = None,
        allow_pickle: bool = False,
        allow_threads: bool = False,
        allow_faults: bool = False,
        load: LoadSource | Mapping[str, Any] | None = None,
        config: Config | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        metrics: str | None = None,
        metrics_open: bool = False,
        http: str | None = None,
        http_open: bool = False,
        http_tls: str | os.PathLike[str] | None = None,
        otlp: str | None = None,
        tls: str | os.PathLike[str] | None = None,
        admit: str | None = None,
        ca: str | os.PathLike[str] | None = None,
    ) -> None:
        self._join = _addresses(join)
        self._founders = check_founders(self._join, voters)
        self._voter, self._alone = voter, not self._join and voters is None
        tls = certs.check_folder(tls)
        self._node = _core.Node(
            name=name or default_name(tls),
            listen=listen,
            advertise=advertise,
            clients=_check_clients(listen_clients, advertise_clients),
            position=check_position(position),
            slots=cores() if slots is None else check_slots(slots),
            labels=check_labels(labels),
            resources=check_resources(resources, cpu=False),
            allow_pickle=bool(allow_pickle),
            allow_threads=bool(allow_threads),
            allow_faults=bool(allow_faults),
            load=load.for_node(0) if isinstance(load, LoadSource) else load,
            config=_check_config(config).resolved(),
            data_dir=check_data_dir(data_dir),
            runner_argv=runner_argv(),
            runner_env=runner_env(),
            metrics=check_endpoint("metrics", metrics, metrics_open),
            http=check_endpoint("http", http, http_open),
            http_tls=None if http_tls is None else certs.check_folder(http_tls, "http_tls"),
            tls=tls,
            enrolment=_check_admission(admit, ca),
            otlp=_check_otlp(otlp),
        )
        self._allow_pickle, self._state = bool(allow_pickle), "new"

    def register(self, name: str, fn: Callable[..., Any] | str) -> None:
        """Lets the cluster run ``fn`` (a callable, or ``"module:qualname"``) under ``name``."""
        if isinstance(fn, str):
            self._node.register(name, reference=fn)
            return
        made = as_task(fn)
        reference = made.reference()
        if reference is not None:
            self._node.register(name, reference=reference)
        elif self._allow_pickle:
            self._node.register(name, pickled=made.pickled())
        else:
            raise ConfigError(
                f"register({name!r}): the function is not importable ({made!r}); put it in a "
                "module, "
                "or start the node with allow_pickle=True"
            )

    def task(self, fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """``@node.task``: makes a function a task and registers it on this node."""
        from .tasks import task

        def decorate(wrapped: Callable[..., Any]) -> Task[..., Any]:
            made: Task[..., Any] = task(**options)(wrapped)
            # The decorator still runs, so the module does not hold the task yet: register by value
            # or by its place.
            module, qualname = wrapped.__module__, wrapped.__qualname__
            if module != "__main__" and "<" not in qualname:
                self._node.register(made.name, reference=f"{module}:{qualname}")
            else:
                self.register(made.name, made)
            return made

        return decorate if fn is None else decorate(fn)

    def start(self, timeout: float = 30.0) -> Node:
        """Listens, founds, joins or resumes, and waits until a leader is known.

        Raises ``WaitTimeoutError``, and whatever :meth:`bind` raises.
        """
        self._begin()
        self._node.wait_ready(timeout)
        return self

    async def start_async(self, timeout: float = 30.0) -> Node:
        """:meth:`start` for a coroutine: the event loop goes on meanwhile."""
        self._begin()
        await self._node.wait_ready_async(timeout)
        return self

    def _begin(self) -> None:
        address = self.bind()
        if self._alone and not self._node.founded:
            warnings.warn(
                f"node {self.name!r} founds a cluster of its own at {address}; to found one "
                "together give every founder the same voters= and join=, to enter one give join=",
                HustingsWarning,
                stacklevel=3,
            )
        self.enter()

    def bind(self) -> str:
        """Listens and reads the data directory without entering a cluster; returns the address.

        Raises ``BindError``, ``StorageError``, ``CorruptLogError``, ``DataDirLockedError``.
        """
        if self._state != "new":
            raise StoppedError(f"node {self.name!r} was started before; make a new Node")
        address = self._node.bind()
        self._state = "bound"
        return address

    def enter(self) -> None:
        """Founds or joins the cluster it was made for; returns at once."""
        address = self.address
        founders = [address] if self._alone and address else self._founders
        if self._founders and address not in self._founders:
            raise InvalidPeersError(
                f"join: {address} is not among {', '.join(self._founders)}; a founder's own listen "
                "address must be "
                "in the list, the same list on every founder"
            )
        self._node.enter(
            founders=founders,
            join=[] if founders else self._join,
            voter=bool(founders) or self._voter,
        )
        self._state = "running"

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Blocks until this node is a member and knows a leader."""
        self._node.wait_ready(timeout)

    def stop(self, grace: float = 30.0) -> bool:
        """Hands over, finishes running tasks for up to ``grace`` seconds and ends. True: nothing
        was cut off."""
        return self._node.stop(grace) if self._leave() else True

    async def stop_async(self, grace: float = 30.0) -> bool:
        """:meth:`stop` for a coroutine. Cancelled, it ends the node at once."""
        if not self._leave():
            return True
        try:
            return await self._node.stop_async(grace)
        except BaseException:  # cancelled: nobody would finish it
            self._node.abort()
            raise

    def _leave(self) -> bool:
        """From now on it counts as stopped; true if there is somebody to say goodbye to."""
        before, self._state = self._state, "stopped"
        if before == "bound":
            self._node.abort()  # it is no member yet: nobody is there to hand over to
        return before == "running"

    def abort(self) -> None:
        """Ends at once, as a crash would, and kills its runners."""
        if self._state in ("bound", "running"):
            self._node.abort()
        self._state = "stopped"

    def drain(self, timeout: float | None = None) -> bool:
        """Hands leadership and unstarted work over and finishes what runs; the node stays up,
        idle."""
        return self._node.drain(30.0 if timeout is None else timeout)

    def run_forever(self) -> None:
        """Starts the node and blocks until Ctrl-C or ``stop()`` from another thread.

        Raises :attr:`failure` if the node ends by itself.
        """
        if self._state == "new":
            self.start()
        gone = threading.Event()
        try:
            while self._state == "running":
                gone.wait(0.5)
                if self.failure is not None:
                    raise self.failure
        except KeyboardInterrupt:
            self.stop()

    def notify_failure(self, descriptor: int) -> None:
        """Writes a zero byte to ``descriptor``, the writing end of a pipe, if it ends by itself."""
        self._node.notify_failure(descriptor)

    @property
    def founded(self) -> bool:
        """Whether it has a log with voters in it; right after :meth:`bind` that means that it came
        back with its data."""
        return self._node.founded

    @property
    def failure(self) -> BaseException | None:
        """Why it ended by itself (its disk failed, or another process has its id), or ``None``."""
        return self._node.failure

    @property
    def name(self) -> str:
        """Its name, unique in the cluster."""
        return self._node.name

    @property
    def id(self) -> str:
        """Its id, drawn at random when it (or its data directory) was made."""
        return self._node.id

    @property
    def address(self) -> str | None:
        """Where the other nodes reach it; ``None`` before :meth:`start`."""
        return self._node.address

    @property
    def client_address(self) -> str | None:
        """Where clients reach it: at :attr:`address`, unless it was given ``listen_clients``."""
        return self._node.client_address

    @property
    def metrics_address(self) -> str | None:
        """Where Prometheus reads ``/metrics``; ``None``: nowhere."""
        return self._node.metrics_address

    @property
    def http_address(self) -> str | None:
        """Where the live page is; ``None``: nowhere."""
        return self._node.http_address

    @property
    def state(self) -> str:
        """``"new"``, ``"bound"``, ``"running"`` or ``"stopped"``."""
        return self._state

    @property
    def role(self) -> str:
        """``"leader"``, ``"candidate"``, ``"follower"`` or ``"worker"``."""
        return str(self._node.status()["role"])

    @property
    def term(self) -> int:
        """The highest term it knows."""
        return int(self._node.status()["term"])

    @property
    def score(self) -> float:
        """Its smoothed score."""
        return float(self._node.status()["score"])

    @property
    def load(self) -> dict[str, Any]:
        """Its last sample."""
        return dict(self._node.status()["load"])

    @property
    def leader(self) -> Leader | None:
        """Whom it takes for the leader."""
        return Leader.from_status(self._node.status())

    @property
    def events(self) -> EventLog:
        """What happened on this node."""
        return EventLog(self._node.records())

    def members(self) -> list[Member]:
        """The members it knows."""
        return list(self.snapshot().members)

    def snapshot(self) -> Snapshot:
        """Its own view of the cluster."""
        return Snapshot.from_status(self._node.status())

    def tasks(self, state: str | None = None, limit: int = 1000) -> list[dict[str, Any]]:
        """Tasks as this node knows them, as ``Cluster.tasks`` has them: a follower may be behind,
        and a node that does not vote knows none."""
        return self._node.tasks(state, limit)

    def metrics(self) -> dict[str, int]:
        """The cluster-wide counters, as this node has applied them."""
        return dict(self.snapshot().counters)

    def __enter__(self) -> Node:
        return self if self._state == "running" else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Node:
        return self if self._state == "running" else await self.start_async()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop_async()

    def __repr__(self) -> str:
        return f"Node({self.name!r}, {self._state}, {self.address or 'not listening'})"

    def _repr_html_(self) -> str:
        rows = [("id", self.id), ("address", self.address or "-"), ("state", self._state)]
        if self._state == "running":
            rows += [("role", self.role), ("term", str(self.term)), ("score", f"{self.score:.2f}")]
            rows += [("fault", str(fault)) for fault in self.snapshot().faults]
        return html_table(f"Node {self.name}", ("", ""), rows)
