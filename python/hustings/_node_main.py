"""The process of one node of an isolated local cluster: ``python -m hustings._node_main FD``,
driven over stdin.

One JSON line in (options), one out on FD (``address``, ``id``, ``pid``, or ``error``), a second
one in (whom to found
or join). After that stdin is a tether: when the parent goes away, however it does, this process
goes too.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

LINE_LIMIT = 64 << 20
"""The longest line read from the parent; a synthetic load trace is the largest part of it."""


def main() -> int:
    """Runs the node until SIGTERM (0: nothing was cut off, 3: something was), until it ends by
    itself (1), or until the parent is gone."""
    options = _read_line()
    if options is None:
        return 3
    sys.path[:] = [str(p) for p in options.get("sys_path", sys.path)]
    from . import _core
    from .errors import HustingsError
    from .signals import SignalWaiter

    waiter = SignalWaiter()
    try:
        node = _core.Node(**_node_arguments(options))
        address = node.bind()
    except (HustingsError, ValueError, TypeError, OSError) as error:
        _answer({"error": {"type": type(error).__name__, "message": str(error)}})
        return 2
    _answer({"address": address, "id": node.id, "pid": os.getpid()})
    entry = _read_line()
    if entry is None:
        node.abort()
        return 3
    _hold_tether(node)
    node.enter(
        founders=[str(a) for a in entry.get("founders", [])],
        join=[str(a) for a in entry.get("join", [])],
        voter=bool(entry.get("voter", False)),
    )
    node.notify_failure(waiter.descriptor)
    if waiter.wait() == 0:  # the node ended by itself
        print(f"hustings: node {options['name']}: {node.failure}", file=sys.stderr, flush=True)
        return 1
    waiter.on_next(lambda: _end_at_once(node))
    whole = node.stop(float(options.get("grace_s", 30.0)))
    waiter.finish()
    return 0 if whole else 3


def _node_arguments(options: dict[str, Any]) -> dict[str, Any]:
    x, y = options.get("position", (0.0, 0.0))
    return {
        "name": str(options["name"]),
        "listen": str(options.get("listen", "127.0.0.1:0")),
        "position": (float(x), float(y)),
        "slots": int(options.get("slots", 1)),
        "labels": options.get("labels"),
        "resources": options.get("resources"),
        "allow_pickle": bool(options.get("allow_pickle", False)),
        "allow_threads": bool(options.get("allow_threads", False)),
        "allow_faults": bool(options.get("allow_faults", False)),
        # This process is the node and nothing else, so what it uses itself is no load.
        "load": options.get("load") or {"kind": "measured", "own_process": True},
        "may_vote": bool(options.get("may_vote", True)),
        "data_dir": options.get("data_dir"),
        "config": options.get("config"),
        "runner_argv": [str(a) for a in options["runner_argv"]],
        "runner_env": {str(k): str(v) for k, v in options["runner_env"].items()},
    }


def _read_line() -> dict[str, Any] | None:
    line = sys.stdin.buffer.readline(LINE_LIMIT)
    if not line.endswith(b"\n"):
        return None
    value = json.loads(line)
    return value if isinstance(value, dict) else None


def _answer(value: dict[str, Any]) -> None:
    # Not on stdout: that belongs to what tasks print.
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)
    with open(descriptor, "w", encoding="utf-8") as out:
        out.write(json.dumps(value) + "\n")


def _hold_tether(node: Any) -> None:
    """Ends this process when stdin is closed: by the kernel where it can, by a thread anywhere."""
    threading.Thread(target=_watch_stdin, args=(node,), name="hustings-tether", daemon=True).start()
    try:
        import fcntl
        import signal

        # The kernel's own SIGKILL on hang-up also ends a node that is stopped, or whose
        # interpreter is busy.
        # Nothing may be written to this pipe from now on.
        set_signal = 10  # F_SETSIG of Linux, missing from the fcntl module
        if sys.platform != "linux":
            return
        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(0, set_signal, signal.SIGKILL)
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    except (ImportError, OSError):
        return


def _watch_stdin(node: Any) -> None:
    while os.read(0, 4096):
        pass
    _end_at_once(node)


def _end_at_once(node: Any) -> None:
    try:
        node.abort()
    finally:
        os._exit(3)


if __name__ == "__main__":
    sys.exit(main())
