"""Disks that fail, fill up or are slow under real nodes: a shim answers their system calls."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hustings as hs
from conftest import HERE, eventually
from test_data_dir import free_ports

COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(
    COMPILER is None or sys.platform != "linux",
    reason="needs Linux and a C compiler to put itself between a node and its disk",
)
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fault(const char *kind) {
    char text[32] = "";
    int file = open(getenv("TEST_DISK_FAULT"), O_RDONLY);
    if (file < 0) return 0;
    ssize_t got = read(file, text, sizeof text - 1);
    close(file);
    size_t length = strlen(kind);
    if (got < (ssize_t)length || strncmp(text, kind, length)) return 0;
    int value = atoi(text + length);
    return value ? value : 1;
}

int fdatasync(int file) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    int ms = fault("slow");
    if (ms) usleep(ms * 1000);
    if (fault("eio")) {
        unlink(getenv("TEST_DISK_FAULT"));  /* the next one says that all is well */
        errno = EIO;
        return -1;
    }
    return real(file);
}

ssize_t pwrite64(int file, const void *data, size_t count, off64_t offset) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    if (fault("full")) {
        errno = ENOSPC;
        return -1;
    }
    return real(file, data, count, offset);
}
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shim")
    source, library = folder / "shim.c", folder / "shim.so"
    source.write_text(SHIM)
    assert COMPILER is not None
    command = [COMPILER, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


class Voters:
    """Three nodes, each in front of a disk whose faults are written into a file."""

    def __init__(self, folder: Path, shim: Path) -> None:
        self.folder, self.shim = folder, shim
        self.places = [f"127.0.0.1:{port}" for port in free_ports(3)]
        self.processes = [self.start(i) for i in range(3)]

    def start(self, i: int) -> subprocess.Popen[str]:
        name = f"n{i + 1}"
        command = [sys.executable, "-m", "hustings", "node", "--name", name, "--json"]
        command += ["--listen", self.places[i], "--voters", "3", "--join", ",".join(self.places)]
        command += ["--tasks", "sample_tasks", "--profile", "ci", "--slots", "1"]
        command += ["--data-dir", str(self.folder / name)]
        env = {"LD_PRELOAD": str(self.shim), "TEST_DISK_FAULT": str(self.fault(i))}
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, stdout=pipe, stderr=pipe, text=True, cwd=HERE, env={**os.environ, **env}
        )
        assert process.stdout is not None
        json.loads(process.stdout.readline())
        return process

    def fault(self, i: int) -> Path:
        return self.folder / f"fault{i + 1}"

    def strike(self, i: int, fault: str) -> None:
        fresh = self.folder / "fault.new"
        fresh.write_text(fault)
        fresh.replace(self.fault(i))

    def close(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=30)


@pytest.fixture
def voters(tmp_path: Path, shim: Path) -> Iterator[Voters]:
    made = Voters(tmp_path, shim)
    yield made
    made.close()


def work(client: hs.Cluster, count: int) -> None:
    futures = [client.submit("sample_tasks.square", n) for n in range(count)]
    assert [future.result(60) for future in futures] == [n * n for n in range(count)]


@pytest.mark.parametrize(
    ("fault", "words"), [("eio", "Input/output error"), ("full", "No space left")]
)
def test_a_leader_whose_disk_fails_ends_with_its_error_and_comes_back_with_its_state(
    voters: Voters, fault: str, words: str
) -> None:
    with hs.Cluster.connect(*voters.places, timeout=60) as client:
        work(client, 20)
        leader = client.wait_leader()
        i = int(leader.name[1:]) - 1
        voters.strike(i, fault)
        work(client, 20)
        process = voters.processes[i]
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "hustings: storage " in said
        assert words in said
        voters.fault(i).unlink(missing_ok=True)
        voters.processes[i] = voters.start(i)
        eventually(lambda: client.snapshot().quorum.startswith("3 of 3"))
        work(client, 20)
        assert client.metrics()["succeeded"] == 60
        assert {m.name: m.id for m in client.members()}[leader.name] == leader.id


def test_slow_disks_delay_work_and_change_no_leader(voters: Voters) -> None:
    with hs.Cluster.connect(*voters.places, timeout=60) as client:
        work(client, 5)
        eventually(lambda: client.snapshot().quorum.startswith("3 of 3"))
        before = client.wait_leader()
        for i in range(3):
            voters.strike(i, "slow 250")
        work(client, 40)
        after = client.wait_leader()
        assert (after.id, after.term) == (before.id, before.term)
