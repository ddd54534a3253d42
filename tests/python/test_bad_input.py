"""Bad input to elections and membership, by the row numbers of the table of guarantees: each names
the field, the value and what would be right, and nothing starts."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

import hustings as hs
from conftest import eventually, run_command


def election(**knobs: float) -> Any:
    return lambda: hs.Config(election=hs.ElectionConfig(**knobs))


@pytest.mark.parametrize(
    ("row", "make", "words"),
    [
        # 17: what a node says about itself.
        (17, lambda: hs.loads.constant(float("nan")), "cpu=nan"),
        (17, lambda: hs.loads.constant(float("inf")), "cpu=inf"),
        (17, lambda: hs.loads.constant(-1), "cpu=-1"),
        (17, lambda: hs.loads.constant(1e9), "cpu=1000000000.0"),
        (17, lambda: hs.Config(score=hs.ScoreWeights(cpu=-1)), "score.cpu"),
        (17, lambda: hs.Config(score=hs.ScoreWeights(cpu=0, memory=0, uptime=0)), "all 0"),
        # 18: where it stands.
        (18, lambda: hs.Node(position=(float("nan"), 0.0)), "position="),
        (18, lambda: hs.Node(position=(0.0, float("inf"))), "position="),
        (18, lambda: hs.Node(position=(1.0, 2.0, 3.0)), "two finite numbers"),  # type: ignore[arg-type]
        (18, lambda: hs.Node(position="here"), "two finite numbers"),  # type: ignore[arg-type]
        # 19: how far tasks go.
        (19, lambda: hs.Config(steal=hs.StealPolicy(reach=0)), "steal.reach: 0 is out of bounds"),
        (19, lambda: hs.Config(assign_reach=-1), "assign_reach: -1 is out of bounds"),
        # 22: times that contradict each other.
        (22, election(heartbeat_s=0.06), "heartbeat_s: 0.06 must be less than half of"),
        (22, election(heartbeat_s=0.5), "heartbeat_s: 0.5 must be less than half of"),
        (
            22,
            election(lease_s=0.1),
            "suspicion_min_s: 0.12 must be less than election.lease_s = 0.1",
        ),
        (22, election(suspicion_min_s=2, lease_s=3), "suspicion_min_s: 2 must be less than"),
        # 23: knobs that do not exist.
        (23, election(hartbeat_s=0.1), "did you mean 'heartbeat_s'"),
        (23, lambda: hs.Config(fault=None), "did you mean 'faults'"),  # type: ignore[call-arg]
        # 44: voters.
        (44, lambda: hs.Cluster.local(3, voters=0), "voters=0: give a whole number from 1 to 3"),
        (44, lambda: hs.Cluster.local(64, voters=1000), "voters=1000: give a whole number from 1"),
        (44, lambda: hs.Node(join=["127.0.0.1:7400"], voters=1000), "voters=1000"),
    ],
)
def test_a_bad_value_is_refused_by_name(row: int, make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert isinstance(caught.value, hs.ConfigError), row


@pytest.mark.parametrize(
    ("listen", "words"),
    [
        ("127.0.0.1", "the port is missing"),
        ("127.0.0.1:70000", "0 to 65535"),
        ("::1:7400", "brackets"),
        ("http://127.0.0.1:7400", "scheme"),
        ("user@127.0.0.1:0", "host:port"),
    ],
)
def test_a_bad_address_is_shown_the_right_form(listen: str, words: str) -> None:
    """Row 20, for a node; `test_cluster` has it for a script."""
    with pytest.raises(hs.InvalidAddressError, match=words):
        hs.Node("bad", listen=listen).bind()


def test_bad_lists_of_peers() -> None:
    """Row 21."""
    twice = ["127.0.0.1:7400", "127.0.0.1:7400"]
    with pytest.raises(hs.InvalidPeersError, match=r"127\.0\.0\.1:7400 is listed twice"):
        hs.Node("a", join=twice, voters=2)
    with pytest.warns(hs.HustingsWarning, match="voters=2 is even"):
        node = hs.Node("a", join=["127.0.0.1:7400", "127.0.0.1:7401"], voters=2)
    node.bind()
    with pytest.raises(hs.InvalidPeersError, match="own listen address must be in the list"):
        node.enter()
    node.abort()
    lost = hs.Node("a", join=["no-such-host.invalid:7400"])
    lost.bind()
    lost.enter()

    def trouble() -> str:
        with pytest.raises(hs.WaitTimeoutError) as caught:
            lost.wait_ready(0.1)
        return str(caught.value)

    eventually(lambda: "last: no-such-host.invalid:7400: " in trouble())
    lost.abort()


def test_even_voters_are_warned_about_and_impossible_ones_refused() -> None:
    """Row 44, on the command line too."""
    with pytest.warns(hs.HustingsWarning, match="voters=4 is even: it survives no more failures"):
        made = hs.Cluster.local(4, voters=4, name="even-four", config=hs.Config.ci())
    made.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hs.Cluster.local(3, name="odd", config=hs.Config.ci()).close()
    for voters in ("0", "1000"):
        asked = run_command(
            "node", "--listen", "127.0.0.1:0", "--voters", voters, "--join", "127.0.0.1:7400"
        )
        assert asked.returncode == 2
        assert f"voters={voters}: give a whole number from 1 to 7" in asked.stderr


def test_a_typo_in_the_environment_is_an_error() -> None:
    """Row 23."""
    asked = run_command("config", "show", HUSTINGS_ELECTION__HARTBEAT_S="1")
    assert asked.returncode == 2
    assert "did you mean 'HUSTINGS_ELECTION__HEARTBEAT_S'" in asked.stderr
