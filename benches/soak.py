"""A long run of real processes under load, killed, frozen, stopped and started at random; then: was
anything lost?

    python benches/soak.py --seconds 60                   a look
    python benches/soak.py                                about 25 minutes: `make soak`
    python benches/soak.py --mode disk --kills 40 --seed 3

Five processes of `hustings node` (three voters, two workers), two client processes. Every client
writes down what it asked and what it was told, every task each of its starts; at the end everything
is mended and drained, and the whole history is judged by `hustings.verdict` and, if it is there, by
the native checker. In memory mode a minority of the voters is down at a time; in disk mode now and
then all voters are killed at once.

Prints a table, writes ``soak.json``; exit code 1 if a task was lost, got two outcomes or came out
of nowhere, if the two checkers disagree, or if the cluster did not come together again.
"""

from __future__ import annotations

import argparse
import heapq
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from election import machine
from nemesis import WEIGHTS, Nemesis, NeverWholeError
from processes import Group, Spec
from soak_figures import figures, show

import hustings as hs
from hustings import _core
from hustings.verdict import Verdict, check_history

CLIENTS = 2
DRAIN_S = 120.0
"""How long the clients wait for outcomes after everything was mended."""
AUDITED = 2_000
"""Latest tasks whose outcome a client that never saw them asks for at the end."""
MODES = ("memory", "disk")
SHARED = {"lost": "lost", "double": "contradicting"}
"""What both judges look for: the name here, and the native one."""


@dataclass
class Plan:
    """One run."""

    mode: str
    """``"memory"`` or ``"disk"``."""
    seconds: float = 720.0
    """No fault begins later."""
    kills: int | None = None
    """SIGKILLs after which there is only load any more; ``None``: the time is the measure."""
    strikes: int | None = None
    """Faults of any kind after which it ends."""
    tasks: int | None = None
    """How many to submit at least, if the time allows; ``None``: as long as there are faults."""
    rate: float = 80.0
    """Tasks per second, all clients together."""
    nodes: int = 5
    voters: int = 3
    only: Sequence[str] = ()
    """Which faults; by default all, as often as :data:`nemesis.WEIGHTS` says."""
    seed: int = 7
    profile: str = "lan"


class Load:
    """The client processes."""

    def __init__(self, places: list[str], folder: Path, rate: float, seed: int) -> None:
        self.folder = folder
        here = Path(__file__).parent
        self.processes = []
        for n in range(CLIENTS):
            command = [sys.executable, str(here / "soak_client.py"), "--name", f"c{n + 1}"]
            command += ["--connect", ",".join(places), "--rate", str(rate / CLIENTS)]
            command += ["--rows", str(folder / f"c{n + 1}.rows"), "--seed", str(seed * 100 + n)]
            pipe = subprocess.PIPE
            self.processes.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))

    def drain(self) -> list[dict[str, Any]]:
        """No more submissions; waits for the outcomes; what each client counted."""
        counts = []
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"drain {DRAIN_S}\n")
            process.stdin.flush()
        for process in self.processes:
            out, _ = process.communicate(timeout=DRAIN_S + 60)
            counts.append(json.loads(out))
        return counts

    def kill(self) -> None:
        """Ends them, whatever they do."""
        for process in self.processes:
            process.kill()
            process.wait()


def soak(plan: Plan, folder: Path) -> dict[str, Any]:
    """One run; returns what was seen."""
    rows = folder / "rows"
    rows.mkdir(parents=True)
    spec = Spec(
        folder=folder,
        voters=plan.voters,
        workers=plan.nodes - plan.voters,
        tasks=["soak_tasks"],
        options=["--allow-threads"],
        disk=plan.mode == "disk",
        profile=plan.profile,
        # A task that meets many kills has not failed: here nothing is given up.
        environment={"SOAK_ROWS": str(rows), "HUSTINGS_LIMITS__CRASH_BUDGET": "1000"},
    )
    began = time.monotonic()
    trouble = None
    with Group(spec) as group:
        watch = hs.Cluster.connect(*group.places, timeout=60)
        nemesis = Nemesis(group, plan.seed, watch, plan.only)
        nemesis.await_whole()
        load = Load(group.places, rows, plan.rate, plan.seed)
        try:
            strike_until_enough(nemesis, plan, began + plan.seconds)
            nemesis.mend()
        except (NeverWholeError, RuntimeError, subprocess.TimeoutExpired) as error:
            trouble = f"{type(error).__name__}: {error}"
        try:
            clients = load.drain()
        finally:
            load.kill()
        audit(watch, rows)
        counters = watch.metrics()
        watch.close()
    verdict = check_history(history(rows))
    result = figures(nemesis.strikes, merged(rows), starts(rows), verdict)
    return {
        "plan": asdict(plan),
        "seconds": time.monotonic() - began,
        "slowest_to_be_whole_s": nemesis.slowest_s,
        "trouble": trouble,
        "clients": clients,
        "counters": counters,
        "accounts_agree": counters["accepted"] == verdict.counts["accepted"],
        "verdict": verdict.to_dict(),
        "checkers": compare(verdict, rows),
        **result,
        "strikes": [strike.to_dict() for strike in nemesis.strikes],
    }


def strike_until_enough(nemesis: Nemesis, plan: Plan, deadline: float) -> None:
    """Strikes until there were enough kills, faults and tasks, or the time is up."""
    began, killed, count = time.monotonic(), 0, 0
    while time.monotonic() < deadline:
        enough = plan.kills is not None and killed >= plan.kills
        if enough or (plan.strikes is not None and count >= plan.strikes):
            if (time.monotonic() - began) * plan.rate >= (plan.tasks or 0):
                return
            time.sleep(0.1)
            continue
        killed += nemesis.strike().killed
        count += 1


def audit(watch: hs.Cluster, rows: Path) -> None:
    """Somebody else asks how the latest tasks ended: a second observer of the same outcomes."""
    latest = [row for row in merged(rows) if row["kind"] == "outcome"][-AUDITED:]
    futures = [(row["task"], watch.future(row["task"])) for row in latest]
    with (rows / "auditor.rows").open("w") as out:
        for task, future in futures:
            try:
                value = future.result(30)
                more = {"outcome": f"succeeded {value}", "token": value[2]}
            except hs.TaskNotFoundError:
                continue  # Acknowledged long ago, and forgotten since.
            except hs.HustingsError as error:
                more = {"outcome": f"{future.state} {type(error).__name__}: {error}"[:300]}
            row = {"at_us": 0, "kind": "outcome", "task": task, "client": "auditor", **more}
            out.write(json.dumps(row) + "\n")


def history(folder: Path) -> Iterator[dict[str, Any]]:
    """All rows, file by file."""
    for path in sorted(folder.glob("*.rows")):
        with path.open() as file:
            for line in file:
                yield json.loads(line)


def merged(folder: Path) -> list[dict[str, Any]]:
    """The clients' rows in order of time: acceptances and final words."""

    def rows(path: Path) -> Iterator[dict[str, Any]]:
        with path.open() as file:
            for line in file:
                if '"kind": "accepted"' in line or '"kind": "outcome"' in line:
                    yield json.loads(line)

    files = [rows(path) for path in sorted(folder.glob("c*.rows"))]
    return list(heapq.merge(*files, key=lambda row: row["at_us"]))


def starts(folder: Path) -> list[dict[str, Any]]:
    """The nodes' rows in order of time."""
    files = [path for path in folder.glob("n*.rows")]
    rows = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    return sorted(rows, key=lambda row: row["at_us"])


def compare(verdict: Verdict, rows: Path) -> dict[str, Any]:
    """What the native checker says of the same history."""
    native = getattr(_core, "check_history", None)
    if native is None:
        return {"native": None, "agree": None}
    ours, found = verdict.to_dict(), native(history(rows))
    theirs = {name: sorted(task for task, _ in found[called]) for name, called in SHARED.items()}
    agree = all(theirs[name] == sorted(ours[name]) for name in SHARED)
    return {"native": {name: len(tasks) for name, tasks in theirs.items()}, "agree": agree}


def broken(result: dict[str, Any]) -> bool:
    """Whether a promise was."""
    disagree = result["checkers"]["agree"] is False
    complaints = result["trouble"] or result["complaints"]
    return bool(complaints) or not result["verdict"]["ok"] or disagree


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ", ".join(WEIGHTS)
    listed = lambda text: text.split(",")  # noqa: E731
    parser.add_argument("--mode", choices=(*MODES, "both"), default="both")
    parser.add_argument("--seconds", type=float, default=720.0, help="at most, per mode")
    parser.add_argument("--kills", type=int, help="SIGKILLs per mode, then only load")
    parser.add_argument("--strikes", type=int, help="faults per mode")
    parser.add_argument("--tasks", type=int, help="per mode; by default the time is the measure")
    parser.add_argument("--rate", type=float, default=80.0, help="tasks per second, both clients")
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--voters", type=int, default=3)
    parser.add_argument("--only", type=listed, default=[], help=f"of: {known}")
    parser.add_argument("--profile", default="lan", help="timing of the nodes")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("target/bench"))
    parser.add_argument("--name", default="soak", help="of the JSON file below --out")
    parser.add_argument("--folder", type=Path, help="where nodes keep their data; kept afterwards")
    options = parser.parse_args()
    unknown = [kind for kind in options.only if kind not in WEIGHTS]
    if unknown:
        parser.error(f"--only: no such fault: {', '.join(unknown)}; they are {known}")
    return options


def main() -> int:
    """Runs the modes; 1 if a promise was broken, whose history is then kept."""
    options = parse()
    results, bad = [], False
    for mode in MODES if options.mode == "both" else (options.mode,):
        given = {f.name: getattr(options, f.name) for f in fields(Plan) if f.name != "mode"}
        base = options.folder
        base = base / mode if base else Path(tempfile.mkdtemp(prefix=f"hustings-soak-{mode}-"))
        result = soak(Plan(mode, **given), base)
        results.append(result)
        show(result)
        if broken(result):
            bad = True
            print(f"BROKEN: the history and the logs are in {base}", flush=True)
        elif options.folder is None:
            shutil.rmtree(base, ignore_errors=True)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{options.name}.json"
    path.write_text(json.dumps({"machine": machine(), "runs": results}, indent=1))
    print(f"wrote {path}")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
