"""Nodes as a user types them: `hustings node ...` in processes of their own, to be killed and
started again."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE_S = 60.0
"""How long a process may take to say that it listens, and to end."""


def free_ports(n: int) -> list[int]:
    """Ports of loopback that nobody has at the moment."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(n)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


@dataclass
class Spec:
    """What all nodes of a group have in common."""

    folder: Path
    """Where data directories, logs and whatever tasks write go."""
    voters: int = 3
    workers: int = 0
    tasks: Sequence[str] = ()
    """Modules for ``--tasks``; the current folder of a node is ``cwd``."""
    disk: bool = True
    slots: int = 2
    profile: str = "lan"
    grace_s: float = 30.0
    cwd: Path = field(default_factory=lambda: Path(__file__).parent)
    environment: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()


class NodeProcess:
    """One node: the same command line each time it is started."""

    def __init__(self, spec: Spec, name: str, place: str, founders: Sequence[str]) -> None:
        self.spec = spec
        self.name = name
        self.place = place
        self.voter = place in founders
        self.id = ""
        self.starts = 0
        self.frozen = False
        self._process: subprocess.Popen[str] | None = None
        options = ["--name", name, "--listen", place, "--join", ",".join(founders), "--json"]
        options += ["--voters", str(len(founders))] if self.voter else []
        options += [part for module in spec.tasks for part in ("--tasks", module)]
        options += ["--slots", str(spec.slots), "--profile", spec.profile]
        options += ["--grace", str(spec.grace_s), *spec.options]
        if spec.disk and self.voter:
            options += ["--data-dir", str(self.data_dir)]
        self.command = [sys.executable, "-m", "hustings", "node", *options]

    @property
    def data_dir(self) -> Path:
        """Where its state is, in disk mode."""
        return self.spec.folder / self.name

    @property
    def log(self) -> Path:
        """What it said on stderr, over all its starts."""
        return self.spec.folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """Its process; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    @property
    def alive(self) -> bool:
        """Whether its process runs or is frozen."""
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Starts the process; :meth:`await_ready` waits for it."""
        assert not self.alive, f"{self.name} runs already"
        environment = {**os.environ, **self.spec.environment, "BENCH_NODE": self.name}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.spec.cwd,
                env=environment,
            )
        self.starts += 1
        self.frozen = False

    def await_ready(self) -> None:
        """Waits until it listens. Raises ``RuntimeError`` with its last words if it ends
        instead."""
        assert self._process is not None
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], PATIENCE_S)[0]:
            raise RuntimeError(f"{self.name} did not listen after {PATIENCE_S} s")
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait(PATIENCE_S)
            raise RuntimeError(f"{self.name} ended with code {code}: {self.last_words()}")
        self.id = str(json.loads(line)["id"])

    def start(self) -> None:
        """Starts it and waits until it listens."""
        self.launch()
        self.await_ready()

    def signal(self, number: int) -> None:
        """Sends a signal, if it is there to hear it."""
        if self.alive:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and waits for the end."""
        self.signal(signal.SIGKILL)
        self.wait()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.signal(signal.SIGSTOP)
        self.frozen = True

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)
        self.frozen = False

    def terminate(self) -> None:
        """SIGTERM; returns at once."""
        self.signal(signal.SIGTERM)

    def wait(self, timeout: float = PATIENCE_S) -> int:
        """Waits for the end; returns the exit code, negative for a signal."""
        if self._process is None:
            return 0
        code = self._process.wait(timeout)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def last_words(self) -> str:
        """The end of what it said."""
        with contextlib.suppress(OSError):
            return self.log.read_text(errors="replace")[-600:].strip()
        return "nothing"


class Group:
    """Founding voters and workers of one cluster, by name ``n1`` and so on; a context manager."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        spec.folder.mkdir(parents=True, exist_ok=True)
        count = spec.voters + spec.workers
        self.places = [f"127.0.0.1:{port}" for port in free_ports(count)]
        founders = self.places[: spec.voters]
        self.nodes = [
            NodeProcess(spec, f"n{i + 1}", place, founders) for i, place in enumerate(self.places)
        ]

    @property
    def voters(self) -> list[NodeProcess]:
        """The founders."""
        return [node for node in self.nodes if node.voter]

    def __iter__(self) -> Iterator[NodeProcess]:
        return iter(self.nodes)

    def __getitem__(self, name: str) -> NodeProcess:
        return next(node for node in self.nodes if node.name == name)

    def start(self, nodes: Sequence[NodeProcess] | None = None) -> None:
        """Starts these (or all) side by side and waits until they listen."""
        chosen = self.nodes if nodes is None else nodes
        for node in chosen:
            node.launch()
        for node in chosen:
            node.await_ready()

    def kill(self, nodes: Sequence[NodeProcess] | None = None) -> None:
        """SIGKILL of these (or all) at once: no signal waits for the end of another's process."""
        chosen = self.nodes if nodes is None else nodes
        for node in chosen:
            node.signal(signal.SIGKILL)
        for node in chosen:
            node.wait()

    def __enter__(self) -> Group:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


def descendants(pid: int) -> list[int]:
    """The children of a process, theirs and so on."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                parents[int(entry)] = int(fields[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def runs(pid: int) -> bool:
    """Whether a process is there; a zombie is not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def port_is_free(place: str) -> bool:
    """Whether somebody could listen there now, as a node does."""
    host, _, port = place.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
            probe.listen()
        except OSError:
            return False
    return True


def wait_until(
    what: str, look: object, timeout: float = PATIENCE_S, every_s: float = 0.02
) -> object:
    """The first true value of ``look()``. Raises ``TimeoutError``."""
    assert callable(look)
    end = time.monotonic() + timeout
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout:.0f} s for {what}")
        time.sleep(every_s)
