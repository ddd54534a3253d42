"""Clusters that tests share, and the one way to wait: on a condition."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

import hustings as hs

T = TypeVar("T")
HERE = Path(__file__).parent
# A shell starts background jobs with Ctrl-C ignored, and they pass that on to their children.
signal.signal(signal.SIGINT, signal.default_int_handler)


def free_ports(count: int) -> list[int]:
    """Ports of this host that nobody had a moment ago."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def eventually(condition: Callable[[], T], timeout: float = 30.0) -> T:
    """The first true value of ``condition``; fails when ``timeout`` seconds have passed first."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{condition} did not come true within {timeout} s"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def run_script(
    text: str, *arguments: str, timeout: float = 90.0
) -> subprocess.CompletedProcess[str]:
    """Runs a script of its own, as a user would, and returns what it said."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", text, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=HERE,
    )


def run_suite(folder: Path, plugin: str, *arguments: str) -> dict[str, int]:
    """Another library's tests, with a plugin of ours and nothing of our settings; how many passed,
    were skipped and so on. None may fail."""
    settings = folder / "empty.ini"
    settings.write_text("[pytest]\n")
    options = ["-p", plugin, "-c", str(settings), "-o", "filterwarnings=ignore"]
    quiet = ["-p", "no:cacheprovider", "-p", "no:asyncio", "-q", "-rs", "--tb=short"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *quiet, "--timeout=100", *arguments],
        capture_output=True,
        text=True,
        timeout=580,
        cwd=HERE,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    counts = re.findall(r"(\d+) (\w+)", done.stdout.strip().splitlines()[-1].partition(" in ")[0])
    return {word: int(number) for number, word in counts}


def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the ``hustings`` command."""
    return subprocess.run(
        [sys.executable, "-m", "hustings", *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=HERE,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[hs.Cluster]:
    """Three nodes in this process, shared by a file's tests."""
    made = hs.Cluster.local(3, name="shared", config=hs.Config.ci())
    made.wait_leader()
    yield made
    made.close()


@pytest.fixture
def isolated() -> Iterator[hs.Cluster]:
    """Three nodes in processes of their own, for one test to break."""
    made = hs.Cluster.local(3, name="isolated", isolated=True, config=hs.Config.ci())
    made.wait_leader()
    yield made
    made.close()


@pytest.fixture
def gate(tmp_path: Path) -> Any:
    """A file that holds tasks until it is opened."""

    class Gate:
        path = str(tmp_path / "open")

        def open(self) -> None:
            Path(self.path).touch()

    made = Gate()
    yield made
    made.open()


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """Messages and services generated from ``proto/``, as a client without hustings has them."""
    protoc = pytest.importorskip("grpc_tools.protoc")
    out = tmp_path_factory.mktemp("stubs")
    files = [f"hustings/v1/{name}.proto" for name in ("peer", "client", "blob", "enrolment")]
    proto = HERE.parent.parent / "proto"
    code = protoc.main(
        [
            "protoc",
            f"-I{proto}",
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            *files,
        ]
    )
    assert code == 0
    # The generated modules live below a package that is ours already.
    package = importlib.import_module("hustings")
    package.__path__.append(str(out / "hustings"))
    sys.path.append(str(out))
    yield (
        importlib.import_module("hustings.v1.client_pb2"),
        importlib.import_module("hustings.v1.client_pb2_grpc"),
    )
    package.__path__.remove(str(out / "hustings"))
    sys.path.remove(str(out))
