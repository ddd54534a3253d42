"""Times, keys and ids of tasks, and what ``why`` and ``history`` say of them."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

import pytest

import hustings as hs
import sample_tasks
from conftest import eventually, run_command

CRASHES = 2


@pytest.fixture(scope="module")
def cluster() -> Any:
    """Three nodes with one slot each, where two deaths are enough."""
    made = hs.Cluster.local(
        3,
        name="life",
        slots=1,
        config=hs.Config(profile="ci", limits=hs.Limits(crash_budget=CRASHES)),
    )
    made.wait_leader()
    yield made
    made.close()


@pytest.fixture
def busy(cluster: hs.Cluster, gate: Any) -> Any:
    """Every slot is taken until the gate opens."""
    running = [sample_tasks.pass_gate.submit(gate.path) for _ in range(3)]
    for future in running:
        eventually(lambda f=future: f.why().kind == "running")
    yield gate
    gate.open()
    for future in running:
        future.result(30)


def dated(age_s: float) -> uuid.UUID:
    """A UUID of version 7 made ``age_s`` seconds ago."""
    made = int((time.time() - age_s) * 1000)
    return uuid.UUID(int=made << 80 | 7 << 76 | 2 << 62 | uuid.uuid4().int & (1 << 62) - 1)


def test_a_task_that_never_starts_in_time_expires(cluster: hs.Cluster, busy: Any) -> None:
    future = sample_tasks.square.options(queue_timeout=0.3).submit(2)
    with pytest.raises(hs.TaskTimeoutError, match=r"never started: it waited 0\.3 s"):
        future.result(30)
    assert future.state == "expired"
    assert future.task_id in [t["task_id"] for t in cluster.tasks("expired")]
    assert cluster.metrics()["expired"] >= 1
    assert "it never started within 0.3 s" in str(future.why())


def test_a_queue_timeout_does_not_end_what_runs(cluster: hs.Cluster, gate: Any) -> None:
    future = sample_tasks.pass_gate.options(queue_timeout=1).submit(gate.path, 4)
    eventually(lambda: future.why().kind == "running")
    waits = sample_tasks.square.options(delay=1.5).submit(3)
    assert waits.result(30) == 9  # by then the time of the other one is over
    assert not future.done()
    gate.open()
    assert future.result(30) == 4


def test_a_deadline_ends_a_task_that_runs(cluster: hs.Cluster) -> None:
    future = sample_tasks.loop_for_ever.options(deadline=0.5, retries=5).submit()
    with pytest.raises(hs.TaskTimeoutError, match=r"no outcome after 0\.5 s, its deadline"):
        future.result(30)
    assert future.state == "expired"
    assert [event.kind for event in future.history()] == ["accepted", "assigned", "expired"]
    # The runner was killed: its slot serves others again.
    assert sample_tasks.square.submit(3).result(30) == 9


def test_a_delayed_task_starts_later(cluster: hs.Cluster) -> None:
    future = sample_tasks.square.options(delay=1.0).submit(5)
    why = eventually(lambda: (w := future.why()).kind == "delayed" and w)
    assert "its start is delayed" in str(why)
    assert 0 < float(why.facts["left_s"]) <= 1
    assert future.result(30) == 25
    accepted, assigned, _ = future.history()
    assert assigned.at - accepted.at >= 0.99


def test_a_key_joins_the_task_that_holds_it(cluster: hs.Cluster, busy: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "lines")
    once = sample_tasks.note.options(key="nightly")
    first, second, third = (once.submit(path, line) for line in ("a", "b", "c"))
    eventually(lambda: third.state == "accepted")
    assert second.task_id == first.task_id == third.task_id
    assert [t["key"] for t in cluster.tasks() if t["task_id"] == first.task_id] == ["nightly"]
    busy.open()
    assert [f.result(30) for f in (first, second, third)] == ["a", "a", "a"]
    assert Path(path).read_text() == "a\n"
    # The key is free again.
    assert once.submit(path, "d").result(30) == "d"


def test_a_key_that_is_held_rejects_or_replaces(
    cluster: hs.Cluster, gate: Any, tmp_path: Path
) -> None:
    held = sample_tasks.pass_gate.options(key="one")
    first = held.submit(gate.path, 1)
    assert (first.key, cluster.submit(sample_tasks.square, 2).key) == ("one", None)
    eventually(lambda: first.why().kind == "running")
    refused = held.options(on_duplicate="reject").submit(gate.path, 2)
    with pytest.raises(hs.DuplicateTaskError, match='key "one" is held by task') as caught:
        refused.result(30)
    assert caught.value.task_id == first.task_id
    assert refused.state == "rejected"
    assert "it was refused" in str(refused.why())
    other = sample_tasks.square.options(key="one").submit(3)
    with pytest.raises(hs.DuplicateTaskError, match="another function"):
        other.result(30)
    second = held.options(on_duplicate="replace").submit(gate.path, 3)
    with pytest.raises(hs.CancelledError):
        first.result(30)
    assert "another task took its key" in str(first.why())
    gate.open()
    assert second.result(30) == 3


def test_a_joined_task_is_cancelled_as_one(cluster: hs.Cluster, busy: Any) -> None:
    held = sample_tasks.square.options(key="both")
    first, second = held.submit(1), held.submit(2)
    eventually(lambda: second.task_id == first.task_id)
    assert second.cancel()
    assert first.cancelled()
    assert second.cancelled()


def test_ids_carry_their_time(cluster: hs.Cluster) -> None:
    fresh = dated(60)
    square = sample_tasks.square.options(task_id=fresh)
    assert square.submit(4).result(30) == 16
    expired = sample_tasks.square.options(task_id=dated(25 * 3600)).submit(4)
    with pytest.raises(hs.TaskIdExpiredError, match=r"limits\.id_memory_s"):
        expired.result(30)
    future = sample_tasks.square.options(task_id=dated(-25 * 3600)).submit(4)
    with pytest.raises(hs.InvalidTaskIdError, match="is the clock right"):
        future.result(30)


def test_one_client_through_three_changes_of_leader_submits_once() -> None:
    """Nothing is accepted twice, whatever is sent again; duplicates join."""
    with hs.Cluster.local(3, name="changes", config=hs.Config.ci()) as c:
        terms = {c.wait_leader().term}
        futures: list[hs.Future[int]] = []
        for _ in range(3):
            futures += [sample_tasks.square.submit(i) for i in range(200)]
            gone = c.kill(c.wait_leader())
            futures += [sample_tasks.square.submit(i) for i in range(200)]
            terms.add(c.wait_leader().term)
            # Somebody else says the first one again.
            again = sample_tasks.square.options(task_id=futures[0].task_id)
            with hs.Cluster.connect(*c._client.addresses, allow_pickle=True) as other:
                assert other._submit(again, (0,), {}).result(60) == 0
            c.restart(gone.name)
            eventually(lambda: c.quorum.startswith("3 of 3"))
        assert [f.result(60) for f in futures] == [i * i for i in range(200)] * 6
        assert len(terms) >= 4
        counters = c.metrics()
        assert counters["accepted"] == counters["succeeded"] == len(futures)
        assert counters["duplicates"] >= 3


def test_a_task_that_kills_its_runners_is_quarantined(cluster: hs.Cluster) -> None:
    future = sample_tasks.segfault.options(retries=9).submit()
    with pytest.raises(hs.TaskLostError, match="signal 11") as caught:
        future.result(60)
    assert caught.value.attempts == CRASHES
    for attempt in range(1, CRASHES + 1):
        assert f"attempt {attempt} on n" in str(caught.value)
    assert future.state == "quarantined"
    assert future.task_id in [t["task_id"] for t in cluster.tasks("quarantined")]
    kinds = [event.kind for event in future.history()]
    assert kinds == ["accepted", *["assigned", "crashed"] * CRASHES, "quarantined"]


def test_why_says_that_all_are_full(cluster: hs.Cluster, busy: Any) -> None:
    futures = [sample_tasks.square.submit(i) for i in range(200)]
    why = eventually(lambda: (w := futures[-1].why()).kind == "full" and w)
    assert str(why).startswith("all 3 nodes in reach are full: queue ")
    assert why.facts["full"] == 3
    assert float(why.facts["ahead"]) > 0
    busy.open()
    assert [f.result(30) for f in futures] == [i * i for i in range(200)]
    assert futures[0].why().kind == "finished"
    assert str(futures[0].history()[-1]).endswith("attempt 1")


def test_why_says_that_a_quorum_is_missing() -> None:
    with hs.Cluster.local(3, name="cut", config=hs.Config.ci()) as c:
        leader = c.wait_leader()
        future = sample_tasks.square.submit(1)
        assert future.result(30) == 1
        for node in [n.name for n in c.nodes if n.name != leader.name]:
            c.kill(node)
        why = eventually(lambda: (w := future.why(1.0)).kind == "no_quorum" and w)
        assert "1 of 3 voters" in str(why) or "need 2" in str(why), str(why)


def test_a_task_knows_itself(cluster: hs.Cluster) -> None:
    with pytest.raises(hs.NoTaskError, match="no task runs here"):
        hs.get_context()
    plain = sample_tasks.tell_context.submit()
    seen = plain.result(30)
    assert seen["task_id"] == plain.task_id
    assert (seen["attempt"], seen["key"], seen["deadline"]) == (1, None, None)
    bound = sample_tasks.tell_context.options(key="me", timeout=20, deadline=3600)
    later = bound.submit().result(30)
    assert later["key"] == "me"
    assert later["fencing_token"] > seen["fencing_token"]
    assert 0 < later["deadline"] - later["now"] <= 20
    soon = sample_tasks.tell_context.options(timeout=3600, deadline=30).submit().result(30)
    assert 0 < soon["deadline"] - soon["now"] <= 30


def test_the_command_why(cluster: hs.Cluster) -> None:
    future = sample_tasks.square.submit(6)
    assert future.result(30) == 36
    address = cluster.members()[0].address
    asked = run_command("why", future.task_id, "--connect", address)
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.startswith("finished: succeeded on n")
    assert "assigned on n" in asked.stdout
    unknown = run_command("why", str(uuid.uuid4()), "--connect", address, "--json")
    assert unknown.returncode == 1
    assert '"kind": "unknown"' in unknown.stdout


@pytest.mark.parametrize("one", [{"key": "k"}, {"task_id": uuid.uuid4()}])
def test_what_belongs_to_one_call_is_refused_in_map(
    cluster: hs.Cluster, one: dict[str, Any]
) -> None:
    with pytest.raises(hs.ConfigError, match="belongs to one call"):
        cluster.map(sample_tasks.square.options(**one), range(3))


def test_a_future_of_an_unknown_task_cannot_be_cancelled(cluster: hs.Cluster) -> None:
    unknown = cluster.future(uuid.uuid4())
    assert not unknown.cancel()
    with pytest.raises(hs.TaskNotFoundError):
        unknown.result(30)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"key": ""}, hs.ConfigError),
        ({"key": "x" * 257}, hs.ConfigError),
        ({"key": "a\nb"}, hs.ConfigError),
        ({"key": 7}, TypeError),
        ({"on_duplicate": "maybe"}, hs.ConfigError),
        ({"delay": -1}, ValueError),
        ({"delay": float("nan")}, ValueError),
        ({"queue_timeout": 0}, ValueError),
        ({"deadline": True}, TypeError),
        ({"deadline": 1e300}, ValueError),
        ({"backoff": 31}, ValueError),
    ],
)
def test_a_bad_option_is_refused_by_name(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=f"{next(iter(options))}="):
        hs.task(**options)(len)
