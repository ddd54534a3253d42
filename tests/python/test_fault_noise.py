"""Row 18: scores that jump about, and a node that always claims to be the best."""

from __future__ import annotations

from typing import Any

import hustings as hs
import sample_tasks
from conftest import eventually
from fault_views import check_one_leader_per_term, settle, wait_successor

TABLES = 40
"""Rankings that are told, each drawn anew by the noise."""


def test_row_18_noise_moves_no_leadership(record_property: Any) -> None:
    noise = hs.loads.noise(0.8, 0.2, seed=5)
    # Scores that are hardly smoothed: ranks change at every look.
    config = hs.Config(election=hs.ElectionConfig(score_tau_s=1.0))
    with hs.Cluster.local(3, name="noisy", isolated=True, loads=noise, config=config) as cluster:
        first = settle(cluster)

        def told() -> list[Any]:
            return list(cluster.events.filter("scored", node=first.id))

        eventually(lambda: len(told()) >= 3 * TABLES, 90)
        best = {row["subject"] for row in told() if row["rank"] == 0}
        assert len(best) > 1, "the noise was too weak to prove anything"
        assert not list(cluster.events.filter("handover_started"))
        assert settle(cluster).id == first.id
        record_property("rankings", len(told()) // 3)


def test_row_18_a_liar_holds_nobody_hostage() -> None:
    loads = hs.loads.constant([1.0, 0.4, 0.4])
    with hs.Cluster.local(3, name="liar", isolated=True, loads=loads) as cluster:
        if settle(cluster).name != "n1":
            cluster.handover("n1")
        liar_leads = settle(cluster)
        assert liar_leads.name == "n1"
        # It claims to be the best while it answers nobody.
        cluster.freeze(liar_leads)
        successor, _ = wait_successor(cluster, liar_leads)
        assert successor in {"n2", "n3"}
        assert cluster.submit(sample_tasks.square, 7).result(60) == 49
        cluster.resume(liar_leads)
        check_one_leader_per_term(cluster)
