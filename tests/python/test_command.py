"""The ``hustings`` command: exit codes, JSON, and nodes in the background."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fault_tasks
import hustings as hs
from conftest import HERE, alive, eventually, run_command
from fault_views import other_names, settle


def test_help_and_version_need_nothing() -> None:
    assert "Exit codes" in run_command("--help").stdout
    assert run_command("--version").stdout.startswith("hustings ")


def test_help_imports_nothing_that_it_does_not_need() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "hustings", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hustings.cli" in imported
    heavy = {"asyncio", "cloudpickle", "concurrent.futures", "subprocess", "numpy", "shtab"}
    assert not imported & heavy
    ours = {name for name in imported if name.startswith("hustings.")}
    assert len(ours) <= 6, ours


def test_config_show_lists_every_knob() -> None:
    shown = run_command("config", "show", "--json", "--profile", "ci")
    values = json.loads(shown.stdout)
    assert values["election.heartbeat_s"] == pytest.approx(0.04)
    assert values["assign_reach"] == "inf"
    assert "election.heartbeat_s" in run_command("config", "show").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("demo", "/no/such/folder"), "no folder"),
        (("demo", __file__), "not a folder"),
        (("up", "0"), "N=0"),
        (("up", "3", "--profile", "moon"), "moon"),
        (("status", "--connect", "nonsense"), "host:port"),
        (("submit", "x", "{", "--connect", "127.0.0.1:1"), "not JSON"),
        (("node", "--listen", "0.0.0.0:7400"), "loopback"),
        (("node", "--voters", "3", "--join", "127.0.0.1:1"), "1 addresses for voters=3"),
        (("node", "--tasks", "no_such_module"), "no_such_module"),
        (("node", "--tasks", "rows"), "no @hustings.task"),
        (("node", "--position", "here"), "X,Y"),
        (("config", "show", "--profile", "moon"), "moon"),
        (("top", "--interval", "0", "--connect", "127.0.0.1:1"), "--interval 0: give 0.1 to 3600"),
        (("top", "--count", "0", "--connect", "127.0.0.1:1"), "--count 0: give at least 1"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    done = run_command(*arguments, HUSTINGS_STATE_DIR=str(tmp_path))
    assert done.returncode == 2, done
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_an_unknown_variable_is_bad_input() -> None:
    done = run_command("config", "show", HUSTINGS_PLACMENT="random")
    assert done.returncode == 2
    assert "HUSTINGS_PLACEMENT" in done.stderr


def test_status_without_a_cluster_says_how_to_name_one(tmp_path: Path) -> None:
    done = run_command("status", HUSTINGS_STATE_DIR=str(tmp_path))
    assert done.returncode == 2
    assert "--connect" in done.stderr


def test_up_submit_status_and_down(tmp_path: Path) -> None:
    here = {"HUSTINGS_STATE_DIR": str(tmp_path)}
    up = run_command("up", "3", "--tasks", "sample_tasks", "--profile", "ci", "--json", **here)
    assert up.returncode == 0, up.stderr
    state = json.loads(up.stdout)
    try:
        assert [n["name"] for n in state["nodes"]] == ["n1", "n2", "n3"]
        assert state["leader"] in ("n1", "n2", "n3")
        again = run_command("up", "3", **here)
        assert (again.returncode, "hustings down" in again.stderr) == (2, True)
        status = run_command("status", "--json", **here)
        assert len(json.loads(status.stdout)["members"]) == 3
        assert "leader" in run_command("status", **here).stdout
        one = run_command("submit", "sample_tasks.square", "[12]", **here)
        assert (one.returncode, one.stdout) == (0, "144\n"), one.stderr
        many = run_command(
            "submit", "greet", '{"name": "you"}', "--count", "20", "--rate", "200", "--json", **here
        )
        assert json.loads(many.stdout)["outcomes"] == {"succeeded": 20}
        failed = run_command("submit", "sample_tasks.fail", "[3]", **here)
        assert (failed.returncode, "OwnError" in failed.stderr) == (1, True)
        unknown = run_command("submit", "sample_tasks.sqare", "[3]", **here)
        assert (unknown.returncode, "sample_tasks.square" in unknown.stderr) == (1, True)
    finally:
        down = run_command("down", "--json", **here)
    assert json.loads(down.stdout) == {n: "stopped" for n in ("n1", "n2", "n3")}
    assert not any(alive(n["pid"]) for n in state["nodes"])
    assert json.loads(run_command("down", "--json", **here).stdout) == {}


def test_an_operator_looks_at_tasks_and_events_and_cancels(cluster: hs.Cluster, gate: Any) -> None:
    there = ("--connect", cluster.members()[0].address)
    held = cluster.submit(fault_tasks.wait_here, gate.path)
    eventually(held.running)
    task = str(held.task_id)
    shown = run_command("tasks", "--state", "assigned", *there)
    assert shown.returncode == 0, shown.stderr
    assert f"{task}  assigned" in shown.stdout
    one = run_command("tasks", "--limit", "1", "--json", *there)
    assert len(json.loads(one.stdout)) == 1
    refused = run_command("cancel", task, *there)
    assert (refused.returncode, "--kill" in refused.stdout) == (1, True)
    spoilt = run_command("cancel", "--kill", task, "no-id", *there)
    assert (spoilt.returncode, held.done()) == (2, False)
    unknown = "0198c2f0-0000-7000-8000-000000000000"
    both = run_command("cancel", "--kill", "--json", unknown, task, *there)
    assert (both.returncode, json.loads(both.stdout)) == (1, {unknown: False, task: True})
    assert held.cancelled()
    told = run_command("events", "--json", "--kind", "became_leader", *there)
    rows = [json.loads(line) for line in told.stdout.splitlines()]
    assert [row["node_name"] for row in rows] == [e.leader for e in cluster.events.elections()]
    lines = run_command("events", *there).stdout
    assert "became_leader" in lines
    assert "scored" not in lines
    last = run_command("events", "--all", "--last", "3", *there).stdout.splitlines()
    assert len(last) == 3
    for bad in (("--kind", "became_leadr"), ("--last", "0")):
        assert run_command("events", *bad, *there).returncode == 2


def test_an_operator_moves_leadership_and_drains_a_node() -> None:
    with hs.Cluster.local(3, name="operated", config=hs.Config.ci()) as made:
        leader = settle(made)
        there = ("--connect", leader.address)
        target, other = other_names(made, leader.name)
        moved = run_command("handover", target, *there)
        assert (moved.returncode, moved.stdout) == (0, f"{target} leads in term 2\n"), moved.stderr
        assert run_command("handover", "n9", *there).returncode == 2
        drained = run_command("drain", other, "--json", *there)
        assert json.loads(drained.stdout) == {"node": other, "handed_back": 0}, drained.stderr
        eventually(lambda: {m.name for m in made.members() if m.draining} == {other})
        assert f"Member({other}, voter, draining" in run_command("members", *there).stdout


def test_top_shows_nodes_and_rates(cluster: hs.Cluster) -> None:
    address = cluster.members()[0].address
    shown = run_command("top", "--count", "2", "--interval", "0.1", "--connect", address)
    assert shown.returncode == 0, shown.stderr
    assert "\x1b" not in shown.stdout, "it is no terminal"
    assert shown.stdout.count("leader n") == 2
    assert "/s" in shown.stdout
    lines = run_command("top", "--count", "3", "--interval", "0.1", "--json", "--connect", address)
    assert [len(json.loads(line)["members"]) for line in lines.stdout.splitlines()] == [3] * 3
    often = ("top", "--count", "5", "--interval", "0.2", "--connect", address)
    eventually(lambda: "leads in term" in run_command(*often).stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_every_command(shell: str) -> None:
    pytest.importorskip("shtab", reason="shtab is not installed")
    script = run_command("completion", shell).stdout
    for command in ("top", "why", "submit", "completion"):
        assert command in script
    assert "--interval" in script


def test_down_leaves_a_process_alone_that_is_another_one_now(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        node = {"name": "n1", "address": "127.0.0.1:1", "pid": stranger.pid, "log": "", "born": 1}
        (tmp_path / "up.json").write_text(json.dumps({"nodes": [node]}))
        down = run_command("down", "--json", HUSTINGS_STATE_DIR=str(tmp_path))
        assert "left alone" in json.loads(down.stdout)["n1"]
        assert stranger.poll() is None
        stranger.communicate(b"\n")


def test_a_node_in_the_foreground_stops_cleanly_at_sigterm() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "hustings", "node", "--listen", "127.0.0.1:0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=HERE,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert ready["pid"] == process.pid
    status = eventually(
        lambda: run_command("status", "--connect", ready["address"], "--json"), timeout=60
    )
    assert json.loads(status.stdout)["me"]["name"] == ready["name"]
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 0
