"""How near assignment and stealing come to the optimum: makespan over its lower bound, per policy.

    python benches/makespan.py simulated     # 64 imagined workers, every policy and workload
    python benches/makespan.py online        # tasks that come one by one, beside one ideal queue
    python benches/makespan.py real          # five real nodes, tasks that sleep

Every policy stands with and without stealing, beside ``classic`` (a random node, every 5 s one task
from a random victim at most 2 away). Each section writes ``makespan_<section>.json`` into ``--out``
and prints a table. The peers run the same sleeping tasks by ``benches/makespan_peers.py``.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import sleeping

import hustings as hs

POLICIES = ("auto", "lpt", "window", "p2c", "random")
RHOS = (0.5, 0.7, 0.8, 0.9, 0.95)
MIXED = (0.5, 1.0, 2.0)
REACH = (3.0, 2.0)
"""How far the leader assigns, and how far thieves steal, where reach is limited."""
NO_STEALS = 0


def configs(reach: tuple[float, float] | None) -> Iterator[tuple[str, hs.Config]]:
    """Every policy with and without stealing, and the classic one."""
    assign, steal = reach or (math.inf, math.inf)
    for policy in POLICIES:
        for stealing in (True, False):
            how = hs.StealPolicy(reach=steal, **({} if stealing else {"per_task": NO_STEALS}))
            name = policy if stealing else f"{policy}, no steals"
            yield name, hs.Config(placement=policy, assign_reach=assign, steal=how)
    how = hs.StealPolicy(reach=steal)
    yield "auto, no copies", hs.Config(assign_reach=assign, steal=how, speculate=False)
    yield "classic", hs.Config.classic(assign_reach=assign)


def cells(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What is simulated: the workload and the cluster of each column."""
    count, mean = options.tasks * options.side**2, options.mean

    def work(name: str) -> hs.Workload:
        return hs.Workload(tasks=count, mean_s=mean, **hs.WORKLOADS[name])

    near = {"positions": hs.grid(options.side, options.side), "reach": REACH}
    found: dict[str, dict[str, Any]] = {name: {"workload": work(name)} for name in hs.WORKLOADS}
    found["uniform, mixed speeds"] = {"workload": work("uniform"), "speeds": MIXED}
    found["pareto, mixed speeds"] = {"workload": work("pareto"), "speeds": MIXED}
    found["uniform, reach"] = {"workload": work("uniform"), **near}
    found["pareto, reach"] = {"workload": work("pareto"), **near}
    found["mixed + reach"] = {"workload": work("uniform"), "speeds": MIXED, **near}
    found["churn"] = {"workload": work("uniform"), "churn": (5.0, 1.0)}
    return found


def simulated(options: argparse.Namespace) -> dict[str, Any]:
    """Makespan over bound, steals per task and idle spells, per policy and workload."""
    result: dict[str, Any] = {}
    columns = cells(options)
    if unknown := set(options.only) - set(columns):
        raise SystemExit(f"--only {unknown.pop()!r}: give one of {', '.join(map(repr, columns))}")
    for column, cell in columns.items():
        if options.only and column not in options.only:
            continue
        reach = cell.pop("reach", None)
        row = result[column] = {}
        for policy, config in configs(reach):
            simulation = hs.TaskSimulation(options.side**2, config=config, **cell)
            row[policy] = summary(simulation.sweep(range(options.seeds)))
        best = min(row, key=lambda policy: row[policy]["over_bound"])
        print(f"{column}: {best} {row[best]['over_bound']:.3f}", flush=True)
    print_table(result, "over_bound", "makespan / lower bound, mean over the seeds")
    print_table(result, "steals_per_task", "steals per task")
    print_table(result, "idle_p99_ms", "idle while there is work in reach, p99, ms")
    return result


def summary(runs: list[hs.TaskRun]) -> dict[str, Any]:
    """What the runs of one cell came to; a run that never ended is no figure and is said so."""
    unfinished = [run.seed for run in runs if run.finished != run.tasks]
    assert not any(run.flaws for run in runs), [run for run in runs if run.flaws]
    refused: dict[str, int] = {}
    for run in runs:
        for why, count in run.refused.items():
            refused[why] = refused.get(why, 0) + count
    over = [run.over_bound for run in runs]
    return {
        "over_bound": statistics.fmean(over),
        "over_bound_worst": max(over),
        "over_bound_deviation": statistics.pstdev(over),
        "steals_per_task": statistics.fmean(run.steals_per_task for run in runs),
        "idle_p50_ms": 1e3 * statistics.fmean(run.idle.p50 for run in runs),
        "idle_p99_ms": 1e3 * statistics.fmean(run.idle.p99 for run in runs),
        "calls_per_task": sum(run.calls for run in runs) / sum(run.tasks for run in runs),
        "refused": {why: count for why, count in refused.items() if count},
        "unfinished": unfinished,
        "seeds": len(runs),
    }


def online(options: argparse.Namespace) -> dict[str, Any]:
    """How long tasks stay that come one by one, over how long they would in one ideal queue."""
    result: dict[str, Any] = {}
    for sizes in ("exponential", "pareto"):
        for rho in RHOS:
            work = hs.Workload(tasks=options.arrivals, sizes=sizes, mean_s=options.mean, rho=rho)
            row = result[f"{sizes} {rho}"] = {}
            for policy, config in configs(None):
                simulation = hs.TaskSimulation(options.side**2, workload=work, config=config)
                row[policy] = stays(simulation.sweep(range(options.seeds)), options.mean)
            best = min(row, key=lambda policy: row[policy]["p99_ratio"])
            print(f"{sizes} {rho}: {best} {row[best]['p99_ratio']:.3f}", flush=True)
    print_table(result, "p99_ratio", "p99 stay over that of one ideal queue")
    print_table(result, "p50_ratio", "p50 stay over that of one ideal queue")
    return result


def stays(runs: list[hs.TaskRun], mean_s: float) -> dict[str, Any]:
    """Stays in means of a task, and over the ideal."""
    return {
        "p50": statistics.fmean(run.stays.p50 for run in runs) / mean_s,
        "p99": statistics.fmean(run.stays.p99 for run in runs) / mean_s,
        "ideal_p50": statistics.fmean(run.ideal.p50 for run in runs) / mean_s,
        "ideal_p99": statistics.fmean(run.ideal.p99 for run in runs) / mean_s,
        "p50_ratio": statistics.fmean(run.stays.p50 / run.ideal.p50 for run in runs),
        "p99_ratio": statistics.fmean(run.stays.p99 / run.ideal.p99 for run in runs),
        "steals_per_task": statistics.fmean(run.steals_per_task for run in runs),
        "seeds": len(runs),
    }


def real(options: argparse.Namespace) -> dict[str, Any]:
    """Five nodes with a process each, one place each; medians of ``--reps``."""
    kinds = sleeping.chosen(options.kinds)
    result: dict[str, Any] = {kind: {} for kind in kinds}
    for policy, config in configs(None):
        if options.policies and policy not in options.policies.split("|"):
            continue
        calm = hs.Config.ci(
            placement=config.placement,
            steal=config.steal if policy == "classic" else calm_steals(config.steal),
        )
        with hs.Cluster.local(5, name="makespan", isolated=True, slots=1, config=calm) as cluster:
            cluster.wait_leader()
            warm(cluster)
            for kind, count in kinds.items():
                result[kind][policy] = on_cluster(cluster, kind, count, options)
        print(policy, {k: round(row[policy]["over_bound"], 3) for k, row in result.items()})
    print_table(result, "over_bound", "makespan / lower bound, five real nodes, median")
    return result


def calm_steals(steal: hs.StealPolicy) -> hs.StealPolicy:
    """The machine is shared with whatever measures: how busy it is says nothing of our nodes."""
    return hs.StealPolicy(reach=steal.reach, per_task=steal.per_task, cpu_floor=0.0)


def warm(cluster: hs.Cluster) -> None:
    """Until every node has run something."""
    seen: set[str | None] = set()
    while len(seen) < 5:
        futures = [cluster.submit(time.sleep, 0.05) for _ in range(15)]
        hs.gather(*futures, timeout=60)
        seen |= {future.node for future in futures}


def on_cluster(
    cluster: hs.Cluster, kind: str, count: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Runs one workload; the steals are those of all repetitions."""
    before = cluster.metrics()["steals"]
    found = []
    for seed in range(options.reps):
        work = sleeping.jobs(kind, count, options.real_mean, seed)
        began = time.perf_counter()
        hs.gather(*[cluster.submit(time.sleep, seconds) for seconds in work], timeout=300)
        took = time.perf_counter() - began
        found.append((took / sleeping.lower_bound(work, 5), took))
    steals = cluster.metrics()["steals"] - before
    return {
        "over_bound": statistics.median(ratio for ratio, _ in found),
        "all": [round(ratio, 4) for ratio, _ in found],
        "makespan_s": statistics.median(took for _, took in found),
        "steals_per_task": steals / (count * options.reps),
    }


def print_table(result: Mapping[str, Mapping[str, Any]], figure: str, title: str) -> None:
    """A row for each policy, a column for each workload."""
    columns = [column for column in result if result[column]]
    rows = list(result[columns[0]]) if columns else []
    wide = max((len(row) for row in rows), default=0)
    print(f"\n{title}")
    for number, column in enumerate(columns, 1):
        print(f"  ({number}) {column}")
    print(" " * wide, *(f"{f'({n})':>8}" for n in range(1, len(columns) + 1)))
    for row in rows:
        values = (f"{result[column][row][figure]:8.3f}" for column in columns)
        print(f"{row:{wide}}", *values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("section", choices=["simulated", "online", "real"])
    parser.add_argument("--seeds", type=int, default=20, help="simulated: a cell (default 20)")
    parser.add_argument("--side", type=int, default=8, help="side x side workers (default 8)")
    parser.add_argument("--tasks", type=int, default=60, help="simulated: per worker")
    parser.add_argument("--arrivals", type=int, default=10_000, help="online: tasks of a run")
    parser.add_argument("--mean", type=float, default=0.1, help="simulated seconds of a task")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="COLUMN",
        help='simulated: this column, e.g. "pareto, learnt"; may be given again',
    )
    parser.add_argument("--policies", default="", help="real: these rows, by |")
    parser.add_argument("--kinds", default="", help="real: these columns, by comma")
    parser.add_argument("--real-mean", type=float, default=0.02, help="real seconds of a task")
    parser.add_argument("--reps", type=int, default=3, help="real: repetitions")
    parser.add_argument("--out", default=".", metavar="DIR")
    options = parser.parse_args()
    Path(options.out).mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    result = globals()[options.section](options)
    record = {
        "section": options.section,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "options": {k: v for k, v in vars(options).items() if k != "out"},
        "minutes": round((time.monotonic() - began) / 60, 2),
        "result": result,
    }
    path = Path(options.out) / f"makespan_{options.section}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"\n{path}")


if __name__ == "__main__":
    main()
