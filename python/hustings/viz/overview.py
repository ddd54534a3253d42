"""Timeline, enlarged failover and load in one figure, to be saved without a display."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..story import change_to_enlarge, tell_story
from . import style
from .burdens import load
from .closeup import draw_change
from .timeline import draw_timeline, lane_inches

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def picture(obj: Any, title: str = "") -> Figure:
    """Timeline, enlarged change of leader and load in one figure of its own."""
    style.pyplot()
    from matplotlib.figure import Figure as NewFigure

    story = tell_story(obj)
    change = change_to_enlarge(story)
    lanes = len(story.lanes)
    figure = NewFigure(figsize=(13.5, 4.2 + 1.2 * lane_inches(lanes) * lanes))
    figure.set_layout_engine("constrained", h_pad=0.12)
    grid = figure.add_gridspec(2, 2, width_ratios=(1.55, 1), height_ratios=(1.5, 1))
    whole = figure.add_subplot(grid[0, 0] if change is not None else grid[0, :])
    draw_timeline(story, whole)
    if change is not None:
        draw_change(story, change, figure.add_subplot(grid[0, 1]))
    below = figure.add_subplot(grid[1, 0] if change is not None else grid[1, :], sharex=whole)
    load(story.log, below)
    if title:
        figure.suptitle(title, fontsize=13, fontweight="bold", color=style.INK, x=0.01, ha="left")
    return figure
