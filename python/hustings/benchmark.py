"""``hustings bench``: how much a cluster on this machine does, what a task costs, and how long one
takes at which rate."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ._core import __version__
from .bench_tasks import echo, nothing
from .cluster import Cluster
from .errors import ConfigError
from .future import gather
from .open_loop import OpenLoop, percentiles
from .tasks import Task, task
from .usage import MachineTime, children, cpu_seconds, describe_machine, peak_rss_mib

SECTIONS = ("throughput", "latency", "fanout", "payload", "pools")
LOADS = (0.1, 0.5, 0.9)
"""Shares of the saturation rate at which latency is measured."""
FANS = (1, 10, 100, 1_000, 10_000)
SIZES = (0, 1 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20)
"""Bytes of arguments, and of the result, of one task."""
CHUNK = 100
MAX_TASKS = 2_000_000
MAX_ROUNDS = 1_000
MAX_SECONDS = 3_600.0
WARM_UP = 2_000
TIMEOUT_S = 600.0
"""How long outcomes are waited for."""
PAYLOAD_BYTES = 32 << 20
"""About so many bytes go through in one round of one size."""

Figures = dict[str, Any]


class Bench:
    """A cluster of processes on this machine, and what is measured of it."""

    def __init__(
        self, cluster: Cluster, tasks: int, rounds: int, seconds: float, run_in: str = "process"
    ) -> None:
        self.cluster = cluster
        self.tasks, self.rounds, self.seconds = tasks, rounds, seconds
        self.nothing: Task[[int], int] = task(run_in=run_in)(nothing)
        self.echo: Task[[bytes], bytes] = task(run_in=run_in)(echo)
        self.saturation = 0.0
        """Tasks a second, once ``throughput`` has run."""

    def warm_up(self) -> None:
        """Runners start at first use, and a leader learns how long tasks take."""
        gather(*[self._submit(i) for i in range(WARM_UP)], timeout=TIMEOUT_S)

    def _submit(self, i: int) -> Any:
        return self.cluster.submit(self.nothing, i)

    def processes(self) -> dict[str, list[int]]:
        """Process ids by what they do: this script, the leader, other nodes, all runners."""
        leader = self.cluster.wait_leader().name
        nodes = {node.name: node.pid for node in self.cluster.nodes}
        return {
            "client": [os.getpid()],
            "leader": [nodes[leader]],
            "followers": [pid for name, pid in nodes.items() if name != leader],
            "runners": [child for pid in nodes.values() for child in children(pid)],
        }

    def throughput(self) -> Figures:
        """Calls that do nothing, each submitted by itself, as fast as one script can."""
        rates, spent, kinds = [], [], self.processes()
        by_kind: dict[str, list[float]] = {kind: [] for kind in kinds}
        others = []
        for _ in range(self.rounds):
            machine, before = MachineTime(), _cpu(kinds)
            began = time.perf_counter()
            futures = [self._submit(i) for i in range(self.tasks)]
            got = gather(*futures, timeout=TIMEOUT_S)
            wall = time.perf_counter() - began
            after = _cpu(kinds)
            if got != list(range(self.tasks)):
                raise RuntimeError("a task returned something else than it was given")
            used = {kind: (after[kind] - before[kind]) for kind in kinds}
            for kind, seconds in used.items():
                by_kind[kind].append(seconds / self.tasks * 1e6)
            rates.append(self.tasks / wall)
            spent.append(sum(used.values()) / self.tasks * 1e6)
            others.append(machine.busy_cores(wall) - sum(used.values()) / wall)
        self.saturation = statistics.median(rates)
        return {
            "tasks": self.tasks,
            "per_s": _spread(rates),
            "cpu_us_per_task": _spread(spent),
            "cpu_us_by_process": {k: round(statistics.median(v), 2) for k, v in by_kind.items()},
            "peak_rss_mib": {k: [round(peak_rss_mib(p)) for p in v] for k, v in kinds.items()},
            "cores_used_by_others": round(max(statistics.median(others), 0.0), 2),
        }

    def latency(self) -> Figures:
        """One at a time; then at shares of the saturation rate, from the time each was due."""
        trips = []
        for i in range(min(self.tasks, 2_000)):
            began = time.perf_counter()
            self._submit(i).result(TIMEOUT_S)
            trips.append((time.perf_counter() - began) * 1e3)
        if not self.saturation:
            self.throughput()
        alone = {f"{name}_ms": round(ms, 3) for name, ms in percentiles(trips).items()}
        loads = {}
        for share in LOADS:
            loop = OpenLoop(self.saturation * share, self.seconds)
            loads[f"{share:.0%}"] = loop.run(self._submit, TIMEOUT_S)
            _settle()
        return {"one_at_a_time": alone, "open_loop": loads}

    def fanout(self) -> Figures:
        """From the first submit to the last result of so many calls."""
        spans: dict[int, list[float]] = {n: [] for n in FANS}
        for _ in range(max(self.rounds, 3)):
            for n in FANS:
                began = time.perf_counter()
                gather(*[self._submit(i) for i in range(n)], timeout=TIMEOUT_S)
                spans[n].append((time.perf_counter() - began) * 1e3)
        return {str(n): {"ms": _spread(values, 3)} for n, values in spans.items()}

    def payload(self) -> Figures:
        """Bytes there and the same bytes back."""
        found = {}
        for size in SIZES:
            count = max(20, min(self.tasks, PAYLOAD_BYTES // max(size, 1 << 10) // 2))
            data, rates, trips = os.urandom(size), [], []
            for _ in range(self.rounds):
                began = time.perf_counter()
                futures = [self.cluster.submit(self.echo, data) for _ in range(count)]
                got = gather(*futures, timeout=TIMEOUT_S)
                rates.append(count / (time.perf_counter() - began))
                if any(back != data for back in got):
                    raise RuntimeError(f"{size} bytes came back as others")
            for _ in range(20):
                began = time.perf_counter()
                self.cluster.submit(self.echo, data).result(TIMEOUT_S)
                trips.append((time.perf_counter() - began) * 1e3)
            rate = statistics.median(rates)
            found[str(size)] = {
                "tasks": count,
                "per_s": _spread(rates),
                "mib_per_s": round(2 * size * rate / (1 << 20), 1),
                "one_at_a_time_p50_ms": round(statistics.median(trips), 3),
            }
        return found

    def pools(self) -> Figures:
        """Beside the standard library's pools, turn by turn in the same minutes."""
        from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
        from multiprocessing import get_context

        # Never forked: this process has threads.
        slots = len(self.cluster.nodes)
        with (
            ThreadPoolExecutor(slots) as threads,
            ProcessPoolExecutor(slots, mp_context=get_context("spawn")) as processes,
        ):
            rivals: dict[str, tuple[int, Callable[[int], object]]] = {
                "submit": (self.tasks, self._many),
                "ThreadPoolExecutor.submit": (self.tasks, lambda n: _many_of(threads, n)),
                "ProcessPoolExecutor.submit": (self.tasks // 5, lambda n: _many_of(processes, n)),
                "map, chunks of 100": (self.tasks * 5, self._mapped),
                "ProcessPoolExecutor.map, chunks of 100": (
                    self.tasks * 5,
                    lambda n: list(processes.map(nothing, range(n), chunksize=CHUNK)),
                ),
            }
            rates: dict[str, list[float]] = {name: [] for name in rivals}
            for number in range(self.rounds + 1):
                for name, (count, run) in rivals.items():
                    count = max(count, CHUNK)
                    began = time.perf_counter()
                    run(count)
                    if number:
                        rates[name].append(count / (time.perf_counter() - began))
        return _beside(rates)

    def _many(self, n: int) -> object:
        return gather(*[self._submit(i) for i in range(n)], timeout=TIMEOUT_S)

    def _mapped(self, n: int) -> object:
        return list(self.cluster.map(self.nothing, range(n), chunksize=CHUNK))


def _many_of(pool: Any, n: int) -> object:
    return [future.result() for future in [pool.submit(nothing, i) for i in range(n)]]


def _beside(rates: dict[str, list[float]]) -> Figures:
    """Rates, and ours over theirs: the median of the ratios of each round."""
    found: Figures = {name: {"per_s": _spread(values)} for name, values in rates.items()}
    for name, values in rates.items():
        ours = "map, chunks of 100" if "map" in name else "submit"
        if name != ours:
            pairs = zip(rates[ours], values, strict=True)
            found[name]["ours_over_it"] = _spread([a / b for a, b in pairs], 2)
    return found


def _cpu(kinds: dict[str, list[int]]) -> dict[str, float]:
    return {kind: sum(cpu_seconds(pid) for pid in pids) for kind, pids in kinds.items()}


def _spread(values: Sequence[float], digits: int = 1) -> Figures:
    """Never a bare figure: the median with the least and the greatest of all rounds."""
    return {
        "median": round(statistics.median(values), digits),
        "least": round(min(values), digits),
        "greatest": round(max(values), digits),
    }


def _settle() -> None:
    """A moment without load, so that one figure does not pay for the one before."""
    time.sleep(0.2)


def run(arguments: argparse.Namespace) -> int:
    """Starts a cluster, measures, prints; 0 once all is measured."""
    sections = _check(arguments)
    machine, began = MachineTime(), time.perf_counter()
    time.sleep(0.5)
    noise = round(machine.busy_cores(time.perf_counter() - began), 2)
    folder = tempfile.TemporaryDirectory(prefix="hustings-bench-") if arguments.disk else None
    try:
        data_dir = arguments.data_dir or (folder.name if folder else None)
        with Cluster.local(
            arguments.nodes + arguments.workers,
            name="bench",
            isolated=True,
            voters=arguments.nodes,
            slots=arguments.slots,
            data_dir=data_dir,
        ) as cluster:
            amounts = arguments.tasks, arguments.rounds, arguments.seconds
            bench = Bench(cluster, *amounts, arguments.run_in)
            bench.warm_up()
            result = {name: getattr(bench, name)() for name in sections}
    finally:
        if folder:
            folder.cleanup()
    record = {
        "version": __version__,
        "machine": describe_machine(),
        "settings": {
            **{name: getattr(arguments, name) for name in ("nodes", "workers", "slots")},
            "state": "on disk" if data_dir else "in memory",
            "run_in": arguments.run_in,
            **{name: getattr(arguments, name) for name in ("tasks", "rounds", "seconds")},
        },
        "noise": {"busy_cores_before": noise, "load_average": list(os.getloadavg())},
        "result": result,
    }
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record) if arguments.json else "\n".join(tell(record)))
    return 0


def _check(arguments: argparse.Namespace) -> list[str]:
    bounds = (("tasks", CHUNK, MAX_TASKS), ("rounds", 1, MAX_ROUNDS), ("seconds", 0.1, MAX_SECONDS))
    for name, least, most in bounds:
        if not least <= getattr(arguments, name) <= most:
            given = getattr(arguments, name)
            raise ConfigError(f"--{name} {given}: give {least} to {most:.0f}")
    if arguments.workers < 0:
        raise ConfigError(f"--workers {arguments.workers}: give 0 or more")
    if arguments.nodes < 1:
        raise ConfigError(f"--nodes {arguments.nodes}: give 1 or more voters")
    if arguments.out and not Path(arguments.out).resolve().parent.is_dir():
        raise ConfigError(f"--out {arguments.out}: there is no such folder to write to")
    chosen = arguments.sections.split(",")
    for name in chosen:
        if name not in SECTIONS:
            raise ConfigError(f"--sections {name!r}: choose of {', '.join(SECTIONS)}")
    return [name for name in SECTIONS if name in chosen]


def tell(record: Figures) -> list[str]:
    """The record as lines for people."""
    machine, settings, noise = record["machine"], record["settings"], record["noise"]
    load = ", ".join(f"{x:.1f}" for x in noise["load_average"])
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}, Python {machine['python']}, hustings {record['version']}",
        f"{settings['nodes']} voters, {settings['workers']} workers, {settings['state']}; all of "
        f"it and this script on this machine",
        f"before it began {noise['busy_cores_before']} cores were busy; load average {load}",
    ]
    for section, figures in record["result"].items():
        lines += ["", section]
        lines += [f"  {line}" for line in _rows(figures)]
    return lines


def _rows(figures: Figures) -> list[str]:
    lines = []
    for name, value in figures.items():
        if isinstance(value, dict) and "median" in value:
            lines.append(f"{name:38} {_told(value)}")
        elif isinstance(value, dict):
            lines.append(f"{name:38} " + ", ".join(f"{k} {_told(v)}" for k, v in value.items()))
        else:
            lines.append(f"{name:38} {value}")
    return lines


def _told(value: Any) -> str:
    if isinstance(value, dict) and "median" in value:
        return f"{value['median']:,} ({value['least']:,} to {value['greatest']:,})"
    if isinstance(value, dict):
        return "; ".join(f"{k} {_told(v)}" for k, v in value.items())
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)
