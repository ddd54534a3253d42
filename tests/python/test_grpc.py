"""A client without hustings: plain grpcio and stubs generated from ``proto/``."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

import hustings as hs
from conftest import eventually

grpc = pytest.importorskip("grpc")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    node = hs.Node("plain", slots=1, config=hs.Config.ci())
    node.register("square", "sample_tasks:square")
    node.register("count_up", "stream_tasks:count_up")
    with pytest.warns(hs.HustingsWarning):
        node.start()
    assert node.address is not None
    yield node.address
    node.stop(5)


def test_the_standard_health_service_answers(address: str) -> None:
    health = pytest.importorskip("grpc_health.v1.health_pb2")
    health_grpc = pytest.importorskip("grpc_health.v1.health_pb2_grpc")
    with grpc.insecure_channel(address) as channel:
        answer = health_grpc.HealthStub(channel).Check(health.HealthCheckRequest(), timeout=10)
    assert answer.status == health.HealthCheckResponse.SERVING


def test_reflection_tells_of_every_service(address: str) -> None:
    messages = pytest.importorskip("grpc_reflection.v1alpha.reflection_pb2")
    # The stubs of this package speak v1alpha; the messages of v1 are the same under another name.
    call = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    with grpc.insecure_channel(address) as channel:
        ask = channel.stream_stream(
            call,
            request_serializer=messages.ServerReflectionRequest.SerializeToString,
            response_deserializer=messages.ServerReflectionResponse.FromString,
        )
        requests = [messages.ServerReflectionRequest(list_services="")]
        (answer,) = list(ask(iter(requests), timeout=10))
    names = {service.name for service in answer.list_services_response.service}
    assert {"hustings.v1.ClientService", "grpc.health.v1.Health"} <= names


def test_a_task_is_submitted_by_name_and_its_outcome_arrives(
    address: str, stubs: tuple[Any, Any]
) -> None:
    messages, services = stubs
    session, task = uuid.uuid4().bytes, uuid.uuid4().bytes
    payload = json.dumps({"args": [12], "kwargs": {}}).encode()
    spec = messages.TaskSpec(task_id=task, function_name="square", codec=1, payload=payload)
    request = messages.SubmitRequest(session_id=session, tasks=[spec])
    with grpc.insecure_channel(address) as channel:
        stub = services.ClientServiceStub(channel)
        # Nothing more is sent, so the stream ends with the last answer.
        answers = list(stub.Submit(iter([request]), timeout=30))
        assert [list(a.accepted) for a in answers] == [[task]]
        follow = messages.OutcomesRequest(session_id=session, follow=[task])
        outcomes = stub.Outcomes(iter([follow]), timeout=30)
        (outcome,) = next(answer.outcomes for answer in outcomes if answer.outcomes)
        outcomes.cancel()
        status = stub.Status(messages.StatusRequest(), timeout=10)
    assert outcome.task_id == task
    assert json.loads(outcome.value.body) == 144
    assert status.counters.succeeded >= 1


def test_what_a_task_yields_is_pulled_from_its_node(address: str, stubs: tuple[Any, Any]) -> None:
    messages, services = stubs
    session, task = uuid.uuid4().bytes, uuid.uuid4().bytes
    payload = json.dumps({"args": [5], "kwargs": {}}).encode()
    spec = messages.TaskSpec(task_id=task, function_name="count_up", codec=1, payload=payload)
    request = messages.SubmitRequest(session_id=session, tasks=[spec])
    with grpc.insecure_channel(address) as channel:
        stub = services.ClientServiceStub(channel)
        list(stub.Submit(iter([request]), timeout=30))

        def locate() -> Any:
            (info,) = stub.ListTasks(messages.ListTasksRequest(task_ids=[task]), timeout=10).tasks
            return info if info.node else None

        info = eventually(locate)
        assert info.node_address == address
        reader = uuid.uuid4().bytes

        def pull(**fields: Any) -> Any:
            asked = {"task_id": task, "token": info.token, "reader": reader, "chain": bytes(16)}
            asked |= {"max_items": 9, "max_bytes": 1000, "wait_ms": 30_000}
            return stub.Pull(messages.PullRequest(**{**asked, **fields}), timeout=60)

        items: list[int] = []
        while len(items) < 5:
            answer = pull(next=len(items))
            assert answer.open
            items += [json.loads(item) for item in answer.items]
        assert items == list(range(5))
        for fields, code, words in (
            ({"reader": uuid.uuid4().bytes}, grpc.StatusCode.FAILED_PRECONDITION, "one reader"),
            ({"next": 99}, grpc.StatusCode.OUT_OF_RANGE, "items from 99 on"),
            ({"reader": b"me"}, grpc.StatusCode.INVALID_ARGUMENT, "reader: 2 bytes; give 16"),
            ({"chain": b""}, grpc.StatusCode.INVALID_ARGUMENT, "chain: 0 bytes; give 16"),
            ({"task_id": b""}, grpc.StatusCode.INVALID_ARGUMENT, "task_id: 0 bytes"),
        ):
            with pytest.raises(grpc.RpcError, match=words) as refused:
                pull(**{"next": 5, **fields})
            assert refused.value.code() == code  # type: ignore[attr-defined]
        assert not pull(next=5).open, "it has ended, for all was taken"
        assert not pull(next=5, token=info.token + 1, wait_ms=1).open


def test_bad_submissions_are_refused_one_by_one(address: str, stubs: tuple[Any, Any]) -> None:
    messages, services = stubs
    good = json.dumps({"args": [1], "kwargs": {}}).encode()
    specs = {
        "INVALID_ID": messages.TaskSpec(
            task_id=b"short", function_name="square", codec=1, payload=good
        ),
        "UNKNOWN_FUNCTION": messages.TaskSpec(
            task_id=uuid.uuid4().bytes, function_name="os.system", codec=1, payload=good
        ),
        "CODEC": messages.TaskSpec(
            task_id=uuid.uuid4().bytes, function_name="square", codec=2, payload=good
        ),
        "PAYLOAD_TOO_LARGE": messages.TaskSpec(
            task_id=uuid.uuid4().bytes, function_name="square", codec=1, payload=b" " * 100_000
        ),
    }
    with grpc.insecure_channel(address) as channel:
        stub = services.ClientServiceStub(channel)
        for refusal, spec in specs.items():
            request = messages.SubmitRequest(session_id=uuid.uuid4().bytes, tasks=[spec])
            (answer,) = stub.Submit(iter([request]), timeout=30)
            assert answer.rejected[0].refusal == messages.Refusal.Value(f"REFUSAL_{refusal}")
            assert answer.rejected[0].message
