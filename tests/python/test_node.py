"""``Node``: one node in this process, founding or joining."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

import hustings as hs
import sample_tasks
from conftest import eventually, free_ports


@pytest.fixture
def alone() -> Iterator[hs.Node]:
    node = hs.Node("solo", slots=2, config=hs.Config.ci())
    node.register("square", sample_tasks.square)
    with pytest.warns(hs.HustingsWarning, match="cluster of its own"):
        node.start()
    yield node
    node.stop(5)


def test_a_node_alone_leads_and_works(alone: hs.Node) -> None:
    assert alone.address is not None
    eventually(lambda: alone.role == "leader")
    assert alone.leader is not None
    assert alone.leader.name == "solo"
    assert alone.term >= 1
    assert 0.0 <= alone.score <= 1.0
    assert alone.state == "running"
    with hs.Cluster.connect(alone.address) as client:
        assert client.submit("square", 12).result(30) == 144
    assert [m.name for m in alone.members()] == ["solo"]
    assert any(r["kind"] == "became_leader" for r in alone.events)
    assert "solo" in alone._repr_html_()


def test_a_node_tells_the_tasks_it_knows(alone: hs.Node) -> None:
    assert alone.address is not None
    with hs.Cluster.connect(alone.address) as client:
        job = client.submit("square", 4)
        assert job.result(30) == 16
    told = {row["task_id"]: row for row in alone.tasks("succeeded")}
    assert told[str(job.task_id)]["function"] == "square"
    assert alone.tasks("failed") == []
    with pytest.raises(hs.ConfigError, match="is not a state; choose one of pending"):
        alone.tasks("bogus")


def test_close_names_are_offered_for_an_unregistered_task(alone: hs.Node) -> None:
    assert alone.address is not None
    with hs.Cluster.connect(alone.address) as client:
        for name in ("sqare", "os.system", "__import__", "../square"):
            with pytest.raises(hs.TaskNotRegisteredError):
                client.submit(name, 1).result(30)
        with pytest.raises(hs.TaskNotRegisteredError, match="square"):
            client.submit("sqare", 1).result(30)


def test_founders_with_one_list_form_one_cluster_and_a_later_node_joins() -> None:
    places = [f"127.0.0.1:{port}" for port in free_ports(3)]
    with contextlib.ExitStack() as stack:
        nodes = []
        for i, place in enumerate(places):
            node = hs.Node(
                f"f{i}", listen=place, voters=3, join=places, slots=1, config=hs.Config.ci()
            )
            node.bind()
            node.enter()
            stack.callback(node.stop, 5)
            nodes.append(node)
        for node in nodes:
            node.wait_ready(30)
        later = hs.Node("late", join=[places[0]], slots=1, config=hs.Config.ci()).start()
        stack.callback(later.stop, 5)
        eventually(lambda: {m.name for m in nodes[0].members()} == {"f0", "f1", "f2", "late"})
        assert later.role == "worker"
        assert sum(node.role == "leader" for node in nodes) == 1


def test_stop_is_final_and_can_be_repeated(alone: hs.Node) -> None:
    assert alone.stop(5)
    assert alone.stop(5)
    assert alone.state == "stopped"
    with pytest.raises(hs.StoppedError):
        alone.start()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"listen": "0.0.0.0:7400"}, hs.InsecureBindError),
        ({"listen": "127.0.0.1"}, hs.InvalidAddressError),
        ({"listen": "127.0.0.1:70000"}, hs.InvalidAddressError),
        ({"slots": 0}, hs.ConfigError),
        ({"position": (0.0, float("inf"))}, hs.ConfigError),
        ({"voters": 3, "join": ["127.0.0.1:1"]}, hs.InvalidPeersError),
        ({"voters": 0, "join": []}, hs.ConfigError),
        ({"join": ["127.0.0.1:1", "127.0.0.1:1"]}, hs.InvalidPeersError),
        ({"config": "lan"}, hs.ConfigError),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        hs.Node("bad", **arguments).bind()


def test_a_founder_must_be_in_its_own_list() -> None:
    places = [f"127.0.0.1:{port}" for port in free_ports(3)]
    node = hs.Node("stranger", voters=3, join=places, config=hs.Config.ci())
    node.bind()
    with pytest.raises(hs.InvalidPeersError, match="not among"):
        node.enter()
    node.abort()


def test_a_taken_port_is_said_plainly(alone: hs.Node) -> None:
    assert alone.address is not None
    with pytest.raises(hs.BindError, match=alone.address.rpartition(":")[2]):
        hs.Node("second", listen=alone.address).bind()


def test_a_function_that_cannot_be_imported_needs_pickle() -> None:
    node = hs.Node("strict", config=hs.Config.ci())
    with pytest.raises(hs.ConfigError, match="allow_pickle"):
        node.register("local", lambda: 1)
    node.abort()
