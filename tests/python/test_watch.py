"""The live view in a notebook: what its widget is told, without a browser."""

from __future__ import annotations

import queue
from typing import Any

import pytest

import fault_tasks
import hustings as hs
from conftest import eventually

pytest.importorskip("anywidget")


class View:
    """The far end of a widget: what it hears and says."""

    def __init__(self, widget: Any) -> None:
        self.widget = widget
        self.heard: queue.Queue[dict[str, Any]] = queue.Queue()
        widget.send = lambda message, *_: self.heard.put(message)

    def say(self, **content: Any) -> None:
        self.widget._handle_custom_msg(content, [])

    def next(self, kind: str) -> dict[str, Any]:
        while True:
            message = self.heard.get(timeout=30)
            if message["type"] == kind:
                return message


@pytest.fixture
def view(cluster: hs.Cluster) -> Any:
    widget = cluster.watch(0.1)
    yield View(widget)
    widget.close()


def test_a_view_is_told_the_cluster_and_what_happens(cluster: hs.Cluster, view: View) -> None:
    assert view.heard.empty(), "nobody looks yet"
    view.say(type="start")
    first = view.next("news")["news"]
    assert first["first"] is True
    assert first["status"]["leader_node"] == cluster.wait_leader().id
    told = [*first["rows"]]
    while not any(row["kind"] == "became_leader" for row in told):
        told += view.next("news")["news"]["rows"]
    assert all(row["count"] >= 1 for row in told)
    view.say(type="start")  # shown once more: it is told everything again

    def again() -> dict[str, Any] | None:
        news: dict[str, Any] = view.next("news")["news"]
        return news if news["first"] else None

    whole = eventually(again)
    assert any(row["kind"] == "became_leader" for row in whole["rows"])


def test_a_view_asks_for_tasks_and_reasons(cluster: hs.Cluster, view: View) -> None:
    future = cluster.submit(fault_tasks.echo, "x")
    future.result(30)
    view.say(type="start")
    view.say(type="ask", number=1, what="tasks", parameters={"state": "succeeded"})
    listed = view.next("answer")
    assert listed["number"] == 1
    assert str(future.task_id) in {task["task_id"] for task in listed["answer"]["tasks"]}
    view.say(type="ask", number=2, what="why", parameters={"task": str(future.task_id)})
    why = view.next("answer")["answer"]
    assert why["kind"] == "finished"
    assert why["history"][-1]["kind"] == "succeeded"
    view.say(type="ask", number=3, what="why", parameters={"task": "nonsense"})
    assert "nonsense" in view.next("answer")["problem"]


def test_it_ends_with_its_cluster_and_refuses_odd_intervals() -> None:
    with hs.Cluster.local(1, name="watched", config=hs.Config.ci()) as alone:
        view = View(alone.watch(0.1))
        view.say(type="start")
        view.next("news")
        for bad in (0, -1, float("nan"), 1e9):
            with pytest.raises(hs.ConfigError, match=r"0\.1 to 60"):
                alone.watch(bad)
    view.next("ended")
