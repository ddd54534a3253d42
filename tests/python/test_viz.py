"""``viz``: pictures from rows; what they must contain."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

import hustings as hs
from rows import make_rows

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


def texts(ax: Any) -> str:
    return " ".join(text.get_text() for text in ax.texts) + ax.get_title(loc="left")


def test_elections_show_who_led_in_which_term() -> None:
    ax = hs.viz.elections(make_rows())
    assert [t.get_text() for t in ax.get_yticklabels()] == ["n5", "n4", "n3", "n2", "n1"]
    assert "leads, term 1" in texts(ax)
    assert "leads, term 2" in texts(ax)
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert {"leads", "killed", "frozen", "suspects the leader"} <= set(labels)
    _, detail = ax.figure.axes
    assert "n3 → n1 in 30 ms" in texts(detail)


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
    hs.viz.elections(log.to_pandas(), Figure().add_subplot())
    for draw in (hs.viz.load, hs.viz.scores):
        drawn = draw(log, Figure().add_subplot())
        assert len(drawn.lines) == 5


def test_the_picture_is_saved_without_a_display(tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    hs.viz.picture(make_rows(), "a title").savefig(file)
    assert file.stat().st_size > 20_000


@pytest.mark.parametrize(("bad", "error"), [([], ValueError), (3, TypeError), ("x", TypeError)])
def test_nothing_to_draw_is_an_error(bad: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        hs.viz.elections(bad)
