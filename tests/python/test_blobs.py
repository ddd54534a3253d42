"""Arguments and results that are too large for the log."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import hustings as hs
import sample_tasks

MIB = 1 << 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[hs.Cluster]:
    with hs.Cluster.local(3, name="blobs", config=hs.Config.ci()) as made:
        made.wait_leader()
        yield made


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def repeat(data: bytes, times: int) -> bytes:
    return data * times


@pytest.mark.parametrize("size", [64 * 1024 - 200, 64 * 1024 + 1, 3 * MIB, 40 * MIB])
def test_arguments_of_any_size_arrive_as_they_are(cluster: hs.Cluster, size: int) -> None:
    data = os.urandom(1024) * (size // 1024)
    assert cluster.submit(digest, data).result(60) == digest(data)


def test_large_results_come_back(cluster: hs.Cluster) -> None:
    result = cluster.submit(repeat, b"hustings", 2 * MIB).result(60)
    assert result == b"hustings" * 2 * MIB


def test_large_results_can_be_awaited_and_gathered(cluster: hs.Cluster) -> None:
    async def gather() -> list[bytes]:
        futures = [cluster.submit(repeat, bytes([i]), 200_000) for i in range(8)]
        return [await future for future in futures]

    assert asyncio.run(gather()) == [bytes([i]) * 200_000 for i in range(8)]


def test_what_is_too_large_is_refused_by_name_and_nothing_is_stored() -> None:
    config = hs.Config.ci(limits=hs.Limits(blob_bytes=MIB))
    with hs.Cluster.local(1, name="small", config=config) as small:
        small.wait_leader()
        with pytest.raises(hs.PayloadTooLargeError, match=r"limits\.blob_bytes"):
            small.submit(digest, b"x" * (MIB + 1))
        with pytest.raises(hs.PayloadTooLargeError, match=r"limits\.blob_bytes"):
            small.submit(repeat, b"x", MIB + 1).result(60)
        assert small.submit(digest, b"x" * (MIB - 1000)).result(60)


def test_a_full_store_says_so_and_has_room_again_once_tasks_are_done(tmp_path: Path) -> None:
    config = hs.Config.ci(limits=hs.Limits(blobs_bytes=MIB))
    with hs.Cluster.local(1, name="full", slots=1, config=config) as full:
        full.wait_leader()
        gate = tmp_path / "gate"
        blocker = full.submit(sample_tasks.pass_gate, str(gate))
        waiting = full.submit(digest, b"a" * (MIB - 4096))
        with pytest.raises(hs.QueueFullError, match=r"limits\.blobs_bytes"):
            full.submit(digest, b"b" * (MIB // 2))
        gate.touch()
        blocker.result(60)
        assert waiting.result(60) == digest(b"a" * (MIB - 4096))
        end = time.monotonic() + 60
        while True:
            try:
                assert full.submit(digest, b"b" * (MIB // 2)).result(60)
                break
            except hs.QueueFullError:
                assert time.monotonic() < end, "the first blob is never forgotten"
                time.sleep(0.1)


def test_a_large_task_outlives_the_leader_that_took_it(cluster: hs.Cluster) -> None:
    data = os.urandom(1024) * 2048
    waiting = [cluster.submit(digest, bytes([i]) + data) for i in range(6)]
    big = cluster.submit(repeat, b"survivor", MIB)
    for future in [*waiting, big]:
        while future.state == "submitted" and not future.done():
            time.sleep(0.005)
    leader = cluster.wait_leader()
    cluster.kill(leader)
    assert [f.result(60) for f in waiting] == [digest(bytes([i]) + data) for i in range(6)]
    assert big.result(60) == b"survivor" * MIB
    cluster.restart(leader.name)


def test_blobs_are_on_disk_when_all_nodes_die_at_once(tmp_path: Path) -> None:
    data = os.urandom(1024) * 300
    with hs.Cluster.local(
        3, name="disk", data_dir=tmp_path / "nodes", slots=1, config=hs.Config.ci()
    ) as c:
        c.wait_leader()
        gate = tmp_path / "gate"
        blockers = [c.submit(sample_tasks.pass_gate, str(gate)) for _ in range(6)]
        waiting = c.submit(digest, data)
        while waiting.state == "submitted":
            time.sleep(0.005)
        for name in [node.name for node in c.nodes]:
            c.kill(name)
        for name in [node.name for node in c.nodes]:
            c.restart(name)
        gate.touch()
        assert waiting.result(60) == digest(data)
        for blocker in blockers:
            blocker.result(60)


def test_many_clients_may_bring_the_same_content_at_once(tmp_path: Path) -> None:
    data = os.urandom(1024) * 2048
    with hs.Cluster.local(3, name="same", data_dir=tmp_path, config=hs.Config.ci()) as made:
        made.wait_leader()
        addresses = [node.address for node in made.nodes]

        def bring(n: int) -> str:
            first = addresses[n % len(addresses)]
            with hs.Cluster.connect(first, allow_pickle=True) as one:
                return one.submit(digest, data).result(60)

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(bring, range(16))) == {digest(data)}
        assert all(member.alive for member in made.members())
