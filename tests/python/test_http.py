"""What a node serves over HTTP: metrics and the page; who may read it, and that it is read-only."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hustings as hs
from conftest import eventually, free_ports

ANY = "127.0.0.1:0"

NAMES = (
    "node_info",
    "is_leader",
    "term",
    "leader_changes_total",
    "elections_total",
    "election_duration_seconds",
    "leaderless_seconds_total",
    "members",
    "heartbeat_rtt_seconds",
    "node_score",
    "cpu_available_ratio",
    "memory_available_ratio",
    "tasks_submitted_total",
    "tasks_completed_total",
    "tasks_running",
    "queue_depth",
    "queue_oldest_age_seconds",
    "queue_wait_seconds",
    "task_duration_seconds",
    "task_attempts_total",
    "tasks_duplicate_total",
    "steals_total",
    "commit_seconds",
    "payload_bytes",
    "log_dropped_total",
)
CANARY = "canary-6f1d"


@pytest.fixture(scope="module")
def node() -> Iterator[hs.Node]:
    made = hs.Node("seen", slots=1, config=hs.Config.ci(), metrics=ANY, http=ANY)
    made.register("square", "sample_tasks:square")
    made.register("greet", "sample_tasks:say_hello")
    made.register("pass_gate", "sample_tasks:pass_gate")
    with pytest.warns(hs.HustingsWarning):
        made.start()
    yield made
    made.stop(5)


@pytest.fixture(scope="module")
def client(node: hs.Node) -> Iterator[hs.Cluster]:
    assert node.address is not None
    with hs.Cluster.connect(node.address) as made:
        yield made


Answer = tuple[int, dict[str, str], str]


def ask(
    address: str | None, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> Answer:
    assert address is not None
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, told, answer.read().decode()
    finally:
        connection.close()


def scrape(node: hs.Node) -> dict[str, float]:
    status, headers, text = ask(node.metrics_address, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    rows = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in rows}


def test_every_name_is_there_with_its_kind_and_meaning(node: hs.Node, client: hs.Cluster) -> None:
    client.submit("square", 3).result(timeout=30)
    _, _, text = ask(node.metrics_address, "/metrics")
    for name in NAMES:
        assert f"# HELP hustings_{name} " in text, name
        assert f"# TYPE hustings_{name} " in text, name
        assert re.search(rf"^hustings_{name}(_count)?[ {{]", text, re.M), f"{name} has no sample"


def test_what_tasks_do_is_counted_by_function_and_outcome(
    node: hs.Node, client: hs.Cluster
) -> None:
    done = 'hustings_tasks_completed_total{task="square",outcome="succeeded"}'
    bad = 'hustings_tasks_completed_total{task="square",outcome="failed"}'
    before = scrape(node)
    tasks = [client.submit("square", n) for n in range(20)]
    assert [task.result(timeout=30) for task in tasks] == [n * n for n in range(20)]
    with pytest.raises(hs.RemoteTaskError):
        client.submit("square", None).result(timeout=30)
    after = eventually(lambda: (now := scrape(node)).get(bad) and now)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert grown(done) == 20
    assert grown(bad) == 1
    assert grown('hustings_tasks_submitted_total{task="square"}') == 21
    assert grown('hustings_task_duration_seconds_count{task="square"}') == 21
    assert grown("hustings_queue_wait_seconds_count") == 21
    assert grown("hustings_payload_bytes_count") == 21
    assert grown('hustings_task_attempts_total{reason="first"}') == 21
    assert grown("hustings_commit_seconds_count") > 0
    assert after["hustings_is_leader"] == 1
    assert after['hustings_members{state="alive"}'] == 1


def test_a_voter_that_is_gone_is_counted() -> None:
    places = [f"127.0.0.1:{port}" for port in free_ports(3)]
    config = hs.Config.ci()
    nodes = [
        hs.Node(f"f{i}", listen=place, join=places, voters=3, slots=1, config=config, metrics=ANY)
        for i, place in enumerate(places)
    ]
    try:
        for node in nodes:
            node.bind()
            node.enter()
        for node in nodes:
            node.wait_ready(60)

        def told(state: str) -> list[float]:
            name = f'hustings_members{{state="{state}"}}'
            running = [node for node in nodes if node.state == "running"]
            return [rows[name] for rows in map(scrape, running) if name in rows]

        eventually(lambda: (told("alive"), told("gone")) == ([3], [0]))
        leader = next(node for node in nodes if node.role == "leader")
        next(node for node in nodes if node is not leader).abort()
        # First it does not answer, then it is no member; its seat is there all the time.
        eventually(lambda: [m.slots for m in leader.members() if not m.alive] == [0])
        eventually(lambda: (told("alive"), told("gone")) == ([2], [1]))
    finally:
        for node in nodes:
            node.abort()


def test_the_queue_is_told_by_priority_and_age(
    node: hs.Node, client: hs.Cluster, gate: Any
) -> None:
    held = [client.options(priority=7).submit("pass_gate", gate.path) for _ in range(3_000)]
    depth = 'hustings_queue_depth{priority="7"}'
    eventually(lambda: scrape(node)[depth] > 0)
    eventually(lambda: scrape(node)["hustings_queue_oldest_age_seconds"] > 0)
    assert scrape(node)["hustings_tasks_running"] == 1
    for future in held:
        future.cancel()
    gate.open()
    eventually(lambda: scrape(node)[depth] == 0)


def test_arguments_and_keys_do_not_show(node: hs.Node, client: hs.Cluster) -> None:
    future = client.options(key=f"key-{CANARY}").submit("greet", CANARY)
    assert CANARY in future.result(timeout=30)
    assert CANARY not in ask(node.metrics_address, "/metrics")[2]
    for path in ("/why?task=" + str(future.task_id), "/tasks?state=succeeded", "/"):
        assert CANARY not in ask(node.http_address, path)[2], path


def test_probes_say_whether_it_lives_and_is_a_member(node: hs.Node) -> None:
    assert ask(node.metrics_address, "/healthz")[0] == 200
    assert ask(node.metrics_address, "/readyz")[0] == 200
    alone = hs.Node(
        "lost", slots=1, config=hs.Config.ci(), join=["127.0.0.1:1"], metrics="127.0.0.1:0"
    )
    alone.bind()
    alone.enter()
    try:
        assert ask(alone.metrics_address, "/healthz")[0] == 200
        status, _, text = ask(alone.metrics_address, "/readyz")
        assert (status, "no leader" in text) == (503, True)
        assert scrape(alone)["hustings_is_leader"] == 0
    finally:
        alone.abort()


def test_two_nodes_of_one_process_do_not_mix(node: hs.Node, client: hs.Cluster) -> None:
    other = hs.Node("other", slots=1, config=hs.Config.ci(), metrics="127.0.0.1:0")
    other.register("square", "sample_tasks:square")
    with pytest.warns(hs.HustingsWarning):
        other.start()
    try:
        assert not any("square" in name for name in scrape(other))
        with hs.Cluster.connect(str(other.address)) as theirs:
            theirs.submit("square", 1).result(timeout=30)
        eventually(lambda: scrape(other).get('hustings_tasks_submitted_total{task="square"}') == 1)
        assert 'node="other"' in ask(other.metrics_address, "/metrics")[2]
    finally:
        other.stop(5)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_whatever_is_no_reading_is_refused(node: hs.Node, method: str) -> None:
    for address in (node.metrics_address, node.http_address):
        status, headers, _ = ask(address, "/", method)
        assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_other_hosts_and_other_sites_are_refused(node: hs.Node) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", ""):
        assert ask(node.http_address, "/", headers={"Host": host})[0] == 403, host
        assert ask(node.metrics_address, "/metrics", headers={"Host": host})[0] == 403, host
    for host in ("localhost", "LOCALHOST:1", "[::1]:80", "10.1.2.3"):
        assert ask(node.http_address, "/", headers={"Host": host})[0] == 200, host
    other = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
    assert ask(node.http_address, "/tasks", headers=other)[0] == 403


def test_every_answer_carries_its_guards(node: hs.Node) -> None:
    for path in ("/", "/view.js", "/view.css", "/icon.svg", "/nowhere", "/why?task=x"):
        _, headers, _ = ask(node.http_address, path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy, path
        assert "unsafe" not in policy, path
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
    assert ask(node.http_address, "/?token=x")[0] == 200, "what is no parameter is ignored"


@pytest.mark.parametrize(
    "path",
    ["/why", "/why?task=", "/why?task=../x", "/why?task=%00", "/tasks?state=nonsense"],
)
def test_odd_questions_are_bad_requests(node: hs.Node, path: str) -> None:
    status, _, text = ask(node.http_address, path)
    assert status == 400
    assert "\n" not in text.strip()


def test_a_long_head_is_refused_and_a_silent_connection_ends(node: hs.Node) -> None:
    assert node.http_address is not None
    assert ask(node.http_address, "/" + "x" * 40_000)[0] in (414, 431)
    host, _, port = node.http_address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as silent:
        silent.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        heard = silent.recv(1_000)  # longer than the socket's patience would be an error
        assert heard == b"" or heard.startswith(b"HTTP/1.1 408")


def test_the_page_and_python_say_the_same(node: hs.Node, client: hs.Cluster) -> None:
    future = client.submit("square", 5)
    future.result(timeout=30)
    told = first_message(node)
    expected = client._client.status()
    assert shape(told["status"]) == shape(expected)
    rows = {row["kind"]: row for row in told["rows"]}
    record = client._client.records(0, 1)[1][0]
    assert set(rows["became_leader"]) == {*record, "count"}
    _, _, text = ask(node.http_address, f"/why?task={future.task_id}")
    why = json.loads(text)
    assert why["kind"] == "finished"
    assert shape(why) == shape(client._client.explain(uuid.UUID(future.task_id).bytes))
    tasks = json.loads(ask(node.http_address, "/tasks?state=succeeded")[2])["tasks"]
    assert set(tasks[0]) == set(client.tasks("succeeded")[0])


def first_message(node: hs.Node) -> dict[str, Any]:
    """The first message of the page's stream that has a status and rows."""
    assert node.http_address is not None
    connection = http.client.HTTPConnection(node.http_address, timeout=30)
    try:
        connection.request("GET", "/events")
        answer = connection.getresponse()
        assert answer.getheader("content-type") == "text/event-stream"
        whole: dict[str, Any] = {"status": None, "rows": []}
        while not (whole["status"] and whole["status"].get("me") and whole["rows"]):
            line = answer.readline().decode()
            assert line, "the stream ended"
            if line.startswith("data: "):
                message = json.loads(line.removeprefix("data: "))
                whole["rows"] += message["rows"]
                whole["status"] = message["status"] or whole["status"]
        return whole
    finally:
        connection.close()


def shape(value: Any) -> Any:
    """Names and kinds without values; what is told or not counts as told."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value[:1]]
    return "number" if isinstance(value, (int, float)) else type(value).__name__


def test_viewers_are_bounded_and_their_places_are_free_again(node: hs.Node) -> None:
    viewers = [open_stream(node.http_address) for _ in range(17)]
    try:
        assert [viewer.status for viewer in viewers] == [200] * 16 + [503]
    finally:
        for viewer in viewers:
            viewer.close()

    def free() -> bool:
        viewer = open_stream(node.http_address)
        viewer.close()
        return viewer.status == 200

    eventually(free)


def open_stream(address: str | None) -> http.client.HTTPResponse:
    """A viewer; its connection lasts as long as the answer does."""
    assert address is not None
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("GET", "/events")
    return connection.getresponse()


def test_beyond_loopback_it_must_be_said() -> None:
    for name in ("metrics", "http"):
        refused = hs.Node("open", config=hs.Config.ci(), **{name: "0.0.0.0:0"})  # type: ignore[arg-type]
        with pytest.raises(hs.ConfigError, match=f"--{name}-open"):
            refused.bind()
        with pytest.raises(hs.ConfigError, match=f"{name}_open"):
            hs.Node("open", config=hs.Config.ci(), **{f"{name}_open": True})  # type: ignore[arg-type]
    said = hs.Node("open", config=hs.Config.ci(), metrics="0.0.0.0:0", metrics_open=True)
    said.bind()
    port = str(said.metrics_address).rpartition(":")[2]
    by_name = {"Host": "n1.example:9464"}
    assert ask(f"127.0.0.1:{port}", "/metrics", headers=by_name)[0] == 200
    said.abort()


def test_a_taken_port_is_named(node: hs.Node) -> None:
    second = hs.Node("second", config=hs.Config.ci(), metrics=node.metrics_address)
    with pytest.raises(hs.BindError, match=str(node.metrics_address)):
        second.bind()


def test_the_command_says_where_it_can_be_looked_at(tmp_path: Path) -> None:
    anywhere = [
        part for name in ("listen", "metrics", "http") for part in (f"--{name}", "127.0.0.1:0")
    ]
    options = [*anywhere, "--data-dir"]
    process = subprocess.Popen(
        [sys.executable, "-m", "hustings", "node", "--json", *options, str(tmp_path / "d")],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ask(ready["metrics"], "/metrics")[0] == 200
        assert "hustings" in ask(ready["http"], "/")[2]
    finally:
        process.terminate()
        assert process.wait(30) == 0
        assert process.stdout is not None
        process.stdout.close()
