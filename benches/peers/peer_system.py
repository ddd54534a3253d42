"""What a system must offer to be measured: start, run, name its processes, stop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def free_port() -> int:
    """A port of loopback that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_port(port: int, timeout: float = 60.0) -> None:
    """Until somebody listens there."""
    end = time.monotonic() + timeout
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return
        if time.monotonic() > end:
            raise TimeoutError(f"nobody listens at port {port}")
        time.sleep(0.02)


class System:
    """One way to run functions elsewhere, with ``slots`` workers of one slot each."""

    name = "?"
    package = "?"
    commands: tuple[str, ...] = ()
    """What must be installed beside its package."""

    def __init__(self, slots: int, folder: Path) -> None:
        self.slots = slots
        self.folder = folder
        self._spawned: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Starts all of it and connects; one task has run when it returns."""
        raise NotImplementedError

    def submit(self, function: str, arguments: Sequence[Any]) -> list[Any]:
        """Hands over one call of a function of ``peer_work`` for each argument, in the way the
        system's manual recommends for many; returns handles."""
        raise NotImplementedError

    def collect(self, handles: list[Any], patience_s: float) -> list[Any]:
        """For each handle its value, an exception, or ``None`` if nothing came for so long."""
        raise NotImplementedError

    def gather(self, handles: list[Any]) -> list[Any]:
        """All values, in the way that costs the system least."""
        return self.collect(handles, 300)

    def head(self) -> int:
        """The process that decides who does what, and what its death is called."""
        raise NotImplementedError

    def worker(self) -> int:
        """A process of a worker that is not the head."""
        raise NotImplementedError

    def restart_head(self) -> None:
        """Starts it again, as an operator or a supervisor would; a system that needs none does
        nothing."""

    def close(self) -> None:
        """Closes the client's side."""

    def spawn(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """A process of the system, with the work on its path."""
        env = {**os.environ, "PYTHONPATH": str(HERE), **environment}
        with (self.folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=HERE,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._spawned.append(process)
        return process

    def stop(self) -> None:
        """Ends every process that was started, and what they started."""
        with contextlib.suppress(Exception):
            self.close()
        for process in self._spawned:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def own_command(name: str) -> str:
    """A command that was installed beside this Python."""
    return str(Path(sys.executable).parent / name)


def each(handles: list[Any], look: Callable[[Any, float], Any], patience_s: float) -> list[Any]:
    """``look(handle, seconds left)`` for each, with all the patience there is for all of them."""
    end = time.monotonic() + patience_s
    found: list[Any] = []
    for handle in handles:
        try:
            found.append(look(handle, max(0.0, end - time.monotonic())))
        except Exception as error:
            found.append(error)
    return found
