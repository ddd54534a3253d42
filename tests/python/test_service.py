"""A node under a service manager: a socket that hears what systemd would hear."""

from __future__ import annotations

import doctest
import importlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hustings.service import ServiceManager

PATIENCE_S = 40.0


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(path)
        heard.settimeout(PATIENCE_S)
        yield heard, path


def hear(heard: socket.socket) -> dict[str, str]:
    """The next words, by name."""
    return dict(line.split("=", 1) for line in heard.recv(4096).decode().splitlines())


def falls_silent(heard: socket.socket) -> bool:
    """Nothing comes for longer than the time between two signs of life."""
    try:
        while hear(heard):
            pass
    except TimeoutError:
        return True
    return False


def test_a_node_is_ready_lives_and_stops_and_says_so(
    manager: tuple[socket.socket, str], tmp_path: Path
) -> None:
    heard, path = manager
    environment = {**os.environ, "NOTIFY_SOCKET": path, "WATCHDOG_USEC": "300000"}
    command = ["-m", "hustings", "node", "--listen", "127.0.0.1:0", "--data-dir"]
    node = subprocess.Popen(
        [sys.executable, *command, str(tmp_path / "data")],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    try:
        assert hear(heard)["READY"] == "1"
        told = hear(heard)
        while "leads" not in told["STATUS"]:
            assert told["WATCHDOG"] == "1"
            told = hear(heard)
        # What stands still falls silent: the manager would end it.
        os.kill(node.pid, signal.SIGSTOP)
        heard.settimeout(1.5)
        assert falls_silent(heard)
        heard.settimeout(PATIENCE_S)
        os.kill(node.pid, signal.SIGCONT)
        assert hear(heard)["WATCHDOG"] == "1"
        node.terminate()
        while "STOPPING" not in (told := hear(heard)):
            assert told["WATCHDOG"] == "1"
        assert node.wait(PATIENCE_S) == 0
    finally:
        node.kill()
        node.wait()


ANOTHER_THREAD = """
import os, signal, threading
from hustings.signals import SignalWaiter

waiter = SignalWaiter()
idle = threading.Thread(target=threading.Event().wait, daemon=True)
idle.start()


def strike():
    # Once, when the main thread reads a descriptor: then no handler of Python's can run in it.
    while True:
        with open(f"/proc/self/task/{os.getpid()}/syscall") as file:
            words = file.read().split()
        if len(words) > 1 and int(words[1], 16) < waiter.descriptor:
            break
    signal.pthread_kill(idle.ident, signal.SIGTERM)


threading.Thread(target=strike, daemon=True).start()
came = waiter.wait()
assert (came, waiter.came) == (signal.SIGTERM, True), came
"""


def test_a_signal_that_another_thread_gets_is_heard() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ANOTHER_THREAD], timeout=PATIENCE_S, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_example_of_the_module_is_true() -> None:
    done = doctest.testmod(importlib.import_module("hustings.service"))
    assert (done.attempted, done.failed) == (1, 0)


def test_without_a_manager_nothing_is_said() -> None:
    silent = ServiceManager({})
    assert not silent.tell("READY=1")
    assert silent.watchdog_s == 0


def test_what_is_named_is_taken_out_of_the_environment(tmp_path: Path) -> None:
    given = {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}
    absent = ServiceManager(given)
    assert given == {}
    assert absent.watchdog_s == 0, "another process is meant"
    assert not absent.tell("READY=1"), "nobody listens there, and that is no error"
    odd = ServiceManager({"NOTIFY_SOCKET": "relative", "WATCHDOG_USEC": "soon"})
    assert (odd.watchdog_s, odd.tell("READY=1")) == (0, False)
