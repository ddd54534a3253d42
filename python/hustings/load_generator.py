"""``hustings submit``: calls a registered task once, many times, or at a steady rate, and counts
the outcomes."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, WaitTimeoutError
from .future import as_completed

if TYPE_CHECKING:
    from ._core import Future
    from .cluster import Cluster

OK, FAILED, CUT_SHORT = 0, 1, 3
MAX_COUNT = 1_000_000
MAX_RATE = 1e6
"""Calls per second that may be asked for."""
MAX_SHOWN = 5
"""Failures printed in full."""


def parse_call(text: str) -> tuple[list[Any], dict[str, Any]]:
    """Arguments out of JSON: a list, an object (by name), or one value."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"ARGS {text[:60]!r} is not JSON ({error}); e.g. '[1, 2]' or '{{\"x\": 1}}'"
        ) from None
    if isinstance(value, list):
        return value, {}
    return ([], value) if isinstance(value, dict) else ([value], {})


def run(
    cluster: Cluster, arguments: argparse.Namespace, args: list[Any], kwargs: dict[str, Any]
) -> int:
    """Submits and waits; 0 if every task returned a value, 1 if one did not, 3 if the wait ended
    first."""
    count, rate = arguments.count, arguments.rate
    if not 1 <= count <= MAX_COUNT:
        raise ConfigError(f"--count {count}: give 1 to {MAX_COUNT}")
    if rate is not None and not 0 < rate <= MAX_RATE:
        raise ConfigError(f"--rate {rate}: give more than 0 and at most {MAX_RATE:.0f} per second")
    where = cluster.options(
        retries=arguments.retries,
        timeout=arguments.task_timeout,
        idempotent=arguments.idempotent,
        codec="json",
    )
    began = time.monotonic()
    futures: list[Future[Any]] = []
    for i in range(count):
        if rate is not None:
            time.sleep(max(0.0, began + i / rate - time.monotonic()))
        futures.append(where.submit(arguments.task, *args, **kwargs))
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    cut_short = False
    try:
        show = count > 1 and not arguments.json
        for future in as_completed(futures, timeout=arguments.wait, progress=show):
            error = None if future.cancelled() else future.exception()
            outcomes[future.state] += 1
            if error is not None and len(failures) < MAX_SHOWN:
                failures.append(f"{type(error).__name__}: {error}")
    except WaitTimeoutError:
        cut_short = True
        outcomes["unfinished"] = sum(not f.done() for f in futures)
    _print(arguments, futures, outcomes, failures, time.monotonic() - began)
    if cut_short:
        return CUT_SHORT
    return OK if outcomes["succeeded"] == count else FAILED


def _print(
    arguments: argparse.Namespace,
    futures: list[Future[Any]],
    outcomes: Counter[str],
    failures: list[str],
    seconds: float,
) -> None:
    value = None
    if len(futures) == 1 and futures[0].state == "succeeded":
        value = futures[0].result()
    if arguments.json:
        row = {"outcomes": dict(outcomes), "seconds": round(seconds, 3), "failures": failures}
        if len(futures) == 1:
            row |= {"task_id": futures[0].task_id, "result": value}
        print(json.dumps(row))
        return
    if len(futures) == 1 and not failures and outcomes["succeeded"]:
        print(json.dumps(value))
        return
    summary = ", ".join(f"{name} {number}" for name, number in sorted(outcomes.items()))
    many = "1 task" if len(futures) == 1 else f"{len(futures)} tasks"
    print(f"{many} in {seconds:.2f} s: {summary}")
    for line in failures:
        print(f"  {line}", file=sys.stderr)
