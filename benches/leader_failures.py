"""Kills the leader of fresh in-process clusters; counts how often the best survivor takes over.

Every trial gives its nodes synthetic loads at least 0.1 apart, in a random order, waits until all
have heard the ranking, kills the leader and looks who leads next. Prints one line of JSON.

    python benches/leader_failures.py --trials 100 --nodes 5 --seed 1
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import statistics
import time
from typing import Any

import hustings as hs

PATIENCE_S = 30.0


def wait_for(what: str, look: Any) -> Any:
    end = time.monotonic() + PATIENCE_S
    while not (seen := look()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {PATIENCE_S} s for {what}")
        time.sleep(0.005)
    return seen


def settled(cluster: hs.Cluster, scores: dict[str, float]) -> bool:
    """The leader has heard and broadcast everybody's present score."""
    members = {m.name: m for m in cluster.members()}
    order = sorted(scores, key=lambda n: -scores[n])
    heard = sorted(members, key=lambda n: -members[n].score)
    rows = [r for r in cluster.events.to_dicts() if r["kind"] == "scored"]
    return heard == order and len(rows) >= 2 * len(scores)


def one_trial(nodes: int, rng: random.Random, profile: str) -> dict[str, Any]:
    names = [f"n{i + 1}" for i in range(nodes)]
    levels = [0.15 + 0.2 * i for i in range(nodes)]
    rng.shuffle(levels)
    loads = dict(zip(names, levels, strict=True))
    base = {"lan": hs.Config.lan, "lan_fast": hs.Config.lan_fast, "ci": hs.Config.ci}[profile]
    config = base(election=hs.ElectionConfig(score_tau_s=0))
    with hs.Cluster.local(nodes, name="trial", loads=loads, config=config) as cluster:
        old = cluster.wait_leader()
        wait_for("the ranking", lambda: settled(cluster, loads))
        time.sleep(rng.uniform(0.1, 0.14))  # A random phase of the heartbeat.
        best = max((n for n in names if n != old.name), key=lambda n: loads[n])
        cluster.kill(old.name)
        new = wait_for(
            "a new leader",
            lambda: (leader := cluster.leader) and leader.name != old.name and leader,
        )
        failover = wait_for("the failover's record", cluster.events.failovers)[-1]
        leaders = collections.defaultdict(set)
        for row in cluster.events.to_dicts():
            if row["kind"] == "became_leader":
                leaders[row["term"]].add(row["node"])
        return {
            "best_won": new.name == best,
            "ms": failover.duration_s * 1e3,
            "terms_with_two": sum(len(who) > 1 for who in leaders.values()),
            "terms": new.term - old.term,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", choices=["lan", "lan_fast", "ci"], default="lan")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    trials = [one_trial(options.nodes, rng, options.profile) for _ in range(options.trials)]
    times = sorted(t["ms"] for t in trials)
    result = {
        **vars(options),
        "best_won": sum(t["best_won"] for t in trials),
        "terms_with_two_leaders": sum(t["terms_with_two"] for t in trials),
        "more_than_one_term": sum(t["terms"] > 1 for t in trials),
        "failover_ms": {
            "p50": round(statistics.median(times), 1),
            "p99": round(times[min(len(times) - 1, int(len(times) * 0.99))], 1),
            "max": round(times[-1], 1),
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
