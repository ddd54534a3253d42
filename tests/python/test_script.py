"""Scripts as users write them: functions of ``__main__``, Ctrl-C, fork, and a clean exit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import HERE, alive, eventually, run_script

MAIN = """
import dataclasses
import hustings as hs

@dataclasses.dataclass
class Point:
    x: int

@hs.task
def inner(x: int) -> int:
    return x + 1

@hs.task(retries=1)
def shift(p: Point) -> Point:
    return Point(inner(p.x) + OFFSET)

OFFSET = 10

if __name__ == "__main__":
    with hs.Cluster.local(3, isolated=True, config=hs.Config.ci()) as c:
        c.wait_leader()
        assert shift.submit(Point(1)).result(60) == Point(12)
        assert list(c.map(shift, [Point(i) for i in range(5)], chunksize=2)) == [
            Point(i + 11) for i in range(5)
        ]
        print("fine")
"""


def test_functions_and_classes_of_main_reach_isolated_nodes(tmp_path: Path) -> None:
    script = tmp_path / "first.py"
    script.write_text(MAIN)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, timeout=110
    )
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


WAITING = """
import hustings as hs, sample_tasks
c = hs.Cluster.local(1, isolated=True, config=hs.Config.ci())
c.wait_leader()
f = sample_tasks.loop_for_ever.submit()
try:
    print(*(n.pid for n in c.nodes), flush=True)
    {wait}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize(
    "wait",
    ["f.result()", "next(hs.as_completed([f]))", "hs.wait([f])", "c.wait_idle(1000)"],
)
def test_ctrl_c_ends_every_wait(wait: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING.format(wait=wait)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=HERE,
    )
    assert process.stdout is not None
    node = int(process.stdout.readline().split()[0])
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("interrupted\n", 0), err
    eventually(lambda: not alive(node), 10)


FORKED = """
import os, sys
import hustings as hs, sample_tasks
c = hs.Cluster.local(1, config=hs.Config.ci())
f = sample_tasks.square.submit(2)
assert f.result(60) == 4
child = os.fork()
if child == 0:
    code = 1
    for use in (lambda: sample_tasks.square.submit(3), c.snapshot, lambda: c.wait_leader(1)):
        try:
            use()
        except hs.ForkedProcessError as error:
            code = 0 if "fork" in str(error) else 2
        except BaseException:
            code = 3
        if code:
            break
    os._exit(code)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert sample_tasks.square.submit(5).result(60) == 25
child = os.fork()
if child == 0:
    sys.exit(0)  # runs the exit hooks, which must not touch the parent's cluster
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert sample_tasks.square.submit(6).result(60) == 36
print("fine")
"""


def test_a_forked_child_is_refused_and_the_parent_unhurt() -> None:
    text = FORKED.replace(
        "import os, sys", "import os, sys, warnings\nwarnings.simplefilter('ignore')"
    )
    done = run_script(text)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


SHORT = """
import hustings as hs, sample_tasks
c = hs.Cluster.local(3, isolated={isolated}, config=hs.Config.ci())
fs = [sample_tasks.square.submit(i) for i in range(50)]
print(fs[3].result(60))
"""


@pytest.mark.timeout(400)
def test_twenty_short_scripts_exit_cleanly_with_work_in_flight() -> None:
    for i in range(20):
        done = run_script(SHORT.format(isolated=i % 2 == 0))
        assert (done.returncode, done.stdout, done.stderr) == (0, "9\n", ""), (i, done)


def test_an_unused_import_exits_cleanly_and_imports_little() -> None:
    text = (
        "import sys, hustings\n"
        "heavy = {'matplotlib', 'pandas', 'numpy', 'grpc', 'cloudpickle', 'tqdm'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = run_script(text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


ORPHANS = """
import os, hustings as hs, sample_tasks
c = hs.Cluster.local(2, isolated=True, config=hs.Config.ci())
c.wait_leader()
runner = sample_tasks.runner_pid.submit().result(60)
stuck = [sample_tasks.loop_for_ever.submit() for _ in range(3)]
while not any(m.running for m in c.members()):
    pass
c.freeze("n2")
print(runner, *(n.pid for n in c.nodes), flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_killed_script_leaves_no_node_and_no_runner_not_even_a_frozen_one() -> None:
    done = run_script(ORPHANS)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 3
    eventually(lambda: not any(alive(pid) for pid in pids), 10)
    assert os.getpid() not in pids


def test_the_decorator_is_itself_whatever_was_imported_first(tmp_path: Path) -> None:
    script = tmp_path / "first.py"
    script.write_text(
        "import hustings.tasks\nimport hustings.cluster\nimport hustings as hs\n"
        "@hs.task\ndef f(x):\n    return x\nprint(f(3))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
