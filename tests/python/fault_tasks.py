"""Tasks for the fault matrix, imported by nodes by name."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import hustings as hs


@hs.task
def wait_here(path: str) -> int:
    """Runs until the gate is open, and says in which process."""
    while not os.path.exists(path):
        time.sleep(0.01)
    return os.getpid()


@hs.task
def breathe(seconds: float) -> int:
    """Takes a while, and says in which process."""
    time.sleep(seconds)
    return os.getpid()


@hs.task
def echo(text: str) -> str:
    """Its own argument."""
    return text


@hs.task
def answer(size: int) -> str:
    """That many characters."""
    return "x" * size


@hs.task
def hoard(room_bytes: int) -> int:
    """Allocates until its process has no more room."""
    resource.setrlimit(resource.RLIMIT_AS, (room_bytes, resource.getrlimit(resource.RLIMIT_AS)[1]))
    hoarded = []
    while True:
        hoarded.append(bytearray(16 << 20))


@hs.task
def hoard_in(group: str, room_bytes: int) -> int:
    """Allocates in a control group of its own until the kernel ends it."""
    folder = Path(group)
    (folder / "memory.limit_in_bytes").write_text(str(room_bytes))
    (folder / "cgroup.procs").write_text(str(os.getpid()))
    hoarded = []
    for _ in range(4 * room_bytes // (1 << 20)):
        hoarded.append(bytearray(os.urandom(1 << 10)) * (1 << 10))
    return len(hoarded)


@hs.task(idempotent=True)
def stall_first(path: str) -> int:
    """Its first attempt runs until the gate is open; says which attempt returned."""
    context = hs.get_context()
    while context.attempt == 1 and not os.path.exists(path):
        time.sleep(0.01)
    return context.attempt


@hs.task(idempotent=True)
def stall_twice(path: str) -> int:
    """Runs until the gate is open."""
    while not os.path.exists(path):
        time.sleep(0.01)
    return hs.get_context().attempt
