"""What nodes do, as records of ``logging``: filtered by ``HUSTINGS_LOG``, bounded."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading

import pytest

import hustings as hs
import output_tasks
from conftest import HERE, eventually


def run(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", text],
        capture_output=True,
        text=True,
        timeout=90,
        cwd=HERE,
        env={**os.environ, **environment},
    )


ELECT = """
import hustings as hs
with hs.Cluster.local(1, slots=1) as c:
    print(c.wait_leader().name)
"""


def test_elections_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, logger="hustings"),
        hs.Cluster.local(1, name="logged", slots=1, config=hs.Config.ci()) as cluster,
    ):
        cluster.wait_leader()
        led = eventually(lambda: [r for r in caplog.records if "became_leader" in r.getMessage()])
    assert led[0].name == "hustings.events"
    assert led[0].levelno == logging.INFO
    assert "n1 became_leader" in led[0].getMessage()
    assert not [r for r in caplog.records if "scored" in r.getMessage()]


def test_nothing_is_said_unless_it_is_asked_for() -> None:
    silent = run(ELECT)
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "n1\n", "")
    asked = run(ELECT, HUSTINGS_LOG="info")
    assert asked.returncode == 0
    assert "INFO    hustings.events: n1 became_leader term=" in asked.stderr
    quiet = run(ELECT, HUSTINGS_LOG="off,node=warn")
    assert (quiet.returncode, quiet.stderr) == (0, "")


def test_what_is_logged_can_be_narrowed() -> None:
    asked = run(ELECT, HUSTINGS_LOG="off,events=debug")
    assert asked.returncode == 0
    assert "DEBUG   hustings.events: n1 scored" in asked.stderr
    assert " openraft" not in asked.stderr
    library = run(ELECT, HUSTINGS_LOG="off,openraft=debug")
    assert "hustings.openraft." in library.stderr


def test_a_bad_filter_is_refused_by_name() -> None:
    refused = run(ELECT, HUSTINGS_LOG="loud")
    assert refused.returncode == 1
    assert 'ConfigError: HUSTINGS_LOG: "loud" is no level' in refused.stderr


def test_what_there_is_no_room_for_is_counted() -> None:
    """A handler that is slow for ever holds up neither tasks nor their node."""
    counted: list[str] = []

    class Stuck(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name == "hustings.logs":
                counted.append(record.getMessage())
            else:
                released.wait()

    released = threading.Event()
    handler = Stuck()
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with hs.Cluster.local(1, name="stuck", slots=1, config=hs.Config.ci()):
            assert output_tasks.chatter.submit(30_000).result(90) == 30_000
            assert output_tasks.quiet.submit().result(30) == 7
            released.set()
            eventually(lambda: counted)
    finally:
        released.set()
        root.removeHandler(handler)
    assert "lines were dropped" in counted[0]
