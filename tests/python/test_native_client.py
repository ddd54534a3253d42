"""The native client and its futures, against a node that does what it is told."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hustings
from fake_cluster import FakeNode
from hustings import _core, errors


@pytest.fixture
def node() -> Iterator[FakeNode]:
    fake = FakeNode()
    yield fake
    fake.stop()


@pytest.fixture
def client(node: FakeNode) -> Iterator[_core.Client]:
    made = _core.Client([node.address], allow_pickle=True)
    yield made
    made.close()


def submit(client: _core.Client, name: str, value: Any = None, **options: Any) -> _core.Future[Any]:
    return client.submit(name, None, "json", json.dumps(value).encode(), **options)


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "never"
        time.sleep(0.002)


def test_results_come_back_and_are_acknowledged(client: _core.Client, node: FakeNode) -> None:
    futures = [submit(client, "echo", i) for i in range(2000)]
    assert [f.result(20) for f in futures] == list(range(2000))
    eventually(lambda: len(node.acknowledged) == 2000)
    assert client.pending() == 0
    first = futures[0]
    assert (first.state, first.node, first.attempt) == ("succeeded", f"{0xAB:016x}", 2)
    assert uuid.UUID(first.task_id).version == 7
    assert first.task_id in repr(first)


def test_the_same_object_is_returned_each_time(client: _core.Client) -> None:
    future = submit(client, "echo", [1, 2])
    assert future.result(20) is future.result(20)
    failed = submit(client, "fail")
    assert failed.exception(20) is failed.exception(20)


def test_failures_become_exceptions(client: _core.Client) -> None:
    with pytest.raises(errors.RemoteTaskError, match="lost key") as caught:
        submit(client, "fail").result(20)
    assert "somewhere else" in str(caught.value.__cause__)
    lost = submit(client, "lost").exception(20)
    assert isinstance(lost, errors.TaskLostError)
    assert lost.attempts == 2
    assert isinstance(submit(client, "late").exception(20), errors.TaskTimeoutError)
    full = submit(client, "full").exception(20)
    assert isinstance(full, errors.QueueFullError)
    assert full.retry_after_s == 1.5
    unknown = client.future(uuid.uuid4().bytes).exception(20)
    assert isinstance(unknown, errors.TaskNotFoundError)


def test_waits_end_in_time(client: _core.Client) -> None:
    held = submit(client, "hold")
    for timeout in (0, -1, 0.02):
        with pytest.raises(errors.WaitTimeoutError, match=held.task_id):
            held.result(timeout)
    with pytest.raises(errors.ConfigError, match="NaN"):
        held.result(float("nan"))
    with pytest.raises(TimeoutError):
        held.exception(0)
    assert not held.done()


def test_cancel(client: _core.Client, node: FakeNode) -> None:
    held, done = submit(client, "hold"), submit(client, "echo", 1)
    assert done.result(20) == 1
    assert not done.cancel()
    assert held.cancel()
    assert held.cancel()
    assert held.cancelled()
    assert held.done()
    for wait in (held.result, held.exception):
        with pytest.raises(concurrent.futures.CancelledError):
            wait(1)
    assert client.cancel([uuid.UUID(done.task_id).bytes]) == []


def test_callbacks_run_once_and_their_errors_are_logged(
    client: _core.Client, node: FakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    held = submit(client, "hold", 5)
    seen: list[tuple[Any, str]] = []
    ran = threading.Event()

    def broken(_future: Any) -> None:
        raise RuntimeError("my own fault")

    def note(future: Any) -> None:
        seen.append((future.result(), threading.current_thread().name))
        ran.set()

    held.add_done_callback(broken)
    held.add_done_callback(note)
    eventually(lambda: held.running())
    node.release()
    assert ran.wait(20)
    held.add_done_callback(note)
    assert [value for value, _ in seen] == [5, 5]
    assert seen[1][1] == threading.current_thread().name
    assert "exception calling callback" in caplog.text
    assert "my own fault" in caplog.text


def test_std_futures(client: _core.Client, node: FakeNode) -> None:
    early, held, failed = (
        submit(client, "echo", 1),
        submit(client, "hold", 2),
        submit(client, "fail"),
    )
    early.result(20)
    copies = [early.as_future(), held.as_future(), failed.as_future()]
    assert all(isinstance(copy, concurrent.futures.Future) for copy in copies)
    eventually(held.running)
    node.release()
    assert [copy.result(20) for copy in copies[:2]] == [1, 2]
    assert isinstance(copies[2].exception(20), errors.RemoteTaskError)
    mine = submit(client, "hold")
    assert mine.as_future().cancel()
    eventually(mine.cancelled)
    theirs = submit(client, "hold")
    copy = theirs.as_future()
    assert theirs.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        copy.result(20)


async def test_await(client: _core.Client, node: FakeNode) -> None:
    held = [submit(client, "hold", i) for i in range(500)]
    waiting = asyncio.gather(*[_value(f) for f in held])
    await asyncio.sleep(0)
    while not all(f.running() for f in held):
        await asyncio.sleep(0)
    node.release()
    assert await asyncio.wait_for(waiting, 20) == list(range(500))
    assert await held[0] == 0
    with pytest.raises(errors.RemoteTaskError):
        await submit(client, "fail")
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(_value(submit(client, "hold")), 0.01)
    cancelled = submit(client, "hold")
    waiter = asyncio.ensure_future(_value(cancelled))
    await asyncio.sleep(0)
    assert await asyncio.to_thread(cancelled.cancel)
    with pytest.raises(asyncio.CancelledError):
        await waiter


async def _value(future: _core.Future[Any]) -> Any:
    return await future


def test_completion_queue(client: _core.Client, node: FakeNode) -> None:
    held, quick = submit(client, "hold", 1), submit(client, "echo", 2)
    completed = _core.CompletionQueue(iter([held, quick]))
    assert completed.next(20) is quick
    assert completed.remaining() == 1
    with pytest.raises(errors.WaitTimeoutError):
        completed.next(0.01)
    eventually(held.running)
    node.release()
    assert completed.next(20) is held
    assert completed.next() is None
    assert _core.CompletionQueue([]).next() is None
    with pytest.raises(TypeError):
        _core.CompletionQueue([object()])  # type: ignore[list-item]


def test_ids_join_and_conflict(client: _core.Client) -> None:
    task_id = uuid.uuid4().bytes
    first = submit(client, "echo", 1, task_id=task_id)
    again = submit(client, "echo", 1, task_id=task_id)
    assert first.result(20) == again.result(20) == 1
    with pytest.raises(errors.TaskIdConflictError):
        submit(client, "echo", 2, task_id=task_id).result(20)
    for bad in (b"", b"x" * 15, bytes(16)):
        with pytest.raises(errors.InvalidTaskIdError):
            submit(client, "echo", task_id=bad)


def test_pickle_is_refused_unless_allowed(node: FakeNode) -> None:
    import pickle

    client = _core.Client([node.address])
    with pytest.raises(errors.CodecRefusedError, match="allow_pickle"):
        client.submit("echo", None, "pickle", b"")
    with pytest.raises(errors.CodecRefusedError):
        client.function("f", pickled=b"")
    trusting = _core.Client([node.address], allow_pickle=True)
    task_id = uuid.uuid4().bytes
    future = trusting.submit("hold", None, "pickle", pickle.dumps({1}), task_id=task_id)
    eventually(future.running)
    followed = client.future(task_id)
    eventually(lambda: len(node.listeners[task_id]) == 2)
    node.release()
    assert future.result(20) == {1}
    with pytest.raises(errors.CodecRefusedError, match="allow_pickle"):
        followed.result(20)
    client.close()
    trusting.close()


def test_status_tasks_and_records(client: _core.Client, node: FakeNode) -> None:
    submit(client, "echo", 1).result(20)
    for status in (client.wait_leader(20), client.status(), client.status(node.address)):
        assert status["role"] == "leader"
        assert status["me"]["id"] == status["leader_node"] == f"{0xAB:016x}"
        assert status["members"][0]["score"] == 0.0
        assert str(status["me"]["x"]) == "0.0"
        assert status["uptime_s"] == 2.5
        assert status["cluster_id"] == f"{1:032x}"
    assert [t["state"] for t in client.tasks("succeeded")] == ["succeeded"]
    with pytest.raises(errors.ConfigError, match="choose one of pending"):
        client.tasks("sleeping")
    eventually(lambda: client.records()[0] == 1)
    position, rows = client.records()
    assert rows[0]["kind"] == "became_leader"
    assert rows[0]["subject"] is None
    assert rows[0]["task_id"] is None
    assert client.records(position) == (1, [])
    assert client.connected_to == node.address


def test_knobs_and_profiles() -> None:
    assert {"name", "doc", "min", "max", "default"} == set(_core.knobs()[0])
    resolved = _core.resolve_config("lan", {"election.heartbeat_s": 0.03, "placement": "random"})
    assert resolved["election.heartbeat_s"] == 0.03
    assert resolved["placement"] == "random"
    for overrides, words in [
        ({"election.hartbeat_s": 1}, "did you mean"),
        ({"election.heartbeat_s": True}, "not a number"),
        ({"election.heartbeat_s": None}, "not a number"),
        ({"election.heartbeat_s": -1}, "out of bounds"),
        ({"election.heartbeat_s": 10**400}, "out of bounds"),
        ({"placement": 3}, "3 is not text"),
        ({"out_of_reach": "shout"}, "choose one of wait, relay"),
        ({"distances": "a b"}, "must read name, name, distance"),
    ]:
        with pytest.raises(errors.ConfigError, match=words):
            _core.resolve_config("lan", overrides)
    with pytest.raises(errors.ConfigError, match="not a profile"):
        _core.resolve_config("wlan", {})


def test_bad_addresses_are_refused() -> None:
    for bad in ("localhost", "127.0.0.1:0", "127.0.0.1:70000", "http://127.0.0.1:1"):
        with pytest.raises(errors.InvalidAddressError, match="host:port"):
            _core.Client([bad])
    with pytest.raises(errors.ConfigError, match="none given"):
        _core.Client([])
    with pytest.raises(errors.NoQuorumError, match=r"127\.0\.0\.1:1"):
        _core.Client(["127.0.0.1:1"], timeout=0.05)


def test_a_closed_client_says_so(node: FakeNode) -> None:
    client = _core.Client([node.address])
    held = submit(client, "hold")
    eventually(held.running)
    client.close()
    client.close()
    assert isinstance(held.exception(20), errors.StoppedError)
    with pytest.raises(errors.StoppedError):
        submit(client, "echo")
    reference = weakref.ref(held)
    del held
    assert reference() is None


def test_ctrl_c_ends_a_wait(client: _core.Client) -> None:
    held = submit(client, "hold")
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        held.result(30)
    timer.join()


def test_a_forked_child_is_told(client: _core.Client, node: FakeNode) -> None:
    """In a process of its own: a fork of a test runner with gRPC threads is another story."""
    script = """
        import os, sys, warnings
        import hustings
        from hustings import _core, errors
        # Since 3.12 Python warns of any fork beside threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        client = _core.Client([sys.argv[1]])
        held = client.submit("hold", None, "json", b"1")
        if (pid := os.fork()) == 0:
            for use in (held.result, held.done, client.status, client.close, client.pending):
                try:
                    use()
                except errors.ForkedProcessError:
                    continue
                os._exit(1)
            fresh = _core.Client([sys.argv[1]])
            ok = fresh.submit("echo", None, "json", b"3").result(20) == 3
            del held, client
            os._exit(0 if ok else 2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert not held.done()
    """
    assert _run(script, node.address) == ""


def test_short_scripts_end_cleanly(node: FakeNode) -> None:
    script = """
        import sys
        from hustings import _core
        client = _core.Client([sys.argv[1]])
        fs = [client.submit("echo", None, "json", b"1") for _ in range(100)]
        for f in fs:
            f.add_done_callback(lambda f: None)
        client.submit("hold", None, "json", b"1").add_done_callback(lambda f: f.exception())
        assert sum(f.result(20) for f in fs) == 100
    """
    for _ in range(10):
        assert _run(script, node.address) == ""


def _run(script: str, *arguments: str) -> str:
    package = str(Path(hustings.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(script), *arguments],
        env={**os.environ, "PYTHONPATH": package},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr
