"""The rows of a simulated cluster, read like those of a live one, tell what the simulation itself
saw happen."""

from __future__ import annotations

import pytest

import hustings as hs

QUIET = {"writes_per_s": 0.0, "loads": [0.9, 0.75, 0.6, 0.45, 0.3]}


def test_one_kill_is_read_as_the_simulation_saw_it() -> None:
    script = [(5, "kill", "leader"), (8, "restart", "n1"), (12, "handover")]
    run = hs.Simulation(5, seed=3, script=script, **QUIET).run(seconds=15)
    read = run.events.elections()
    assert [e.cause for e in read] == [c.cause for c in run.changes]
    assert read[1].duration_s == pytest.approx(run.changes[1].duration_s, abs=1e-3)
    assert read[1].best_won
    assert read[1].phases.win_ms is not None


@pytest.mark.parametrize("seed", range(8))
def test_many_failures_are_read_as_the_simulation_saw_them(seed: int) -> None:
    failures = hs.RandomFailures(6.0, 2.0, kinds=("kill", "freeze", "partition"), seed=seed)
    run = hs.Simulation(5, seed=seed, failures=failures, **QUIET).run(seconds=120)
    read = {election.term: election for election in run.events.elections()}
    seen = {change.term: change for change in run.changes}
    assert set(seen) <= set(read)
    assert len(seen) > 5
    agreed = []
    for term, change in seen.items():
        election = read[term]
        assert election.leader == change.leader
        if change.cause == "failover":
            assert election.cause == "failover"
            assert election.duration_s == pytest.approx(change.duration_s, abs=1e-3)
            agreed.append(change.best is None or change.best == election.best)
    # The simulation asks all survivors for their tables; the rows have the lost leader's only.
    assert sum(agreed) >= len(agreed) - 1


def test_a_simulated_node_cannot_measure() -> None:
    with pytest.raises(hs.ConfigError, match="cannot measure"):
        hs.Simulation(3, loads=hs.loads.measured())
