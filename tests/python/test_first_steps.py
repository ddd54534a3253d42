"""What a newcomer types: every block of Python and every command of the README and of the first
steps, as they stand there."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import hustings as hs
from conftest import HERE, eventually, free_ports

ROOT = HERE.parents[1]
SETS_UP = ("make", "pip", ".venv/bin/python", "hustings demo")
"""Commands that have tests of their own, or make what these tests run in."""


def blocks(page: str, kind: str) -> list[str]:
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S)


README = blocks("README.md", "python")
STEPS = blocks("docs/quickstart.md", "python")


def run(script: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=script.parent,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def named(text: str) -> str:
    """A block may say in its first line which file it is."""
    found = re.match(r"# (\w+\.py)\n", text)
    return found[1] if found else "block.py"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("text", [*README, *STEPS], ids=lambda text: text.split("\n")[0][:40])
def test_a_block_runs_on_its_own(text: str, tmp_path: Path) -> None:
    script = tmp_path / named(text)
    script.write_text(text)
    said = run(script)
    if "failovers()" in text:
        assert "Leader(n" in said
        assert str(sum(i * i for i in range(1_000))) in said
        assert "Failover(n" in said


def commands(page: str, kind: str) -> list[str]:
    """What is typed, without what sets the environment up."""
    lines = "\n".join(blocks(page, kind)).splitlines()
    typed = [line.removeprefix("$ ").partition("  #")[0].strip() for line in lines]
    prompted = [line.startswith("$ ") or kind == "sh" for line in lines]
    return [t for t, p in zip(typed, prompted, strict=True) if p and not t.startswith(SETS_UP)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("page", "kind"), [("README.md", "console"), ("docs/commands.md", "sh")])
def test_the_commands_of_a_page_work(page: str, kind: str, tmp_path: Path) -> None:
    """Each node in a process of its own, the others when those lead."""
    (app,) = (text for text in README if "count_words" in text)
    (tmp_path / "app.py").write_text(app)
    lines = commands(page, kind)
    ports = {f":{7400 + n}": f":{port}" for n, port in enumerate(free_ports(4))}
    lines = [re.sub(r":740\d", lambda found: ports[found[0]], line) for line in lines]
    nodes = [line for line in lines if line.startswith("hustings node")]
    others = [line for line in lines if line not in nodes]
    assert len(nodes) >= 3
    with contextlib.ExitStack() as stack:
        for line in nodes:
            stack.enter_context(Typed(line, tmp_path))
        with hs.Cluster.connect("127.0.0.1" + ports[":7400"], timeout=60) as cluster:
            cluster.wait_leader(timeout=60)
            eventually(lambda: len(cluster.members()) == len(nodes), 60)
        environment = dict(os.environ)
        for line in others:
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").partition("=")
                environment[name] = value
                continue
            done = subprocess.run(
                argv(line), capture_output=True, text=True, cwd=tmp_path, env=environment
            )
            assert done.returncode == 0, (line, done.stdout, done.stderr)


def argv(line: str) -> list[str]:
    word, *rest = shlex.split(line)
    assert word == "hustings", line
    return [sys.executable, "-m", "hustings", *rest]


class Typed:
    """A command in a terminal of its own, ended by Ctrl-C."""

    def __init__(self, line: str, folder: Path) -> None:
        self._process = subprocess.Popen(argv(line), cwd=folder, env=dict(os.environ))

    def __enter__(self) -> Typed:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        # The last ones have no majority left to hand over to: cut short.
        assert self._process.wait(60) in (0, 3)
