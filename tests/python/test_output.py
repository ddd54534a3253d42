"""What tasks print and log: it comes home with the outcome, and is seen where their node logs."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

import hustings as hs
import output_tasks
from conftest import eventually


@pytest.fixture(scope="module")
def one() -> Iterator[hs.Cluster]:
    """One node with one runner."""
    with hs.Cluster.local(1, name="talkers", slots=1, config=hs.Config.ci()) as made:
        made.wait_leader()
        yield made


def test_what_a_task_says_comes_home_with_its_outcome(one: hs.Cluster) -> None:
    future = output_tasks.talk.submit("hello")
    assert future.result(30) == 5
    said = future.output().splitlines()
    assert sorted(said) == sorted(
        [
            "hello",
            "to stderr",
            "INFO app.work: looked at hello",
            "from native code",
            "from a child",
        ]
    )


def test_a_task_that_says_nothing_has_no_output(one: hs.Cluster) -> None:
    talked, silent = output_tasks.talk.submit("x"), output_tasks.quiet.submit()
    assert (talked.result(30), silent.result(30)) == (1, 7)
    assert silent.output() == ""


def test_it_is_known_to_whoever_follows_the_task(one: hs.Cluster) -> None:
    first = output_tasks.talk.submit("again")
    first.result(30)
    second = one.future(first.task_id)
    assert second.result(30) == 5
    assert second.output() == first.output()


def test_an_exception_has_the_last_lines_as_a_note(one: hs.Cluster) -> None:
    future = output_tasks.stumble.submit()
    with pytest.raises(ValueError, match="stumbled") as raised:
        future.result(30)
    assert "ERROR app.work: it went\nwrong" in future.output()
    if hasattr(raised.value, "__notes__"):
        assert "before the stumble" in raised.value.__notes__[-1]
        assert "KeyError: 'inner'" in raised.value.__notes__[-1]


def test_a_crash_says_where_it_was(one: hs.Cluster) -> None:
    future = output_tasks.crash.submit()
    with pytest.raises(hs.TaskLostError, match="SIGSEGV"):
        future.result(60)
    assert "last words" in future.output()
    assert "Fatal Python error: Segmentation fault" in future.output()
    assert "in crash" in future.output()


def test_what_is_killed_at_its_timeout_has_said_what_it_said(one: hs.Cluster) -> None:
    future = output_tasks.overrun.options(timeout=0.3).submit()
    with pytest.raises(hs.TaskTimeoutError):
        future.result(60)
    assert "endless from here" in future.output()


def test_the_last_of_much_is_kept_within_the_bound(one: hs.Cluster) -> None:
    future = output_tasks.chatter.submit(20_000)
    assert future.result(60) == 20_000
    said = future.output()
    assert len(said.encode()) <= 4096
    assert said.splitlines()[-1].startswith("line 19999 ")
    assert said.startswith("line ")
    bar = output_tasks.draw.submit()
    assert bar.result(30) == 200
    assert bar.output() == " 199 of 200\n"


def test_the_bound_is_a_knob() -> None:
    limits = hs.Limits(task_output_bytes=0)
    with hs.Cluster.local(1, name="mute", slots=1, config=hs.Config.ci(limits=limits)):
        future = output_tasks.talk.submit("x")
        assert future.result(30) == 1
        assert future.output() == ""
    with pytest.raises(hs.ConfigError, match=r"limits\.task_output_bytes"):
        hs.Config(limits=hs.Limits(task_output_bytes=1 << 20)).resolved()


def test_its_node_logs_it_under_the_name_of_the_task(
    one: hs.Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    future = output_tasks.talk.submit("to the log")
    assert future.result(30) == 10

    def records() -> list[logging.LogRecord]:
        return [r for r in caplog.records if getattr(r, "task_id", "") == future.task_id]

    assert eventually(lambda: len(records()) == 5)
    assert {r.name for r in records()} == {"hustings.task.talk"}
    printed = next(r for r in records() if r.getMessage() == "to the log")
    assert (printed.levelname, printed.node, printed.attempt, printed.stream) == (
        "INFO",
        "n1",
        1,
        "stdout",
    )
    logged = next(r for r in records() if r.stream == "log")
    assert logged.getMessage() == "app.work: looked at to the log"


SCRIPT = """
import sys
import hustings as hs

@hs.task(name="greet")
def greet(who):
    print("hello", who)
    print("careful", file=sys.stderr)

if __name__ == "__main__":
    with hs.Cluster.local(1, isolated=sys.argv[1] == "isolated", slots=1):
        greet.submit("you").result(60)
        sys.stdin.readline()
"""


@pytest.mark.parametrize("kind", ["here", "isolated"])
def test_without_logging_it_is_printed_as_before(kind: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT, kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as script:
        assert script.stdin is not None
        assert script.stdout is not None
        assert script.stderr is not None
        assert script.stdout.readline() == "[greet n1] hello you\n"
        assert script.stderr.readline() == "[greet n1] careful\n"
        script.stdin.write("seen\n")
        script.stdin.flush()
        assert script.wait(60) == 0


def test_what_earlier_attempts_said_is_kept_by_attempt(one: hs.Cluster) -> None:
    future = output_tasks.talk_and_fail.submit("try")
    assert future.result(30) == 3
    assert future.output() == "try 3\n"
    assert future.outputs() == {1: "try 1\n", 2: "try 2\n", 3: "try 3\n"}
    again = one.future(future.task_id)
    assert again.result(30) == 3
    assert again.outputs() == future.outputs()
    failed = output_tasks.talk_and_fail.options(retries=1).submit("no")
    with pytest.raises(ValueError, match="not yet") as raised:
        failed.result(30)
    assert failed.outputs() == {1: "no 1\n", 2: "no 2\n"}
    if hasattr(raised.value, "__notes__"):
        assert "no 2" in raised.value.__notes__[-1]
        assert "no 1" not in raised.value.__notes__[-1]


def test_little_is_kept_of_earlier_attempts(one: hs.Cluster) -> None:
    future = output_tasks.talk_and_fail.submit("a line that is long enough to be cut " * 90)
    assert future.result(30) == 3
    kept = future.outputs()
    assert set(kept) == {2, 3}
    assert len(kept[2]) <= 2048
    assert kept[3].startswith("a line ")
    silent = output_tasks.quiet.submit()
    assert silent.result(30) == 7
    assert silent.outputs() == {}
