"""Imagined clusters that run tasks, on disks that fail, and the checker of histories."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import hustings as hs
from hustings import _core
from hustings.failures import DISK_KINDS, IMAGINED_KINDS, KINDS

EVERYTHING = (*KINDS, *IMAGINED_KINDS, *DISK_KINDS)


def storm(seed: int) -> hs.Simulation:
    failures = hs.RandomFailures(8, 1.5, kinds=EVERYTHING, seed=seed, spare_majority=False)
    return hs.Simulation(3, workers=1, tasks_per_s=3, disk="imagined", failures=failures, seed=seed)


def test_tasks_come_out_once_whatever_fails_and_both_sides_of_the_border_say_so():
    run = storm(5).run(seconds=60)
    assert not run.violations
    assert run.tasks.accepted > 50
    assert run.tasks.drained_s is not None
    assert (run.tasks.lost, run.tasks.contradicting) == (0, 0)
    found = _core.check_history(run.task_rows)
    assert found["accepted"] == run.tasks.accepted
    assert found["lost"] == found["double"] == found["invented"] == found["contradicting"] == []


def long_storm(seed: int) -> hs.Simulation:
    """As ``benches/simulated_tasks.py storm`` imagines it: slow heartbeats, long runs."""
    slow = hs.ElectionConfig(
        heartbeat_s=0.5, suspicion_min_s=2.0, suspicion_max_s=6.0, lease_s=3.0, score_period_s=1.0
    )
    return hs.Simulation(
        3,
        workers=1,
        tasks_per_s=0.2,
        writes_per_s=0,
        config=hs.Config(election=slow),
        disk="imagined",
        failures=hs.RandomFailures(150, 5, kinds=EVERYTHING, seed=seed, spare_majority=False),
        seed=seed,
    )


def test_a_voter_that_came_back_empty_and_died_before_it_had_its_seat_gets_it_later():
    # n1 does not start on a rotten disk, and its empty successor dies at once. Without n2 the
    # cluster goes on only if n1 has a seat after all.
    script = [
        (20, "rot", "n1"),
        (25, "restart", "n1"),
        (25.001, "kill", "n1"),
        (30, "restart", "n1"),
        (45, "kill", "n2"),
    ]
    simulation = hs.Simulation(3, workers=1, tasks_per_s=2, disk="imagined", script=script, seed=1)
    run = simulation.run(seconds=60)
    assert any(row.get("detail") == "refused to start" for row in run.events)
    assert not run.violations
    accepted = [row["at_us"] for row in run.task_rows if row["kind"] == "accepted"]
    assert any(47e6 < at_us < 60e6 for at_us in accepted)


def test_a_leader_that_comes_back_with_less_than_it_sent_votes_for_who_has_it():
    # Found by a storm: n2 has lost its disk; n3's disk fails before it has synced what n1 has from
    # it. n1 suspected n3 and has to ask it all the same.
    run = long_storm(301_115).run(seconds=862)
    assert any(row.get("detail") == "has a newer log" for row in run.events)
    assert not run.violations


def test_a_history_with_a_hole_in_it_is_found_out():
    rows = list(storm(6).run(seconds=30).task_rows)
    task = next(row["task"] for row in rows if row["kind"] == "accepted")
    hole = [row for row in rows if row["task"] != task or row["kind"] != "outcome"]
    (lost,) = _core.check_history(hole)["lost"]
    assert lost[0] == task
    assert _core.check_history(hole, whole=False)["lost"] == []


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"kind": "accepted", "task": "t", "client": "c"}, r"rows\[0\].at_us: it is missing"),
        ({"at_us": 1, "kind": "eaten", "task": "t", "client": "c"}, r"rows\[0\].kind: .*eaten"),
        ({"at_us": 1, "kind": "ended", "task": "t"}, r"rows\[0\].node: give node or client"),
        ({"at_us": -1, "kind": "ended", "task": "t", "node": "n"}, r"rows\[0\].at_us: -1"),
        (3, "row 0 is no mapping"),
    ],
)
def test_malformed_rows_are_refused_by_number_and_field(row, text):
    with pytest.raises(hs.ConfigError, match=text):
        _core.check_history([row])


def test_the_same_seed_gives_the_same_tasks_in_two_processes():
    command = [sys.executable, "-m", "hustings", "sim", "--json", "--seed", "3", "--seconds", "30"]
    command += ["--nodes", "3", "--workers", "1", "--tasks", "3", "--failing-disks"]
    command += ["--mtbf", "6", "--mttr", "1.5", "--kinds", ",".join(EVERYTHING)]
    first, second = (
        subprocess.run(command, capture_output=True, check=True, timeout=100).stdout
        for _ in range(2)
    )
    assert first == second
    assert json.loads(first)["tasks"]["accepted"] > 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"workers": -1}, "workers=-1"),
        ({"workers": 65}, "workers=65"),
        ({"tasks_per_s": -1}, "tasks_per_s=-1"),
        ({"task_s": 0}, "task_s=0"),
        ({"disk": "floppy"}, "disk='floppy'"),
        ({"script": [(1, "slow_disk", "n1", -1)]}, "slow_disk"),
    ],
)
def test_what_cannot_be_imagined_of_tasks_is_refused_by_name(arguments, text):
    with pytest.raises(hs.ConfigError, match=text):
        hs.Simulation(3, **arguments)


def test_disks_fail_only_where_there_are_some():
    failures = hs.RandomFailures(5, 1, kinds=("power_cut",))
    with pytest.raises(hs.ConfigError, match=r"failures\.kinds"):
        hs.Simulation(3, failures=failures).run(seconds=1)
