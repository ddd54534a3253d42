"""Tasks a second and processor time a task against voters, workers and bytes, each by a run of
``hustings bench`` of its own; draws the curves.

    python benches/scaling.py --out target/bench

All of it runs on one machine: more nodes share the same cores, so what a node adds is its cost.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

VOTERS = (1, 3, 5, 7)
WORKERS = (0, 2, 4, 8)


def bench(*options: str) -> dict[str, Any]:
    """The record of one run."""
    command = [sys.executable, "-m", "hustings", "bench", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise RuntimeError(done.stderr)
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def curve(what: str, counts: tuple[int, ...], common: list[str]) -> dict[int, dict[str, Any]]:
    """Throughput at each count of nodes of one kind."""
    found = {}
    for count in counts:
        record = bench("--sections", "throughput", what, str(count), *common)
        found[count] = record["result"]["throughput"]
        rate, cost = found[count]["per_s"], found[count]["cpu_us_per_task"]
        print(f"{what} {count}: {rate['median']:.0f}/s, {cost['median']:.0f} us", flush=True)
    return found


def draw(result: dict[str, Any], machine: str, path: Path) -> None:
    """Rates above, costs below; bars from the least to the greatest round."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 5.5), sharex="col")
    for column, (name, points) in enumerate((("voters", "voters"), ("more workers", "workers"))):
        counts = sorted(result[points])
        for row, (key, label) in enumerate(
            (("per_s", "tasks/s"), ("cpu_us_per_task", "µs of processor / task"))
        ):
            spreads = [result[points][count][key] for count in counts]
            middle = [spread["median"] for spread in spreads]
            below = [m - s["least"] for m, s in zip(middle, spreads, strict=True)]
            above = [s["greatest"] - m for m, s in zip(middle, spreads, strict=True)]
            axis = axes[row][column]
            axis.errorbar(counts, middle, yerr=[below, above], marker="o", capsize=3)
            axis.set_ylim(bottom=0)
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel(label)
        axes[1][column].set_xlabel(name)
        axes[1][column].set_xticks(counts)
    figure.suptitle(f"Tasks that do nothing; every node and the client on {machine}", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=15_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("."))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    common = ["--tasks", str(options.tasks), "--rounds", str(options.rounds)]
    result = {
        "voters": curve("--nodes", VOTERS, common),
        "workers": curve("--workers", WORKERS, common),
    }
    payload = bench("--sections", "payload", *common)
    machine = payload["machine"]
    for size, figures in payload["result"]["payload"].items():
        print(f"{size} bytes: {figures['per_s']['median']:.0f}/s, {figures['mib_per_s']} MiB/s")
    record = {"machine": machine, **result, "payload": payload["result"]["payload"]}
    (options.out / "scaling.json").write_text(json.dumps(record, indent=1) + "\n")
    draw(result, f"{machine['cores']} cores", options.out / "scaling.png")


if __name__ == "__main__":
    main()
