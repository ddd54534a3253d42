"""Two million tasks through three voters on disk: do memory and disk of a node stay flat?

    python benches/endurance.py --tasks 2000000
    python benches/endurance.py --tasks 100000 --memory    # no data directories
    python benches/endurance.py --remembered-ids 200000    # the plateau is reached sooner

Writes ``endurance.json`` and ``endurance.png`` into ``--out``.
"""

from __future__ import annotations

import argparse
import collections
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from election import machine
from processes import Group, NodeProcess, Spec
from rig import rss_mib

from hustings import _core

SAMPLE_S = 1.0
WINDOW = 5_000
"""Tasks under way at once."""


def disk_mib(folder: Path) -> float:
    """What a node keeps, as the file system counts it."""
    blocks = 0
    for path in folder.rglob("*"):
        try:
            blocks += path.stat().st_blocks
        except FileNotFoundError:
            continue  # A snapshot made room for a newer one.
    return blocks * 512 / 2**20


def sample(group: Group, done: int, since: float) -> dict[str, Any]:
    """How large every node is now."""

    def size(node: NodeProcess) -> dict[str, float]:
        kept = disk_mib(node.data_dir) if node.spec.disk else 0.0
        return {"rss_mib": round(rss_mib(node.pid), 1), "disk_mib": round(kept, 1)}

    at = round(time.monotonic() - since, 1)
    return {"at_s": at, "done": done, **{node.name: size(node) for node in group}}


def endure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Runs the tasks, a window of them at a time, and looks at the nodes every second."""
    rows: list[dict[str, Any]] = []
    knobs: list[str] = []
    if options.remembered_ids is not None:
        file = folder / "knobs.toml"
        file.write_text(f"[limits]\nremembered_ids = {options.remembered_ids}\n")
        knobs = ["--config", str(file)]
    spec = Spec(folder, tasks=["soak_tasks"], disk=not options.memory, options=knobs)
    with Group(spec) as group:
        client = _core.Client(group.places, timeout=60, watch=False)
        began = time.monotonic()
        done = wrong = 0
        enough = threading.Event()

        def watch() -> None:
            while not enough.wait(SAMPLE_S):
                rows.append(sample(group, done, began))

        watcher = threading.Thread(target=watch)
        watcher.start()
        pending: collections.deque[_core.Future[Any]] = collections.deque()
        try:
            for i in range(options.tasks):
                body = b'{"args":[%d],"kwargs":{}}' % i
                pending.append(client.submit("soak.same", None, "json", body))
                if len(pending) >= WINDOW:
                    wrong += pending.popleft().result(120) != done
                    done += 1
            while pending:
                wrong += pending.popleft().result(120) != done
                done += 1
        finally:
            enough.set()
            watcher.join()
        took = time.monotonic() - began
        client.close()
    return {
        "tasks": options.tasks,
        "wrong": wrong,
        "seconds": round(took, 1),
        "tasks_per_s": round(options.tasks / took),
        "growth": {name: growth(rows, name) for name in (node.name for node in group)},
        "rows": rows,
    }


def growth(rows: list[dict[str, Any]], name: str) -> dict[str, float]:
    """The largest size in the second quarter of the tasks and in the last: flat is equal."""
    total = rows[-1]["done"]
    found: dict[str, float] = {}
    for kind in ("rss_mib", "disk_mib"):
        for label, (low, high) in {"second_quarter": (0.25, 0.5), "last": (0.75, 1.0)}.items():
            part = [row[name][kind] for row in rows if low * total <= row["done"] <= high * total]
            found[f"{kind}_{label}"] = max(part, default=0.0)
    return found


def draw(path: Path, result: dict[str, Any], note: str) -> None:
    """Memory and disk of each node against tasks done."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = result["rows"]
    done = [row["done"] / 1e6 for row in rows]
    figure, axes = plt.subplots(2, 1, figsize=(9, 5.4), dpi=150, sharex=True)
    names = [key for key in rows[0] if isinstance(rows[0][key], dict)]
    for ax, kind, label in zip(axes, ("rss_mib", "disk_mib"), ("memory", "disk"), strict=True):
        for name in names:
            ax.plot(done, [row[name][kind] for row in rows], label=name, linewidth=1.2)
        ax.set_ylabel(f"{label} / MiB")
        ax.set_ylim(bottom=0)
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].legend(ncols=3, frameon=False, loc="lower right")
    axes[0].set_title("Three voters, task after task", loc="left", fontweight="bold")
    axes[1].set_xlabel("tasks done / million")
    figure.text(0.01, -0.02, note, fontsize=7.5, color="#555555", va="top", ha="left")
    figure.savefig(path, bbox_inches="tight", pad_inches=0.15)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=2_000_000)
    parser.add_argument("--memory", action="store_true", help="no data directories")
    parser.add_argument(
        "--remembered-ids", type=int, help="limits.remembered_ids; memory grows until it is reached"
    )
    parser.add_argument("--out", type=Path, default=Path("."))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="endurance-") as folder:
        result = {"machine": machine(), **endure(options, Path(folder))}
    (options.out / "endurance.json").write_text(json.dumps(result) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "rows"}, indent=1))
    where = "in memory" if options.memory else "on disk"
    rate = result["tasks_per_s"]
    note = f"3 voters {where}, one machine of {result['machine']['cores']} cores; {rate} tasks/s"
    draw(options.out / "endurance.png", result, note)


if __name__ == "__main__":
    main()
