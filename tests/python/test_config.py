"""``Config``: argument over environment over file over default; every mistake has a name."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

import hustings as hs


def test_defaults_come_from_the_core() -> None:
    config = hs.Config()
    assert config.profile == "lan"
    assert config.election.heartbeat_s == pytest.approx(0.02)
    assert config.steal.batch == 64
    assert isinstance(config.steal.batch, int)
    assert config.score.classic is False
    assert config.placement == "auto"
    assert config.assign_reach == float("inf")
    assert config == hs.Config.lan()


@pytest.mark.parametrize("profile", ["lan", "lan_fast", "wan", "ci", "raft", "classic"])
def test_every_profile_is_there(profile: str) -> None:
    assert getattr(hs.Config, profile)() == hs.Config(profile=profile)


def test_plain_raft_is_a_profile_and_a_knob() -> None:
    assert hs.Config.raft().election.plain is True
    assert hs.Config.lan().election.plain is False
    assert hs.Config(election=hs.ElectionConfig(plain=True)).election.plain is True
    classic = hs.Config.classic().election
    assert (classic.handover_floor, classic.handover_doublings) == (float("inf"), 0)


def test_it_is_frozen_and_keyword_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        hs.Config().placement = "random"  # type: ignore[misc]
    with pytest.raises(hs.ConfigError, match="keyword"):
        hs.ElectionConfig(0.1)  # type: ignore[misc]


def test_an_unknown_knob_offers_the_nearest() -> None:
    with pytest.raises(hs.ConfigError, match="did you mean 'heartbeat_s'"):
        hs.ElectionConfig(hartbeat_s=0.1)  # type: ignore[call-arg]
    with pytest.raises(hs.ConfigError, match="did you mean 'placement'"):
        hs.Config(placment="random")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: hs.Config(election=hs.ElectionConfig(heartbeat_s=float("nan"))), "heartbeat_s"),
        (lambda: hs.Config(election=hs.ElectionConfig(heartbeat_s=-1)), "heartbeat_s"),
        (lambda: hs.Config(election=hs.ElectionConfig(heartbeat_s=True)), "heartbeat_s"),
        (lambda: hs.Config(election=hs.ElectionConfig(heartbeat_s="1")), "heartbeat_s"),
        (lambda: hs.Config(election=hs.ElectionConfig(heartbeat_s=0.1)), "suspicion_min_s"),
        (lambda: hs.Config(score=hs.ScoreWeights(cpu=0, memory=0, uptime=0)), "score"),
        (lambda: hs.Config(score=hs.ScoreWeights(cpu=float("nan"))), "score.cpu"),
        (lambda: hs.Config(score=hs.ScoreWeights(memory=-0.1)), "score.memory"),
        (lambda: hs.Config(score=hs.ScoreWeights(uptime=float("inf"))), "score.uptime"),
        (lambda: hs.Config(score=hs.ScoreWeights(cpu=0, memory=0, uptime=0)), "at least one must"),
        (lambda: hs.Config(steal=hs.StealPolicy(reach=-1)), "steal.reach"),
        (lambda: hs.Config(steal=hs.StealPolicy(batch=1.5)), "steal.batch"),
        (lambda: hs.Config(limits=hs.Limits(queued_tasks=0)), "limits.queued_tasks"),
        (lambda: hs.Config(placement="best"), "placement"),
        (lambda: hs.Config(profile="moon"), "moon"),
        (lambda: hs.Config(election={"heartbeat_s": 1}), "ElectionConfig"),
    ],
)
def test_a_bad_value_is_refused_by_name(make: Any, words: str) -> None:
    with pytest.raises(hs.ConfigError, match=words):
        make()


def test_the_environment_is_below_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUSTINGS_ELECTION__HEARTBEAT_S", "0.03")
    monkeypatch.setenv("HUSTINGS_STEAL__REACH", "5")
    config = hs.Config(steal=hs.StealPolicy(reach=7))
    assert config.election.heartbeat_s == pytest.approx(0.03)
    assert config.steal.reach == 7


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HUSTINGS_ELECTION__HARTBEAT_S", "1", "did you mean 'HUSTINGS_ELECTION__HEARTBEAT_S'"),
        ("HUSTINGS_ELECTION__HEARTBEAT_S", "soon", "number"),
        ("HUSTINGS_ELECTION__HEARTBEAT_S", "nan", "heartbeat_s"),
        ("HUSTINGS_PROFILE", "moon", "moon"),
    ],
)
def test_a_bad_variable_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(hs.ConfigError, match=words):
        hs.Config()


RUNNER_VARIABLES = {
    "HUSTINGS_PAYLOAD_LIMIT": "1000000",
    "HUSTINGS_NODE_PID": "4711",
    "HUSTINGS_STREAM_LIMITS": "64,1048576,30000",
    "HUSTINGS_ALLOW_PICKLE": "1",
    "HUSTINGS_SYS_PATH": "",
    "HUSTINGS_NODE_NAME": "n1",
}
"""What a node tells its runners."""


def test_what_a_node_tells_its_runners_is_no_knob(monkeypatch: pytest.MonkeyPatch) -> None:
    before = hs.Config()
    for name, value in RUNNER_VARIABLES.items():
        monkeypatch.setenv(name, value)
    assert hs.Config() == before
    monkeypatch.setenv("HUSTINGS_NODE_PIDS", "1")
    with pytest.raises(hs.ConfigError, match="HUSTINGS_NODE_PIDS: unknown knob"):
        hs.Config()


def test_a_task_may_make_a_configuration() -> None:
    with hs.Cluster.local(1, name="inner", slots=1) as c:
        told = c.submit(_variables_and_profile).result(60)
    assert told[1] == "lan"
    assert set(told[0]) <= set(RUNNER_VARIABLES) | set(_ours())


def _ours() -> list[str]:
    return sorted(name for name in os.environ if name.startswith("HUSTINGS_"))


def _variables_and_profile() -> tuple[list[str], str]:
    return _ours(), hs.Config().profile


def test_a_file_is_below_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("tomllib")
    file = tmp_path / "hustings.toml"
    file.write_text('profile = "ci"\nplacement = "random"\n[steal]\nreach = 3\nbatch = 2\n')
    monkeypatch.setenv("HUSTINGS_CONFIG", str(file))
    monkeypatch.setenv("HUSTINGS_STEAL__BATCH", "4")
    config = hs.Config()
    assert (config.profile, config.placement) == ("ci", "random")
    assert (config.steal.reach, config.steal.batch) == (3, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[steal]\nreech = 3", "did you mean 'steal.reach'"),
        ("[steal]\nreach = [1]", "steal.reach"),
        ("[steal\n", "hustings.toml"),
        ("x = " + "[" * 5000, "hustings.toml"),
    ],
)
def test_a_bad_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, words: str
) -> None:
    pytest.importorskip("tomllib")
    file = tmp_path / "hustings.toml"
    file.write_text(text)
    monkeypatch.setenv("HUSTINGS_CONFIG", str(file))
    with pytest.raises(hs.ConfigError, match=words):
        hs.Config()


def test_a_missing_or_huge_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("tomllib")
    monkeypatch.setenv("HUSTINGS_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(hs.ConfigError, match=r"none\.toml"):
        hs.Config()
    huge = tmp_path / "huge.toml"
    huge.write_bytes(b"#" * (2 << 20))
    monkeypatch.setenv("HUSTINGS_CONFIG", str(huge))
    with pytest.raises(hs.ConfigError, match="limit"):
        hs.Config()
