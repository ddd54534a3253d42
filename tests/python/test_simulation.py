"""Imagined clusters through the public API: scripts, seeds, sweeps, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import hustings as hs
from hustings.failures import IMAGINED_KINDS, KINDS

EVERYTHING = hs.RandomFailures(6, 1.5, kinds=(*KINDS, *IMAGINED_KINDS), seed=7)


def test_a_script_kills_the_leader_and_the_best_survivor_takes_over():
    script = [(5, "kill", "leader"), (8, "restart", "n1")]
    run = hs.Simulation(5, loads=[0.9, 0.7, 0.5, 0.3, 0.1], script=script).run(seconds=12)
    assert [change.cause for change in run.changes] == ["founding", "failover"]
    founding, failover = run.changes
    assert (founding.leader, failover.leader, failover.best_won) == ("n1", "n2", True)
    assert failover.duration_s < failover.accepted_s < 0.1
    assert not run.violations
    assert run.faults == {"killed": 1, "restarted": 1, "healed": 1}
    assert run.healed_s is not None


def test_the_rows_are_those_of_a_live_cluster():
    run = hs.Simulation(3, script=[(5, "kill", "leader")]).run(seconds=10)
    (failover,) = run.events.failovers()
    assert failover.to_node == run.changes[-1].leader
    assert failover.duration_s == pytest.approx(run.changes[-1].duration_s, abs=1e-3)
    assert {"suspected", "polled", "campaigned", "voted"} <= {row["kind"] for row in run.events}


def test_the_same_seed_gives_the_same_run_in_two_processes():
    command = [sys.executable, "-m", "hustings", "sim", "--json", "--seed", "7", "--seconds", "40"]
    command += ["--mtbf", "6", "--mttr", "1.5", "--kinds", ",".join((*KINDS, *IMAGINED_KINDS))]
    first, second = (
        subprocess.run(command, capture_output=True, check=True, timeout=100).stdout
        for _ in range(2)
    )
    assert first == second
    told = json.loads(first)
    assert told["violations"] == []
    assert told["messages"] > 10_000
    other = hs.Simulation(5, seed=8, failures=EVERYTHING).run(seconds=40)
    assert other.trace != told["trace"]


def test_a_sweep_gives_each_seed_what_a_run_of_its_own_gives():
    sweep = hs.Simulation(3, failures=EVERYTHING).sweep(range(4), seconds=30, threads=2)
    assert [outcome.seed for outcome in sweep] == [0, 1, 2, 3]
    assert sweep.violations == []
    failures = hs.RandomFailures(6, 1.5, kinds=EVERYTHING.kinds, seed=3)
    alone = hs.Simulation(3, seed=3, failures=failures).run(seconds=30)
    assert sweep[3].trace == alone.trace
    assert len(sweep.changes()) == sum(len(outcome.changes) for outcome in sweep)


def test_a_planted_bug_is_reported_with_its_promise():
    planted = hs.Simulation(5, bug="two_votes_in_a_term", script=[(3, "kill", "leader")])
    run = planted.run(seconds=10)
    assert run.violations[0].promise == "G1"
    assert "BROKEN" in repr(run)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"nodes": 8}, "nodes=8"),
        ({"nodes": True}, "nodes=True"),
        ({"seed": -1}, "seed=-1"),
        ({"latency_s": (0.2, 0.1)}, "latency_s=(0.2, 0.1)"),
        ({"writes_per_s": float("nan")}, "writes_per_s=nan"),
        ({"script": [(1, "kil", "n1")]}, "did you mean 'kill'"),
        ({"script": [(1, "kill", "n9")]}, "'n9' is no node"),
        ({"script": [(1, "kill")]}, "takes 1 arguments"),
        ({"script": [(-1, "heal")]}, "the time of"),
        ({"loads": [0.5]}, "1 entries for 5 nodes"),
        ({"failures": 3}, "failures=3"),
        ({"config": {}}, "config={}"),
    ],
)
def test_what_cannot_be_imagined_is_refused_by_name(arguments, text):
    with pytest.raises(hs.ConfigError) as refused:
        hs.Simulation(**arguments)
    assert text in str(refused.value)


def test_an_unknown_bug_is_refused_with_the_known_ones():
    with pytest.raises(hs.ConfigError, match="choose one of vote_not_persisted"):
        hs.Simulation(3, bug="typo").run(seconds=1)


def test_the_example_of_the_page_runs():
    page = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text(encoding="utf-8")
    example = page.split("```python\n")[1].split("```")[0]
    names: dict[str, object] = {}
    exec(compile(example, "docs/simulation.md", "exec"), names)
    run = names["run"]
    assert isinstance(run, hs.Run)
    assert not run.violations
    assert run.faults["partitioned"] == 1


def test_what_can_only_be_imagined_does_not_befall_live_nodes():
    from hustings.injector import FailureInjector

    with pytest.raises(hs.ConfigError, match="'one_way' can only be imagined"):
        FailureInjector(None, hs.RandomFailures(1, 1, kinds=("kill", "one_way")), ["n1"])
