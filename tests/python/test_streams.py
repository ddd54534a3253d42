"""Generator tasks: every item once and in order, whatever dies; no further than its reader."""

from __future__ import annotations

import asyncio
import doctest
import gc
import importlib
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import hustings as hs
import stream_tasks
from conftest import alive, eventually, run_script

AHEAD = 64 + 64 + 1
"""Items a generator may be ahead of its reader: at its node, at the reader, and one in its hand."""


@pytest.fixture(scope="module")
def one() -> Iterator[hs.Cluster]:
    """One node with two runners, which soon gives up what nobody reads."""
    limits = hs.Limits(stream_idle_s=5)
    with hs.Cluster.local(1, name="one", slots=2, config=hs.Config.ci(limits=limits)) as made:
        made.wait_leader()
        yield made


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def holders(cluster: hs.Cluster) -> dict[str, str]:
    """Who runs what, by task."""
    names = {member.id: member.name for member in cluster.members()}
    tasks = cluster.tasks("assigned")
    return {task["task_id"]: names[task["node"]] for task in tasks if task["node"] in names}


# --- reading --------------------------------------------------------------------------------------


def test_items_come_in_order_and_then_the_result(cluster: hs.Cluster) -> None:
    stream = stream_tasks.count_up.stream(1_000)
    assert list(stream) == list(range(1_000))
    assert stream.future.result(30) == "counted 1000"
    assert (stream.count, stream.attempt) == (1_000, 1)
    assert list(stream) == []


def test_items_come_as_they_are_yielded(cluster: hs.Cluster, gate: Any) -> None:
    stream = stream_tasks.gated.stream(4, 2, gate.path)
    assert [stream.next(30), stream.next(30)] == [(0, "item 0"), (1, "item 1")]
    assert not stream.future.done()
    with pytest.raises(hs.WaitTimeoutError, match="next item"):
        stream.next(0.1)
    gate.open()
    assert list(stream) == [(2, "item 2"), (3, "item 3")]


def test_a_generator_that_yields_nothing(cluster: hs.Cluster) -> None:
    assert list(stream_tasks.never_yields.stream(3)) == []


def test_what_a_generator_returns_ends_the_iteration(cluster: hs.Cluster) -> None:
    def delegate() -> Iterator[int]:
        result = yield from stream_tasks.count_up.stream(3)
        yield len(result)

    assert list(delegate()) == [0, 1, 2, len("counted 3")]


def test_an_asynchronous_generator_and_an_asynchronous_reader(cluster: hs.Cluster) -> None:
    async def read() -> tuple[list[int], list[int]]:
        slow = [item async for item in stream_tasks.count_slowly.stream(500)]
        async with stream_tasks.count_up.stream(500) as stream:
            return slow, [item async for item in stream]

    assert asyncio.run(read()) == (list(range(500)), list(range(500)))
    assert list(stream_tasks.count_slowly.stream(300)) == list(range(300))


def test_a_reader_that_waits_holds_up_no_event_loop(cluster: hs.Cluster, gate: Any) -> None:
    async def read() -> list[int]:
        stream = stream_tasks.gated.stream(3, 1, gate.path)
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.005)
                beats += 1
                if beats == 20:
                    gate.open()

        beating = asyncio.create_task(beat())
        items = [i async for i, _ in stream]
        assert beats >= 20
        beating.cancel()
        return items

    assert asyncio.run(read()) == [0, 1, 2]


@pytest.mark.parametrize("codec", ["safe", "json", "pickle"])
def test_items_travel_in_the_codec_of_the_call(cluster: hs.Cluster, codec: str) -> None:
    stream = stream_tasks.count_up.options(codec=codec).stream(3)
    assert list(stream) == [0, 1, 2]


def test_many_streams_at_once(cluster: hs.Cluster) -> None:
    streams = [stream_tasks.count_up.stream(200) for _ in range(3)]
    taken = [[stream.next(60) for stream in streams] for _ in range(200)]
    assert taken == [[i] * 3 for i in range(200)]


def test_by_registered_name_and_without_pickle() -> None:
    with hs.Cluster.local(1, name="plain") as c:
        c.wait_leader()
        with hs.Cluster.connect(*(m.address for m in c.members()), allow_pickle=False) as plain:
            options = stream_tasks.count_up.options(name="count")
            with pytest.raises(hs.TaskNotRegisteredError):
                list(plain.stream("count", 3))
            assert list(c.stream(options, 3)) == [0, 1, 2]
            assert list(plain.stream("count", 3)) == [0, 1, 2]


def test_the_example_of_its_docstring() -> None:
    done = doctest.testmod(importlib.import_module("hustings.stream"))
    assert (done.attempted, done.failed) == (3, 0)


# --- failures -------------------------------------------------------------------------------------


def test_what_it_raises_comes_after_the_items_before(cluster: hs.Cluster) -> None:
    stream = stream_tasks.stumble.stream(150)
    taken = list(itertools.islice(stream, 150))
    assert taken == list(range(150))
    with pytest.raises(LookupError, match="nothing after 150") as raised:
        next(stream)
    assert isinstance(raised.value.__cause__, hs.RemoteTraceback)
    assert "in stumble" in str(raised.value.__cause__)
    assert "_outlet.py" not in str(raised.value.__cause__)


def test_an_item_that_cannot_travel_says_which(cluster: hs.Cluster) -> None:
    stream = stream_tasks.unencodable.options(codec="json").stream()
    assert next(stream) == 1
    with pytest.raises(TypeError, match=r"item 1\['deep'\]\[0\] is an object"):
        next(stream)


def test_a_retry_goes_on_where_the_reader_is(cluster: hs.Cluster) -> None:
    stream = stream_tasks.stumble_once.stream(300, 200)
    assert list(stream) == list(range(300))
    assert stream.attempt == 3
    assert stream.future.attempt == 3


def test_items_before_a_timeout_come_first(cluster: hs.Cluster) -> None:
    stream = stream_tasks.overrun.options(timeout=0.5).stream()
    assert [stream.next(30) for _ in range(5)] == list(range(5))
    with pytest.raises(hs.TaskTimeoutError):
        stream.next(30)


def test_what_is_submitted_must_return(cluster: hs.Cluster) -> None:
    with pytest.raises(TypeError, match=r"count_up' yields.*use stream\(\)"):
        stream_tasks.count_up.submit(3)
    assert list(stream_tasks.count_up.stream(3)) == [0, 1, 2]
    with pytest.raises(TypeError, match=r"count_up' yields.*use stream\(\)"):
        cluster.map(stream_tasks.count_up, [3])


def test_what_is_streamed_must_yield(cluster: hs.Cluster) -> None:
    with pytest.raises(TypeError, match=r"pid' does not yield.*use submit\(\)"):
        stream_tasks.pid.stream()
    with pytest.raises(TypeError, match=r"pid' does not yield"):
        cluster.options(retries=1).stream(stream_tasks.pid)


@pytest.mark.parametrize("option", ["key", "task_id"])
def test_a_stream_shares_no_task(cluster: hs.Cluster, option: str) -> None:
    value = "k" if option == "key" else "0" * 31 + "1"
    with pytest.raises(hs.ConfigError, match=f"{option}=.*one reader"):
        stream_tasks.count_up.options(**{option: value}).stream(1)


# --- bounds ---------------------------------------------------------------------------------------


def test_a_slow_reader_stops_its_generator_and_nobody_else(one: hs.Cluster, tmp_path: Path) -> None:
    path = tmp_path / "noted"
    stream = stream_tasks.noted.stream(10_000, str(path))
    assert next(stream) == 0
    ahead = eventually(lambda: len(lines(path)) >= AHEAD and len(lines(path)))
    # Another runner of the node, and others of its streams, go on.
    assert stream_tasks.pid.submit().result(30) > 0
    assert list(stream_tasks.count_up.stream(500)) == list(range(500))
    assert ahead <= len(lines(path)) <= AHEAD + 1
    assert list(itertools.islice(stream, 999)) == list(range(1, 1_000))
    assert len(lines(path)) <= 1_000 + AHEAD
    stream.close()


def test_a_reader_may_take_its_time(one: hs.Cluster) -> None:
    """A generator waits longer for a reader that lives than for one that does not."""
    stream = stream_tasks.count_up.stream(1_000)
    assert next(stream) == 0
    time.sleep(6.5)  # stream_idle_s is 5
    assert list(stream) == list(range(1, 1_000))


def test_bytes_are_bounded_too(one: hs.Cluster) -> None:
    size = 300_000
    for i, item in enumerate(stream_tasks.large.stream(size, 20)):
        assert item == bytes([i]) * size
    with pytest.raises(hs.PayloadTooLargeError, match=r"item 0 is .* bytes.*limits\.stream_bytes"):
        next(stream_tasks.large.stream((1 << 20) + 1, 1))


def test_what_nobody_reads_ends(one: hs.Cluster, tmp_path: Path) -> None:
    path = tmp_path / "noted"
    by_name = one.options(name="unread")
    list(by_name.stream(stream_tasks.noted, 1, str(path)))
    path.unlink()
    future = one.submit("unread", 10, str(path))
    with pytest.raises(hs.StreamUnreadError, match=r"5 s \(limits\.stream_idle_s\)"):
        future.result(60)
    assert lines(path) == [], "nobody came, so it never began"


def test_the_bounds_are_knobs() -> None:
    for bad in ({"stream_items": 0}, {"stream_bytes": 1}, {"stream_idle_s": 1}):
        (name,) = bad
        with pytest.raises(hs.ConfigError, match=rf"limits\.{name}"):
            hs.Config(limits=hs.Limits(**bad)).resolved()  # type: ignore[arg-type]


# --- leaving --------------------------------------------------------------------------------------


def is_cancelled(stream: hs.Stream[Any]) -> bool:
    return stream.future.cancelled()


def test_closing_cancels_the_task(one: hs.Cluster, tmp_path: Path) -> None:
    path = tmp_path / "noted"
    with stream_tasks.noted.stream(10_000, str(path)) as stream:
        assert next(stream) == 0
    assert list(stream) == []
    assert eventually(lambda: is_cancelled(stream))
    assert eventually(lambda: lines(path)[-1] == "end"), "it could tidy up"


def test_a_break_cancels_the_task(one: hs.Cluster, tmp_path: Path) -> None:
    path = tmp_path / "noted"
    for item in stream_tasks.noted.stream(10_000, str(path)):
        if item == 3:
            break
    gc.collect()
    assert eventually(lambda: lines(path)[-1] == "end")


def test_an_asynchronous_generator_tidies_up_and_its_loop_went_on(
    one: hs.Cluster, tmp_path: Path
) -> None:
    path = tmp_path / "noted"

    async def read() -> None:
        async for item in stream_tasks.noted_async.stream(str(path)):
            if item == 0:
                # Meanwhile it waits for room, and its other tasks run.
                while "beat 5" not in lines(path):
                    await asyncio.sleep(0.01)
                break

    asyncio.run(read())
    gc.collect()
    assert eventually(lambda: lines(path)[-1] == "end")


def test_a_generator_that_heeds_nothing_is_killed(one: hs.Cluster, tmp_path: Path) -> None:
    path = tmp_path / "noted"
    stream = stream_tasks.endless.stream(str(path))
    assert next(stream) == 0
    stream.close()
    assert eventually(lambda: is_cancelled(stream))
    pids = eventually(lambda: one.submit(stream_tasks.pid).result(30))
    assert alive(pids)


SCRIPT = """
import itertools
import sys
import hustings as hs

def forever():
    n = 0
    while True:
        yield n
        n += 1

cluster = hs.Cluster.local(1)
stream = cluster.stream(forever)
print(list(itertools.islice(stream, 3)), flush=True)
if sys.argv[1] == "fork":
    import os, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    for _ in range(20):
        # Each child goes, with what it inherited, while the parent's threads are at work on it.
        busy = cluster.stream(forever)
        next(busy)
        pid = os.fork()
        if pid == 0:
            try:
                next(stream)
            except hs.ForkedProcessError:
                sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        busy.close()
    print(list(itertools.islice(stream, 3)))
elif sys.argv[1] == "closed":
    cluster.close()
    try:
        list(stream)
    except hs.StoppedError:
        print("stopped")
"""


@pytest.mark.parametrize(
    ("how", "said"),
    [("open", ""), ("fork", "[3, 4, 5]\n"), ("closed", "stopped\n")],
)
def test_a_script_ends_whatever_its_streams_do(how: str, said: str) -> None:
    done = run_script(SCRIPT, how)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "[0, 1, 2]\n" + said


# --- deaths ---------------------------------------------------------------------------------------


def test_its_node_is_killed_half_way(isolated: hs.Cluster, gate: Any) -> None:
    stream = isolated.stream(stream_tasks.gated, 400, 100, gate.path)
    taken = [stream.next(60) for _ in range(100)]
    first = eventually(lambda: holders(isolated).get(stream.task_id))
    isolated.kill(first)
    gate.open()
    taken += list(stream)
    assert taken == [(i, f"item {i}") for i in range(400)]
    assert stream.attempt == 2
    assert stream.future.attempt == 2


def test_the_leader_is_killed_half_way(gate: Any) -> None:
    """Each node runs one of three: those whose node is not the leader's do not notice."""
    config = hs.Config.ci()
    with hs.Cluster.local(3, name="three", isolated=True, slots=1, config=config) as c:
        leader = c.wait_leader().name
        streams = [stream_tasks.gated.stream(300, 100, gate.path) for _ in range(3)]
        taken = [[stream.next(60) for _ in range(100)] for stream in streams]
        where = eventually(lambda: (found := holders(c)) and len(found) == 3 and found)
        assert sorted(where.values()) == ["n1", "n2", "n3"]
        c.kill(leader)
        gate.open()
        want = [(i, f"item {i}") for i in range(300)]
        # A stream holds its slot until it is read: one after the other they might wait for ever.
        with ThreadPoolExecutor(3) as readers:
            rest = list(readers.map(list, streams))
        for stream, items, more in zip(streams, taken, rest, strict=True):
            assert items + more == want
            assert stream.attempt == (2 if where[stream.task_id] == leader else 1)
        assert c.wait_leader().name != leader
        assert c.metrics()["succeeded"] == 3


@pytest.mark.parametrize("task", [stream_tasks.where, stream_tasks.shrinks])
def test_a_later_attempt_that_yields_something_else_is_refused(
    isolated: hs.Cluster, gate: Any, task: hs.Task[Any, Any]
) -> None:
    stream = isolated.stream(task, 9, 5, gate.path)
    for _ in range(5):
        stream.next(60)
    isolated.kill(eventually(lambda: holders(isolated).get(stream.task_id)))
    gate.open()
    with pytest.raises(hs.StreamDivergedError, match="stream again from the start"):
        stream.next(60)
    assert stream.count == 5
    assert list(stream) == []


def test_a_frozen_node_delivers_nothing_twice(isolated: hs.Cluster, gate: Any) -> None:
    stream = isolated.stream(stream_tasks.gated, 300, 100, gate.path)
    taken = [stream.next(60) for _ in range(100)]
    node = eventually(lambda: holders(isolated).get(stream.task_id))
    isolated.freeze(node)
    gate.open()
    taken += [stream.next(60) for _ in range(100)]
    isolated.resume(node)
    taken += list(stream)
    assert taken == [(i, f"item {i}") for i in range(300)]
    assert stream.attempt == 2
