"""What the package and an idle cluster cost: size of the wheel, import, ``--help``, the way to the
first result, memory and processor time. ``python benches/footprint.py --wheel FILE``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rig import rss_mib

from hustings.usage import cpu_seconds

GOALS = {
    "wheel_mb": 12.0,
    "import_ms": 150.0,
    "import_used_ms": 150.0,
    "help_ms": 150.0,
    "first_result_s": 1.5,
    "first_result_isolated_s": 1.5,
    "rss_mib_per_node": 40.0,
    "idle_cpu_percent": 10.0,
}
"""Most of each that is meant to be."""
TIMES = 15
"""Runs of what takes milliseconds."""
SETTLE_S = 3.0

_FIRST_RESULT = """
import time
began = time.perf_counter()
import hustings as hs
with hs.Cluster.local(5, isolated={isolated}) as c:
    assert c.submit(pow, 2, 10).result(30) == 1024
    print(time.perf_counter() - began)
"""
_IDLE = """
import sys
import hustings as hs
with hs.Cluster.local(5, isolated=True) as c:
    c.wait_leader()
    print(*(n.pid for n in c.nodes), flush=True)
    sys.stdin.read()
"""


def median_ms(*command: str, times: int = TIMES) -> float:
    """Milliseconds a command takes, median of several runs."""
    # As an installed package: compiled once, which the first of the runs does.
    usual = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    seen = []
    for _ in range(times + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=usual)
        seen.append(1e3 * (time.perf_counter() - began))
    return statistics.median(seen[1:])


def import_ms(script: str) -> float:
    """What a script of imports adds to an interpreter that does nothing."""
    bare = median_ms(sys.executable, "-c", "pass")
    return median_ms(sys.executable, "-c", script) - bare


def importtime(count: int = 8) -> list[str]:
    """The dearest modules of ``import hustings``: own time, then the module."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import hustings"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = []
    for line in done.stderr.splitlines():
        own, _, name = line.removeprefix("import time:").split("|")
        if own.strip().isdigit():
            rows.append((int(own), name.strip()))
    return [f"{own / 1e3:.1f} ms {name}" for own, name in sorted(rows, reverse=True)[:count]]


def first_result_s(isolated: bool, times: int = 5) -> float:
    """Seconds from the first line of a script to a result of a cluster of five."""
    script = _FIRST_RESULT.format(isolated=isolated)
    seen = [
        float(subprocess.check_output([sys.executable, "-c", script], text=True))
        for _ in range(times)
    ]
    return statistics.median(seen)


def idle(seconds: float) -> tuple[float, float]:
    """Memory of a node and processor time of all five, in MiB and per cent of a core, of nodes that
    have run nothing yet."""
    script = subprocess.Popen(
        [sys.executable, "-c", _IDLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert script.stdin is not None
    assert script.stdout is not None
    pids = [int(word) for word in script.stdout.readline().split()]
    time.sleep(SETTLE_S)
    before, began = sum(map(cpu_seconds, pids)), time.monotonic()
    time.sleep(seconds)
    used = sum(map(cpu_seconds, pids)) - before
    cpu = 100 * used / (time.monotonic() - began)
    memory = max(map(rss_mib, pids))
    script.stdin.close()
    script.wait()
    return memory, cpu


def main() -> int:
    """Prints each figure beside its bound; 1 if one is over it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", type=Path, default=None)
    parser.add_argument("--idle-s", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=None, help="folder for the figures as JSON")
    chosen = parser.parse_args()
    found: dict[str, Any] = {}
    if chosen.wheel:
        found["wheel_mb"] = chosen.wheel.stat().st_size / 1e6
    found["import_ms"] = import_ms("import hustings")
    found["import_used_ms"] = import_ms("from hustings import Cluster, as_completed, task")
    found["help_ms"] = median_ms(str(Path(sys.executable).parent / "hustings"), "--help")
    found["first_result_s"] = first_result_s(isolated=False)
    found["first_result_isolated_s"] = first_result_s(isolated=True)
    found["rss_mib_per_node"], found["idle_cpu_percent"] = idle(chosen.idle_s)
    for name, value in found.items():
        print(f"{name:24} {value:8.2f}   at most {GOALS[name]:g}")
    print(*importtime(), sep="\n")
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
        (chosen.out / "footprint.json").write_text(json.dumps(found, indent=1) + os.linesep)
    return 0 if all(value <= GOALS[name] for name, value in found.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
