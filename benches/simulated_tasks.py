"""Virtual hours of tasks under every fault: what is lost, what comes out twice, how fast.

    python benches/simulated_tasks.py storm --hours 1000   # every kind of fault, disks included
    python benches/simulated_tasks.py speed                # virtual seconds per second of one core

``storm`` runs in all cores, prints a line a minute, and stops after ``--minutes``. Each section
writes ``tasks_<section>.json`` into ``--out``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import hustings as hs
from hustings import _core
from hustings.failures import DISK_KINDS, IMAGINED_KINDS, KINDS
from hustings.verdict import check_history

EVERYTHING = (*KINDS, *IMAGINED_KINDS, *DISK_KINDS)
# Slow heartbeats make a virtual hour affordable; every rule is the same.
SLOW = hs.ElectionConfig(
    heartbeat_s=0.5, suspicion_min_s=2.0, suspicion_max_s=6.0, lease_s=3.0, score_period_s=1.0
)
SECOND_OPINION_S = 120.0
FLAWS = ("lost", "double", "invented", "contradicting")


def world(options: argparse.Namespace, spare_majority: bool, seed: int = 0) -> hs.Simulation:
    return hs.Simulation(
        options.nodes,
        workers=options.workers,
        tasks_per_s=options.tasks,
        writes_per_s=0,
        config=hs.Config(election=SLOW),
        disk="imagined",
        failures=hs.RandomFailures(
            options.mtbf, options.mttr, kinds=EVERYTHING, spare_majority=spare_majority, seed=seed
        ),
        seed=seed,
    )


def second_opinion(options: argparse.Namespace, spare: bool, seed: int) -> tuple[bool, int]:
    """Whether both checkers, which were written apart, find the same in one more run, nothing; and
    how many rows they read. A short run: each row of a long one would become an object of Python.
    """
    run = world(options, spare, seed).run(seconds=min(options.seconds, SECOND_OPINION_S))
    whole = run.tasks is not None and run.tasks.drained_s is not None
    native = _core.check_history(run.task_rows, whole)
    # In an imagined history `cancelled` is a wish, to the other checker the word that it is done.
    apart = check_history(row for row in run.task_rows if row["kind"] != "cancelled")
    nothing = {flaw: [] for flaw in FLAWS}
    same = {flaw: list(native[flaw]) for flaw in FLAWS} == nothing and apart.ok
    return same, len(run.task_rows)


def storm(options: argparse.Namespace) -> dict[str, Any]:
    """Every kind of fault on voters and workers; every other batch spares a majority."""
    totals: dict[str, float] = dict.fromkeys(
        ("hours", "runs", "submitted", "accepted", "outcomes", "attempts", *FLAWS), 0
    )
    faults: dict[str, int] = {}
    broken = undrained = judged = disputed = 0
    began = said = time.monotonic()
    first = options.seed
    while totals["hours"] < options.hours and time.monotonic() - began < options.minutes * 60:
        batch = range(first, first + options.batch)
        first += options.batch
        spare = (batch.start // options.batch) % 2 == 0
        agreed, rows = second_opinion(options, spare, batch.start)
        judged, disputed = judged + rows, disputed + (not agreed)
        for outcome in world(options, spare).sweep(batch, seconds=options.seconds):
            totals["hours"] += outcome.duration_s / 3600
            totals["runs"] += 1
            broken += len(outcome.violations)
            for violation in outcome.violations:
                print(f"seed {outcome.seed}: {violation}", flush=True)
            for kind, count in outcome.faults.items():
                faults[kind] = faults.get(kind, 0) + count
            if outcome.tasks is None:
                continue
            undrained += outcome.tasks.drained_s is None
            for name in ("submitted", "accepted", "outcomes", "attempts", *FLAWS):
                totals[name] += getattr(outcome.tasks, name)
        if time.monotonic() - said > 60:
            said = time.monotonic()
            done = sum(faults.values())
            flaws = sum(int(totals[flaw]) for flaw in FLAWS)
            so_far = f"{totals['hours']:.0f} h, {done} faults, {broken} broken"
            print(f"{so_far}; histories: {flaws} flaws", flush=True)
    took = time.monotonic() - began
    return {
        **{name: round(value, 1) for name, value in totals.items()},
        "broken_promises": broken,
        "not_drained": undrained,
        "rows_judged_twice": judged,
        "verdicts_disputed": disputed,
        "faults": dict(sorted(faults.items())),
        "faults_in_all": sum(faults.values()),
        "minutes": round(took / 60, 1),
        "virtual_s_per_s": round(totals["hours"] * 3600 / took),
        "cores": os.cpu_count(),
    }


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """Virtual seconds per second of one core, medians of three, without a fault."""
    result: dict[str, Any] = {}
    cases: dict[str, dict[str, Any]] = {
        "elections": {"tasks_per_s": 0.0, "disk": True},
        "tasks": {"tasks_per_s": options.tasks, "disk": True},
        "tasks on disks": {"tasks_per_s": options.tasks, "disk": "imagined"},
    }
    for label, case in cases.items():
        ratios = []
        for seed in range(3):
            simulation = hs.Simulation(
                options.nodes, seed=seed, writes_per_s=0, config=hs.Config(election=SLOW), **case
            )
            began = time.process_time()
            run = simulation.run(seconds=options.seconds)
            ratios.append(run.duration_s / (time.process_time() - began))
            if run.task_rows:
                found = _core.check_history(run.task_rows, run.tasks.drained_s is not None)
                assert not any(found[flaw] for flaw in FLAWS), found
        result[label] = round(statistics.median(ratios))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("section", choices=["storm", "speed"])
    parser.add_argument("--hours", type=float, default=1_000.0, help="storm: virtual, in all")
    parser.add_argument("--minutes", type=float, default=25.0, help="storm: real, at most")
    parser.add_argument("--seconds", type=float, default=1_200.0, help="virtual, per run")
    parser.add_argument("--batch", type=int, default=8, help="storm: runs at a time")
    parser.add_argument("--seed", type=int, default=0, help="storm: the first")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tasks", type=float, default=0.2, help="a second")
    parser.add_argument("--mtbf", type=float, default=100.0, help="storm: of each node, seconds")
    parser.add_argument("--mttr", type=float, default=5.0, help="storm: seconds")
    parser.add_argument("--out", default=".", metavar="DIR")
    options = parser.parse_args()
    Path(options.out).mkdir(parents=True, exist_ok=True)
    result = {
        "section": options.section,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "options": {k: v for k, v in vars(options).items() if k != "out"},
        "result": globals()[options.section](options),
    }
    path = Path(options.out) / f"tasks_{options.section}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
