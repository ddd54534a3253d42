"""Row 15: loss of 1 to 30 %, delays of 5 to 500 ms; work goes on, slower, and no term has two
leaders."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

import hustings as hs
import sample_tasks
from fault_views import check_accounts, check_one_leader_per_term, settle

TASKS = 20


@pytest.fixture(scope="module")
def near() -> Iterator[hs.Cluster]:
    """Heartbeats of 40 ms, as on a busy machine."""
    with hs.Cluster.local(3, name="near", config=hs.Config.ci()) as made:
        yield made


@pytest.fixture(scope="module")
def far() -> Iterator[hs.Cluster]:
    """Heartbeats that outlast a round trip of a second."""
    slow = hs.ElectionConfig(
        heartbeat_s=1.2, suspicion_min_s=2.5, suspicion_max_s=6.0, lease_s=5.0, rank_delay_s=0.5
    )
    limits = hs.Limits(worker_lease_s=10.0)
    with hs.Cluster.local(3, name="far", config=hs.Config.ci(election=slow, limits=limits)) as made:
        yield made


def work_under_it(cluster: hs.Cluster, record_property: Any) -> None:
    before, elections = cluster.metrics()["accepted"], len(cluster.events.elections())
    began = time.monotonic()
    jobs = [cluster.submit(sample_tasks.square, i) for i in range(TASKS)]
    assert [f.result(90) for f in jobs] == [i * i for i in range(TASKS)]
    record_property("tasks_per_s", round(TASKS / (time.monotonic() - began), 1))
    cluster.heal()
    settle(cluster)
    check_accounts(cluster, before + TASKS)
    check_one_leader_per_term(cluster)
    record_property("elections", len(cluster.events.elections()) - elections)


@pytest.mark.parametrize("percent", [1, 10, 30])
def test_lost_words_cost_time_only(near: hs.Cluster, percent: int, record_property: Any) -> None:
    settle(near)
    near.drop(None, None, percent / 100)
    assert len(near.faults()) == 6
    work_under_it(near, record_property)


def test_a_few_milliseconds_are_nothing(near: hs.Cluster, record_property: Any) -> None:
    settle(near)
    near.delay(None, None, 0.005, jitter=0.005)
    work_under_it(near, record_property)


@pytest.mark.parametrize("ms", [100, 500])
def test_long_ways_need_patient_settings(far: hs.Cluster, ms: int, record_property: Any) -> None:
    leader = settle(far)
    far.delay(None, None, ms / 1000, jitter=ms / 5000)
    work_under_it(far, record_property)
    assert far.wait_leader().term == leader.term, "a slow leader is not a dead one"
