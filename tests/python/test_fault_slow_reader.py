"""Fault matrix, row 31: a client that does not read its outcomes hurts nobody else, and still gets
all of them once it reads."""

from __future__ import annotations

import pickle
import uuid
from typing import Any

import pytest

import hustings as hs
import sample_tasks
from conftest import eventually

grpc = pytest.importorskip("grpc")
TASKS = 600
SIZE = 60_000


def test_a_slow_reader_waits_alone_and_loses_nothing(
    cluster: hs.Cluster, stubs: tuple[Any, Any]
) -> None:
    messages, services = stubs
    session = uuid.uuid4().bytes
    ids = [uuid.uuid4().bytes for _ in range(TASKS)]
    call = pickle.dumps(((SIZE,), {}))
    specs = [messages.TaskSpec(task_id=i, function_name="big", codec=2, payload=call) for i in ids]
    function = messages.SubmitRequest().functions.add(name="big", reference="sample_tasks:big")
    request = messages.SubmitRequest(session_id=session, functions=[function], tasks=specs)
    leader = cluster.wait_leader()
    address = next(m.address for m in cluster.members() if m.name == leader.name)
    with grpc.insecure_channel(address) as channel:
        stub = services.ClientServiceStub(channel)
        hello = messages.OutcomesRequest(session_id=session)
        unread = stub.Outcomes(iter([hello]), timeout=120)
        answers = list(stub.Submit(iter([request]), timeout=60))
        assert sum(len(a.accepted) for a in answers) == TASKS
        eventually(lambda: cluster.metrics()["succeeded"] >= TASKS, 90)
        # Others are served meanwhile.
        squares = [sample_tasks.square.submit(i) for i in range(200)]
        assert [f.result(30) for f in squares] == [i * i for i in range(200)]
        seen: dict[bytes, int] = {}
        for answer in unread:
            assert not answer.unknown
            seen.update((o.task_id, len(o.value.body)) for o in answer.outcomes)
            if len(seen) == TASKS:
                break
        unread.cancel()
    assert set(seen) == set(ids)
    assert all(size > SIZE for size in seen.values())
