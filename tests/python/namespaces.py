"""Hosts on one machine: a network namespace for each, wired to one bridge; a cable can be pulled
and put back. Everything is removed at the end, whatever happened."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent


def why_not() -> str | None:
    """Why there can be no namespaces here, or ``None``."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "making network namespaces takes root"
    if shutil.which("ip") is None:
        return "there is no `ip` (package iproute2)"
    name = f"hst-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode != 0:
        return f"ip netns add: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}"


class Hosts:
    """``count`` hosts with addresses of their own; this process sits at the bridge itself."""

    def __init__(self, count: int) -> None:
        self._mark = f"{os.getpid() % 46_656:x}"
        self._net = f"10.213.{os.getpid() % 250 + 1}"
        self.names = [f"hst{self._mark}-{i}" for i in range(count)]
        self.bridge = f"hb{self._mark}"
        self._processes: list[subprocess.Popen[bytes]] = []

    def address(self, i: int) -> str:
        """Of host ``i``."""
        return f"{self._net}.{i + 1}"

    @property
    def here(self) -> str:
        """Of this process."""
        return f"{self._net}.254"

    def _cable(self, i: int) -> str:
        return f"hv{self._mark}-{i}"

    def __enter__(self) -> Hosts:
        try:
            _ip("link", "add", self.bridge, "type", "bridge")
            _ip("addr", "add", f"{self.here}/24", "dev", self.bridge)
            _ip("link", "set", self.bridge, "up")
            for i, name in enumerate(self.names):
                _ip("netns", "add", name)
                _ip("link", "add", self._cable(i), "type", "veth", "peer", "eth0", "netns", name)
                _ip("link", "set", self._cable(i), "master", self.bridge)
                _ip("link", "set", self._cable(i), "up")
                _ip("-n", name, "addr", "add", f"{self.address(i)}/24", "dev", "eth0")
                _ip("-n", name, "link", "set", "eth0", "up")
                _ip("-n", name, "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self, i: int, command: Sequence[str], log: Path, **environment: str
    ) -> subprocess.Popen[bytes]:
        """Starts a process on host ``i``; what it says goes into ``log``."""
        with log.open("ab") as out:
            made = subprocess.Popen(
                ["ip", "netns", "exec", self.names[i], *command],
                stdout=out,
                stderr=out,
                cwd=HERE,
                env={**os.environ, **environment},
            )
        self._processes.append(made)
        return made

    def cut(self, i: int) -> None:
        """Pulls the cable of host ``i``."""
        _ip("link", "set", self._cable(i), "down")

    def heal(self, i: int) -> None:
        """Puts it back."""
        _ip("link", "set", self._cable(i), "up")

    def close(self) -> None:
        """Ends what was started there and removes what was made."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for i, name in enumerate(self.names):
            subprocess.run(["ip", "link", "del", self._cable(i)], capture_output=True)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        subprocess.run(["ip", "link", "del", self.bridge], capture_output=True)
