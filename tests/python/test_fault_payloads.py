"""Row 30: payloads around their limit and far beyond it; what is refused is refused before it is
accepted, and heartbeats do not wait behind what is not."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fault_tasks
import hustings as hs
from conftest import eventually
from fault_views import check_accounts, settle

LIMIT = 65_536
HUGE = 256 << 20


@pytest.fixture(scope="module")
def group() -> Iterator[hs.Cluster]:
    limits = hs.Limits(blob_bytes=LIMIT)
    with hs.Cluster.local(
        3, name="payloads", isolated=True, slots=1, config=hs.Config.ci(limits=limits)
    ) as made:
        settle(made)
        yield made


def largest(fits: Callable[[int], bool]) -> int:
    """The largest size that fits; every smaller one must, and no larger one."""
    low, high = LIMIT - 1_000, LIMIT + 1_000
    assert fits(low)
    assert not fits(high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def test_row_30_arguments_at_the_limit_pass_and_one_byte_more_is_refused(
    group: hs.Cluster,
) -> None:
    echo = group.options(codec="json")

    def fits(size: int) -> bool:
        try:
            return len(echo.submit(fault_tasks.echo, "x" * size).result(60)) == size
        except hs.PayloadTooLargeError:
            return False

    # The result of the same size has its own limit, and less around it than the arguments.
    most = largest(fits)
    accepted = group.metrics()["accepted"]
    with pytest.raises(hs.PayloadTooLargeError, match=f"{LIMIT + 1} bytes, the limit is {LIMIT}"):
        echo.submit(fault_tasks.echo, "x" * (most + 1)).result(60)
    with pytest.raises(hs.PayloadTooLargeError, match=r"limits\.blob_bytes"):
        echo.submit(fault_tasks.echo, "x" * HUGE).result(60)
    assert group.metrics()["accepted"] == accepted, "refused means not accepted"
    check_accounts(group, accepted)


def test_row_30_a_result_over_the_limit_fails_the_task_and_nothing_else(group: hs.Cluster) -> None:
    answer = group.options(codec="json", retries=0)

    def fits(size: int) -> bool:
        try:
            return len(answer.submit(fault_tasks.answer, size).result(60)) == size
        except hs.PayloadTooLargeError:
            return False

    most = largest(fits)
    assert most == LIMIT - 2, "the result and its two quotes"
    with pytest.raises(hs.PayloadTooLargeError, match=f"the limit is {LIMIT}"):
        answer.submit(fault_tasks.answer, HUGE).result(90)
    assert answer.submit(fault_tasks.answer, 3).result(60) == "xxx"


def test_row_30_heartbeats_do_not_wait_behind_large_tasks(
    group: hs.Cluster, record_property: Any
) -> None:
    before = settle(group)
    since = time.time_ns() // 1_000
    text = "x" * (LIMIT - 1_000)
    flying: collections.deque[hs.Future[str]] = collections.deque()
    for _ in range(600):
        flying.append(group.submit(fault_tasks.echo, text))
        while len(flying) >= 100:
            assert flying.popleft().result(60) == text
    assert all(f.result(60) == text for f in flying)
    after = settle(group)
    assert (after.id, after.term) == (before.id, before.term)
    rows = group.events.filter(since_us=since)
    record_property("suspicions", sum(row["kind"] == "suspected" for row in rows))
    eventually(lambda: group.quorum.startswith("3 of 3"))
