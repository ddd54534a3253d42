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
                    8, 1.5, kinds=(*KINDS, *IMAGINED_KINDS), spare_majority=seed % 2 == 0
                ),
                disk=seed % 3 != 0,
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


POLICIES = {
    "naive": lambda **e: hs.Config.lan(
        election=hs.ElectionConfig(
            handover_margin=0.0,
            handover_floor=1.0,
            handover_dwell_s=0,
            handover_cooldown_s=0,
            score_tau_s=0,
            **e,
        )
    ),
    "classic": lambda **e: hs.Config.classic(election=hs.ElectionConfig(**e)),
    "hustings": lambda **e: hs.Config.lan(election=hs.ElectionConfig(**e)),
}
# Only scores and handovers matter here; slow heartbeats make a virtual day affordable.
SLOW = {"heartbeat_s": 0.25, "suspicion_min_s": 1.5, "suspicion_max_s": 10, "lease_s": 5}


def calm(options: argparse.Namespace) -> dict[str, Any]:
    """Leader moves under stationary noise, and the reaction to a leader that becomes busy."""
    result: dict[str, Any] = {}
    logs: dict[str, Any] = {}
    for label, make in POLICIES.items():
        hours = options.hours if label == "hustings" else min(options.hours, options.naive_hours)
        noisy = [hs.loads.noise(0.6, 0.1, seed=n) for n in range(5)]
        run = hs.Simulation(5, loads=noisy, config=make(**SLOW), writes_per_s=0, seed=1).run(
            seconds=hours * 3600
        )
        reactions = [_reaction(make, seed) for seed in range(options.steps)]
        reacted = [r for r in reactions if r is not None]
        result[label] = {
            "virtual_hours": hours,
            "moves_per_hour": round((len(run.changes) - 1) / hours, 2),
            "reaction_s": {
                "p50": round(percentile(reacted, 0.5), 2),
                "p95": round(percentile(reacted, 0.95), 2),
                "reacted": f"{len(reacted)} of {len(reactions)}",
            },
            "broken_promises": len(run.violations),
        }
        logs[label] = run.events
        print(label, result[label])
    if options.out:
        axes = hs.viz.leader_moves(logs)
        axes.figure.savefig(Path(options.out) / "calm.png", dpi=150, bbox_inches="tight")
    return result


def _reaction(make: Any, seed: int) -> float | None:
    """Seconds from a real step of the leader's load until another leads."""
    start = 120.0 + 7.3 * seed
    rng = random.Random(seed)
    loads = []
    for n in range(5):
        level = 0.9 if n == 0 else 0.75
        times = [i * 0.25 for i in range(1600)]
        values = [
            min(1.0, max(0.0, (0.05 if n == 0 and t >= start else level) + rng.gauss(0, 0.06)))
            for t in times
        ]
        # Memory and age count too; a node in trouble has neither.
        loads.append(hs.loads.trace(times, values, memory=0.3 if n == 0 else 0.9, uptime_s=0))
    run = hs.Simulation(5, loads=loads, config=make(**SLOW), writes_per_s=0, seed=seed).run(
        seconds=start + 120
    )
    before = [c for c in run.changes if c.at_s <= start]
    after = [c for c in run.changes if c.at_s > start and c.leader != "n1"]
    if not before or not after:
        return None
    return after[0].at_s - start if before[-1].leader == "n1" else 0.0


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
    parser.add_argument("--naive-hours", type=float, default=24.0, help="calm: of the others")
    parser.add_argument("--steps", type=int, default=40, help="calm: reactions measured")
    parser.add_argument("--seconds", type=float, default=120.0, help="speed: virtual, per run")
    parser.add_argument("--out", default=".", metavar="DIR")
    options = parser.parse_args()
    began = time.monotonic()
    result = {
        "section": options.section,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "result": globals()[options.section](options),
        "took_s": round(time.monotonic() - began, 1),
    }
    Path(options.out).mkdir(parents=True, exist_ok=True)
    (Path(options.out) / f"{options.section}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
