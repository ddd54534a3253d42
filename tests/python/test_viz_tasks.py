"""Pictures of tasks: who ran what, how much each node held, where nodes stand, who stole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import hustings as hs
from test_viz import check_legible

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    import matplotlib.pyplot

    matplotlib.pyplot.close("all")


def imagined(columns: int, rows: int, **knobs: Any) -> hs.TaskRun:
    work = hs.Workload(tasks=12 * columns * rows, sizes="exponential")
    config = hs.Config(placement="random", assign_reach=2.5, **knobs)
    return hs.TaskSimulation(
        columns * rows, workload=work, positions=hs.grid(columns, rows), config=config, seed=1
    ).run()


def title(ax: Any) -> str:
    return str(ax.get_title(loc="left"))


@pytest.mark.parametrize("columns", [2, 4, 8])
@pytest.mark.parametrize("draw", [hs.viz.tasks, hs.viz.load, hs.viz.map, hs.viz.steals])
def test_every_picture_is_legible(draw: Any, columns: int) -> None:
    run = imagined(columns, max(2, columns // 2))
    check_legible(draw(run).figure)


def test_a_gantt_chart_has_a_bar_for_each_attempt() -> None:
    run = imagined(4, 2)
    ax = hs.viz.tasks(run)
    assert f"{run.tasks} attempts" in title(ax)
    bars = sum(len(collection.get_paths()) for collection in ax.collections)
    assert bars == run.tasks
    again = hs.viz.tasks(list(run.task_rows))
    assert title(again) == title(ax)


def test_steals_are_arrows_from_victim_to_thief() -> None:
    run = imagined(4, 2)
    assert run.steals > 0
    ax = hs.viz.steals(run)
    pairs = {(steal.victim, steal.thief) for steal in run.events.steals()}
    assert f"{run.steals} steals between {len(pairs)} pairs" in title(ax)
    assert len(ax.patches) == len(pairs)


def test_a_live_cluster_has_a_map_too(cluster: hs.Cluster) -> None:
    assert "on 3 nodes" in title(hs.viz.map(cluster))
    assert "steals between" in title(hs.viz.steals(cluster))


@pytest.mark.parametrize(
    ("draw", "obj", "error", "text"),
    [
        (hs.viz.tasks, 3, TypeError, "int: give a simulated run"),
        (hs.viz.tasks, [{"at_us": 1}], TypeError, "rows of a history"),
        (hs.viz.tasks, [], ValueError, "nothing to draw"),
        (hs.viz.map, 3, TypeError, "int: give a run of TaskSimulation"),
        (hs.viz.steals, [], TypeError, "list: give a run of TaskSimulation"),
        (hs.viz.load, [], ValueError, "no events"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    draw: Any, obj: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        draw(obj)
