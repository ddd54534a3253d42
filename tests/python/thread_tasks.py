"""Tasks that run in threads of their node."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hustings as hs

calls = itertools.count(1)
heard: list[str] = []
enough: list[bool] = []
"""Lets go what does not heed its timeout; for good."""


@hs.task(run_in="thread")
def where() -> tuple[int, str]:
    """The process and the thread."""
    return os.getpid(), threading.current_thread().name


@hs.task(run_in="thread")
def count() -> int:
    """What the process holds is shared by all."""
    return next(calls)


@hs.task(run_in="thread")
def look() -> dict[str, Any]:
    """What a task may know of itself."""
    context = hs.get_context()
    return {"task": context.task_id, "node": context.node, "attempt": context.attempt}


@hs.task(run_in="thread")
def tell(path: str) -> str:
    """Says how far it is, until the gate is open."""
    context = hs.get_context()
    context.progress(1, 2, "half")
    while not os.path.exists(path):
        time.sleep(0.005)
    return "done"


@hs.task(run_in="thread")
def fail() -> None:
    """Raises."""
    raise KeyError("no such thing")


@hs.task(run_in="thread")
def leave() -> None:
    """As a script leaves."""
    sys.exit(3)


@hs.task(run_in="thread", timeout=0.3)
def spin() -> None:
    """Runs Python code without end."""
    while True:
        pass


@hs.task(run_in="thread", timeout=0.3)
def spin_on() -> None:
    """The same, and does not take no for an answer."""
    while not enough:
        try:
            while not enough:
                pass
        except hs.TaskTimeoutError:
            continue


@hs.task(run_in="thread", timeout=0.3)
async def wait_long() -> None:
    """Waits without end, in a coroutine."""
    await asyncio.sleep(1_000)


@hs.task(run_in="thread")
async def loop_id() -> int:
    """Which event loop it runs on."""
    await asyncio.sleep(0)
    return id(asyncio.get_running_loop())


@hs.task(run_in="thread")
def heed(begun: str) -> str:
    """Ends when it is cancelled."""
    Path(begun).touch()
    context = hs.get_context()
    while not context.cancelled:
        time.sleep(0.005)
    heard.append(context.task_id)
    return "heeded"


@hs.task(run_in="thread")
def wait_here(path: str) -> int:
    """Runs until the gate is open, and says in which process."""
    while not os.path.exists(path):
        time.sleep(0.01)
    return os.getpid()


@hs.task(run_in="thread")
def return_generator() -> Iterator[int]:
    """Is no generator and returns one."""
    return (n for n in range(3))


@hs.task(run_in="thread")
def square(x: int) -> int:
    """As in any other test."""
    return x * x


@hs.task(run_in="thread")
def fork() -> int:
    """Its child comes back from here as well; what the parent is told of its end."""
    child = os.fork()
    if child == 0:
        return -1
    return os.waitpid(child, 0)[1]


@hs.task(run_in="thread")
def end_the_node() -> str:
    """Takes its node with it, unless it is in a process of its own."""
    if threading.current_thread() is threading.main_thread():
        return "in a process"
    os.kill(os.getpid(), signal.SIGKILL)
    return "still here"
