"""The nodes of a local cluster: started, killed, frozen and restarted, in this process or in one
process each."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import _core, errors
from .errors import (
    BindError,
    ConfigError,
    HustingsError,
    StoppedError,
    StorageError,
    WaitTimeoutError,
)
from .founders import MAX_VOTERS, check_voters
from .interpreter import node_argv, package_env, python_path, runner_argv, runner_env
from .node import Position, check_position
from .offers import check_labels, check_resources

MAX_NODES = 64
"""Nodes of one local cluster."""
START_TIMEOUT_S = 60.0
"""How long a node's process may take until it listens, and a cluster until it is complete."""
POLL_S = 0.005
"""How often a starting cluster is looked at."""


def plan_voters(n: object, voters: object) -> tuple[int, int]:
    """How many nodes, and how many of them vote: the largest odd number up to min(n, 5) unless
    told."""
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MAX_NODES:
        raise ConfigError(f"n={n!r}: give a whole number of nodes from 1 to {MAX_NODES}")
    if voters is not None:
        return n, check_voters(voters, min(n, MAX_VOTERS))
    most = min(n, 5)
    return n, most if most % 2 else most - 1


def plan_places(
    count: int,
    positions: Sequence[Position] | None,
    labels: Sequence[Mapping[str, str] | None] | None,
    resources: Sequence[Mapping[str, float] | None] | None,
) -> list[dict[str, Any]]:
    """Where each node stands and what it offers; each is given for all nodes, or for none."""
    for what, given in (("positions", positions), ("labels", labels), ("resources", resources)):
        if given is not None and len(given) != count:
            raise ConfigError(f"{what}: {len(given)} for {count} nodes; give one per node")
    return [
        {
            "position": check_position(positions[i] if positions else (0.0, 0.0)),
            "labels": check_labels(labels[i] if labels else None),
            "resources": check_resources(resources[i] if resources else None, cpu=False),
        }
        for i in range(count)
    ]


def node_dir(folder: str | None, name: str) -> str | None:
    """The data directory of one node of a local cluster that keeps its state below ``folder``."""
    if folder is None:
        return None
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        failed = StorageError(f"data_dir={folder}: {error}")
        failed.path = folder
        raise failed from error
    return os.path.join(folder, name)


def wait_admitted(client: _core.Client, names: set[str]) -> None:
    """Blocks until a leader has admitted all ``names``. Raises ``WaitTimeoutError``."""
    end = time.monotonic() + START_TIMEOUT_S
    while True:
        status = client.wait_leader(max(0.0, end - time.monotonic()))
        admitted = {m["name"] for m in status["members"] if m["alive"]}
        if names <= admitted:
            return
        if time.monotonic() >= end:
            missing = ", ".join(sorted(names - admitted))
            raise WaitTimeoutError(
                f"after {START_TIMEOUT_S:.0f} s the leader had not admitted {missing}"
            )
        time.sleep(POLL_S)


class LocalNode:
    """One node of a local cluster, as the script that started it sees it."""

    def __init__(self, options: dict[str, Any], voter: bool) -> None:
        self._options = options
        self.voter = voter
        self.address = ""
        self.id = ""
        self.pid = 0
        self.state = "new"
        """``"running"``, ``"frozen"``, ``"killed"`` or ``"stopped"``."""

    @property
    def name(self) -> str:
        """Its name in the cluster."""
        return str(self._options["name"])

    @property
    def alive(self) -> bool:
        """Running or frozen."""
        return self.state in ("running", "frozen")

    def __repr__(self) -> str:
        role = "voter" if self.voter else "worker"
        return f"LocalNode({self.name}, {role}, {self.state}, {self.address}, pid={self.pid})"

    def launch(self) -> None:
        """Starts what takes long, without waiting for it."""

    def listen(self) -> None:
        """Waits until it listens."""
        raise NotImplementedError

    def enter(self, founders: Sequence[str], join: Sequence[str]) -> None:
        """Founds or joins."""
        raise NotImplementedError

    def kill(self) -> None:
        """Ends it as a crash would."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Stops it, its runners excepted."""
        self._turn("running", "frozen", self._halt)

    def resume(self) -> None:
        """Lets it go on."""
        self._turn("frozen", "running", self._go_on)

    def _halt(self) -> None:
        raise NotImplementedError

    def _go_on(self) -> None:
        raise NotImplementedError

    def _turn(self, needed: str, then: str, action: Callable[[], None]) -> None:
        if self.state != needed:
            raise StoppedError(f"node {self.name} is {self.state}, not {needed}")
        action()
        self.state = then

    @property
    def options(self) -> Mapping[str, Any]:
        """What it was started with."""
        return self._options

    def like(self, options: dict[str, Any], voter: bool) -> LocalNode:
        """A fresh node of the same kind."""
        return type(self)(options, voter)

    def again(self) -> LocalNode:
        """A fresh node with the same name at the same place."""
        return self.like({**self._options, "listen": self.address}, self.voter)

    def anywhere(self) -> LocalNode:
        """A fresh node with the same name at any free port."""
        return self.like({**self._options, "listen": "127.0.0.1:0"}, self.voter)


class InProcessNode(LocalNode):
    """A node that shares this process."""

    _node: _core.Node

    def listen(self) -> None:
        """Binds its port."""
        arguments = {
            **self._options,
            "may_vote": self.voter,
            "runner_argv": runner_argv(),
            "runner_env": runner_env(),
        }
        self._node = _core.Node(**arguments)
        self.address = self._node.bind()
        self.id, self.pid, self.state = self._node.id, os.getpid(), "running"

    def enter(self, founders: Sequence[str], join: Sequence[str]) -> None:
        """Founds or joins."""
        self._node.enter(founders=founders, join=join, voter=self.voter)

    def kill(self) -> None:
        """Aborts the node and SIGKILLs its runners."""
        if self.alive:
            self.state = "killed"
            self._node.abort()

    def _halt(self) -> None:
        self._node.freeze()

    def _go_on(self) -> None:
        self._node.resume()


class ProcessNode(LocalNode):
    """A node in an operating system process of its own, tethered to this one."""

    _process: subprocess.Popen[bytes]
    _answers: int

    def launch(self) -> None:
        """Starts the process and tells it its options."""
        read, write = os.pipe()
        try:
            self._process = subprocess.Popen(
                node_argv(write),
                stdin=subprocess.PIPE,
                pass_fds=(write,),
                env={**os.environ, **package_env()},
                # Ctrl-C in the terminal is for the script; it decides what becomes of its nodes.
                start_new_session=True,
            )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        self._answers, self.pid, self.state = read, self._process.pid, "running"
        self._tell(
            {
                **self._options,
                "may_vote": self.voter,
                "sys_path": python_path(),
                "runner_argv": runner_argv(),
                "runner_env": runner_env(),
            }
        )

    def listen(self) -> None:
        """Waits for its address."""
        try:
            answer = self._hear(START_TIMEOUT_S)
        finally:
            os.close(self._answers)
        error = answer.get("error")
        if error is not None:
            self.kill()
            raise _error_by_name(str(error["type"]), str(error["message"]))
        self.address, self.id, self.pid = answer["address"], answer["id"], answer["pid"]

    def enter(self, founders: Sequence[str], join: Sequence[str]) -> None:
        """Founds or joins."""
        self._tell({"founders": list(founders), "join": list(join), "voter": self.voter})

    def kill(self) -> None:
        """SIGKILL; its runners notice and end themselves."""
        if not self.alive:
            return
        self.state = "killed"
        self._process.kill()
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._process.wait(timeout=10.0)

    def _halt(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def _go_on(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def _tell(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise HustingsError(
                f"the process of node {self.name} ended with code {self._process.wait()}; see its "
                "output above"
            ) from None

    def _hear(self, timeout: float) -> dict[str, Any]:
        end = time.monotonic() + timeout
        text = b""
        while not text.endswith(b"\n"):
            left = end - time.monotonic()
            ready = select.select([self._answers], [], [], max(0.0, left))[0]
            piece = os.read(self._answers, 65_536) if ready else b""
            if not piece:
                why = (
                    f"said nothing for {timeout:.0f} s" if not ready else "ended before it listened"
                )
                self.kill()
                raise HustingsError(f"the process of node {self.name} {why}; see its output above")
            text += piece
        answer: dict[str, Any] = json.loads(text)
        return answer


class LocalNodes:
    """All nodes of one local cluster."""

    def __init__(self, nodes: list[LocalNode], voters: int) -> None:
        self.nodes = nodes
        self._voters = voters

    def start(self) -> None:
        """Starts all, side by side; on failure none remains."""
        try:
            for node in self.nodes:
                node.launch()
            for node in self.nodes:
                node.listen()
            founders = sorted(node.address for node in self.nodes[: self._voters])
            for node in self.nodes:
                node.enter(founders if node.voter else [], [] if node.voter else founders)
        except BaseException:
            self.close()
            raise

    def addresses(self) -> list[str]:
        """Where the living ones listen."""
        return [node.address for node in self.nodes if node.alive]

    def restart(self, node: LocalNode, before_enter: Callable[[LocalNode], None]) -> LocalNode:
        """Replaces a dead node by a fresh one with its name, at its address if that is free.

        ``before_enter`` is called with it when it listens and has spoken to nobody yet. With a data
        directory it comes back with its id and its state.
        """
        if node.alive:
            raise ConfigError(f"restart({node.name!r}): it is {node.state}; kill or stop it first")
        join = [other.address for other in self.nodes if other.state == "running"]
        fresh = node.again()
        try:
            fresh.launch()
            fresh.listen()
        except BindError:
            fresh = node.anywhere()
            fresh.launch()
            fresh.listen()
        self.nodes[self.nodes.index(node)] = fresh
        before_enter(fresh)
        fresh.enter([], join)
        return fresh

    def add(
        self, options: Mapping[str, Any], voter: bool, before_enter: Callable[[LocalNode], None]
    ) -> LocalNode:
        """Starts one more node, with the first one's options except for these, and joins it."""
        pattern = self.nodes[0]
        fresh = pattern.like({**pattern.options, **options}, voter)
        join = [other.address for other in self.nodes if other.state == "running"]
        fresh.launch()
        fresh.listen()
        self.nodes.append(fresh)
        before_enter(fresh)
        fresh.enter([], join)
        return fresh

    def dismiss(self, node: LocalNode) -> None:
        """Ends a node that is no member any more, and forgets it."""
        node.kill()
        node.state = "stopped"
        self.nodes.remove(node)

    def close(self) -> None:
        """Ends all at once: state in memory ends with them, state on disk needs no goodbye."""
        for node in self.nodes:
            with contextlib.suppress(Exception):
                node.kill()


def _error_by_name(name: str, message: str) -> Exception:
    cls = getattr(errors, name, None)
    if isinstance(cls, type) and issubclass(cls, HustingsError):
        return cls(message)
    return HustingsError(f"{name}: {message}")
