"""``hustings bench`` measures what it says, and its parts count right."""

from __future__ import annotations

import doctest
import importlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import run_command
from hustings.open_loop import OpenLoop, percentiles


@pytest.mark.parametrize("module", ["usage", "open_loop", "bench_tasks"])
def test_the_examples_in_the_docstrings_hold(module: str) -> None:
    done = doctest.testmod(importlib.import_module(f"hustings.{module}"))
    assert done.attempted > 0
    assert done.failed == 0


class Slow:
    """An outcome that was there at once, of a sender that stalled before it."""

    def __init__(self) -> None:
        self.called = 0

    def done(self) -> bool:
        return True

    def result(self, timeout: float) -> int:
        return 1

    def add_done_callback(self, callback: Any) -> None:
        self.called += 1
        callback(self)


def test_a_sender_that_stalls_is_part_of_the_latency() -> None:
    loop = OpenLoop(rate=1_000.0, seconds=0.2)

    def submit(i: int) -> Any:
        if i == 50:
            time.sleep(0.1)
        return Slow()

    figures = loop.run(submit, timeout=10.0)
    assert figures["tasks"] == figures["timed"] == 200
    # Those that were due during the stall waited for it: half of all, and up to all of it.
    assert figures["max_ms"] >= 90
    assert figures["p50_ms"] >= 1
    assert figures["late_p99_ms"] >= 80


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(i) for i in range(1, 1001)]
    at = percentiles(values[::-1])
    assert at == {"p50": 500.0 + 1, "p90": 900.0, "p99": 990.0, "p99.9": 999.0, "max": 1000.0}


def test_a_short_bench_measures_every_section(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    small = ("--tasks", "200", "--rounds", "1", "--seconds", "0.2", "--out", str(out), "--json")
    done = run_command("bench", "--sections", "throughput,latency,fanout", *small)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record == json.loads(out.read_text())
    assert record["machine"]["cores"] >= 1
    assert record["settings"]["nodes"] == 3
    throughput = record["result"]["throughput"]
    assert throughput["per_s"]["median"] > 0
    assert throughput["cpu_us_per_task"]["median"] > 0
    assert len(throughput["peak_rss_mib"]["followers"]) == 2
    loads = record["result"]["latency"]["open_loop"]
    assert list(loads) == ["10%", "50%", "90%"]
    assert all(load["p50_ms"] <= load["p99.9_ms"] for load in loads.values())
    assert set(record["result"]["fanout"]) == {"1", "10", "100", "1000", "10000"}


def test_the_payloads_come_back_and_are_told_as_a_table() -> None:
    done = run_command(
        "bench", "--sections", "payload", "--tasks", "100", "--rounds", "1", "--nodes", "1"
    )
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")}
    assert {"0", "1024", "65536", "1048576"} <= rows
    assert "1 voters, 0 workers, in memory" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--tasks", "1"), "--tasks 1: give 100 to 2000000"),
        (("--rounds", "0"), "--rounds 0"),
        (("--seconds", "0"), "--seconds 0"),
        (("--sections", "speed"), "choose of throughput, latency"),
        (("--nodes", "0"), "--nodes 0"),
        (("--workers", "-1"), "--workers -1"),
        (("--out", "/no/such/folder/x"), "no such folder"),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple[str, ...], words: str) -> None:
    done = run_command("bench", *arguments)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
