"""Scripts that end in every state: none aborts, none hangs, none leaves a process behind.

``EXIT_ROUNDS=8`` runs each of them so often, which makes more than two hundred scripts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import HERE, eventually

ROUNDS = int(os.environ.get("EXIT_ROUNDS", "1"))
LIMIT_S = 100.0
"""A script that runs longer hangs."""
BEGIN = """
import asyncio, os, signal, sys, threading
import hustings as hs, sample_tasks
c = hs.Cluster.local(2, isolated={isolated}, config=hs.Config.ci())
c.wait_leader()
"""
# What the script does then, and the code it ends with; below 0: the signal.
STATES: dict[str, tuple[str, int]] = {
    "an open cluster": ("", 0),
    "running futures": (
        "fs = [sample_tasks.loop_for_ever.submit() for _ in range(6)]\n"
        "fs[0].add_done_callback(print)\n"
        "while not any(m.running for m in c.members()): pass",
        0,
    ),
    "unread results": ("fs = [sample_tasks.square.submit(i) for i in range(500)]", 0),
    "pending awaits": (
        "async def main():\n"
        "    waits = [asyncio.ensure_future(sample_tasks.loop_for_ever.submit()) for _ in '123']\n"
        "    await asyncio.sleep(0)\n"
        "asyncio.run(main())",
        0,
    ),
    "a half-read iterator": (
        "fs = [sample_tasks.square.submit(i) for i in range(50)]\n"
        "some = hs.as_completed(fs)\n"
        "mapped = c.map(sample_tasks.square, range(50), buffersize=3)\n"
        "next(some), next(mapped)",
        0,
    ),
    "an executor in use": (
        "executor = c.executor(max_workers=2)\n"
        "list(executor.map(sample_tasks.square, range(9)))\n"
        "executor.submit(sample_tasks.square, 3)",
        0,
    ),
    "an exception": (
        "with c:\n    f = sample_tasks.loop_for_ever.submit()\n    raise ValueError",
        1,
    ),
    "sys.exit": ("f = sample_tasks.loop_for_ever.submit()\nsys.exit(3)", 3),
    "os._exit": ("f = sample_tasks.loop_for_ever.submit()\nos._exit(4)", 4),
    "Ctrl-C": (
        "f = sample_tasks.loop_for_ever.submit()\n"
        "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "f.result()",
        -signal.SIGINT,
    ),
    "SIGTERM": (
        "f = sample_tasks.loop_for_ever.submit()\nos.kill(os.getpid(), signal.SIGTERM)\nf.result()",
        -signal.SIGTERM,
    ),
    "a waiting thread": (
        "f = sample_tasks.loop_for_ever.submit()\n"
        "threading.Thread(target=lambda: f.exception(), daemon=True).start()",
        0,
    ),
    "a fork": (
        "f = sample_tasks.square.submit(2)\n"
        "child = os.fork()\n"
        "if child == 0: sys.exit(0)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))",
        0,
    ),
}


def of_session(session: int) -> list[str]:
    """The processes of it that live: nodes and runners lead groups of their own, but stay in it."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, owner = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(owner) == session and state not in "ZX":
            found.append(stat.parent.name)
    return found


@pytest.mark.timeout(LIMIT_S * ROUNDS + 60)
@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "in-process"])
@pytest.mark.parametrize("state", STATES)
def test_a_script_ends_whatever_it_was_doing(
    state: str, isolated: bool, record_property: Any
) -> None:
    text, code = STATES[state]
    for round_ in range(ROUNDS):
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", BEGIN.format(isolated=isolated) + text],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=HERE,
            start_new_session=True,
        )
        try:
            _, err = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"{state}: hangs, round {round_}") from None
        assert process.returncode == code, (state, round_, process.returncode, err)
        for word in ("Fatal Python error", "panicked", "core dumped"):
            assert word not in err, (state, round_, err)
        eventually(lambda: not of_session(process.pid), 20)  # noqa: B023
    record_property("scripts", ROUNDS)
