"""The main job: five nodes work through real files while their leader is killed and a worker
frozen."""

from __future__ import annotations

import ast
import contextlib
import csv
import hashlib
import json
import os
import queue
import sys
import sysconfig
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._core import Client, Future
from .cluster import Cluster
from .config import Config, Limits, StealPolicy
from .errors import HustingsError, WaitTimeoutError
from .events import COLUMNS, EventLog
from .future import Deadline
from .incidents import LEASE_S, Incidents
from .local import LocalNode
from .members import Leader
from .progress import start_bar
from .tasks import task

NODES = 5
MAX_FILES = 20_000
MAX_FILE_BYTES = 32 << 20
"""Larger files are refused: one task holds its file in memory."""
MAX_TASKS = 200_000
LOW_WATER = 200
"""With fewer unfinished tasks than this and something still to be shown, the files are dealt
again."""
STORY_LIMIT_S = 120.0
"""How long the demo tries to show everything before it settles for the work itself."""
FINISH_LIMIT_S = 120.0
"""How long the last outcomes may take."""
_LOOK_S = 0.05


class DemoInputError(ValueError):
    """The folder cannot be used; one sentence."""


@task(retries=2, timeout=120)
def count_file(path: str) -> dict[str, Any]:
    """Lines, words, definitions and SHA-256 of one Python file; ``definitions`` is None if it does
    not parse."""
    with open(path, "rb") as file:
        body = file.read(MAX_FILE_BYTES + 1)
    if len(body) > MAX_FILE_BYTES:
        raise ValueError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
    definitions: int | None = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(body)
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        definitions = sum(isinstance(node, kinds) for node in ast.walk(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        definitions = None
    return {
        "lines": body.count(b"\n"),
        "words": len(body.split()),
        "definitions": definitions,
        "sha256": hashlib.sha256(body).hexdigest(),
    }


def find_files(folder: str | None) -> tuple[Path, list[str]]:
    """Every ``.py`` file below ``folder`` (default: the standard library). Raises
    ``DemoInputError``."""
    root = Path(folder) if folder is not None else Path(sysconfig.get_path("stdlib"))
    skipped = set() if folder is not None else {"site-packages", "dist-packages"}
    if not root.exists():
        raise DemoInputError(f"there is no folder {str(root)!r}")
    if not root.is_dir():
        raise DemoInputError(f"{str(root)!r} is not a folder")
    problems: list[OSError] = []
    files: list[str] = []
    for place, folders, names in os.walk(root, onerror=problems.append):
        folders[:] = sorted(f for f in folders if f != "__pycache__" and f not in skipped)
        found = (os.path.join(place, name) for name in sorted(names) if name.endswith(".py"))
        files += [os.path.abspath(path) for path in found if os.path.isfile(path)]
        if len(files) > MAX_FILES:
            raise DemoInputError(
                f"more than {MAX_FILES} .py files below {str(root)!r}; name a smaller folder"
            )
    if problems:
        raise DemoInputError(f"cannot read {problems[0].filename!r}: {problems[0].strerror}")
    if not files:
        raise DemoInputError(f"there is no .py file below {str(root)!r}")
    unreadable = next((path for path in files if not os.access(path, os.R_OK)), None)
    if unreadable is not None:
        raise DemoInputError(f"cannot read {unreadable!r}: permission denied")
    return root, files


@dataclass
class Result:
    """What the demo found, for the screen and for ``--json``."""

    files: int = 0
    passes: int = 0
    submitted: int = 0
    lines: int = 0
    words: int = 0
    definitions: int = 0
    digest: str = ""
    leaders: list[str] = field(default_factory=list)
    failovers: list[str] = field(default_factory=list)
    failover_ms: float | None = None
    frozen: str | None = None
    entry_killed: str | None = None
    steals: int = 0
    retries: int = 0
    reassigned: int = 0
    late_completions: int = 0
    duplicates: int = 0
    failed: int = 0
    not_accepted: int = 0
    accepted_without_outcome: int = 0
    different: int = 0
    totals_equal: bool = False
    work_s: float = 0.0
    plain_s: float = 0.0
    picture: str | None = None
    table: str | None = None
    done_by: dict[str, int] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """The promise: same totals, nothing accepted and lost."""
        return self.totals_equal and self.accepted_without_outcome == 0 and self.not_accepted == 0


class Work:
    """Deals the files out, pass after pass, and keeps every outcome."""

    def __init__(self, cluster: Cluster, files: list[str]) -> None:
        self._cluster = cluster
        self._files = files
        self._arrived: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._open: dict[str, tuple[Future[Any], str]] = {}
        self.passes = 0
        self.submitted = 0
        self.done = 0
        self.outcomes: dict[str, list[dict[str, Any]]] = {}
        self.failures: list[BaseException] = []
        self.done_by: Counter[str] = Counter()

    @property
    def unfinished(self) -> int:
        """Tasks without an outcome so far."""
        return len(self._open)

    def deal(self) -> None:
        """Submits every file once."""
        self.passes += 1
        for path in self._files:
            future = self._cluster.submit(count_file, path)
            self._open[future.task_id] = (future, path)
            self.submitted += 1
            future.add_done_callback(self._arrived.put)

    def collect(self, wait_s: float) -> int:
        """Takes in what has arrived, waiting up to ``wait_s`` for the first; returns how many."""
        count = 0
        while True:
            try:
                future = (
                    self._arrived.get(timeout=wait_s) if count == 0 else self._arrived.get_nowait()
                )
            except queue.Empty:
                return count
            count += 1
            self._take(future)

    def _take(self, future: Future[Any]) -> None:
        _, path = self._open.pop(future.task_id)
        self.done += 1
        try:
            self.outcomes.setdefault(path, []).append(future.result())
        except Exception as error:
            self.failures.append(error)
        if future.node is not None:
            self.done_by[future.node] += 1

    def states(self) -> Counter[str]:
        """How far the unfinished tasks got, by the client's own account."""
        return Counter(future.state for future, _ in self._open.values())


def run(
    folder: str | None = None,
    *,
    out: str = ".",
    kill_entry: bool = False,
    profile: str = "ci",
    as_json: bool = False,
) -> int:
    """Runs the demo; returns its exit code: 0 if the totals agree and nothing accepted was lost,
    else 1."""
    root, files = find_files(folder)
    target = Path(out)
    with contextlib.suppress(OSError):
        target.mkdir(parents=True, exist_ok=True)
    if not target.is_dir() or not os.access(target, os.W_OK):
        raise DemoInputError(f"--out {out!r} is not a folder that can be written to")

    def say(line: str) -> None:
        print(f"  {line}", file=sys.stderr, flush=True)

    say(f"{len(files)} files below {root}")
    result = Result(files=len(files))
    config = Config(
        profile=profile,  # by default the one for busy machines, which this one is about to be
        placement="random",  # deals unevenly on purpose, so that there is something to steal
        steal=StealPolicy(
            cpu_floor=0.0
        ),  # five nodes share this machine: none of them finds it idle
        limits=Limits(worker_lease_s=LEASE_S),
    )
    with Cluster.local(NODES, name="demo", isolated=True, voters=NODES, config=config) as cluster:
        events, works = _work(cluster, files, kill_entry, result, say)
    _check(result, works, files, say)
    _save(result, events, target, say)
    print(json.dumps(_as_dict(result)) if as_json else _report(result), flush=True)
    return 0 if result.good else 1


def _work(
    cluster: Cluster, files: list[str], kill_entry: bool, result: Result, say: Any
) -> tuple[EventLog, Work]:
    leader = cluster.wait_leader()
    _await_members(cluster)
    say(f"{NODES} nodes elected {leader!r}")
    entry, speaker = _entry_of(cluster, leader) if kill_entry else (None, cluster)
    began = time.monotonic()
    work = Work(speaker, files)
    story = Incidents(cluster, leader, entry, say)
    work.deal()
    bar = start_bar(len(files), True, "files")
    shown, looked = 0, 0.0
    try:
        while work.unfinished or not story.finished:
            work.collect(_LOOK_S)
            bar.update(min(work.done, len(files)) - shown)
            shown = min(work.done, len(files))
            now = time.monotonic()
            if now - looked >= _LOOK_S:
                looked = now
                story.advance(work.done, -(-len(files) // 2))
            if now - began > STORY_LIMIT_S and not story.finished:
                story.finished = True
                story.settle()
                say(f"not everything was seen within {STORY_LIMIT_S:.0f} s; finishing the work")
            if now - began > STORY_LIMIT_S + FINISH_LIMIT_S:
                break
            while not story.finished and work.unfinished < LOW_WATER and work.submitted < MAX_TASKS:
                work.deal()
    finally:
        bar.close()
        story.settle()
        result.work_s = time.monotonic() - began
    _account(result, cluster, work, story)
    events = cluster.events
    if speaker is not cluster:
        speaker.close()
    return events, work


def _await_members(cluster: Cluster) -> None:
    """All nodes take part from the start."""
    deadline = Deadline(30.0)
    while sum(member.alive for member in cluster.members()) < NODES:
        if deadline.passed():
            raise WaitTimeoutError(f"only {len(cluster.members())} of {NODES} nodes joined")
        time.sleep(_LOOK_S)


def _entry_of(cluster: Cluster, leader: Leader) -> tuple[str, Cluster]:
    """A node that does not lead, and a client that keeps to it until it dies."""
    entry = next(n for n in cluster.nodes if n.name != leader.name)
    client = Client([entry.address], allow_pickle=True, pinned=True)
    return entry.name, Cluster(client, "demo-entry", allow_pickle=True)


def _account(result: Result, cluster: Cluster, work: Work, story: Incidents) -> None:
    states = work.states()
    result.passes, result.submitted = work.passes, work.submitted
    result.accepted_without_outcome = states.pop("accepted", 0)
    result.not_accepted = states.total() if hasattr(states, "total") else sum(states.values())
    result.failed = len(work.failures)
    result.frozen, result.entry_killed = story.frozen, story.entry_killed
    log = cluster.events
    result.leaders = [f"{e.leader} (term {e.term})" for e in log.elections()]
    failovers = log.failovers()
    result.failovers = [repr(f) for f in failovers]
    result.failover_ms = next(
        (f.duration_s * 1e3 for f in failovers if f.duration_s is not None), None
    )
    names = {m.id: m.name for m in cluster.members()} | {
        n.id: n.name for n in cluster.nodes if isinstance(n, LocalNode)
    }
    result.done_by = {names.get(k, k): v for k, v in sorted(work.done_by.items())}
    counters = cluster.metrics()
    for name in ("steals", "retries", "reassigned", "late_completions", "duplicates"):
        setattr(result, name, counters.get(name, 0))


def _check(result: Result, work: Work, files: list[str], say: Any) -> None:
    """Compares every outcome with a plain single-process pass over the same files."""
    say("checking against a plain single-process pass")
    began = time.monotonic()
    digest = hashlib.sha256()
    complete = True
    for path in files:
        plain = count_file(path)
        outcomes = work.outcomes.get(path, [])
        result.different += sum(outcome != plain for outcome in outcomes)
        complete = complete and len(outcomes) == work.passes
        first: dict[str, Any] = (
            outcomes[0] if outcomes else {"lines": 0, "words": 0, "definitions": 0, "sha256": ""}
        )
        result.lines += first["lines"]
        result.words += first["words"]
        result.definitions += first["definitions"] or 0
        digest.update(first["sha256"].encode())
    result.digest = digest.hexdigest()
    result.plain_s = time.monotonic() - began
    result.totals_equal = complete and result.different == 0
    for error in work.failures[:3]:
        say(f"a task failed: {type(error).__name__}: {str(error)[:200]}")


def _save(result: Result, events: EventLog, target: Path, say: Any) -> None:
    table = target / "hustings-demo.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "subject_name"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(events.to_dicts())
    result.table = str(table)
    try:
        from . import viz

        title = f"hustings demo: {result.files} files on {NODES} nodes"
        figure = viz.picture(events, title)
        picture = target / "hustings-demo.png"
        figure.savefig(picture, dpi=130)
        result.picture = str(picture)
    except HustingsError as error:
        say(f"no picture: {error}")


def _as_dict(result: Result) -> dict[str, Any]:
    return {**result.__dict__, "good": result.good}


def _report(r: Result) -> str:
    took = "unknown" if r.failover_ms is None else f"{r.failover_ms:.0f} ms"
    verdict = "equal to" if r.totals_equal else f"NOT equal to ({r.different} outcomes differ)"
    lines = [
        f"files                    {r.files}, dealt out {r.passes}x: {r.submitted} tasks in "
        f"{r.work_s:.1f} s",
        f"totals                   {r.lines:,} lines, {r.words:,} words, {r.definitions:,} "
        "definitions",
        f"                         {verdict} a plain single-process pass ({r.plain_s:.1f} s)",
        f"leaders                  {' -> '.join(r.leaders)}",
        f"failover                 {took} from SIGKILL to the new leader",
        f"tasks finished by        {', '.join(f'{k}: {v}' for k, v in r.done_by.items())}",
        f"frozen and resumed       {r.frozen or 'nobody'}",
        f"steals                   {r.steals}",
        f"retries                  {r.retries}",
        f"reassigned               {r.reassigned}",
        f"late completions refused {r.late_completions}",
        f"accepted, no outcome     {r.accepted_without_outcome}",
    ]
    if r.entry_killed:
        lines.append(f"entry node killed        {r.entry_killed}")
    if r.not_accepted or r.failed:
        lines.append(f"never accepted           {r.not_accepted}; failed: {r.failed}")
    saved = ", ".join(p for p in (r.picture, r.table) if p)
    lines.append(f"saved                    {saved}")
    lines.append("all promises kept" if r.good else "A PROMISE WAS BROKEN")
    return "\n".join(lines)
