"""Bad input to tasks, by the row numbers of the table of guarantees: each refusal names the field
and what would be right, nothing is stored, and the node serves on."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import socket
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hustings as hs
import sample_tasks
from conftest import eventually, run_script

grpc = pytest.importorskip("grpc")
SUBMIT = "/hustings.v1.ClientService/Submit"
STATUS = "/hustings.v1.ClientService/Status"
ONE = json.dumps({"args": [1], "kwargs": {}}).encode()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A node that takes names and data only."""
    node = hs.Node("strict", slots=1, config=hs.Config.ci())
    node.register("square", "sample_tasks:square")
    node.register("greet", "sample_tasks:say_hello")
    with pytest.warns(hs.HustingsWarning):
        node.start()
    assert node.address is not None
    yield node.address
    node.stop(5)


@pytest.fixture(scope="module")
def strict(address: str) -> Iterator[hs.Cluster]:
    with hs.Cluster.connect(address) as connected:
        yield connected


@pytest.fixture
def submit(address: str, stubs: tuple[Any, Any]) -> Iterator[Callable[..., Any]]:
    """Sends one task without hustings and returns the answer to it; nothing of it is stored."""
    messages, services = stubs
    with grpc.insecure_channel(address) as channel:
        stub = services.ClientServiceStub(channel)

        def send(**fields: Any) -> Any:
            before = stub.Status(messages.StatusRequest(), timeout=10).counters.accepted
            usual = {
                "task_id": uuid.uuid4().bytes,
                "function_name": "square",
                "codec": 1,
                "payload": ONE,
            }
            spec = messages.TaskSpec(**{**usual, **fields})
            request = messages.SubmitRequest(session_id=uuid.uuid4().bytes, tasks=[spec])
            (answer,) = stub.Submit(iter([request]), timeout=30)
            after = stub.Status(messages.StatusRequest(), timeout=10).counters.accepted
            assert not answer.accepted
            assert after == before
            (rejected,) = answer.rejected
            return messages.Refusal.Name(rejected.refusal), rejected.message

        yield send


@pytest.mark.parametrize("row", [1, 2])
def test_a_malformed_id_is_refused(row: int, submit: Callable[..., Any]) -> None:
    """Rows 1 and 2: empty; too long; characters no id has."""
    texts = ["", " "] if row == 1 else ["x" * 129, "a\0b", "a\nb", "\u202eabc", "\udcff"]
    for text in texts:
        with pytest.raises(hs.InvalidTaskIdError, match="task_id="):
            sample_tasks.square.options(task_id=text)
    raw = [b"", bytes(16)] if row == 1 else [b"x" * 129, b"\xff\xfe", b"x" * 15, b"x" * 17]
    for identity in raw:
        refusal, message = submit(task_id=identity)
        assert refusal == "REFUSAL_INVALID_ID"
        assert f"{len(identity)} bytes; it must be 16 bytes (a UUID), not all zero" in message


def test_the_same_id_with_another_payload(strict: hs.Cluster, submit: Callable[..., Any]) -> None:
    """Row 3, also against a task of another client that has long finished."""
    future = strict.submit("square", 5)
    assert future.result(30) == 25
    refusal, message = submit(task_id=uuid.UUID(future.task_id).bytes)
    assert refusal == "REFUSAL_ID_CONFLICT"
    assert "the id exists with another function or payload" in message
    conflict = strict.options(task_id=future.task_id).submit("square", 6)
    with pytest.raises(hs.TaskIdConflictError):
        conflict.result(30)


@pytest.mark.parametrize(
    ("row", "age_s", "refusal", "words"),
    [
        (4, 25 * 3600, "REFUSAL_ID_EXPIRED", "submit it under a new id"),
        (5, -25 * 3600, "REFUSAL_INVALID_ID", "says it was made 1.0 days from now"),
    ],
)
def test_an_id_of_another_time(
    row: int, age_s: int, refusal: str, words: str, submit: Callable[..., Any]
) -> None:
    made = int((time.time() - age_s) * 1000)
    identity = uuid.UUID(int=made << 80 | 7 << 76 | 2 << 62 | row)
    refused, message = submit(task_id=identity.bytes)
    assert refused == refusal
    assert words in message
    assert str(identity) in message


@pytest.mark.parametrize(
    ("row", "name", "words"),
    [
        (6, "squar", 'did you mean "square"'),
        (6, "no such thing", "--tasks"),
        (7, "os.system", 'no function "os.system" is registered'),
        (7, "__import__", "is registered"),
        (7, "../x", "is registered"),
        (7, "sample_tasks.square.__globals__", "is registered"),
    ],
)
def test_a_function_nobody_registered(
    row: int, name: str, words: str, strict: hs.Cluster, submit: Callable[..., Any]
) -> None:
    refusal, message = submit(function_name=name)
    assert refusal == "REFUSAL_UNKNOWN_FUNCTION", row
    assert words in message
    with pytest.raises(hs.TaskNotRegisteredError):
        strict.submit(name, 1).result(30)


def test_a_function_by_value_where_only_names_travel(strict: hs.Cluster) -> None:
    """Row 8: how to register it is said at once."""
    kept = 3

    def closure(x: int) -> int:
        return x * kept

    for fn in (closure, lambda x: x):
        with pytest.raises(hs.TaskNotRegisteredError, match="--tasks MODULE") as caught:
            strict.submit(fn, 1)
        assert "allow_pickle=True" in str(caught.value)


def test_pickle_is_refused_unread(submit: Callable[..., Any], tmp_path: Path) -> None:
    """Row 9: what would run when it is unpickled does not."""
    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(trap),)

    refusal, message = submit(codec=2, payload=pickle.dumps(Trap()))
    assert refusal == "REFUSAL_CODEC"
    assert "start the nodes with allow_pickle=True" in message
    assert not trap.exists()


@pytest.mark.parametrize("codec", [0, 4, 99])
def test_a_codec_nobody_knows(codec: int, submit: Callable[..., Any]) -> None:
    """Row 10."""
    refusal, message = submit(codec=codec)
    assert refusal == "REFUSAL_CODEC"
    assert f"codec: {codec} is unknown; use CODEC_JSON, CODEC_SAFE or CODEC_PICKLE" in message


@pytest.fixture(scope="module")
def narrow() -> Iterator[hs.Cluster]:
    """A cluster in which nothing travels beside the log."""
    config = hs.Config.ci(limits=hs.Limits(blob_bytes=65_536))
    with hs.Cluster.local(1, name="narrow", config=config) as made:
        made.wait_leader()
        yield made


def test_a_result_that_cannot_travel(cluster: hs.Cluster, narrow: hs.Cluster) -> None:
    """Row 11: too large, not serialisable, cyclic: the outcome is a failure that says why."""
    with pytest.raises(hs.PayloadTooLargeError, match=r"the result is .* the limit is 65536"):
        narrow.submit(sample_tasks.big, 70_000).result(30)
    with pytest.raises(TypeError, match="lock"):
        cluster.submit(sample_tasks.return_lock).result(30)
    with pytest.raises(ValueError, match="contains itself"):
        cluster.submit(sample_tasks.cyclic.options(codec="json")).result(30)


def test_exceptions_that_are_no_help(cluster: hs.Cluster) -> None:
    """Rows 12 and 13: too long, broken, or of a class that is missing here."""
    with pytest.raises(hs.RemoteTaskError) as caught:
        cluster.submit(sample_tasks.fail_at_length, 100 << 20).result(60)
    assert caught.value.type_name == "builtins.ValueError"
    assert len(caught.value.message) <= 4 << 10
    assert "bytes cut" in caught.value.message
    with pytest.raises(sample_tasks.WordlessError) as broken:
        cluster.submit(sample_tasks.fail_without_words).result(30)
    assert "fail_without_words" in str(broken.value.__cause__)
    with pytest.raises(Exception, match="only there") as rebuilt:
        cluster.submit(sample_tasks.fail_with_a_class_of_its_own).result(30)
    assert type(rebuilt.value).__name__ == "Elsewhere"
    with hs.Cluster.connect(*cluster._client.addresses) as strangers:
        name = sample_tasks.fail_with_a_class_of_its_own.name
        with pytest.raises(hs.RemoteTaskError, match="only there") as missing:
            strangers.submit(name).result(30)
    assert missing.value.type_name.endswith("Elsewhere")
    assert "fail_with_a_class_of_its_own" in missing.value.traceback


def test_cancelling_what_nobody_knows(
    cluster: hs.Cluster, address: str, stubs: tuple[Any, Any]
) -> None:
    """Row 25: not found, at a bounded cost; a million ids do not fit into a message."""
    with pytest.raises(hs.TaskNotFoundError, match="never accepted"):
        cluster.cancel(uuid.uuid4())
    with pytest.raises(hs.ConfigError, match="1000000 given, at most 100000 at once"):
        cluster._client.cancel([uuid.uuid4().bytes] * 1_000_000)
    messages, services = stubs
    many = messages.CancelRequest(task_ids=[n.to_bytes(16, "big") for n in range(1, 100_001)])
    more = messages.CancelRequest(task_ids=[n.to_bytes(16, "big") for n in range(1, 1_000_001)])
    with grpc.insecure_channel(address) as channel:
        stub = services.ClientServiceStub(channel)
        answer = stub.Cancel(many, timeout=30)
        assert (len(answer.cancelled), len(answer.unknown)) == (0, 100_000)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Cancel(more, timeout=30)
    assert refused.value.code() in (
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    )


def test_a_payload_one_byte_too_large(narrow: hs.Cluster, submit: Callable[..., Any]) -> None:
    """Row 27: refused before it is sent; and by a node, should a client not know."""
    fits = 65_536 - len(pickle.dumps((("",), {}), protocol=5)) - 16
    assert narrow.submit(len, "x" * fits).result(30) == fits
    with pytest.raises(hs.PayloadTooLargeError, match=r"limits\.blob_bytes") as caught:
        narrow.submit(len, "x" * 65_536)
    assert caught.value.limit == 65_536
    assert caught.value.size > 65_536
    refusal, message = submit(payload=b" " * 65_537)
    assert refusal == "REFUSAL_PAYLOAD_TOO_LARGE"
    assert "arguments are 65537 bytes, the limit is 65536" in message


def raw_call(address: str, method: str, body: bytes) -> Any:
    """The status with which a node answers bytes that are no message."""
    with grpc.insecure_channel(address) as channel:
        call = channel.stream_stream(method) if method == SUBMIT else channel.unary_unary(method)
        try:
            if method == SUBMIT:
                list(call(iter([body]), timeout=10))
            else:
                call(body, timeout=10)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def test_bytes_that_are_no_message(address: str, strict: hs.Cluster) -> None:
    """Row 30: truncated and random protobuf."""
    whole = b"\x0a\x10" + b"s" * 16 + b"\x1a\x04\x0a\x10ab"
    bodies = [whole[:n] for n in range(1, len(whole))]
    bodies += [os.urandom(1 + n * 7 % 300) for n in range(60)]
    for body in bodies:
        # A prefix may be a whole message that says little.
        assert raw_call(address, SUBMIT, body) in (
            grpc.StatusCode.OK,
            grpc.StatusCode.INTERNAL,
            grpc.StatusCode.INVALID_ARGUMENT,
        ), body
    assert raw_call(address, STATUS, b"\xff" * 40) == grpc.StatusCode.INTERNAL
    assert strict.submit("square", 3).result(30) == 9


def test_nesting_without_end(address: str, strict: hs.Cluster, submit: Any) -> None:
    """Row 31: of unknown groups in a message, and of lists in arguments."""
    deep = b"\x7b" * 10_000 + b"\x7c" * 10_000
    assert raw_call(address, STATUS, deep) == grpc.StatusCode.INTERNAL
    nested: Any = 1
    for _ in range(1_000):
        nested = [nested]
    with pytest.raises(hs.NotSerializableError, match="nested deeper than 64"):
        strict.submit("square", nested)
    payload = b'{"args": [' + b"[" * 10_000 + b"]" * 10_000 + b'], "kwargs": {}}'
    with pytest.raises(hs.RemoteTaskError, match="RecursionError"):
        strict._client.submit("square", None, "json", payload).result(30)
    assert strict.submit("square", 3).result(30) == 9


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def test_a_length_of_four_gigabytes_and_nothing_behind_it(address: str, strict: hs.Cluster) -> None:
    """Row 32: in a field, and before the whole message."""
    before = resident_mib()
    assert raw_call(address, SUBMIT, b"\x0a\xff\xff\xff\xff\x0f") == grpc.StatusCode.INTERNAL
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": STATUS,
        ":authority": address,
        "content-type": "application/grpc",
        "te": "trailers",
    }
    packed = b"".join(
        b"\0" + bytes([len(k)]) + k.encode() + bytes([len(v)]) + v.encode()
        for k, v in headers.items()
    )
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        connection.sendall(frame(1, 4, 1, packed) + frame(0, 0, 1, b"\0\xff\xff\xff\xff"))
        answered = b""
        # The answer on stream 1: headers (1) or a reset (3).
        while not any(part in answered for part in (b"\x01\x05\0\0\0\x01", b"\x03\0\0\0\0\x01")):
            piece = connection.recv(4096)
            assert piece, "the node hung up without an answer"
            answered += piece
    assert resident_mib() - before < 64
    assert strict.submit("square", 3).result(30) == 9


def resident_mib() -> float:
    """Memory of this process, where the node lives."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def test_submit_from_everywhere(cluster: hs.Cluster) -> None:
    """Row 49: from a callback, from a running loop, from inside a task, after the end."""
    second: list[hs.Future[int]] = []
    first = cluster.submit(sample_tasks.square, 2)
    first.add_done_callback(lambda _: second.append(cluster.submit(sample_tasks.square, 3)))
    assert eventually(lambda: second)[0].result(30) == 9

    async def inside() -> int:
        # Blocking in a coroutine is unwise but no deadlock; awaiting is better.
        blocked = cluster.submit(sample_tasks.square, 4).result(30)
        return blocked + await cluster.submit(sample_tasks.square, 5)

    assert asyncio.run(inside()) == 16 + 25
    with pytest.raises(hs.NoClusterError, match="there is no cluster here"):
        cluster.submit(sample_tasks.submit_inside).result(30)
    ended = hs.Cluster.local(1, name="ended", config=hs.Config.ci())
    ended.close()
    with pytest.raises(hs.StoppedError, match="closed; start or connect a new one"):
        ended.submit(len, "x")
    node = hs.Node("not started", config=hs.Config.ci())
    with pytest.raises(hs.StoppedError, match="not started yet"):
        node.drain(1)


def test_submit_before_there_is_a_cluster() -> None:
    """Row 49; a forked child is in `test_script`."""
    done = run_script("import sample_tasks; sample_tasks.square.submit(1)")
    assert done.returncode == 1
    assert "NoClusterError: there is no cluster here; start one" in done.stderr
