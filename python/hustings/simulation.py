"""Clusters that are imagined: the real election under virtual time, repeatable by its seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import _core
from .config import Config
from .errors import ConfigError, did_you_mean
from .events import EventLog
from .failures import RandomFailures
from .loads import LoadsArgument, resolve
from .members import html_table
from .node import cores

MAX_NODES = 7
"""Nodes of one simulation; all of them vote."""
MAX_WORKERS = 64
"""Nodes of one simulation that only work."""
MAX_SECONDS = 366 * 86_400.0
"""Virtual seconds of one run."""

Step = tuple[Any, ...]
"""``(seconds, action, *arguments)``."""

_ACTIONS: dict[str, tuple[int, int]] = {
    "kill": (1, 1),
    "restart": (1, 1),
    "freeze": (1, 1),
    "resume": (1, 1),
    "isolate": (1, 1),
    "partition": (2, MAX_NODES),
    "cut": (2, 2),
    "delay": (3, 4),
    "drop": (3, 3),
    "clock_rate": (2, 2),
    "handover": (0, 1),
    "unseat": (1, 1),
    "seat": (1, 1),
    "power_cut": (0, 1),
    "rot": (1, 1),
    "full": (1, 1),
    "sync_error": (1, 1),
    "slow_disk": (2, 2),
    "heal": (0, 0),
}
"""Every action of a script and how many arguments it takes; the words are those of ``Cluster``."""


@dataclass(frozen=True)
class LeaderChange:
    """One change of leader of a simulated cluster, by the simulation's own clock."""

    term: int
    leader: str
    cause: str
    """``"founding"``, ``"failover"``, ``"handover"``, or ``"needless"`` (the old one was well)."""
    at_s: float
    """When the new leader began, in virtual seconds."""
    duration_s: float | None
    """Since the old leader was lost, or began to hand over."""
    accepted_s: float | None
    """Since then until the first write was acknowledged; ``None``: nobody wrote."""
    best: str | None
    """The best-ranked survivor that could win; ``None``: the survivors' tables did not agree."""
    terms: int
    """Terms it took; 1 if the first candidate won."""

    @property
    def best_won(self) -> bool | None:
        """Whether the best-ranked survivor leads now; ``None`` if there was no agreed best."""
        return None if self.best is None else self.best == self.leader


@dataclass(frozen=True)
class Violation:
    """A promise that was broken; there are none unless a bug was planted, or found."""

    promise: str
    """Its number: ``"G1"`` and so on."""
    at_s: float
    problem: str


@dataclass(frozen=True)
class TaskFigures:
    """What became of the tasks of one run, by the checker's count (``docs/simulation.md``)."""

    submitted: int
    accepted: int
    outcomes: int
    """Tasks that have an outcome."""
    attempts: int
    """Attempts that began."""
    lost: int
    """Accepted, and they never came out."""
    double: int
    """One attempt of them began at two nodes."""
    invented: int
    """They came out, and nobody had put them in."""
    contradicting: int
    """Two of their outcomes differ."""
    drained_s: float | None
    """Virtual seconds from healing until everything accepted had its outcome."""


@dataclass(frozen=True)
class Outcome:
    """What one run came to, without its rows."""

    seed: int
    duration_s: float
    """Virtual seconds, healing included."""
    changes: tuple[LeaderChange, ...]
    violations: tuple[Violation, ...]
    faults: Mapping[str, int]
    """Faults made and mended, by kind."""
    writes: tuple[int, int]
    """Sent, and acknowledged."""
    messages: int
    facts: int
    """What the promises were held against."""
    trace: str
    """A digest of every message and its time: the same seed gives the same trace."""
    healed_s: float | None
    """Virtual seconds from the end of all faults until every node served again; ``None`` if it was
    not asked for, or never came."""
    tasks: TaskFigures | None = None
    """``None`` where nobody submitted any."""

    def failovers(self) -> list[LeaderChange]:
        """The unplanned changes of leader."""
        return [change for change in self.changes if change.cause == "failover"]

    def __repr__(self) -> str:
        broken = f", {len(self.violations)} BROKEN PROMISES" if self.violations else ""
        return (
            f"{type(self).__name__}(seed={self.seed}, {self.duration_s:.0f} virtual s, "
            f"{len(self.changes)} leaders, {len(self.failovers())} failovers{broken})"
        )


@dataclass(frozen=True, repr=False)
class Run(Outcome):
    """What one simulation did: the same rows a live cluster writes, in virtual time."""

    events: EventLog = field(default_factory=lambda: EventLog([]))
    task_rows: Sequence[Mapping[str, Any]] = ()
    """What clients and nodes saw of tasks, in order, as a checker of histories wants it."""

    def _repr_html_(self) -> str:
        rows = [
            (
                f"{c.at_s:.2f}",
                c.term,
                c.leader,
                c.cause,
                "-" if c.duration_s is None else f"{c.duration_s * 1e3:.1f}",
                {None: "-", True: "yes", False: "no"}[c.best_won],
            )
            for c in self.changes
        ]
        header = ("at, s", "term", "leader", "by", "without a leader, ms", "best won")
        return html_table(repr(self), header, rows)


class Sweep(Sequence[Outcome]):
    """Many runs of one simulation, each with a seed of its own."""

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        self._outcomes = tuple(outcomes)

    def changes(self) -> list[LeaderChange]:
        """Every change of leader in every run."""
        return [change for outcome in self._outcomes for change in outcome.changes]

    def failovers(self) -> list[LeaderChange]:
        """Every unplanned change of leader in every run."""
        return [change for change in self.changes() if change.cause == "failover"]

    @property
    def violations(self) -> list[tuple[int, Violation]]:
        """Every broken promise, with the seed that shows it."""
        return [(o.seed, violation) for o in self._outcomes for violation in o.violations]

    @property
    def best_share(self) -> float:
        """The share of failovers won by the best-ranked survivor, of those with an agreed best."""
        judged = [c.best_won for c in self.failovers() if c.best_won is not None]
        return sum(judged) / len(judged) if judged else math.nan

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Sweep(self._outcomes[index])
        return self._outcomes[index]

    def __len__(self) -> int:
        return len(self._outcomes)

    def __repr__(self) -> str:
        hours = sum(o.duration_s for o in self._outcomes) / 3600
        return (
            f"Sweep({len(self)} runs, {hours:.1f} virtual hours, "
            f"{len(self.failovers())} failovers, best won {self.best_share:.2%}, "
            f"{len(self.violations)} broken promises)"
        )


class Simulation:
    """A cluster that is imagined, ready to run.

    It runs the very code that real nodes run for their elections (measuring, ranking, suspicion,
    poll, openraft) and for their tasks (placing, stealing, leases, fencing, retention) over an
    in-memory network under virtual time. What a task computes is not simulated: attempts take a
    while and return, raise or die by chance. The same arguments and seed give the same run, to the
    last message.

    Args:
        nodes: How many, from 1 to 7; all of them vote. They are called ``n1``, ``n2`` and so on.
        seed: From 0 to 2**64 - 1.
        loads: As for ``Cluster.local``; ``None``: every node measures the same.
        config: The knobs of every node; ``None``: ``Config.lan()``.
        latency_s: Least and greatest time of a message, one way, in seconds; at most 10.
        writes_per_s: Entries a client writes, from 0 to 10 000 a second.
        reads_per_s: Linearizable reads a client makes, likewise.
        script: What happens when: ``(seconds, action, *arguments)`` with the words of ``Cluster``:
            ``(5, "kill", "leader")``, ``(8, "restart", "n1")``,
            ``(9, "partition", ["n1", "n2"], ["n3", "n4", "n5"])``, ``(12, "heal")``. Where a node
            is meant, ``"leader"`` is whoever leads then and ``"best"`` the best-ranked other one.
        failures: What fails by chance.
        workers: Nodes that only work, from 0 to 64, called ``w1``, ``w2`` and so on.
        tasks_per_s: Tasks that three clients submit together, from 0 to 10 000 a second. They retry
            under the same id, follow, acknowledge, cancel, and submit some ids again.
        task_s: Mean seconds an attempt takes, from 0.001 to 3600.
        disk: ``True``: a node that comes back finds its log again. ``False``: it comes back empty,
            under a new id, and is given its old seat. ``"imagined"``: voters keep log, vote and
            snapshots through the product's own storage on imagined disks, which may forget what was
            not synced, tear, rot, fill up, fail and be slow.
        heal: Mend everything at the end and require that the cluster serves again.
        bug: A rule that is broken on purpose, by name; for tests of the promises.

    Raises:
        ConfigError: A value is out of bounds; the text names it.

    Example:
        >>> import hustings as hs
        >>> run = hs.Simulation(5, seed=42, script=[(5, "kill", "leader")]).run(seconds=10)
        >>> [change.cause for change in run.changes]
        ['founding', 'failover']
    """

    def __init__(
        self,
        nodes: int = 5,
        *,
        seed: int = 0,
        loads: LoadsArgument | None = None,
        config: Config | None = None,
        latency_s: tuple[float, float] = (0.0002, 0.0006),
        writes_per_s: float = 20.0,
        reads_per_s: float = 0.0,
        script: Iterable[Step] = (),
        failures: RandomFailures | None = None,
        workers: int = 0,
        tasks_per_s: float = 0.0,
        task_s: float = 0.2,
        disk: bool | str = True,
        heal: bool = True,
        bug: str | None = None,
    ) -> None:
        if isinstance(nodes, bool) or not isinstance(nodes, int) or not 1 <= nodes <= MAX_NODES:
            raise ConfigError(
                f"nodes={nodes!r}: give a whole number of voters from 1 to {MAX_NODES}"
            )
        if config is not None and not isinstance(config, Config):
            raise ConfigError(f"config={config!r}: give a hustings.Config")
        if failures is not None and not isinstance(failures, RandomFailures):
            raise ConfigError(f"failures={failures!r}: give a hustings.RandomFailures")
        if disk not in (True, False, "imagined"):
            raise ConfigError(f'disk={disk!r}: give True, False or "imagined"')
        self.nodes = nodes
        self.seed = _seed(seed)
        names = [f"n{i + 1}" for i in range(nodes)]
        everybody = [*names, *(f"w{i + 1}" for i in range(_workers(workers)))]
        given = resolve(loads, names)
        measured = [load is None or load["kind"] == "measured" for load in given]
        if any(measured) and loads is not None:
            raise ConfigError("loads: give one for every node; a simulated node cannot measure")
        self._spec: dict[str, Any] = {
            "nodes": nodes,
            "seed": self.seed,
            "seconds": 0.0,
            "loads": [load for load in given if load is not None],
            "config": (config or Config()).resolved(),
            "latency_s": _pair("latency_s", latency_s),
            "writes_per_s": _number("writes_per_s", writes_per_s, 0.0, 10_000.0),
            "reads_per_s": _number("reads_per_s", reads_per_s, 0.0, 10_000.0),
            "script": [_step(step, everybody) for step in script],
            "failures": None if failures is None else _failures(failures),
            "workers": _workers(workers),
            "tasks_per_s": _number("tasks_per_s", tasks_per_s, 0.0, 10_000.0),
            "task_s": _number("task_s", task_s, 1e-3, 3_600.0),
            "disk": bool(disk),
            "storage": disk == "imagined",
            "heal": bool(heal),
            "bug": bug,
            "stop_at_violation": bug is not None,
        }

    def run(self, *, seconds: float = 60.0) -> Run:
        """Runs it for ``seconds`` of virtual time, at most a year. Blocks; a minute of five idle
        nodes takes well under a second."""
        spec = {**self._spec, "seconds": _number("seconds", seconds, 1e-3, MAX_SECONDS)}
        result = _core.run_simulation(spec)
        events = EventLog(result["rows"])
        rows = result["task_rows"]
        return Run(**_outcome(self.seed, result), events=events, task_rows=rows)

    def sweep(
        self, seeds: Iterable[int], *, seconds: float = 60.0, threads: int | None = None
    ) -> Sweep:
        """Runs it once for every seed, on ``threads`` threads (default: all cores). Blocks; obeys
        Ctrl-C between runs. Random failures are drawn from the run's seed as well."""
        chosen = [_seed(seed) for seed in seeds]
        if not chosen:
            raise ConfigError("seeds: give at least one")
        spec = {**self._spec, "seconds": _number("seconds", seconds, 1e-3, MAX_SECONDS)}
        results = _core.run_sweep(spec, chosen, cores() if threads is None else threads)
        return Sweep(
            Outcome(**_outcome(seed, result)) for seed, result in zip(chosen, results, strict=True)
        )

    def __repr__(self) -> str:
        return f"Simulation({self.nodes} nodes, seed={self.seed})"


def _outcome(seed: int, result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "seed": seed,
        "duration_s": result["duration_s"],
        "changes": tuple(LeaderChange(**reign) for reign in result["reigns"]),
        "violations": tuple(Violation(*violation) for violation in result["violations"]),
        "faults": dict(result["faults"]),
        "writes": tuple(result["writes"]),
        "messages": result["messages"],
        "facts": result["facts"],
        "trace": result["trace"],
        "healed_s": result["healed_s"],
        "tasks": _tasks(result),
    }


def _tasks(result: Mapping[str, Any]) -> TaskFigures | None:
    told = result["tasks"]
    if not told["submitted"]:
        return None
    counts = {name: told[name] for name in ("submitted", "accepted", "outcomes", "attempts")}
    flaws = {name: len(told[name]) for name in ("lost", "double", "invented", "contradicting")}
    return TaskFigures(**counts, **flaws, drained_s=result["drained_s"])


def _failures(failures: RandomFailures) -> dict[str, Any]:
    return {
        "mtbf_s": failures.mtbf_s,
        "mttr_s": failures.mttr_s,
        "kinds": list(failures.kinds),
        "spare_majority": failures.spare_majority,
        "seed": failures.seed,
    }


def _workers(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_WORKERS:
        raise ConfigError(f"workers={value!r}: give a whole number from 0 to {MAX_WORKERS}")
    return value


def _seed(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**64:
        raise ConfigError(f"seed={value!r}: give a whole number from 0 to 2**64 - 1")
    return value


def _number(name: str, value: object, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ConfigError(f"{name}={value!r}: give a number from {least:g} to {most:g}")
    return float(value)


def _pair(name: str, value: object) -> tuple[float, float]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ConfigError(f"{name}={value!r}: give (least, greatest) seconds")
    least, most = (_number(name, part, 0.0, 10.0) for part in value)
    if least > most:
        raise ConfigError(f"{name}={value!r}: the least is greater than the greatest")
    return least, most


def _step(step: object, names: Sequence[str]) -> Step:
    if not isinstance(step, (tuple, list)) or len(step) < 2:
        raise ConfigError(f"script: {step!r} is no step; give (seconds, action, *arguments)")
    at, action, *arguments = step
    at = _number(f"script: the time of {step!r}", at, 0.0, MAX_SECONDS)
    if action not in _ACTIONS:
        hint = did_you_mean(str(action), list(_ACTIONS))
        raise ConfigError(f"script: {action!r} is none of {', '.join(_ACTIONS)}{hint}")
    least, most = _ACTIONS[action]
    if not least <= len(arguments) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise ConfigError(
            f"script: {action!r} takes {wanted} arguments, {step!r} has {len(arguments)}"
        )
    if action == "partition":
        return at, action, [[_who(name, names) for name in group] for group in arguments]
    if action == "clock_rate":
        rate = _number("script: the rate of clock_rate", arguments[1], 0.01, 100.0)
        return at, action, [_who(arguments[0], names), rate]
    if action in ("cut", "delay", "drop"):
        ends = [None if end is None else _who(end, names) for end in arguments[:2]]
        bound = 1.0 if action == "drop" else 60.0
        figures = [_number(f"script: {action}", figure, 0.0, bound) for figure in arguments[2:]]
        return at, action, [*ends, *figures, *([0.0] if len(figures) == 1 else [])]
    if action == "slow_disk":
        slow = _number("script: the seconds of slow_disk", arguments[1], 0.0, 60.0)
        return at, action, [_who(arguments[0], names), slow]
    if action in ("handover", "power_cut"):
        return at, action, [_who(arguments[0], names) if arguments else None]
    return at, action, [_who(name, names) for name in arguments]


def _who(name: object, names: Sequence[str]) -> str:
    known = [*names, "leader", "best"]
    if name not in known:
        raise ConfigError(
            f"script: {name!r} is no node{did_you_mean(str(name), known)}; they are "
            f'{", ".join(names)}, and "leader" or "best"'
        )
    return str(name)
