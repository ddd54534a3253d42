"""A node that keeps the client protocol; a function's name says what it does."""

from __future__ import annotations

import collections
import contextlib
import functools
import importlib
import queue
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

PROTO = Path(__file__).resolve().parents[2] / "proto"


@functools.cache
def stubs() -> tuple[Any, Any]:
    """The modules grpc_tools makes of ``proto/``."""
    from grpc_tools import protoc

    out = tempfile.mkdtemp(prefix="hustings-stubs-")
    files = [str(p) for p in sorted(PROTO.glob("hustings/v1/*.proto"))]
    code = protoc.main(
        ["protoc", f"-I{PROTO}", f"--python_out={out}", f"--grpc_python_out={out}", *files]
    )
    assert code == 0
    # The stubs call themselves `hustings.v1`: the package of that name lends them its path.
    import hustings

    hustings.__path__.append(f"{out}/hustings")
    sys.path_importer_cache.clear()
    return (
        importlib.import_module("hustings.v1.client_pb2"),
        importlib.import_module("hustings.v1.client_pb2_grpc"),
    )


class FakeNode:
    """One node that always leads; results are the payloads."""

    def __init__(self) -> None:
        self.pb, grpc_module = stubs()
        self.peer_pb = importlib.import_module("hustings.v1.peer_pb2")
        self.held: dict[bytes, Any] = {}
        self.tasks: dict[bytes, Any] = {}
        self.acknowledged: set[bytes] = set()
        self.listeners: dict[bytes, set[bytes]] = collections.defaultdict(set)
        self.outboxes: dict[bytes, queue.SimpleQueue[Any]] = collections.defaultdict(
            queue.SimpleQueue
        )
        self.lock = threading.Lock()
        self.server = grpc.server(ThreadPoolExecutor(32))
        base = grpc_module.ClientServiceServicer
        servicer = type(
            "Servicer",
            (base,),
            {
                n: getattr(self, n)
                for n in ("Submit", "Outcomes", "Cancel", "Status", "ListTasks", "Watch")
            },
        )()
        grpc_module.add_ClientServiceServicer_to_server(servicer, self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self.server.start()

    def stop(self) -> None:
        self.server.stop(None).wait()

    def release(self) -> None:
        """Finishes what ``hold`` holds."""
        with self.lock:
            held, self.held = self.held, {}
        for task_id, task in held.items():
            self.finish(task_id, task)

    def finish(self, task_id: bytes, task: Any) -> None:
        outcome = self.pb.Outcome(task_id=task_id, attempts=2, node=0xAB)
        if task.function_name == "fail":
            outcome.failure.type_name, outcome.failure.message = "builtins.KeyError", "'lost key'"
            outcome.failure.traceback = "Traceback: somewhere else"
        elif task.function_name == "lost":
            outcome.lost = "its node died 3 times"
        elif task.function_name == "late":
            outcome.timed_out_ms = 1500
        else:
            outcome.value.codec, outcome.value.body = task.codec, task.payload
        with self.lock:
            for session in self.listeners[task_id]:
                self.outboxes[session].put(self.pb.OutcomesResponse(outcomes=[outcome]))

    def Submit(self, requests: Any, context: Any) -> Any:
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        context.add_callback(lambda: answers.put(None))

        def read() -> None:
            for request in requests:
                answer = self.pb.SubmitResponse()
                for task in request.tasks:
                    with self.lock:
                        self.listeners[task.task_id].add(request.session_id)
                    self.take(task, answer)
                answers.put(answer)

        threading.Thread(target=_quietly(read), daemon=True).start()
        yield from iter(answers.get, None)

    def take(self, task: Any, answer: Any) -> None:
        if task.function_name == "full":
            answer.rejected.add(
                task_id=task.task_id, refusal=3, message="queue full", retry_after_ms=1500
            )
            return
        answer.accepted.append(task.task_id)
        self.tasks[task.task_id] = task
        if task.function_name == "hold":
            with self.lock:
                self.held[task.task_id] = task
        else:
            self.finish(task.task_id, task)

    def Outcomes(self, requests: Any, context: Any) -> Any:
        first = next(requests)
        with self.lock:
            outbox = self.outboxes[first.session_id]
        context.add_callback(lambda: outbox.put(None))

        def read() -> None:
            for request in requests:
                self.acknowledged.update(request.acknowledge)
                with self.lock:
                    for task_id in request.follow:
                        self.listeners[task_id].add(request.session_id)
                unknown = [i for i in request.follow if i not in self.tasks]
                if unknown:
                    outbox.put(self.pb.OutcomesResponse(unknown=unknown))

        threading.Thread(target=_quietly(read), daemon=True).start()
        yield from iter(outbox.get, None)

    def Cancel(self, request: Any, _context: Any) -> Any:
        with self.lock:
            known = [i for i in request.task_ids if self.held.pop(i, None)]
        return self.pb.CancelResponse(cancelled=known)

    def Status(self, _request: Any, _context: Any) -> Any:
        me = self.peer_pb.Member(id=0xAB, name="n1", address=self.address, slots=2, x=-0.0)
        members = [self.pb.MemberStatus(member=me, alive=True, score=float("nan"))]
        return self.pb.StatusResponse(
            me=me,
            role=3,
            term=4,
            leader_node=0xAB,
            leader_address=self.address,
            leader_ready=True,
            members=members,
            uptime_ms=2500,
            score=0.5,
            cluster_id=bytes(15) + b"\x01",
        )

    def ListTasks(self, request: Any, _context: Any) -> Any:
        rows = [
            self.pb.TaskInfo(task_id=i, function_name=t.function_name, state=3, node=0xAB)
            for i, t in list(self.tasks.items())[: request.limit]
        ]
        return self.pb.ListTasksResponse(tasks=rows, total=len(self.tasks))

    def Watch(self, request: Any, context: Any) -> Any:
        if request.after_seq < 1:
            row = self.pb.Record(
                seq=1, at_us=7, node=0xAB, node_name="n1", kind="became_leader", term=4
            )
            yield self.pb.WatchResponse(records=[row])
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait()


def _quietly(read: Any) -> Any:
    def run() -> None:
        # Clients go away, as clients do.
        with contextlib.suppress(grpc.RpcError):
            read()

    return run
