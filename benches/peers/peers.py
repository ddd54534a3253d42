"""What users would pick instead, on the same work, in the same hour, on the same machine.

    python benches/peers/peers.py kill --systems hustings,dask,ray,celery --venvs target/peers
    python benches/peers/peers.py pace --systems hustings,pool,dask

``kill``: 1 500 tasks of 10 ms; once a third has run, SIGKILL to a worker, then (in another run) to
the head: scheduler, control service, broker, leader. ``pace``: tasks that do nothing per second and
what each costs of processor time in all processes, one round trip at a time, and the span of short
and of uneven naps beside the ideal; all also as a multiple of the first system's. What is not
installed is named as missing.

Each system runs in an environment of its own (``make bench-peers`` makes them); the table and
``peers_<section>.json`` name versions, and how busy the machine was.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
# In another system's environment hustings is not installed; reading processor time needs nothing.
sys.path.append(str(HERE.parents[1] / "python"))

import peer_work  # noqa: E402
from peer_system import System, free_port  # noqa: E402
from peer_systems import SYSTEMS, missing, version  # noqa: E402
from processes import descendants  # noqa: E402

from hustings.usage import cpu_seconds  # noqa: E402

TASKS = 1_500
RESTART_AFTER_S = 1.0
ROUNDS = 5
MOST_NOOPS = 100_000
UNEVEN_MS = [100.0] * 30 + [5.0] * 270


def busy(seconds: float = 0.5) -> float:
    """The share of the machine's processors in use by anybody just now."""

    def used() -> tuple[float, float]:
        fields = [float(x) for x in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        return sum(fields) - fields[3] - fields[4], sum(fields)

    (a, b), _ = used(), time.sleep(seconds)
    c, d = used()
    return round((c - a) / max(d - b, 1), 2)


def kill(system: System, whom: str, patience_s: float) -> dict[str, Any]:
    """One process dies while work is under way. What came out, and how often it ran?"""
    system.collect(system.submit("noop", range(300)), 60)
    try:
        victim = system.worker() if whom == "worker" else system.head()
    except NotImplementedError:
        return {"delivered": None}
    got: list[Any] = []
    ended: list[float] = []

    def work() -> None:
        handles = system.submit("mark", range(TASKS))
        try:
            got.extend(system.collect(handles, patience_s))
        except Exception as error:
            got.extend([error] * TASKS)
        ended.append(time.monotonic())

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    end = time.monotonic() + 120
    while len(peer_work.marks()) < TASKS // 3 and time.monotonic() < end:
        time.sleep(0.005)
    os.kill(victim, signal.SIGKILL)
    struck = time.monotonic()
    if whom == "head":
        time.sleep(RESTART_AFTER_S)
        system.restart_head()
    thread.join(patience_s + 90)
    ran = peer_work.marks()
    values = [value for i, value in enumerate(got) if value == i and value is not True]
    errors = [value for value in got if isinstance(value, BaseException)]
    return {
        "delivered": len(values),
        "failed": len(errors),
        "silent": TASKS - len(values) - len(errors),
        "ran": len(ran),
        "ran_again": len(ran) - len(set(ran)),
        "end_after_kill_s": round(ended[0] - struck, 1) if ended else None,
        "first_error": f"{type(errors[0]).__name__}: {errors[0]}"[:160] if errors else None,
    }


def cpu_of(pids: list[int]) -> float:
    """Processor seconds of all of them so far; of those that ended, none."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += cpu_seconds(pid)
    return total


def pace(system: System) -> dict[str, Any]:
    """How much it costs to do nothing, and how close to the ideal naps come."""
    result: dict[str, Any] = {}
    system.collect(system.submit("noop", range(500)), 60)
    began = time.monotonic()
    system.gather(system.submit("noop", range(1_000)))
    # As many as take about a second and a half, so that ticks of processor time are fine enough.
    count = round(min(max(1_500 / (time.monotonic() - began), 1_000), MOST_NOOPS))
    rates, spent = [], []
    for _ in range(ROUNDS):
        pids = [os.getpid(), *descendants(os.getpid())]
        used, began = cpu_of(pids), time.monotonic()
        got = system.gather(system.submit("noop", range(count)))
        rates.append(count / (time.monotonic() - began))
        spent.append((cpu_of(pids) - used) / count * 1e6)
        assert got == list(range(count)), "wrong results"
    result["noops"] = count
    result["noop_per_s"] = round(statistics.median(rates))
    result["noop_per_s_all"] = [round(rate) for rate in rates]
    result["cpu_us_per_task"] = round(statistics.median(spent), 1)
    trips = []
    for i in range(300):
        began = time.perf_counter()
        assert system.collect(system.submit("noop", [i]), 60) == [i]
        trips.append((time.perf_counter() - began) * 1e3)
    ordered = sorted(trips)
    result["trip_p50_ms"] = round(ordered[150], 2)
    result["trip_p99_ms"] = round(ordered[297], 2)
    for name, naps in (("short", [1.0] * 1_500), ("uneven", UNEVEN_MS)):
        ideal = max(sum(naps) / 1e3 / system.slots, max(naps) / 1e3)
        spans = []
        for _ in range(3):
            began = time.monotonic()
            system.collect(system.submit("nap", naps), 120)
            spans.append(time.monotonic() - began)
        result[f"{name}_over_ideal"] = round(statistics.median(spans) / ideal, 2)
    return result


def run_one(options: argparse.Namespace) -> None:
    """In the system's own environment: measures, and prints one row of JSON."""
    kind = SYSTEMS[options.one]
    os.environ.setdefault("PEER_REDIS_PORT", str(free_port()))
    row: dict[str, Any] = {"system": kind.name}
    absent = missing(kind)
    if absent is not None:
        print(json.dumps({**row, "error": f"missing: {absent} is not installed"}), flush=True)
        return
    row.update(version=version(kind), busy=busy())
    wanted = [options.section] if options.section == "pace" else ["worker", "head"]
    for what in wanted:
        with tempfile.TemporaryDirectory(prefix="peers-") as folder:
            place, ran = Path(folder, "system"), Path(folder, "rows")
            place.mkdir()
            ran.mkdir()
            os.environ[peer_work.FOLDER] = str(ran)
            system = kind(options.slots, place)
            try:
                system.start()
                row[what] = pace(system) if what == "pace" else kill(system, what, options.patience)
            finally:
                system.stop()
    print(json.dumps(row), flush=True)


def python_of(name: str, venvs: Path) -> str:
    """The interpreter that has the system's package; this one, if there is no other."""
    python = venvs / name / "bin" / "python"
    return str(python.absolute()) if python.exists() else sys.executable


def table(section: str, rows: list[dict[str, Any]]) -> None:
    """Prints what was measured."""
    for row in rows:
        head = f"{row['system']:<22} {row.get('version', ''):<12}"
        if "error" in row:
            print(f"{head} {row['error']}")
            continue
        for what in ("pace",) if section == "pace" else ("worker", "head"):
            print(f"{head} {what:<7} {row[what]}")


def compare(rows: list[dict[str, Any]]) -> None:
    """Adds and prints each system's figures as multiples of the first one's."""
    measured = [row for row in rows if "pace" in row]
    if not measured:
        return
    first = measured[0]["pace"]
    for row in measured:
        row["of_the_first"] = {
            name: round(row["pace"][name] / first[name], 3)
            for name in ("noop_per_s", "cpu_us_per_task", "trip_p50_ms")
        }
        told = ", ".join(f"{name} x{ratio:g}" for name, ratio in row["of_the_first"].items())
        print(f"{row['system']:<22} {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("section", choices=["kill", "pace"])
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="of " + ", ".join(SYSTEMS))
    parser.add_argument("--venvs", type=Path, default=Path("target/peers"))
    parser.add_argument("--slots", type=int, default=3)
    parser.add_argument("--patience", type=float, default=30.0, help="kill: seconds for results")
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--one", choices=list(SYSTEMS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_one(options)
        return
    rows = []
    for name in options.systems.split(","):
        if name not in SYSTEMS:
            parser.error(f"no such system: {name}; they are {', '.join(SYSTEMS)}")
        command = [python_of(name, options.venvs), __file__, options.section, "--one", name]
        command += ["--slots", str(options.slots), "--patience", str(options.patience)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        last = done.stdout.strip().splitlines()[-1:] if done.returncode == 0 else []
        said = done.stderr.strip().splitlines()[-1:] or ["no word"]
        row = json.loads(last[0]) if last else {"system": name, "error": said[0]}
        rows.append(row)
        table(options.section, [row])
    if options.section == "pace":
        compare(rows)
    result = {
        "section": options.section,
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "slots": options.slots,
        "rows": rows,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"peers_{options.section}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
