"""``hustings up`` and ``down``: detached nodes on this machine, remembered in a state file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from . import _core
from .config import Config
from .errors import BindError, ConfigError, HustingsError
from .foreground import tasks_of
from .interpreter import package_env, runner_argv
from .local import node_dir, plan_voters

STATE_LIMIT_BYTES = 1 << 20
ASK_TIMEOUT_S = 2.0
"""How long ``down`` waits for a node to say who it is."""
_POLL_S = 0.02


def state_dir() -> Path:
    """Where ``up`` keeps its state: HUSTINGS_STATE_DIR, else below XDG_STATE_HOME."""
    given = os.environ.get("HUSTINGS_STATE_DIR")
    if given:
        return Path(given)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "hustings"


def addresses() -> list[str]:
    """Where the nodes of ``hustings up`` listen; empty if there are none."""
    return [str(node["address"]) for node in _read().get("nodes", [])]


def start(
    n: int,
    *,
    tasks: list[str],
    allow_pickle: bool,
    allow_threads: bool,
    first_port: int | None,
    profile: str | None,
    timeout: float,
    data_dir: str | None = None,
    first_metrics_port: int | None = None,
    first_http_port: int | None = None,
) -> dict[str, Any]:
    """Starts ``n`` detached nodes and waits for their leader; on failure none remains.

    With ``data_dir`` each keeps its state in a folder of its own below it. Metrics and pages are
    at consecutive ports of loopback.
    """
    old = [node for node in _read().get("nodes", []) if _is_ours(node)]
    if old:
        names = ", ".join(node["name"] for node in old)
        raise ConfigError(f"{names} are running already; stop them first with: hustings down")
    # What every node would refuse is refused here, before any of them starts.
    Config(profile=profile)
    for module in tasks:
        tasks_of(module)
    _, voters = plan_voters(n, None)
    ports = _free_ports(n) if first_port is None else list(range(first_port, first_port + n))
    places = [f"127.0.0.1:{port}" for port in ports]
    options = [part for module in tasks for part in ("--tasks", module)]
    options += ["--allow-pickle"] if allow_pickle else []
    options += ["--allow-threads"] if allow_threads else []
    options += ["--profile", profile] if profile else []
    folder = state_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    state: dict[str, Any] = {"nodes": []}
    try:
        for i, place in enumerate(places):
            founding = ["--voters", str(voters)] if i < voters else []
            own = ["--name", f"n{i + 1}", "--listen", place, "--join", ",".join(places[:voters])]
            kept = node_dir(data_dir, f"n{i + 1}")
            own += ["--data-dir", kept] if kept else []
            own += _look("--metrics", first_metrics_port, i) + _look("--http", first_http_port, i)
            state["nodes"].append(_launch(f"n{i + 1}", place, [*own, *founding, *options], folder))
            _write(state)
        state["leader"] = _await_leader(state, timeout)
        _write(state)
    except BaseException:
        stop(0.0)
        raise
    return state


def _look(option: str, first_port: int | None, i: int) -> list[str]:
    return [] if first_port is None else [option, f"127.0.0.1:{first_port + i}"]


def _launch(name: str, address: str, options: list[str], folder: Path) -> dict[str, Any]:
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*runner_argv()[:-1], "hustings", "node", *options],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **package_env()},
        )
    pid = process.pid
    _children[pid] = process
    return {"name": name, "address": address, "pid": pid, "log": str(log), "born": _born(pid)}


_children: dict[int, subprocess.Popen[bytes]] = {}
"""Nodes that are children of this very process, so that their ends are reaped."""


def _await_leader(state: dict[str, Any], timeout: float) -> str:
    end = time.monotonic() + timeout
    while True:
        for node in state["nodes"]:
            if not _alive(node["pid"]):
                raise HustingsError(f"{node['name']} ended at once: {_last_line(node['log'])}")
        left = max(0.1, min(end - time.monotonic(), 1.0))
        try:
            client = _core.Client([n["address"] for n in state["nodes"]], timeout=left, watch=False)
        except HustingsError:
            if time.monotonic() >= end:
                raise
            time.sleep(_POLL_S)
            continue
        try:
            return str(client.wait_leader(left)["me"]["name"])
        except HustingsError:
            if time.monotonic() >= end:
                raise
        finally:
            client.close()


def stop(grace: float) -> dict[str, str]:
    """Ends the nodes of the state file: SIGTERM, after ``grace`` seconds SIGKILL. Others are left
    alone."""
    ended: dict[str, str] = {}
    waiting = []
    for node in _read().get("nodes", []):
        if not _alive(node["pid"]):
            ended[node["name"]] = "was gone"
        elif not _is_ours(node):
            ended[node["name"]] = f"left alone: process {node['pid']} is another one now"
        else:
            _signal(node["pid"], signal.SIGTERM)
            waiting.append(node)
    end = time.monotonic() + grace
    while waiting and time.monotonic() < end:
        time.sleep(_POLL_S)
        for node in [node for node in waiting if not _alive(node["pid"])]:
            waiting.remove(node)
            ended[node["name"]] = "stopped"
    for node in waiting:
        _signal(node["pid"], signal.SIGKILL)
        ended[node["name"]] = "killed" if _gone_soon(node["pid"]) else "still running"
    if all(how != "still running" for how in ended.values()):
        with contextlib.suppress(FileNotFoundError):
            _state_file().unlink()
    return ended


def _is_ours(node: dict[str, Any]) -> bool:
    """Whether the process is still that node: by its own word, or by its birth where it does not
    speak."""
    if not _alive(node["pid"]):
        return False
    try:
        client = _core.Client([node["address"]], timeout=ASK_TIMEOUT_S, pinned=True, watch=False)
        try:
            me = client.status(node["address"], ASK_TIMEOUT_S)["me"]
        finally:
            client.close()
        if me["name"] == node["name"] and me["pid"] == node["pid"]:
            return True
    except HustingsError:
        pass
    born = node.get("born")
    return born is not None and born == _born(node["pid"])


def _born(pid: int) -> int | None:
    """When the process started, in the kernel's ticks; ``None`` where that cannot be known."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        return int(text.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _alive(pid: int) -> bool:
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _gone_soon(pid: int) -> bool:
    end = time.monotonic() + 5.0
    while _alive(pid) and time.monotonic() < end:
        time.sleep(_POLL_S)
    return not _alive(pid)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        # A frozen node hears SIGTERM only when it goes on.
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)


def _free_ports(n: int) -> list[int]:
    """Ports that are free now; the founders must know each other's before they start."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(n):
            probe = stack.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", 0))
            except OSError as error:
                raise BindError(f"no free port on 127.0.0.1: {error}") from error
            ports.append(int(probe.getsockname()[1]))
        return ports


def _last_line(log: str) -> str:
    try:
        lines = Path(log).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return f"{lines[-1] if lines else 'it said nothing'} (log: {log})"


def _state_file() -> Path:
    return state_dir() / "up.json"


def _read() -> dict[str, Any]:
    path = _state_file()
    try:
        if path.stat().st_size > STATE_LIMIT_BYTES:
            raise ConfigError(f"{path} is larger than {STATE_LIMIT_BYTES} bytes; remove it")
        state = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path} cannot be read ({error}); remove it") from error
    if not isinstance(state, dict):
        raise ConfigError(f"{path} is not a state file; remove it")
    return state


def _write(state: dict[str, Any]) -> None:
    path = _state_file()
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(state, indent=1), encoding="utf-8")
    fresh.chmod(0o600)
    fresh.replace(path)
