"""What a coroutine may wait for besides outcomes: a node's start and stop, and the leader."""

from __future__ import annotations

import asyncio
import time

import pytest

import hustings as hs
from conftest import run_script


async def test_a_node_starts_and_stops_while_the_loop_goes_on() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    node = hs.Node("solo", slots=1, config=hs.Config.ci())
    with pytest.warns(hs.HustingsWarning, match="cluster of its own"):
        assert await node.start_async() is node
    assert node.state == "running"
    assert node.leader is not None
    before = turns
    assert await node.stop_async(5)
    assert await node.stop_async(5)
    assert node.state == "stopped"
    assert turns > before > 1
    counting.cancel()


async def test_a_node_that_finds_nobody_says_so_in_time() -> None:
    node = hs.Node("lost", join=["127.0.0.1:1"], slots=1, config=hs.Config.ci())
    with pytest.raises(hs.WaitTimeoutError):
        await node.start_async(timeout=0.2)
    node.abort()


async def test_the_leader_is_awaited(cluster: hs.Cluster) -> None:
    leader = await cluster.wait_leader_async(30)
    assert leader.name in {n.name for n in cluster.nodes}
    many = await asyncio.gather(*(cluster.wait_leader_async(30) for _ in range(50)))
    assert {m.term for m in many} >= {leader.term}
    with pytest.raises(ValueError, match="at least 0"):
        await cluster.wait_leader_async(-1)


async def test_a_wait_can_be_cancelled_and_times_out(isolated: hs.Cluster) -> None:
    for node in list(isolated.nodes):
        isolated.kill(node)
    started = time.monotonic()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(isolated.wait_leader_async(60), 0.2)
    with pytest.raises(hs.NoQuorumError, match="0 of 3"):
        await isolated.wait_leader_async(0.2)
    assert time.monotonic() - started < 30


def test_scripts_that_leave_a_wait_behind_end_cleanly() -> None:
    script = """
import asyncio, hustings as hs

async def main():
    lost = hs.Node("lost", join=["127.0.0.1:1"], slots=1)
    left = asyncio.create_task(lost.start_async(60))
    await asyncio.sleep(0)
    native = lost._node.wait_ready_async(60)
    print("left")

asyncio.run(main())
"""
    for _ in range(10):
        done = run_script(script)
        assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")


async def test_clusters_and_nodes_are_entered_by_coroutines() -> None:
    async with await hs.Cluster.local_async(1, name="awaited", config=hs.Config.ci()) as cluster:
        assert hs.current_cluster() is cluster
        address = cluster.members()[0].address
        async with await hs.Cluster.connect_async(address, timeout=30) as second:
            assert [m.address for m in second.members()] == [address]
        with pytest.raises(hs.StoppedError):
            second.submit(abs, -1)
    node = hs.Node("entered", slots=1, config=hs.Config.ci())
    with pytest.warns(hs.HustingsWarning, match="cluster of its own"):
        async with node:
            assert node.state == "running"
    assert node.state == "stopped"
