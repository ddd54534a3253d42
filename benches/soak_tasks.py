"""What the soak runs: tasks that write down each of their starts and ends where the node that ran
them cannot lose it.

The nodes import this by ``--tasks soak_tasks``. The row goes to a file of the node by one write, so
it survives a SIGKILL that comes right after it.
"""

from __future__ import annotations

import functools
import json
import os
import time

import hustings as hs

FOLDER = "SOAK_ROWS"
"""The environment variable with the folder for the rows."""


class Unlucky(Exception):
    """What a task raises that is told to fail at first."""


@functools.cache
def _file() -> int:
    path = os.path.join(os.environ[FOLDER], os.environ["BENCH_NODE"] + ".rows")
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def _note(kind: str, **more: object) -> tuple[int, int]:
    attempt = hs.get_context()
    row = {
        "at_us": time.time_ns() // 1_000,
        "kind": kind,
        "task": attempt.task_id,
        "node": os.environ["BENCH_NODE"],
        "token": attempt.fencing_token,
        **more,
    }
    os.write(_file(), json.dumps(row).encode() + b"\n")
    return attempt.attempt, attempt.fencing_token


@hs.task(name="soak.step")
def step(number: int, busy_s: float, failures: int) -> list[int | str]:
    """Takes ``busy_s`` seconds and raises in its first ``failures`` attempts. No two attempts
    return the same, so that two outcomes of one task could not pass for one."""
    attempt, token = _note("started")
    time.sleep(busy_s)
    raises = attempt <= failures
    _note("ended", raised=raises)
    if raises:
        raise Unlucky(f"attempt {attempt} of {number}")
    return [number, attempt, token, os.environ["BENCH_NODE"]]


@hs.task(name="soak.nothing")
def nothing() -> None:
    """Does nothing, and writes nothing down."""


@hs.task(name="soak.same")
def same(number: int) -> int:
    """What it was given."""
    return number
