"""The native classes: node, client and futures run in Rust; this file is their reference."""

import os
from asyncio import Future as AsyncioFuture
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future as StdFuture
from types import GenericAlias
from typing import Any, Generic, TypeVar, final

from .context import Progress
from .explanation import Explanation, TaskEvent

_R = TypeVar("_R")

__all__ = [
    "VIEW_MODULE",
    "VIEW_STYLE",
    "Client",
    "CompletionQueue",
    "Future",
    "ItemReader",
    "Node",
    "__version__",
    "_drain",
    "certs_enrol",
    "certs_init",
    "certs_issue",
    "certs_read",
    "certs_token",
    "check_history",
    "check_traceparent",
    "force_new_cluster",
    "knobs",
    "on_fork_child",
    "resolve_config",
    "run_runner",
    "run_shop",
    "run_simulation",
    "run_sweep",
    "safe_dumps",
    "safe_dumps_call",
    "safe_loads",
    "set_codec_hooks",
    "shutdown",
]

__version__: str
VIEW_MODULE: str
"""The live page's ES module, which is the widget of notebooks too."""
VIEW_STYLE: str
"""Its style sheet."""

def check_history(rows: Iterable[Mapping[str, Any]], whole: bool = True) -> dict[str, Any]:
    """Judges a history of tasks by what clients and nodes saw; blocks without the GIL.

    Each row is a mapping with ``at_us``, ``kind``, ``task``, ``node`` or ``client``, and where
    there is one ``token`` and ``outcome``. Kinds are ``submitted``, ``accepted``, ``refused``,
    ``unknown``, ``started``, ``ended``, ``outcome`` and ``cancelled``; ``docs/simulation.md`` says
    what each means.

    Args:
        rows: In order of time, at most 50 million.
        whole: The history was kept until everything accepted had its time to come out. Only then
            can a task be lost.

    Returns:
        ``submitted``, ``accepted``, ``outcomes`` and ``attempts`` as counts, and ``lost``,
        ``double``, ``invented`` and ``contradicting`` as lists of ``(task, what was seen)``.

    Raises:
        ConfigError: A row is malformed; the text names its number and field.
    """

def check_traceparent(text: str) -> None:
    """Raises ``ConfigError`` for what is no W3C trace context of version 00."""

def certs_init(folder: str | os.PathLike[str]) -> tuple[str, str]:
    """Makes an authority; the id of its cluster and its fingerprint. Raises ``TlsConfigError``."""

def certs_issue(
    authority: str | os.PathLike[str],
    out: str | os.PathLike[str],
    role: str,
    name: str,
    hosts: Sequence[str],
    days: int,
) -> str:
    """Issues a certificate into ``out``; the identity in it. Raises ``ConfigError`` and its
    kinds."""

def certs_token(
    authority: str | os.PathLike[str], name: str, hosts: Sequence[str], days: int
) -> str:
    """A join token for a node of that name and addresses. Raises ``ConfigError`` and its kinds."""

def certs_read(folder: str | os.PathLike[str]) -> tuple[str, str, str]:
    """Cluster, role and name in a certificate. Raises ``TlsConfigError``, ``AuthError``."""

def certs_enrol(address: str, token: str, out: str | os.PathLike[str]) -> None:
    """Gets a certificate for a token. Raises ``AuthError``, ``ConfigError``, ``NoQuorumError``."""

def force_new_cluster(
    data_dir: str | os.PathLike[str], cluster: str | None = None
) -> tuple[str, str, int, int, list[tuple[str, str]]]:
    """Makes the voter of a stopped node's directory the only one, if ``cluster`` is its cluster's
    id; without that it only tells what is there.

    Returns:
        The id of the cluster, which is a new one afterwards, and of the node; term and index of
        its log's last entry; name and address of each voter, its own first.

    Raises:
        StorageError: It is no directory of a voter. Also ``DataDirLockedError`` and
            ``CorruptLogError``.
        ConfigError: ``cluster`` is another one.
    """

def knobs() -> list[dict[str, Any]]:
    """Every numeric knob: ``name``, ``doc``, ``min``, ``max``, ``default``. Does not block."""

def run_shop(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Runs one imagined run of tasks described as ``hustings.TaskSimulation`` does; blocks without
    the GIL.

    Raises:
        ConfigError: A part of ``spec`` is out of bounds.
    """

def run_simulation(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Runs one simulation described as ``hustings.Simulation`` does; blocks without the GIL.

    Raises:
        ConfigError: A part of ``spec`` is out of bounds.
    """

def run_sweep(spec: Mapping[str, Any], seeds: Sequence[int], threads: int) -> list[dict[str, Any]]:
    """Runs ``spec`` once for every seed on ``threads`` threads; blocks without the GIL.

    Raises:
        ConfigError: A part of ``spec``, or the number of seeds or threads, is out of bounds.
    """

def resolve_config(
    profile: str, overrides: Mapping[str, float | bool | str]
) -> dict[str, float | str]:
    """All knobs of ``profile`` with ``overrides`` applied and checked.

    Raises:
        ConfigError: an unknown knob or profile (with the nearest name), a value out of bounds, or a
            contradiction.
    """

def safe_dumps(value: Any, name: str, limit: int) -> bytes:
    """``value`` in the codec ``"safe"``, in at most ``limit`` bytes; errors call it ``name``.

    Raises:
        NotSerializableError: A part of it would not survive; the text says which.
        PayloadTooLargeError: It is over the limit.
    """

def safe_dumps_call(args: tuple[Any, ...], kwargs: dict[str, Any], limit: int) -> bytes:
    """The arguments of a call, as ``safe_dumps``."""

def safe_loads(body: bytes) -> Any:
    """The value in ``body``; executes nothing, whatever that is.

    Raises:
        ValueError: It is not what ``safe_dumps`` makes.
    """

def set_codec_hooks(
    decode: Callable[[str, bytes], Any],
    rebuild: Callable[[dict[str, Any]], BaseException],
) -> None:
    """Sets how results and failures become Python objects; called once by ``hustings`` itself.

    ``decode(codec, body)`` returns the value. ``rebuild(failure)`` returns the exception to raise;
    ``failure`` has ``kind`` ("failure", "lost", "timeout", "cancelled", "rejected"), ``type_name``,
    ``message``, ``traceback``, ``pickled``, ``attempts``, ``node``, ``task_id``, ``output`` (the
    last the task said), and for "rejected" ``refusal`` and ``retry_after_s``.
    """

def run_runner(
    load_function: Callable[[str, str | None, bytes | None], Callable[..., Any]],
    call: Callable[
        [Callable[..., Any], str, bytes, dict[str, Any]], tuple[bool, str, bytes, str, str, str]
    ],
) -> None:
    """The frame loop of a runner process, on file descriptor 0. Returns when the node closes it."""

def on_fork_child() -> None:
    """Marks every live object as unusable in a forked child.

    Registered with ``os.register_at_fork``.
    """

def shutdown() -> None:
    """Stops all nodes, clients and threads of this process.

    Registered with ``atexit``; safe to call twice.
    """

def _drain(chunk: list[tuple[AsyncioFuture[Any], Future[Any]]]) -> None:
    """On an event loop's own thread: copies outcomes into its futures. Native code calls it."""

@final
class Node:
    """A node: election, scheduling and runners, all native.

    See ``hustings.Node`` for the documented face.
    """

    def __new__(
        cls,
        *,
        name: str,
        listen: str = "127.0.0.1:0",
        advertise: str | None = None,
        clients: tuple[str, str | None] | None = None,
        position: tuple[float, float] = ...,
        slots: int = 1,
        labels: Mapping[str, str] | None = None,
        resources: Mapping[str, float] | None = None,
        allow_pickle: bool = False,
        allow_threads: bool = False,
        allow_faults: bool = False,
        load: Mapping[str, Any] | None = None,
        config: Mapping[str, float | str] | None = None,
        may_vote: bool = True,
        data_dir: str | os.PathLike[str] | None = None,
        runner_argv: Sequence[str] = ...,
        runner_env: Mapping[str, str] | None = None,
        metrics: tuple[str, bool] | None = None,
        http: tuple[str, bool] | None = None,
        http_tls: str | os.PathLike[str] | None = None,
        tls: str | os.PathLike[str] | None = None,
        enrolment: tuple[str, str | os.PathLike[str]] | None = None,
        otlp: str | None = None,
    ) -> Node:
        """Checks and keeps its arguments; ``bind`` acts on them.

        ``clients``: where a listener for clients alone is, and where they reach it, if elsewhere.
        ``tls``: the folder with its certificate; ``http_tls``: that of a client's, with which the
        page asks its cluster. ``enrolment``: where it admits nodes that have a token, and the
        folder of the authority. ``otlp``: whom it sends spans; refused with ``ConfigError`` by a
        build without the cargo feature ``otel``.

        It stands at the origin unless ``position`` says otherwise. Without ``runner_argv`` it runs
        no tasks. ``metrics`` and ``http`` are addresses for Prometheus and for the live page, each
        with whether it may be other than loopback.
        """
    def register(
        self, name: str, reference: str | None = None, pickled: bytes | None = None
    ) -> None:
        """Makes a function known to this node; told to the cluster when it joins."""
    def bind(self) -> str:
        """Starts to listen, opens its data directory and returns the address.

        Blocks for milliseconds, or as long as reading the data directory takes. Raises
        ``InsecureBindError``, ``BindError``, ``StorageError``, ``CorruptLogError``,
        ``DataDirLockedError``.
        """
    def enter(
        self, *, founders: Sequence[str] = ..., join: Sequence[str] = ..., voter: bool = False
    ) -> None:
        """Founds a cluster with ``founders`` (all given the same list), or joins one through
        ``join``; returns at once. Both are empty by default.
        """
    def wait_ready(self, timeout: float) -> None:
        """Blocks until this node is a member and knows a leader. Raises ``WaitTimeoutError``."""
    def wait_ready_async(self, timeout: float) -> AsyncioFuture[None]:
        """``wait_ready`` for a coroutine."""
    def stop(self, grace: float = 30.0) -> bool:
        """Hands over, hands back, finishes up to ``grace`` seconds.

        True if nothing was cut off. Blocks.
        """
    def stop_async(self, grace: float = 30.0) -> AsyncioFuture[bool]:
        """``stop`` for a coroutine. Cancelled, it leaves the node half stopped: ``abort`` it."""
    def abort(self) -> None:
        """Ends at once without a goodbye, as a crash would, and kills its runners."""
    def freeze(self) -> None:
        """Stops all of it, runners excepted, as SIGSTOP would stop a process. Blocks for
        milliseconds.
        """
    def resume(self) -> None:
        """Lets a frozen node go on."""
    def drain(self, timeout: float) -> bool:
        """Hands leadership and unstarted work over and finishes running work; the node stays up,
        idle. Blocks.
        """
    def status(self) -> dict[str, Any]:
        """This node's own view; same shape as ``Client.status``. Does not block."""
    def tasks(self, state: str | None = None, limit: int = 1000) -> list[dict[str, Any]]:
        """Tasks as this node knows them; same shape as ``Client.tasks``. Does not block."""
    def records(self, after_seq: int = 0) -> list[dict[str, Any]]:
        """This node's records after ``after_seq``. Does not block."""
    def notify_failure(self, descriptor: int) -> None:
        """Writes a zero byte to ``descriptor``, the writing end of a pipe, when the node ends by
        itself. The descriptor is duplicated. Does not block.
        """
    @property
    def failure(self) -> BaseException | None:
        """The error by which the node ended by itself; ``None`` while it runs or was stopped."""
    @property
    def founded(self) -> bool:
        """Whether it has a log with voters in it: after ``bind``, whether it came back with its
        data.
        """
    @property
    def client_address(self) -> str | None:
        """Where clients reach it; ``None`` before ``bind``."""
    @property
    def metrics_address(self) -> str | None:
        """Where Prometheus reads ``/metrics``; ``None``: nowhere, or before ``bind``."""
    @property
    def http_address(self) -> str | None:
        """Where the live page is; ``None``: nowhere, or before ``bind``."""
    @property
    def address(self) -> str | None: ...
    @property
    def name(self) -> str: ...
    @property
    def id(self) -> str: ...

@final
class Client:
    """A connection to a cluster: follows the leader, reconnects, resubmits and resubscribes by
    itself.
    """

    def __new__(
        cls,
        addresses: Sequence[str],
        *,
        allow_pickle: bool = False,
        timeout: float = 10.0,
        pinned: bool = False,
        watch: bool = True,
        tls: str | os.PathLike[str] | None = None,
    ) -> Client:
        """Connects. ``tls``: the folder with this client's certificate. Raises ``AuthError``,
        ``NoQuorumError``, ``TlsConfigError``.

        ``pinned``: stay with the first reachable address instead of moving to the leader.
        """
    def function(
        self, name: str, reference: str | None = None, pickled: bytes | None = None
    ) -> bytes:
        """The hash under which tasks may name this function; its body travels with the first task
        that needs it.
        """
    def submit(
        self,
        name: str,
        hash: bytes | None,
        codec: str,
        payload: bytes,
        *,
        retries: int = 0,
        timeout_ms: int = 0,
        backoff_ms: int = 0,
        priority: int = 5,
        task_id: bytes | None = None,
        delay_ms: int = 0,
        queue_timeout_ms: int = 0,
        deadline_ms: int = 0,
        key: str | None = None,
        on_duplicate: str = "join",
        slots: int = 1,
        labels: Mapping[str, str] | None = None,
        resources: Mapping[str, float] | None = None,
        idempotent: bool = False,
        in_thread: bool = False,
        traceparent: str | None = None,
    ) -> Future[Any]:
        """Queues a task and returns at once; a refusal arrives as the future's exception. Times
        that are 0 are no bound.

        Blocks (interruptibly) only while the client's own bounded queue is full.
        """
    def future(self, task_id: bytes) -> Future[Any]:
        """A handle on a task submitted earlier, by anybody."""
    def explain(self, task_id: bytes, timeout: float = 5.0) -> dict[str, Any]:
        """Why a task is where it is: ``kind``, ``sentence``, ``facts`` (a dict), ``history`` (a
        list of ``{at_ms, kind, node, node_name, attempt}``) and ``skipped``, the steps left out.

        Blocks for one question to the leader, at most ``timeout`` seconds; without a quorum that is
        the answer.
        """
    def cancel(
        self, task_ids: Sequence[bytes], kill: bool = False, timeout: float = 10.0
    ) -> list[bytes]: ...
    def status(self, address: str | None = None, timeout: float = 5.0) -> dict[str, Any]:
        """The view of the node at ``address``, or of the leader (or any node, if none leads).

        Keys: ``me`` (member), ``cluster_id``, ``role``, ``term``, ``leader_node``,
        ``leader_address``, ``leader_ready``, ``score``, ``load``, ``members`` (list of ``{id, name,
        address, slots, x, y, labels, resources, voter, pid, alive, score, queued, running,
        load}``), ``voters``, ``voters_reachable``, ``counters``, ``version``, ``draining``,
        ``uptime_s``, ``allow_pickle``, ``allow_faults``, ``faults`` (list of ``{source, target,
        cut, drop, delay_s, jitter_s}``), ``clock_rate``, ``removed``, ``problem`` (why it can never
        be a member, or ``None``), ``refusals`` (``{wrong_cluster, wrong_node, strangers}``),
        ``steals`` (``{asked, granted, refused}``, or ``None`` where it does not lead),
        ``last_log_index``, ``applied_index``. Ids are 16-digit hex strings, ``None`` for nobody.
        """
    def tasks(
        self, state: str | None = None, limit: int = 1000, timeout: float = 5.0
    ) -> list[dict[str, Any]]:
        """Tasks as ``{task_id, function, state, node, attempt, token, key}``; ``state``:
        ``"pending"``, ``"assigned"``, ``"succeeded"``, ``"failed"``, ``"cancelled"``,
        ``"quarantined"`` or ``"expired"``.
        """
    def drain_node(self, address: str, grace: float = 30.0) -> int: ...
    def handover(self, to: str | None = None, timeout: float = 5.0) -> str: ...
    def remove_member(self, node: str, *, check_only: bool = False, timeout: float = 10.0) -> str:
        """Removes a member by its id; returns what is odd about the voters that are left, or an
        empty text. ``check_only``: only says whether it would be refused.

        Asks again while nobody leads. Raises ``UnsafeMembershipChangeError``,
        ``MembershipChangeInProgressError``, ``NoQuorumError``, ``ConfigError``.
        """
    def move_member(self, node: str, position: tuple[float, float], timeout: float = 10.0) -> None:
        """Says where a member, by its id, stands from now on; returns once that is committed.

        Asks again while nobody leads. Raises ``NoQuorumError``, ``ConfigError``.
        """
    def inject_faults(
        self,
        address: str,
        links: Sequence[tuple[str, str, bool, float, float, float]] = ...,
        *,
        heal: bool = False,
        clock_rate: float | None = None,
        quiet: bool = False,
        note: str = "",
        timeout: float = 2.0,
    ) -> None:
        """Makes and mends faults at the node at ``address``, which must be one end of each link.

        A link is ``(source, target, cut, drop, delay_s, jitter_s)``, ids of nodes first; none by
        default. ``heal`` ends all others before. Each change becomes a row of history unless
        ``quiet``; ``note`` becomes one for all. Raises ``FaultInjectionDisabledError``,
        ``ConfigError``, ``WaitTimeoutError``.
        """
    def records(
        self, after: int = 0, limit: int = 100_000, condensed: bool = False
    ) -> tuple[int, list[dict[str, Any]]]:
        """Records of all nodes as received so far, from position ``after``; returns the next
        position and the rows. ``condensed``: as a view takes them, without those that every status
        shows anyway, and alike ones of what comes by the thousand as the last of them, with a
        ``count``.

        A row: ``seq, at_us, node, node_name, kind, term, subject, score, rank, task_id, attempt,
        value, detail``.
        """
    def wait_leader(self, timeout: float) -> dict[str, Any]:
        """Blocks until a node leads with its quorum's lease; returns that node's status.

        Obeys Ctrl-C.
        """
    def wait_leader_async(self, timeout: float) -> AsyncioFuture[dict[str, Any]]:
        """``wait_leader`` for a coroutine; cancelling it ends the wait."""
    def pending(self) -> int:
        """Futures of this client that have no outcome yet."""
    def close(self) -> None: ...
    @property
    def connected_to(self) -> str | None: ...
    @property
    def addresses(self) -> list[str]: ...

@final
class ItemReader:
    """Reads what a generator task yields, each item once and in order. Thread-safe."""

    def __new__(cls, future: Future[Any]) -> ItemReader: ...
    def next(self, timeout: float | None = None) -> tuple[Any] | None:
        """The next item, in a tuple; ``None`` after the last one, when the task has its outcome, or
        after ``close``. Blocks, interruptibly. Raises ``WaitTimeoutError``, ``StreamError``.
        """
    def ready(self) -> AsyncioFuture[None]:
        """For a coroutine: done when ``next`` would not wait."""
    def close(self) -> None:
        """Reads no more; a task without an outcome is cancelled and killed. Waits for nothing."""
    @property
    def attempt(self) -> int:
        """The attempt that yielded the item given last; 0: none was given."""

@final
class Future(Generic[_R]):
    """A task's outcome to come. Thread-safe; the result stays bytes until it is asked for."""

    @property
    def task_id(self) -> str:
        """Its id; once it joined another task by its key, that one's."""
    @property
    def key(self) -> str | None:
        """The ``key`` it was submitted with; ``None`` also where it was found by its id."""
    @property
    def state(self) -> str:
        """``"submitted"``, ``"accepted"``, ``"succeeded"``, ``"failed"``, ``"cancelled"``,
        ``"expired"``, ``"quarantined"``, ``"lost"`` (the cluster does not know it any more) or
        ``"rejected"``.
        """
    @property
    def node(self) -> str | None: ...
    @property
    def attempt(self) -> int: ...
    @property
    def progress(self) -> Progress | None:
        """How far the task's attempt was when it last said so, by ``get_context().progress``; a few
        times a second it is news. ``None``: it said nothing yet. Does not block.
        """
    def output(self) -> str:
        """The last that the task's last attempt printed and logged, at most
        ``limits.task_output_bytes``; empty while it has no outcome. Does not block. Of the last one
        that came to an end, where the task's own end was none (a node died, it was cancelled).
        """
    def outputs(self) -> dict[int, str]:
        """The same by attempt, oldest first: of attempts before the last one, the last 2 KiB of all
        together. Does not block. Attempts that said nothing, or died with their node, are missing.
        """
    def result(self, timeout: float | None = None) -> _R: ...
    def exception(self, timeout: float | None = None) -> BaseException | None: ...
    def done(self) -> bool: ...
    def running(self) -> bool:
        """Accepted by the cluster and without an outcome."""
    def cancelled(self) -> bool: ...
    def cancel(self, kill: bool = False) -> bool: ...
    def why(self, timeout: float = 5.0) -> Explanation:
        """Why the task is where it is, as its leader sees it.

        Blocks for one question to the leader, at most ``timeout`` seconds; without a quorum that is
        the answer. ``str()`` of it is a sentence.
        """
    def history(self, timeout: float = 5.0) -> list[TaskEvent]:
        """What happened to the task so far, oldest first, its outcome last. Blocks as ``why``."""
    def add_done_callback(self, fn: Callable[[Future[_R]], object], /) -> None: ...
    def as_future(self) -> StdFuture[_R]:
        """A real ``concurrent.futures.Future`` with the same outcome; cancelling it cancels the
        task."""
    def __await__(self) -> Generator[Any, None, _R]:
        """Waits in a coroutine. Cancelling the wait cancels the task, unless it runs already."""
    def _repr_html_(self) -> str:
        """A card for notebooks."""
    def __class_getitem__(cls, key: Any) -> GenericAlias: ...

@final
class CompletionQueue:
    """Yields futures as they finish; one wake-up serves many."""

    def __new__(cls, futures: Iterable[Future[Any]]) -> CompletionQueue: ...
    def next(self, timeout: float | None = None) -> Future[Any] | None:
        """The next finished future; ``None`` when all were given out.

        Raises ``WaitTimeoutError``. Obeys Ctrl-C.
        """
    def remaining(self) -> int: ...
