"""CPython's own tests of executors, ``wait``, ``as_completed`` and shutdown, on a cluster."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def _has_suite() -> bool:
    try:
        return importlib.util.find_spec("test.test_concurrent_futures") is not None
    except ImportError:
        return False


@pytest.mark.timeout(600)
@pytest.mark.skipif(
    not _has_suite(),
    reason="this interpreter has no test.test_concurrent_futures",
)
def test_the_interpreters_own_executor_tests_pass(record_property: Any) -> None:
    done = subprocess.run(
        [sys.executable, "cpython_suite.py", "-v"],
        capture_output=True,
        text=True,
        timeout=580,
        cwd=HERE,
    )
    assert done.returncode == 0, done.stderr[-20_000:]
    ran = re.search(r"^Ran (\d+) tests", done.stderr, re.M)
    left_out = re.search(r"skipped=(\d+)", done.stderr)
    assert ran is not None
    assert left_out is not None
    passed = int(ran[1]) - int(left_out[1])
    record_property("passed", passed)
    record_property("skipped", re.findall(r"skipped ['\"](.+)['\"]$", done.stderr, re.M))
    assert passed >= 25
