"""The plugin, in test runs of its own, which find it as any installed plugin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PASSING = """
import hustings as hs
import pytest

@hs.task
def double(x):
    return 2 * x

def test_default(hustings_cluster):
    assert double.submit(4).result(60) == 8
    assert len(hustings_cluster.members()) == 3

@pytest.mark.hustings(nodes=1, slots=1)
def test_marked(hustings_cluster):
    assert hs.current_cluster() is hustings_cluster
    assert [m.slots for m in hustings_cluster.members()] == [1]

def test_imagined(hustings_sim):
    first = hustings_sim(3, script=[(3, "kill", "leader")]).run(seconds=8)
    again = hustings_sim(3, script=[(3, "kill", "leader")]).run(seconds=8)
    assert first.trace == again.trace
    assert not first.violations
"""
FAILING = """
def test_imagined(hustings_sim):
    assert hustings_sim(1).run(seconds=1) is None
"""


def run(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(text)
    # Its warning about a setting of its own is not what is tested here.
    others = ["-p", "no:asyncio"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "--strict-markers", *others, *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=folder,
    )


def test_its_fixtures_give_real_and_imagined_clusters(tmp_path: Path) -> None:
    done = run(tmp_path, PASSING)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_a_failure_shows_the_seed(tmp_path: Path) -> None:
    done = run(tmp_path, FAILING, "--hustings-seed", "77")
    assert done.returncode == 1, done.stdout
    assert "Simulation seed 77" in done.stdout


def test_it_says_what_it_offers(tmp_path: Path) -> None:
    done = run(tmp_path, "", "--markers")
    assert "@pytest.mark.hustings(nodes=3" in done.stdout
