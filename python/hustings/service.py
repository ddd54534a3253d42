"""A node as a service of systemd: when it is ready, how it is, that it still lives (sd_notify)."""

from __future__ import annotations

import os
import socket
import threading

from . import _core
from .errors import HustingsError
from .node import Node

MAX_STATUS = 200
"""Characters of a status line."""


class ServiceManager:
    """What ``NOTIFY_SOCKET`` and ``WATCHDOG_USEC`` name; without them everything here does nothing.

    The variables are taken out of the environment, so that runners do not speak for their node.

    Example:
        >>> ServiceManager({}).tell("READY=1")
        False
    """

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        taken = os.environ if environment is None else environment
        self._path = taken.pop("NOTIFY_SOCKET", "")
        usec, pid = taken.pop("WATCHDOG_USEC", ""), taken.pop("WATCHDOG_PID", "")
        ours = not pid or pid == str(os.getpid())
        self.watchdog_s = int(usec) / 1e6 if ours and usec.isdecimal() else 0.0
        self._ended = threading.Event()

    def tell(self, *words: str) -> bool:
        """Sends assignments such as ``READY=1``; false if there is nobody to tell."""
        if not self._path.startswith(("/", "@")):
            return False
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        text = "\n".join(words).encode("utf-8", "replace")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
                link.sendto(text, address)
        except OSError:
            return False  # a service manager that does not listen is no reason to stop
        return True

    def ready(self, node: Node) -> None:
        """The node listens. From now on it is watched, if the unit says so."""
        self.tell("READY=1", f"STATUS={_line(node)}")
        if self.watchdog_s > 0 and self._path:
            thread = threading.Thread(target=self._watch, args=(node,), daemon=True)
            thread.name = "hustings-watchdog"
            thread.start()

    def stopping(self) -> None:
        """The node hands over and ends."""
        self._ended.set()
        self.tell("STOPPING=1", "STATUS=hands over")

    def _watch(self, node: Node) -> None:
        # Each time the task loop itself answers: a node that is stuck falls silent, and is ended.
        while not self._ended.wait(self.watchdog_s / 3):
            line = _line(node)
            if not self._ended.is_set():
                self.tell("WATCHDOG=1", f"STATUS={line}")


def _line(node: Node) -> str:
    try:
        status = node._node.status()
    except (HustingsError, ValueError) as error:
        return " ".join(str(error).split())[:MAX_STATUS]
    leader = str(status["leader_address"] or "nobody")
    leads = "leads" if status["role"] == "leader" else f"{status['role']}, leader at {leader}"
    return f"hustings {_core.__version__}: {leads}, term {status['term']}"[:MAX_STATUS]
