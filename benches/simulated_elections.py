"""Thousands of imagined elections: promises, winners, calm against quickness, speed.

    python benches/simulated_elections.py chaos     # everything fails: promises and healing
    python benches/simulated_elections.py winners   # only leaders die: does the best survivor win?
    python benches/simulated_elections.py calm      # a virtual day of noise, three policies
    python benches/simulated_elections.py speed     # virtual seconds per second

Each prints a table and writes ``<section>.json`` (and, for ``calm``, a picture) into ``--out``.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import time
from pathlib import Path
from typing import Any

import hustings as hs
from hustings.failures import IMAGINED_KINDS, KINDS

DAY_S = 86_400.0


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def figures(values: list[float]) -> dict[str, float]:
    names = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(percentile(values, share) * 1e3, 2) for name, share in names.items()}


def chaos(options: argparse.Namespace) -> dict[str, Any]:
    """Every kind of fault, often, on 3, 5 and 7 voters; half of the runs spare a majority."""
    result: dict[str, Any] = {}
    total = 0
    for nodes in (3, 5, 7):
        changes = broken = unhealed = runs = 0
        best: list[bool] = []
        faults: dict[str, int] = {}
        hours = 0.0
        healed: list[float] = []
        seed = 0
        while changes < options.elections / 3:
            simulation = hs.Simulation(
                nodes,
                loads=hs.loads.wandering(seed=seed),
                reads_per_s=5,
                failures=hs.RandomFailures(
                    8,
                    1.5,
                    kinds=(*KINDS, *IMAGINED_KINDS),
                    spare_majority=seed % 2 == 0,
                ),
            )
            batch = range(seed * 1000, seed * 1000 + options.batch)
            sweep = simulation.sweep(batch, seconds=120)
            seed += 1
            for outcome in sweep:
                runs += 1
                changes += len(outcome.changes)
                broken += len(outcome.violations)
                unhealed += outcome.healed_s is None
                healed += [] if outcome.healed_s is None else [outcome.healed_s]
                hours += outcome.duration_s / 3600
                best += [c.best_won for c in outcome.failovers() if c.best_won is not None]
                for kind, count in outcome.faults.items():
                    faults[kind] = faults.get(kind, 0) + count
            for which, violation in sweep.violations:
                print(f"n={nodes} seed={which}: {violation}")
        total += changes
        result[f"n={nodes}"] = {
            "runs": runs,
            "virtual_hours": round(hours, 1),
            "elections": changes,
            "broken_promises": broken,
            "not_healed": unhealed,
            "healed_ms": figures(healed),
            "failovers_judged": len(best),
            "best_won": round(sum(best) / max(1, len(best)), 4),
            "faults": faults,
        }
    result["elections"] = total
    return result


def winners(options: argparse.Namespace) -> dict[str, Any]:
    """Leaders die and come back; the loads are a tenth apart and shuffled for every seed."""
    result: dict[str, Any] = {}
    for label, config in (("hustings", None), ("plain raft", hs.Config.raft())):
        for nodes in (3, 5, 7):
            kills = [(10.0 + 6 * i + 0.0137 * (i % 7), i) for i in range(options.kills)]
            script: list[Any] = []
            for at, _ in kills:
                script.append((at, "kill", "leader"))
                script += [(at + 2.5, "restart", f"n{n + 1}") for n in range(nodes)]
            judged: list[bool] = []
            gaps: list[float] = []
            accepted: list[float] = []
            more = broken = 0
            for seed in range(options.batch):
                levels = [0.2 + 0.1 * n for n in range(nodes)]
                random.Random(seed).shuffle(levels)
                outcome = hs.Simulation(
                    nodes,
                    loads=[hs.loads.constant(level) for level in levels],
                    config=config,
                    script=script,
                    seed=seed,
                ).run(seconds=10 + 6 * options.kills)
                broken += len(outcome.violations)
                for change in outcome.failovers():
                    judged += [] if change.best_won is None else [change.best_won]
                    gaps.append(change.duration_s or 0.0)
                    accepted += [] if change.accepted_s is None else [change.accepted_s]
                    more += change.terms > 1
            result[f"{label} n={nodes}"] = {
                "failovers": len(gaps),
                "best_won": round(sum(judged) / max(1, len(judged)), 4),
                "judged": len(judged),
                "more_than_one_term": more,
                "leader_ms": figures(gaps),
                "accepted_ms": figures(accepted),
                "broken_promises": broken,
            }
    return result


# Only scores and handovers matter here; slow heartbeats make a virtual day affordable.
SLOW = {"heartbeat_s": 0.25, "suspicion_min_s": 1.5, "suspicion_max_s": 10, "lease_s": 5}
CPU_ALONE = hs.ScoreWeights(cpu=1.0, memory=0.0, uptime=0.0)
NOISE = {"deviation": 0.06, "pull_s": 0.25}
"""Every node alike; the sensor is noisy, and a spike of work a minute takes 0.4 for two seconds."""
WANDER = {"deviation": 0.10, "pull_s": 30.0}
"""The nodes really differ, for half a minute at a time."""


POLICIES = {
    # Whoever scores best in the last sample leads.
    "naive": lambda **e: hs.Config.lan(
        score=CPU_ALONE,
        election=hs.ElectionConfig(
            handover_margin=0.0,
            handover_floor=1.0,
            handover_dwell_s=0,
            handover_cooldown_s=0,
            score_tau_s=0,
            **e,
        ),
    ),
    "classic": lambda **e: hs.Config.classic(election=hs.ElectionConfig(**e)),
    "hustings": lambda **e: hs.Config.lan(score=CPU_ALONE, election=hs.ElectionConfig(**e)),
}


def walking(level: float, kind: dict[str, float], seed: int) -> hs.loads.LoadSource:
    spikes = {"spikes_per_minute": 1.0, "spike_s": 2.0, "spike_depth": 0.4}

    def make(node: int) -> dict[str, Any]:
        return {"kind": "wandering", "level": level, "seed": seed * 100 + node, **kind, **spikes}

    return hs.loads.LoadSource(f"walking(seed={seed})", make)


def calm(options: argparse.Namespace) -> dict[str, Any]:
    """Leader moves per hour without a reason, and the reaction to a leader that becomes busy."""
    result: dict[str, Any] = {}
    logs: dict[str, Any] = {}
    reactions: dict[str, list[float]] = {}
    for label, make in POLICIES.items():
        result[label] = {"virtual_hours": options.hours}
        for name, kind in (("noise", NOISE), ("wander", WANDER)):
            kept: list[Any] = []
            moves = broken = 0
            for seed, hours in enumerate(_pieces(label, options), start=1):
                run = hs.Simulation(
                    5,
                    loads=walking(0.6, kind, seed),
                    config=make(**SLOW),
                    writes_per_s=0,
                    seed=seed,
                    heal=False,
                ).run(seconds=hours * 3600)
                moves += len(run.changes) - 1
                broken += len(run.violations)
                kept.append(run.events.filter("became_leader") if len(run.changes) > 99 else run)
            result[label][f"moves_per_hour_{name}"] = round(moves / options.hours, 2)
            result[label][f"broken_promises_{name}"] = broken
            if name == "noise":
                logs[label] = kept
        took = [_reaction(make, seed) for seed in range(options.steps)]
        reactions[label] = [seconds for seconds in took if seconds is not None]
        result[label]["reaction_s"] = {
            "p50": round(percentile(reactions[label], 0.5), 2),
            "p95": round(percentile(reactions[label], 0.95), 2),
            "reacted": f"{len(reactions[label])} of {len(took)}",
        }
        print(label, result[label], flush=True)
    axes = hs.viz.leader_moves(logs, reactions)
    axes.figure.savefig(Path(options.out) / "calm.png", dpi=150, bbox_inches="tight")
    return result


def _pieces(policy: str, options: argparse.Namespace) -> list[float]:
    """The hours of each run. Naive leadership moves thousands of times an hour, and every row of a
    run is held until its end: its day is told in parts."""
    if policy != "naive" or options.hours <= options.naive_hours:
        return [options.hours]
    whole, rest = divmod(options.hours, options.naive_hours)
    return [options.naive_hours] * int(whole) + ([rest] if rest else [])


def _reaction(make: Any, seed: int) -> float | None:
    """Seconds from a lasting step of the leader's load until another leads."""
    start = 130.0 + 7.3 * seed
    rng = random.Random(seed)

    def recording(before: float, after: float) -> hs.loads.LoadSource:
        rows = []
        for quarter in range(int((start + 180) * 4)):
            level = after if quarter / 4 >= start else before
            noisy = min(1.0, max(0.0, level + rng.gauss(0, 0.06)))
            rows.append((quarter / 4, noisy))
        return hs.loads.replay(rows)

    loads = [recording(0.9, 0.05), *(recording(0.75, 0.75) for _ in range(4))]
    run = hs.Simulation(
        5,
        loads=loads,
        config=make(**SLOW),
        writes_per_s=0,
        seed=seed,
        script=[(60, "handover", "n1")],
        heal=False,
    ).run(seconds=start + 120)
    before = [c for c in run.changes if c.at_s <= start]
    after = [c for c in run.changes if c.at_s > start and c.leader != "n1"]
    if before[-1].leader != "n1" or not after:
        return None
    return after[0].at_s - start


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """Virtual seconds per second on one core, medians of five."""
    result: dict[str, Any] = {}
    for label, writes in (("elections only", 0), ("20 entries/s", 20), ("200 entries/s", 200)):
        ratios = []
        for seed in range(5):
            simulation = hs.Simulation(5, seed=seed, writes_per_s=writes)
            began = time.process_time()
            run = simulation.run(seconds=options.seconds)
            ratios.append(run.duration_s / (time.process_time() - began))
        result[label] = {
            "median": round(statistics.median(ratios)),
            "min": round(min(ratios)),
            "max": round(max(ratios)),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("section", choices=["chaos", "winners", "calm", "speed"])
    parser.add_argument("--elections", type=int, default=10_000, help="chaos: at least so many")
    parser.add_argument("--batch", type=int, default=20, help="runs per batch, or seeds")
    parser.add_argument("--kills", type=int, default=20, help="winners: per seed")
    parser.add_argument("--hours", type=float, default=24.0, help="calm: virtual hours")
    parser.add_argument("--naive-hours", type=float, default=1.0, help="calm: of one run, naive")
    parser.add_argument("--steps", type=int, default=40, help="calm: reactions measured")
    parser.add_argument("--seconds", type=float, default=120.0, help="speed: virtual, per run")
    parser.add_argument("--out", default=".", metavar="DIR")
    options = parser.parse_args()
    Path(options.out).mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    result = {
        "section": options.section,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "result": globals()[options.section](options),
        "took_s": round(time.monotonic() - began, 1),
    }
    (Path(options.out) / f"{options.section}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
