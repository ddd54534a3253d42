"""Trace context: it goes with a task wherever that goes, spans of callbacks belong to it, and what
is none is refused."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

import hustings as hs
import tracing_tasks
from conftest import eventually, run_command, run_script

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{SPAN}-01"
BAD = {
    "": '""',
    "nonsense": '"nonsense"',
    GIVEN.upper(): GIVEN.upper(),
    f"01{GIVEN[2:]}": "01-",
    f"00-{'0' * 32}-{SPAN}-01": "00000000",
    f"00-{TRACE}-{'0' * 16}-01": TRACE,
    f"{GIVEN}-00": f"{GIVEN}-00",
    "\n" * 1_000: r'"\\n\\n',
}
FORM = "give 00-<32 hex>-<16 hex>-<2 hex>, 55 characters"


@pytest.fixture(scope="module")
def one() -> Iterator[hs.Cluster]:
    """One node with one runner: what a task leaves behind, the next one finds."""
    with hs.Cluster.local(1, name="traced", slots=1, config=hs.Config.ci()) as made:
        made.wait_leader()
        yield made


@pytest.fixture
def tracer() -> Any:
    """OpenTelemetry on the submitting side."""
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    return sdk.TracerProvider().get_tracer("tests")


def ids(span: Any) -> tuple[str, str]:
    """What a child of ``span`` says of it."""
    context = span.get_span_context()
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def test_a_task_knows_its_trace_and_the_next_one_has_its_own(one: hs.Cluster) -> None:
    tell = tracing_tasks.tell
    assert tell.submit().result(60) is None
    assert tell.options(traceparent=GIVEN).submit().result(60) == GIVEN
    assert tell.submit().result(60) is None
    other = GIVEN.replace(SPAN, "0123456789abcdef").replace("-01", "-00")
    assert one.options(traceparent=other).submit(tell).result(60) == other
    assert tracing_tasks.tell_at_third.options(traceparent=GIVEN).submit().result(60) == (GIVEN, 3)


@pytest.mark.parametrize("chunksize", [1, 4])
def test_every_call_of_a_map_has_it(one: hs.Cluster, chunksize: int) -> None:
    told = one.options(traceparent=GIVEN).map(
        tracing_tasks.tell_of, range(10), chunksize=chunksize, timeout=60
    )
    assert list(told) == [GIVEN] * 10


def test_a_stolen_task_takes_it_along(gate: Any) -> None:
    steal = hs.StealPolicy(cpu_floor=0.0)
    config = hs.Config.ci(steal=steal, placement="random")
    with hs.Cluster.local(2, name="moved", voters=1, slots=1, config=config) as cluster:
        traces = [GIVEN.replace(SPAN, f"{i:016x}") for i in range(1, 9)]
        jobs = [
            cluster.options(traceparent=trace).submit(tracing_tasks.tell_behind, gate.path)
            for trace in traces
        ]
        fresh = cluster.add_node("n3", slots=1)
        eventually(lambda: cluster.metrics()["steals"] > 0, 60)
        eventually(lambda: any(t["node"] == fresh.id for t in cluster.tasks("assigned")))
        gate.open()
        told = [job.result(60) for job in jobs]
        assert [trace for trace, _ in told] == traces
        assert "n3" in {node for _, node in told}


def test_it_outlives_its_leader(isolated: hs.Cluster, gate: Any) -> None:
    task = tracing_tasks.tell_behind.options(traceparent=GIVEN)
    jobs = [isolated.submit(task, gate.path) for _ in range(12)]
    eventually(lambda: all(job.running() for job in jobs))
    isolated.kill(isolated.wait_leader())
    gate.open()
    assert {job.result(90)[0] for job in jobs} == {GIVEN}


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_what_is_none_is_refused_at_once(one: hs.Cluster, bad: str) -> None:
    with pytest.raises(hs.ConfigError, match=r"^traceparent: ") as refused:
        tracing_tasks.tell.options(traceparent=bad)
    text = str(refused.value)
    assert FORM in text
    assert BAD[bad].replace(r"\\", "\\") in text
    assert len(text) < 300
    with pytest.raises(hs.ConfigError, match=r"^traceparent: "):
        one.options(traceparent=bad)


def test_what_is_no_text_is_refused(one: hs.Cluster) -> None:
    for bad in (7, b"00", True):
        with pytest.raises(TypeError, match=r"traceparent=.*: give text, or None"):
            hs.task(traceparent=bad)(len)  # type: ignore[call-overload]


def test_a_node_refuses_it_from_any_client(one: hs.Cluster, stubs: tuple[Any, Any]) -> None:
    grpc = pytest.importorskip("grpc")
    messages, services = stubs
    payload = json.dumps({"args": [], "kwargs": {}}).encode()
    tasks = [
        messages.TaskSpec(
            task_id=uuid.uuid4().bytes,
            function_name="f",
            codec=1,
            payload=payload,
            traceparent=bad,
        )
        for bad in BAD
        if bad
    ]
    request = messages.SubmitRequest(session_id=uuid.uuid4().bytes, tasks=tasks)
    with grpc.insecure_channel(one._client.addresses[0]) as channel:
        stub = services.ClientServiceStub(channel)
        (answer,) = stub.Submit(iter([request]), timeout=30)
    assert [r.refusal for r in answer.rejected] == [messages.REFUSAL_INVALID] * len(tasks)
    for rejection in answer.rejected:
        assert rejection.message.startswith('traceparent: "')
        assert FORM in rejection.message
        assert len(rejection.message) < 300


def test_spans_of_a_callback_are_children_of_the_span_that_submitted_it(
    one: hs.Cluster, tracer: Any
) -> None:
    t = tracing_tasks
    with tracer.start_as_current_span("outside") as outside:
        parent = ids(outside)
        flags = outside.get_span_context().trace_flags
        assert t.tell.submit().result(60) == f"00-{parent[0]}-{parent[1]}-{flags:02x}"
        assert t.span.submit().result(60) == parent
        assert t.span_in_time.submit().result(60) == parent
        assert t.span_async.submit().result(60) == [parent, parent]
        assert list(one.stream(t.spans)) == [parent] * 3
        assert list(one.stream(t.spans_async)) == [parent] * 3
        assert t.span.options(traceparent=GIVEN).submit().result(60) == (TRACE, SPAN)
    assert t.tell.submit().result(60) is None, "no span is open any more"


def test_what_is_sent_later_belongs_to_where_it_was_asked_for(one: hs.Cluster, tracer: Any) -> None:
    with tracer.start_as_current_span("outside") as outside:
        results = one.map(tracing_tasks.span_of, range(6), buffersize=1, timeout=60)
        executor = one.executor(max_workers=1)
        futures = [executor.submit(tracing_tasks.span_of, i) for i in range(4)]
    assert list(results) == [ids(outside)] * 6
    assert [future.result(60) for future in futures] == [ids(outside)] * 4
    results = one.map(tracing_tasks.tell_of, range(3), buffersize=1, timeout=60)
    with tracer.start_as_current_span("later"):
        assert list(results) == [None] * 3


def test_no_trace_is_left_in_a_runner(one: hs.Cluster, tracer: Any) -> None:
    assert one.options(traceparent=GIVEN).submit(tracing_tasks.span_here).result(60) == SPAN
    for task in (tracing_tasks.fail, tracing_tasks.wait_too_long):
        assert one.options(traceparent=GIVEN).submit(task).exception(60) is not None
        assert tracing_tasks.span_here.submit().result(60) is None


def test_the_traceback_of_a_traced_task_begins_with_the_task(one: hs.Cluster) -> None:
    error = one.options(traceparent=GIVEN).submit(tracing_tasks.fail).exception(60)
    assert isinstance(error, ValueError)
    told = "".join(getattr(error, "__notes__", ())) or str(error.__cause__)
    assert "trace_context.py" not in told
    assert "tracing_tasks.py" in told


def test_a_runner_without_opentelemetry_runs_traced_tasks(tmp_path: Any) -> None:
    with hs.Cluster.local(1, name="without", slots=1, config=hs.Config.ci()):
        tracing_tasks.lose_opentelemetry.submit().result(60)
        assert tracing_tasks.tell.options(traceparent=GIVEN).submit().result(60) == GIVEN


def test_who_does_not_use_opentelemetry_does_not_import_it() -> None:
    done = run_script(
        "import sys\n"
        "import hustings as hs\n"
        "import tracing_tasks\n"
        "with hs.Cluster.local(1, slots=1, config=hs.Config.ci()) as cluster:\n"
        "    print(tracing_tasks.has_opentelemetry.submit().result(60))\n"
        "    print('opentelemetry' in sys.modules)\n"
    )
    assert (done.returncode, done.stdout.split()) == (0, ["False", "False"]), done.stderr


def test_a_build_without_the_feature_says_what_is_missing() -> None:
    with pytest.raises(TypeError, match=r"otlp=4317: give the address of a collector, or None"):
        hs.Node(otlp=4317)  # type: ignore[arg-type]
    node = hs.Node("spans", otlp="http://127.0.0.1:4317", config=hs.Config.ci())
    try:
        node.bind()
    except hs.ConfigError as error:
        text = str(error)
        assert text.startswith('otlp: "http://127.0.0.1:4317" cannot be served')
        assert "maturin build --release --features python,otel" in text
        done = run_command("node", "--otlp", "http://127.0.0.1:4317")
        assert (done.returncode, text in done.stderr) == (2, True), done.stderr
    else:
        node.abort()
        pytest.skip("this build has the feature otel")
