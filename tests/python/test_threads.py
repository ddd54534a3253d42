"""Tasks with ``run_in="thread"``: in threads of their node's own process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hustings as hs
import sample_tasks
import thread_tasks
from conftest import HERE, eventually


@pytest.fixture(scope="module")
def cluster() -> Iterator[hs.Cluster]:
    with hs.Cluster.local(3, name="threads", slots=2, config=hs.Config.ci()) as made:
        made.wait_leader()
        yield made


def test_it_runs_in_a_thread_of_its_node_and_others_do_not(cluster: hs.Cluster) -> None:
    pid, thread = cluster.submit(thread_tasks.where).result(30)
    assert pid == os.getpid()
    assert thread.startswith("hustings-task")
    away = thread_tasks.where.options(run_in="process")
    assert cluster.submit(away).result(30)[0] != pid
    # What the process holds is shared; how many nodes have taken part does not matter.
    assert sorted(
        f.result(30) for f in [cluster.submit(thread_tasks.count) for _ in range(50)]
    ) == [*range(1, 51)]
    assert next(thread_tasks.calls) == 51


def test_in_a_cluster_of_processes_it_is_that_of_the_node() -> None:
    with hs.Cluster.local(3, name="own", isolated=True, config=hs.Config.ci()) as made:
        made.wait_leader()
        nodes = {node.pid for node in made.nodes}
        seen = {f.result(30)[0] for f in [made.submit(thread_tasks.where) for _ in range(300)]}
        assert seen <= nodes
        assert os.getpid() not in seen


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_child_that_comes_back_says_nothing() -> None:
    with hs.Cluster.local(1, name="forks", isolated=True, config=hs.Config.ci()) as made:
        assert [made.submit(thread_tasks.fork).result(30) for _ in range(10)] == [0] * 10


def test_results_are_right_however_they_are_asked_for(cluster: hs.Cluster) -> None:
    square = thread_tasks.square
    jobs = [cluster.submit(square, n) for n in range(3_000)]
    assert [job.result(60) for job in jobs] == [n * n for n in range(3_000)]
    assert list(cluster.map(square, range(1_000), chunksize=50)) == [n * n for n in range(1_000)]
    with cluster.executor(run_in="thread") as pool:
        assert list(pool.map(sample_tasks.square, range(20))) == [n * n for n in range(20)]


def test_it_knows_itself_and_says_how_far_it_is(cluster: hs.Cluster, gate: Any) -> None:
    job = cluster.submit(thread_tasks.look)
    told = job.result(30)
    assert (told["task"], told["attempt"]) == (str(job.task_id), 1)
    assert told["node"] in {node.name for node in cluster.nodes}
    with pytest.raises(hs.NoTaskError):
        hs.get_context()
    held = cluster.submit(thread_tasks.tell, gate.path)
    eventually(lambda: held.progress == (1, 2, "half"))
    gate.open()
    assert held.result(30) == "done"


def test_what_it_raises_comes_home_and_hurts_nobody(cluster: hs.Cluster) -> None:
    with pytest.raises(KeyError, match="no such thing") as caught:
        cluster.submit(thread_tasks.fail).result(30)
    told = str(caught.value.__cause__)
    assert "in fail" in told
    assert "_threads.py" not in told
    with pytest.raises(hs.RemoteTaskError, match="SystemExit: 3"):
        cluster.submit(thread_tasks.leave).result(30)
    with pytest.raises(TypeError, match="run_in='process'"):
        cluster.submit(thread_tasks.return_generator).result(30)


def test_at_its_timeout_it_raises_where_it_stands(cluster: hs.Cluster) -> None:
    for task, place in ((thread_tasks.spin, "in spin"), (thread_tasks.wait_long, "in wait_long")):
        with pytest.raises(hs.TaskTimeoutError, match=r"its timeout of 0\.3 s") as caught:
            cluster.submit(task).result(30)
        assert place in str(caught.value.__cause__)


def test_one_that_does_not_heed_its_timeout_is_given_up(cluster: hs.Cluster, gate: Any) -> None:
    try:
        # More than there are slots: each takes the place of one that was given up.
        jobs = [cluster.submit(thread_tasks.spin_on) for _ in range(8)]
        for job in jobs:
            with pytest.raises(hs.TaskTimeoutError, match=r"its timeout of 0\.3 s"):
                job.result(60)
        assert cluster.submit(thread_tasks.square, 3).result(30) == 9
        assert cluster.submit(sample_tasks.square, 3).result(30) == 9
    finally:
        thread_tasks.enough.append(True)
    held = thread_tasks.wait_here.options(timeout=0.2)
    with pytest.raises(hs.TaskTimeoutError):
        cluster.submit(held, gate.path).result(30)
    gate.open()


def test_a_cancelled_one_may_look(cluster: hs.Cluster, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    job = cluster.submit(thread_tasks.heed, str(begun))
    eventually(begun.exists)
    assert job.cancel(kill=True)
    eventually(lambda: str(job.task_id) in thread_tasks.heard)
    thread_tasks.heard.clear()
    assert cluster.submit(thread_tasks.square, 3).result(30) == 9


def test_a_thread_keeps_its_event_loop(cluster: hs.Cluster) -> None:
    loops = {f.result(30) for f in [cluster.submit(thread_tasks.loop_id) for _ in range(40)]}
    assert len(loops) <= 6, "three nodes with two slots each"


@contextlib.contextmanager
def lone_node(config: hs.Config, **options: Any) -> Iterator[hs.Cluster]:
    """A client without pickle of a node of its own, which knows some tasks by name."""
    node = hs.Node("alone", slots=1, config=config, **options)
    for name, reference in (("where", "thread_tasks:where"), ("answer", "fault_tasks:answer")):
        node.register(name, reference)
    with pytest.warns(hs.HustingsWarning):
        node.start()
    try:
        assert node.address is not None
        with hs.Cluster.connect(node.address) as client:
            yield client
    finally:
        node.stop(5)


def test_a_node_that_does_not_allow_threads_runs_it_in_a_process() -> None:
    with lone_node(hs.Config.ci()) as client:
        assert client.options(run_in="thread").submit("where").result(30)[0] != os.getpid()


def test_it_obeys_the_bounds_of_its_node() -> None:
    config = hs.Config.ci(limits=hs.Limits(blob_bytes=100_000))
    with lone_node(config, allow_threads=True) as client:
        there = client.options(run_in="thread")
        assert there.submit("where").result(30)[0] == os.getpid()
        with pytest.raises(hs.RemoteTaskError, match="the limit is 100000"):
            there.submit("answer", 200_000).result(30)


def test_its_node_dies_and_another_one_runs_it(gate: Any) -> None:
    with hs.Cluster.local(3, name="dies", isolated=True, slots=1, config=hs.Config.ci()) as made:
        made.wait_leader()
        nodes = {node.pid for node in made.nodes}
        job = made.submit(thread_tasks.wait_here, gate.path)
        first = eventually(
            lambda: made.tasks("assigned")[0]["node"] if made.tasks("assigned") else None
        )
        eventually(lambda: job.running())
        victim = next(node for node in made.nodes if first in (node.id, node.name))
        made.kill(victim)
        gate.open()
        # In a process of another one: what the first died of is not known.
        assert job.result(60) not in nodes


def test_a_task_takes_one_node_with_it_and_then_runs_in_a_process() -> None:
    with hs.Cluster.local(3, name="fatal", isolated=True, config=hs.Config.ci()) as made:
        made.wait_leader()
        assert made.submit(thread_tasks.end_the_node).result(60) == "in a process"
        eventually(lambda: sum(member.alive for member in made.members()) == 2)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (
            {"run_in": "threads"},
            hs.ConfigError,
            "run_in='threads': give one of 'process', 'thread'",
        ),
        ({"run_in": None}, hs.ConfigError, "run_in=None"),
        ({"run_inn": "thread"}, TypeError, "did you mean 'run_in'"),
    ],
)
def test_bad_input(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        hs.task(**options)(sample_tasks.square.__wrapped__)


def test_a_generator_cannot_run_there() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="yields, which needs a process"):
        hs.task(run_in="thread")(numbers)


@pytest.mark.parametrize("state", ["asleep", "busy", "waiting for the lock of a thread", "done"])
def test_a_script_ends_whatever_its_threads_do(state: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import threading, time
            import hustings as hs

            lock = threading.Lock()
            begun = threading.Event()

            @hs.task(run_in="thread")
            def stay(state):
                import sys
                print("begun", file=sys.stderr, flush=True)
                if state == "asleep":
                    time.sleep(1_000)
                while state == "busy":
                    pass
                if state.startswith("waiting"):
                    held = threading.Lock()
                    held.acquire()
                    held.acquire()

            cluster = hs.Cluster.local(1, config=hs.Config.ci(), slots=2)
            jobs = [cluster.submit(stay, {state!r}) for _ in range(2)]
            while not any(m.running for m in cluster.members()) and not jobs[0].done():
                time.sleep(0.01)
            print("ends")
            """
        )
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=HERE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ends\n"), done.stderr
    assert "Fatal" not in done.stderr
    assert "terminated" not in done.stderr
    assert time.monotonic() - began < 60
