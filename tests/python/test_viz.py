"""``viz``: pictures from rows; what they must contain."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hustings as hs
from rows import IDS, START_US, Rows, make_rows

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    import matplotlib.pyplot

    matplotlib.pyplot.close("all")


def texts(ax: Any) -> str:
    return " ".join(text.get_text() for text in ax.texts) + ax.get_title(loc="left")


def legend(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def words_of(figure: Any) -> list[Any]:
    """All texts that are drawn; matplotlib also keeps labels of ticks outside the view."""
    found = []
    for ax in figure.axes:
        found += [*ax.texts, ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label]
        if ax.get_legend() is not None:
            found += ax.get_legend().get_texts()
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True)
            found += [label for label, place in ticks if low <= place <= high]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def check_legible(figure: Any) -> None:
    """Draws the figure; no text lies on another, and none is cut off."""
    figure.canvas.draw()
    boxes = [(text.get_text(), text.get_window_extent()) for text in words_of(figure)]
    assert len(boxes) > 5
    # A pixel of air around each text does not count.
    tight = [(words, box.padded(-1)) for words, box in boxes]
    for (one, a), (other, b) in itertools.combinations(tight, 2):
        assert not a.overlaps(b), f"{one!r} lies on {other!r}"
    for words, box in tight:
        assert figure.bbox.x0 <= box.x0, f"{words!r} is cut off at the left"
        assert box.x1 <= figure.bbox.x1, f"{words!r} is cut off at the right"
        assert figure.bbox.y0 <= box.y0, f"{words!r} is cut off below"
        assert box.y1 <= figure.bbox.y1, f"{words!r} is cut off above"


def troubled() -> Rows:
    """Everything that can be drawn, in ten seconds."""
    rows = make_rows()
    rows.add(5.0, "n1", "fault", None, detail="partitioned: n1 n2 n4 | n3 n5")
    rows.add(5.8, "n1", "fault", None, detail="healed")
    rows.add(5.9, "n1", "fault", None, detail="partitioned: n4 | n1 n2 n3 n5")
    rows.add(6.0, "n1", "fault", "n4", detail="cut")
    rows.add(6.1, "n4", "fault", "n5", detail="delayed", value=0.05)
    rows.add(6.2, "n2", "fault", "n5", detail="lossy", value=0.3)
    rows.add(6.8, "n1", "fault", None, detail="healed")
    rows.add(7.0, "n5", "fault", "n5", detail="clock", value=2.0)
    rows.fault(7.1, "restarted", "n3")
    rows.add(7.5, "n4", "suspected", "n1", term=2, value=0.2)
    rows.add(7.6, "n4", "false_suspicion", "n1", term=2, value=0.3)
    rows.handover(9.8, "n1", 2, "n4")
    rows.handover(9.9, "n4", 3, "n5", winner="n4")
    return rows


def busy(nodes: int, seconds: int, every: float) -> Rows:
    """A leader change every so many seconds, and a table per second."""
    rows = Rows()
    names = list(IDS)[:nodes]
    for name in names:
        rows.add(0.0, name, "node_started")
    rows.add(0.1, "n1", "became_leader", "n1", term=1)
    leader, term, last = "n1", 1, 0.0
    for second in range(1, seconds):
        rows.table(second, leader, term, *names[:5])
        if second - last >= every:
            old, leader = leader, names[term % 3]
            if old != leader:
                term, last = term + 1, second
                rows.fault(second + 0.1, "killed", old)
                rows.campaign(second + 0.11, leader, term, old, *names[-2:])
                rows.fault(second + 0.6, "restarted", old)
    return rows


def test_elections_show_who_led_in_which_term() -> None:
    ax = hs.viz.elections(make_rows())
    assert [t.get_text() for t in ax.get_yticklabels()] == ["n5", "n4", "n3", "n2", "n1"]
    assert "leads, term 1" in texts(ax)
    assert "leads, term 2" in texts(ax)
    assert {"leads", "killed", "frozen", "suspects the leader"} <= set(legend(ax))
    _, detail = ax.figure.axes
    assert "n3 → n1 in 30 ms" in texts(detail)
    assert "noticed after 8.0 ms" in texts(detail)


def test_every_kind_of_fault_has_its_mark() -> None:
    ax = hs.viz.elections(troubled())
    wanted = {"partition, side 1", "partition, side 2", "cut link", "slow link", "lossy link"}
    wanted |= {
        "cut off from all",
        "clock is wrong",
        "suspects it wrongly",
        "hands over",
        "hands over in vain",
    }
    assert wanted <= set(legend(ax))
    check_legible(ax.figure)


@pytest.mark.parametrize(("nodes", "seconds", "every"), [(3, 10, 3), (25, 10, 3), (25, 1800, 4)])
def test_large_and_long_histories_stay_legible(nodes: int, seconds: int, every: float) -> None:
    rows = busy(nodes, seconds, every)
    for draw in (hs.viz.elections, hs.viz.scores):
        check_legible(draw(rows).figure)
    ax = hs.viz.elections(rows, zoom=False)
    marks = sum(len(points.get_offsets()) for points in ax.collections)
    assert marks <= 200 * nodes
    assert ax.figure.get_size_inches()[0] == 9.5


def test_bars_of_leaders_never_overlap() -> None:
    from hustings.story import tell_story

    story = tell_story(make_rows())
    reigns = sorted(reign for lane in story.lanes.values() for reign in lane.led)
    assert len(reigns) == 2
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(reigns))
    assert story.lanes["n3"].led[0][1] == pytest.approx(4.5)


def test_any_source_will_do_and_an_axes_is_reused() -> None:
    from matplotlib.figure import Figure

    log = hs.EventLog(make_rows())
    ax = Figure().add_subplot()
    assert hs.viz.elections(log, ax) is ax
    pytest.importorskip("pandas")
    same = hs.viz.elections(log.to_pandas(), Figure().add_subplot())
    assert legend(same) == legend(ax)
    assert len(hs.viz.load(log, Figure().add_subplot()).lines) == 5
    for draw in (hs.viz.scores, hs.viz.failover_cdf):
        ax = Figure().add_subplot()
        assert draw(log, ax) is ax


def test_four_pictures_share_a_figure() -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9.5, 8), layout="constrained")
    draws = (hs.viz.elections, hs.viz.scores, hs.viz.load, hs.viz.failover_cdf)
    for draw, ax in zip(draws, axes.flat, strict=True):
        draw(troubled(), ax)
    check_legible(figure)


def test_scores_break_off_where_nothing_was_heard() -> None:
    rows = make_rows()
    for row in rows:
        if row["kind"] == "scored" and row["subject"] == IDS["n3"] and row["term"] == 2:
            row["score"] = 0.0
    ax = hs.viz.scores(rows)
    thin = {line.get_color(): line.get_ydata() for line in ax.lines if line.get_linewidth() == 1.1}
    assert len(thin) == 5
    heard = [sum(y == y for y in values) for values in thin.values()]
    assert sorted(heard) == [17, 38, 38, 38, 38]
    assert "n3→n1" in texts(ax)


def test_a_cdf_takes_what_has_failovers_or_seconds() -> None:
    log = hs.EventLog(make_rows())
    sources = {
        "events": log,
        "several": [log, log],
        "failovers": log.failovers(),
        "seconds": [0.5, 0.1, 0.3, 0.2],
        "none": [],
    }
    ax = hs.viz.failover_cdf(sources, goals={0.5: 0.02, 0.99: 0.06})
    rows = [text.split() for text in legend(ax)]
    assert rows[0] == ["failovers", "p50", "p90", "p99", "max", "/", "ms"]
    assert rows[1] == ["events", "1", "30.0", "30.0", "30.0", "30.0"]
    assert [row[1] for row in rows[2:4]] == ["2", "1"]
    assert rows[4] == ["seconds", "4", "200", "500", "500", "500"]
    assert rows[5] == ["goals", "20.0", "60.0"]
    check_legible(ax.figure)
    for bad, error in (([], ValueError), ("x", TypeError), ({"a": object()}, TypeError)):
        with pytest.raises(error):
            hs.viz.failover_cdf(bad)


def test_moves_and_reactions_stand_in_one_picture() -> None:
    calm = {"nervous": busy(5, 600, 4), "calm": busy(5, 600, 200), "never": busy(5, 600, 1e9)}
    reactions = {"nervous": [0.1, 0.2, 0.3], "calm": [8.0, 9.0, 12.0]}
    ax = hs.viz.leader_moves({k: hs.EventLog(v) for k, v in calm.items()}, reactions)
    rows = [text.split() for text in legend(ax)]
    assert rows[2][0] == "calm"
    assert rows[2][2:] == ["9", "12"]
    assert rows[3] == ["never", "0", "never", "never"]
    check_legible(ax.figure)


def test_a_reaction_is_the_next_move() -> None:
    log = hs.EventLog(make_rows())
    assert log.reaction_s(START_US + 4_000_000) == pytest.approx(0.53)
    assert log.reaction_s(START_US + 5_000_000) is None


def test_the_picture_is_saved_without_a_display(tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    hs.viz.picture(make_rows(), "a title").savefig(file)
    assert file.stat().st_size > 20_000


@pytest.mark.parametrize(("bad", "error"), [([], ValueError), (3, TypeError), ("x", TypeError)])
def test_nothing_to_draw_is_an_error(bad: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        hs.viz.elections(bad)
