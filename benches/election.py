"""How fast, how often and to whom leadership moves, in real processes and beside plain Raft.

    python benches/election.py --quick                     two minutes
    python benches/election.py                             everything, about forty
    python benches/election.py --sections kill,freeze --trials 50

Every section runs on clusters of five isolated nodes with known loads; a fresh cluster every
so many trials. Prints a table beside the goals and writes ``election.json`` and one picture
per distribution. Sections, and what is timed:

    kill       SIGKILL of the leader until the next task is accepted (also by plain Raft's timers)
    kill_busy  the same while every core is kept 80 % busy by others
    freeze     SIGSTOP of the leader: silence, no evidence
    partition  the leader cut off from the other nodes
    handover   the longest time without an acceptance around a graceful handover
    repair     the same when the one that should take over is frozen
    idle       CPU and memory of a cluster without work
    calm       suspicions and elections while nothing happens: idle, busy cores, own load
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trials
from election_picture import draw_all
from rig import NODES, Rig, busy_cores

import hustings as hs

PER_CLUSTER = 25
"""Trials after which a fresh cluster takes over."""
LABELS = {"lan": "hustings", "raft": "plain Raft"}


@dataclass(frozen=True)
class Section:
    """A kind of trial, how often it is run, and what it is held to."""

    trial: Callable[[Rig], trials.Result]
    counts: dict[str, tuple[int, int]]
    """Profile: trials in a full and in a quick run."""
    metric: str
    title: str
    xlabel: str
    goals: dict[float, float] = field(default_factory=dict)
    """Share of trials: milliseconds."""
    busy: bool = False


SECTIONS = {
    "kill": Section(
        trials.kill,
        {"lan": (200, 16), "raft": (60, 6)},
        "accepted_ms",
        "SIGKILL of the leader: until the next task is accepted",
        "milliseconds from the signal to the first acceptance (logarithmic)",
        {0.5: 20, 0.99: 60},
    ),
    "kill_busy": Section(
        trials.kill,
        {"lan": (60, 6)},
        "accepted_ms",
        "SIGKILL of the leader while every core is 80 % busy",
        "milliseconds from the signal to the first acceptance (logarithmic)",
        {0.5: 30, 0.99: 100},
        busy=True,
    ),
    "freeze": Section(
        trials.freeze,
        {"lan": (60, 8), "raft": (30, 4)},
        "accepted_ms",
        "SIGSTOP of the leader: until the next task is accepted",
        "milliseconds from the signal to the first acceptance (logarithmic)",
        {0.5: 130, 0.99: 200},
    ),
    "partition": Section(
        trials.partition,
        {"lan": (40, 5), "raft": (20, 3)},
        "accepted_ms",
        "The leader cut off from the other nodes: until the next task is accepted",
        "milliseconds from the cut to the first acceptance (logarithmic)",
        {0.5: 130, 0.99: 200},
    ),
    "handover": Section(
        trials.handover,
        {"lan": (80, 10), "raft": (30, 4)},
        "gap_ms",
        "Graceful handover under a steady stream of tasks",
        "longest time without an acceptance, milliseconds (logarithmic)",
        {0.5: 10, 0.99: 40},
    ),
    "repair": Section(
        lambda rig: trials.handover(rig, vain=True),
        {"lan": (20, 4), "raft": (10, 2)},
        "gap_ms",
        "Handover to a frozen node: until somebody else leads",
        "longest time without an acceptance, milliseconds (logarithmic)",
        {1.0: 250},
    ),
}


def quantile(values: list[float], share: float) -> float:
    """The nearest rank: a value that was measured."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def run_trials(
    section: Section, profile: str, count: int, seed: int, disk: bool
) -> list[trials.Result]:
    """``count`` trials on as few clusters as may be; a trial that breaks costs its cluster."""
    results: list[trials.Result] = []
    while len(results) < count:
        with Rig(profile, seed + len(results), disk) as rig:
            for _ in range(min(PER_CLUSTER, count - len(results))):
                try:
                    results.append(section.trial(rig))
                except (hs.HustingsError, TimeoutError) as error:
                    results.append({"broke": f"{type(error).__name__}: {error}"})
                    break
    return results


def run_section(
    name: str, quick: bool, only: int | None, seed: int, disk: bool = False
) -> dict[str, Any]:
    """All profiles of one section, and their sums."""
    section = SECTIONS[name]
    samples: dict[str, list[float]] = {}
    rows, raw = [], {}
    for profile, counts in section.counts.items():
        count = counts[1 if quick else 0] if only is None else only
        if count == 0:
            continue
        if section.busy:
            with busy_cores(3_600):
                results = run_trials(section, profile, count, seed, disk)
        else:
            results = run_trials(section, profile, count, seed, disk)
        raw[profile] = results
        good = [r for r in results if "broke" not in r]
        values = [r[section.metric] for r in good]
        if not values:
            continue
        samples[LABELS[profile]] = values
        goals = section.goals if profile != "raft" else {}
        rows.append(summary(name, profile, section, values, good, len(results) - len(good), goals))
        report(rows[-1])
    goals = section.goals
    picture = {
        "title": section.title,
        "xlabel": section.xlabel,
        "samples": samples,
        "goals": {str(share): ms for share, ms in goals.items()},
    }
    return {"rows": rows, "trials": raw, "picture": picture if samples else None}


def summary(
    name: str,
    profile: str,
    section: Section,
    values: list[float],
    good: list[trials.Result],
    broke: int,
    goals: dict[float, float],
) -> dict[str, Any]:
    """One line of the table."""
    row: dict[str, Any] = {
        "section": name,
        "profile": profile,
        "n": len(values),
        "broke": broke,
        "ms": {f"p{share * 100:g}": quantile(values, share) for share in (0.5, 0.9, 0.99, 1.0)},
        "goals": {f"p{share * 100:g}": ms for share, ms in goals.items()},
        "failed_submissions": sum(r["failed"] for r in good),
        "terms_with_two_leaders": sum(r["terms_with_two_leaders"] for r in good),
    }
    if "best_won" in good[0]:
        row["best_won"] = sum(r["best_won"] for r in good)
        row["more_than_one_term"] = sum(r["terms"] > 1 for r in good)
    for extra in ("leader_ms", "leaderless_ms"):
        known = [r[extra] for r in good if r.get(extra) is not None]
        if known:
            row[extra] = {f"p{s * 100:g}": quantile(known, s) for s in (0.5, 0.9, 0.99, 1.0)}
    phases = [r.get("phases_ms", {}) for r in good]
    medians = {p: [ph[p] for ph in phases if p in ph] for p in trials.PHASES}
    row["phases_p50_ms"] = {p: quantile(v, 0.5) for p, v in medians.items() if v}
    row["meets"] = all(quantile(values, share) <= ms for share, ms in goals.items())
    return row


def run_idle(quick: bool, seed: int) -> dict[str, Any]:
    """Section ``idle``."""
    rows = []
    for profile in ("lan", "raft"):
        with Rig(profile, seed) as rig:
            rows.append(
                {"section": "idle", "profile": profile, **trials.idle(rig, 10 if quick else 30)}
            )
        report(rows[-1])
    return {"rows": rows, "goal": {"cpu_percent_of_a_core": 10, "rss_mib_per_node": 40}}


def run_calm(quick: bool, seed: int) -> dict[str, Any]:
    """Section ``calm``: idle, with busy cores, under own load."""
    lengths = {"idle": 120.0, "busy cores": 600.0, "own load": 600.0}
    rows = []
    for what, length in lengths.items():
        seconds = length / 10 if quick else length
        with Rig("lan", seed) as rig:
            rig.settle()
            if what == "busy cores":
                with busy_cores(seconds + 120):
                    seen = trials.calm(rig, seconds, loaded=False)
            else:
                seen = trials.calm(rig, seconds, loaded=what == "own load")
        rows.append({"section": "calm", "profile": "lan", "while": what, **seen})
        report(rows[-1])
    return {"rows": rows, "goal": {"elections": 0}}


def report(row: dict[str, Any]) -> None:
    """Prints one line as soon as it is known."""
    head = f"{row['section']:<10} {row['profile']:<5}"
    if "ms" not in row:
        skipped = ("section", "profile")
        cells = [
            f"{k}={v:.1f}" if isinstance(v, float) else f"{k}={v}"
            for k, v in row.items()
            if k not in skipped
        ]
        print(head, ", ".join(cells), flush=True)
        return
    times = "  ".join(f"{value:7.1f}" for value in row["ms"].values())
    goal = " ".join(f"{share}<={ms:g}" for share, ms in row["goals"].items())
    verdict = ("met" if row["meets"] else "MISSED") if goal else ""
    facts = [f"failed={row['failed_submissions']}", f"two_leaders={row['terms_with_two_leaders']}"]
    if "best_won" in row:
        facts += [f"best={row['best_won']}/{row['n']}", f"extra_terms={row['more_than_one_term']}"]
    if row["broke"]:
        facts.append(f"BROKE={row['broke']}")
    print(f"{head} {row['n']:>4}  {times}   {goal:<20} {verdict:<7} {' '.join(facts)}", flush=True)


def machine() -> dict[str, Any]:
    """Where this ran."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    try:
        argv = ["git", "rev-parse", "--short", "HEAD"]
        here = Path(__file__).parent
        revision = subprocess.run(argv, capture_output=True, text=True, cwd=here, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        revision = "unknown"
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "hustings": hs.__version__,
        "revision": revision.strip(),
        "load_average_before": os.getloadavg()[0],
    }


def settings() -> dict[str, dict[str, float | str]]:
    """The election knobs of each profile."""
    return {
        profile: {
            name.removeprefix("election."): value
            for name, value in hs.Config(profile=profile).resolved().items()
            if name.startswith("election.")
        }
        for profile in LABELS
    }


def note(result: dict[str, Any]) -> str:
    """Machine and settings, for the foot of a picture."""
    m, knobs = result["machine"], result["settings"]

    def words(profile: str) -> str:
        k = knobs[profile]
        least, most = float(k["suspicion_min_s"]) * 1e3, float(k["lease_s"]) * 1e3
        beat = float(k["heartbeat_s"]) * 1e3
        if profile == "raft":
            return f"plain Raft: heartbeat {beat:g} ms, election timeout {most / 2:g}-{most:g} ms"
        return f"hustings: heartbeat {beat:g} ms, suspicion from {least:g} ms, lease {most:g} ms"

    return (
        f"{NODES} isolated processes on one machine: {m['cpu']}, {m['cores']} cores; "
        f"{'on disk' if result['disk'] else 'in memory'}; "
        f"client on the same machine.\n{words('lan')}.  {words('raft')}.  "
        f"revision {m['revision']}, {result['started']}"
    )


def main() -> int:
    """Runs what is asked for; 1 if a goal was missed or a safety property broken."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [*SECTIONS, "idle", "calm"]
    parser.add_argument("--sections", default=",".join(known), help=f"of {', '.join(known)}")
    parser.add_argument("--quick", action="store_true", help="about two minutes")
    parser.add_argument("--trials", type=int, help="the same number of trials everywhere")
    parser.add_argument("--disk", action="store_true", help="with data directories")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("target/bench"))
    options = parser.parse_args()
    wanted = options.sections.split(",")
    unknown = [name for name in wanted if name not in known]
    if unknown:
        parser.error(f"no such section: {', '.join(unknown)}; they are {', '.join(known)}")
    result: dict[str, Any] = {
        "machine": machine(),
        "settings": settings(),
        "disk": options.disk,
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "sections": {},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    print(note(result))
    columns = "  ".join(f"{share:>7}" for share in ("p50", "p90", "p99", "max"))
    print(f"{'section':<10} {'':<5} {'n':>4}  {columns}   goal / ms")
    for name in wanted:
        if name == "idle":
            result["sections"][name] = run_idle(options.quick, options.seed)
        elif name == "calm":
            result["sections"][name] = run_calm(options.quick, options.seed)
        else:
            section = run_section(name, options.quick, options.trials, options.seed, options.disk)
            result["sections"][name] = section
        # After each section, so that a run that is broken off leaves what it measured.
        (options.out / "election.json").write_text(json.dumps(result, indent=1))
    for path in draw_all(options.out, result, note(result)):
        print(f"wrote {path}")
    print(f"wrote {options.out / 'election.json'}")
    rows = [row for section in result["sections"].values() for row in section["rows"]]
    unsafe = any(row.get("terms_with_two_leaders") for row in rows)
    return int(unsafe or any(row.get("meets") is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
