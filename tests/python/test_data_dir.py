"""State on disk: nodes that come back with it, and what is no data directory of theirs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hustings as hs
import sample_tasks
from conftest import HERE, eventually, free_ports, run_command

CI = hs.Config.ci()


def solo(folder: Path | str, name: str = "solo") -> hs.Node:
    node = hs.Node(name, slots=1, config=CI, data_dir=folder)
    node.register("square", sample_tasks.square)
    return node


def test_a_node_comes_back_with_its_id_and_what_was_accepted(tmp_path: Path, gate: Any) -> None:
    folder = tmp_path / "data"
    node = solo(folder)
    node.register("pass_gate", sample_tasks.pass_gate)
    with pytest.warns(hs.HustingsWarning, match="cluster of its own"):
        node.start()
    assert node.address is not None
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with hs.Cluster.connect(node.address) as client:
        done = client.submit("square", 12)
        assert done.result(30) == 144
        waiting = client.submit("pass_gate", gate.path, 7)
        eventually(lambda: waiting.running())
    first = node.id
    node.abort()
    again = solo(folder)
    again.start()  # without a warning: it founds nothing
    assert (again.id, again.failure) == (first, None)
    assert again.address is not None
    gate.open()
    with hs.Cluster.connect(again.address) as client:
        assert client.future(waiting.task_id).result(60) == 7
        assert client.submit("square", 3).result(30) == 9
        counters = client.metrics()
    assert (counters["accepted"], counters["succeeded"]) == (3, 3)
    assert again.stop(5)


@pytest.mark.parametrize("isolated", [False, True])
def test_a_local_cluster_goes_on_where_it_ended(tmp_path: Path, isolated: bool) -> None:
    folder = tmp_path / "nodes"
    seen = set()
    for round_ in range(1, 4):
        with hs.Cluster.local(3, config=CI, data_dir=folder, isolated=isolated) as cluster:
            ids = {node.id for node in cluster.nodes}
            seen |= ids
            assert cluster.submit(sample_tasks.square, round_).result(60) == round_**2
            assert cluster.metrics()["succeeded"] == round_
            if round_ == 2:
                follower = next(n for n in cluster.nodes if n.name != cluster.leader.name)
                cluster.kill(follower.name)
                cluster.restart(follower.name)
                eventually(lambda: cluster.snapshot().quorum.startswith("3 of 3"))
                assert {node.id for node in cluster.nodes} == ids
    assert len(seen) == 3
    assert sorted(os.listdir(folder)) == ["n1", "n2", "n3"]


def test_what_is_no_data_directory_has_an_error_of_its_own(tmp_path: Path) -> None:
    def refused(folder: Path | str, error: type[Exception], words: str) -> BaseException:
        with pytest.raises(error, match=words) as caught:
            solo(folder).bind()
        return caught.value

    for wrong in (3, "", b"x"):
        with pytest.raises(hs.ConfigError, match="data_dir="):
            solo(wrong)  # type: ignore[arg-type]
    missing = refused(tmp_path / "no" / "data", hs.StorageError, "folder above it does not exist")
    assert isinstance(missing, OSError)
    (tmp_path / "file").touch()
    refused(tmp_path / "file", hs.StorageError, "it is a file")
    refused(tmp_path, hs.StorageError, "file.*no data directory")
    node = solo(tmp_path / "data")
    node.bind()
    locked = refused(tmp_path / "data", hs.DataDirLockedError, "in use by process")
    assert isinstance(locked, hs.DataDirLockedError)
    assert (locked.pid, locked.path) == (os.getpid(), str(tmp_path / "data"))
    node.abort()
    identity = tmp_path / "data" / "identity"
    text = identity.read_text()
    identity.write_text(text.replace("format 5", "format 9"))
    refused(tmp_path / "data", hs.StorageError, "format 9, this version knows 5")
    identity.write_text(text.replace("incarnation 1", "incarnation 0"))
    refused(tmp_path / "data", hs.CorruptLogError, "identity is corrupt")
    identity.write_text(text)
    log = tmp_path / "data" / "log.redb"
    content = bytearray(log.read_bytes())
    content[4096 : 8 * 4096] = bytes(7 * 4096)
    log.write_bytes(content)
    corrupt = refused(tmp_path / "data", hs.CorruptLogError, "log.redb is corrupt.*new id")
    assert isinstance(corrupt, hs.CorruptLogError)
    assert corrupt.path == str(log)


class Voters:
    """Three processes of ``hustings node``, with their data below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places = [f"127.0.0.1:{port}" for port in free_ports(3)]
        self.processes: list[subprocess.Popen[str]] = []

    def start(self) -> None:
        self.processes = [self._start(i) for i in range(3)]
        for process in self.processes:
            assert process.stdout is not None
            json.loads(process.stdout.readline())

    def _start(self, i: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "hustings", "node", "--name", f"n{i + 1}", "--json"]
        command += ["--listen", self.places[i], "--voters", "3", "--join", ",".join(self.places)]
        command += ["--tasks", "sample_tasks", "--profile", "ci", "--slots", "1"]
        command += ["--data-dir", str(self.folder / f"n{i + 1}")]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=HERE
        )

    def kill(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
        for process in self.processes:
            process.wait(timeout=30)
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture
def voters(tmp_path: Path) -> Iterator[Voters]:
    made = Voters(tmp_path)
    yield made
    made.kill()


def test_a_voter_whose_majority_is_lost_for_ever_goes_on_alone_and_new_nodes_join_it(
    voters: Voters,
) -> None:
    voters.start()
    folders = [voters.folder / f"n{i + 1}" for i in range(3)]
    with hs.Cluster.connect(*voters.places, timeout=60) as client:
        before = [client.submit("sample_tasks.square", n) for n in range(20)]
        assert [future.result(60) for future in before] == [n * n for n in range(20)]
    running = run_command("force-new-cluster", str(folders[0]))
    assert (running.returncode, str(folders[0]) in running.stderr) == (2, True), running
    voters.kill()
    told = [json.loads(run_command("force-new-cluster", str(f), "--json").stdout) for f in folders]
    assert [len(each["voters"]) for each in told] == [3, 3, 3]
    best = max(range(3), key=lambda i: (told[i]["term"], told[i]["last_entry"]))
    left, cluster = str(folders[best]), told[best]["cluster"]
    for i in {0, 1, 2} - {best}:
        shutil.rmtree(folders[i])
    shown = run_command("force-new-cluster", left).stdout
    assert "ONLY IF A MAJORITY" in shown
    assert f"hustings force-new-cluster {left} --cluster {cluster}" in shown
    wrong = run_command("force-new-cluster", left, "--cluster", "0" * 32)
    assert (wrong.returncode, f"which is {cluster}" in wrong.stderr) == (2, True), wrong
    forced = run_command("force-new-cluster", left, "--cluster", cluster)
    assert (forced.returncode, "ONLY VOTER" in forced.stdout) == (0, True), forced
    voters.start()
    with hs.Cluster.connect(*voters.places, timeout=60) as client:
        after = [client.future(future.task_id) for future in before]
        assert [future.result(60) for future in after] == [n * n for n in range(20)]
        assert client.submit("sample_tasks.square", 7).result(60) == 49
        # The two with empty folders come as founders under new ids, and get their seats.
        eventually(lambda: sum(m.voter for m in client.members() if m.alive) == 3, timeout=60)
        assert client.metrics()["lost"] == 0


def test_all_voters_are_killed_at_once_under_load_and_every_task_has_its_one_outcome(
    voters: Voters,
) -> None:
    voters.start()
    submitted: list[hs.Future[int]] = []
    with hs.Cluster.connect(*voters.places, timeout=60) as client:
        for _round in range(3):
            enough, stop = threading.Event(), threading.Event()

            def load(enough: threading.Event = enough, stop: threading.Event = stop) -> None:
                count = 0
                while not stop.is_set() and count < 20_000:
                    n = len(submitted)
                    submitted.append(client.submit("sample_tasks.square", n))
                    count += 1
                    if count == 300:
                        enough.set()
                    if count % 50 == 0:
                        stop.wait(0.002)

            loader = threading.Thread(target=load)
            loader.start()
            assert enough.wait(60)
            eventually(lambda: submitted[-200].running() or submitted[-200].done(), timeout=60)
            voters.kill()
            accepted = [f for f in submitted if f.running() or f.done()]
            assert len(accepted) >= 100
            voters.start()
            stop.set()
            loader.join(60)
            assert client.submit("sample_tasks.square", 1).result(90) == 1
        values = [future.result(90) for future in submitted]
        assert values == [n * n for n in range(len(submitted))]
        counters = client.metrics()
    total = len(submitted) + 3
    assert (counters["accepted"], counters["succeeded"]) == (total, total)
    assert counters["lost"] == counters["failed"] == counters["cancelled"] == 0


def foreground(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hustings", "node", "--listen", "127.0.0.1:0", "--json"]
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, *arguments], stdout=pipe, stderr=pipe, text=True, cwd=HERE)


def test_the_command_warns_of_memory_and_refuses_a_folder_that_is_taken(tmp_path: Path) -> None:
    folder = str(tmp_path / "data")
    for arguments, warned in ((("--data-dir", folder), False), ((), True)):
        process = foreground(*arguments)
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            if not warned:
                taken = run_command("node", "--listen", "127.0.0.1:0", "--data-dir", folder)
                assert taken.returncode == 2
                assert f"in use by process {ready['pid']}" in taken.stderr
        finally:
            process.terminate()
            _, said = process.communicate(timeout=60)
        assert process.returncode == 0
        assert ("state is in memory only" in said) is warned


def test_up_goes_on_where_down_ended(tmp_path: Path) -> None:
    here = {"HUSTINGS_STATE_DIR": str(tmp_path / "state")}
    kept = str(tmp_path / "nodes")
    for round_ in (1, 2):
        options = ("--tasks", "sample_tasks", "--profile", "ci", "--data-dir", kept, "--json")
        up = run_command("up", "3", *options, **here)
        assert up.returncode == 0, up.stderr
        try:
            one = run_command("submit", "sample_tasks.square", "[12]", **here)
            assert (one.returncode, one.stdout) == (0, "144\n"), one.stderr
            status = json.loads(run_command("status", "--json", **here).stdout)
            assert status["counters"]["succeeded"] == round_
        finally:
            run_command("down", **here)
