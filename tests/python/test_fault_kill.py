"""Rows 1, 2, 3, 21 and 35: real processes killed, stopped and started under load, and the whole
history judged.

Each is a short `benches/soak.py`: `hustings node` processes, two client processes, every start and
every answer written down. The long runs and their figures are `make soak`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from soak import Plan, broken, soak

Judge = Callable[[Plan], dict[str, Any]]


@pytest.fixture
def judged(tmp_path: Path, record_property: Any) -> Judge:
    """Runs a plan; whatever was promised must hold in its history."""

    def run(plan: Plan) -> dict[str, Any]:
        result = soak(plan, tmp_path / "soak")
        assert not broken(result), {
            k: result[k] for k in ("trouble", "complaints", "verdict", "checkers", "strikes")
        }
        assert result["accounts_agree"], (result["counters"], result["verdict"]["counts"])
        for name in ("tasks", "processes_killed", "duplicate_starts", "unavailable_ms"):
            record_property(name, result[name])
        return result

    return run


def plan(mode: str, *only: str, strikes: int, **more: Any) -> Plan:
    return Plan(mode, seconds=60, strikes=strikes, only=only, profile="ci", nodes=4, **more)


@pytest.mark.parametrize("mode", ["memory", "disk"])
def test_row_1_the_leader_is_killed_under_load(judged: Judge, mode: str) -> None:
    result = judged(plan(mode, "kill leader", strikes=3))
    assert result["processes_killed"] == 3
    assert result["tasks"] >= 100


def test_row_2_a_worker_is_killed_while_it_runs(judged: Judge, record_property: Any) -> None:
    result = judged(plan("memory", "kill worker", strikes=3))
    assert result["processes_killed"] == 3
    record_property("begun_again_ms", result["begun_again_ms"])


def test_row_3_all_voters_are_killed_at_once(judged: Judge) -> None:
    result = judged(plan("disk", "kill all voters", strikes=2))
    assert result["processes_killed"] == 6


@pytest.mark.parametrize("mode", ["memory", "disk"])
def test_row_21_all_nodes_are_restarted_one_after_the_other(judged: Judge, mode: str) -> None:
    result = judged(plan(mode, "rolling restart", strikes=1))
    assert result["sigterm_exit_codes"] == {"0": 4}


def test_row_35_a_node_is_stopped_at_every_point(judged: Judge, record_property: Any) -> None:
    kinds = ("terminate", "terminate twice", "terminate at an election", "terminate at the start")
    result = judged(plan("disk", *kinds, strikes=8))
    assert sum(result["sigterm_exit_codes"].values()) == 8
    record_property("drain_ms", result["drain_ms"])
