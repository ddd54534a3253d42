"""Scores and ranks of each node, as lines over time."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..story import Lane, Story, tell_story
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 600
"""Points a line is thinned to: the mean of each column of the picture, and its least and most."""
STRIP_COLUMNS = 150
"""Changes of one rank that are drawn one by one."""
STRIP = 0.05
"""Height of one rank in the strip below the scores, as a part of the scores' height."""


def scores(obj: Any, ax: Axes | None = None) -> Axes:
    """The score of every node as the leader saw it; the leader's is thick, and below stands who
    would have followed: the best in the upper row, then the second, and so on.

    Args:
        obj: a cluster, its events, a simulated run, a list of rows or a data frame of them.
        ax: where to draw; without it, a figure of its own.
    """
    story = tell_story(obj)
    if ax is None:
        ax = style.new_axes(4.4)
    time = style.TimeAxis(story.end)
    time.dress(ax)
    series = {name: lane.scores for name, lane in story.lanes.items() if lane.scores}
    if not series:
        raise ValueError("no leader has written scores yet: nothing to draw")
    top = max((score for points in series.values() for _, score in points), default=1.0)
    top = 1.0 if top <= 1.0 else 1.05 * top
    for name, points in series.items():
        _draw_line(ax, time, points, style.colour(story.lanes[name].number), story.end)
    for lane in story.lanes.values():
        _draw_reign(ax, time, lane, story.end)
    depth = _draw_ranks(ax, time, story, top)
    _draw_moves(ax, time, story, top)
    style.plain(ax)
    ax.grid(axis="y", color=style.GRID)
    ax.set_ylim(-depth - 0.01 * top, 1.09 * top)
    ticks = [top * i / 4 for i in range(5)] if top == 1.0 else ax.get_yticks()
    ax.set_yticks([tick for tick in ticks if 0.0 <= tick <= top])
    ax.set_ylabel("score (higher is better)", fontsize=style.TEXT)
    style.title(ax, "Who would lead best, and who leads (thick line)")
    _label_ends(ax, time, [(_last(points), story.lanes[n]) for n, points in series.items()], top)
    return ax


def _columns(points: list[tuple[float, float]], end: float) -> list[tuple[float, ...]]:
    """(time, mean, least, most) of each column that has points; a gap where nothing was heard."""
    columns: dict[int, list[tuple[float, float]]] = {}
    thin = len(points) > COLUMNS
    for place, (at, value) in enumerate(points):
        column = int(at / end * COLUMNS) if thin else place
        columns.setdefault(column, []).append((at, value))
    thinned: list[tuple[float, ...]] = []
    for group in columns.values():
        values = [value for _, value in group if value != 0.0] or [math.nan]
        mean = sum(values) / len(values)
        thinned.append((group[len(group) // 2][0], mean, min(values), max(values)))
    return thinned


def _draw_line(
    ax: Axes,
    time: style.TimeAxis,
    points: list[tuple[float, float]],
    colour: str,
    end: float,
) -> None:
    columns = _columns(points, end)
    x = [time.x(at) for at, *_ in columns]
    ax.step(
        x,
        [mean for _, mean, _, _ in columns],
        where="post",
        color=colour,
        linewidth=1.1,
        zorder=3,
    )
    if len(points) > COLUMNS:
        low, high = [c[2] for c in columns], [c[3] for c in columns]
        ax.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0, zorder=1)


def _draw_reign(ax: Axes, time: style.TimeAxis, lane: Lane, end: float) -> None:
    """The leader's line again, thick, as long as it led."""
    columns = _columns(lane.scores, end)
    place = 0
    for since, until, _ in lane.led:
        while place < len(columns) and columns[place][0] <= since:
            place += 1
        begin = max(0, place - 1)
        while place < len(columns) and columns[place][0] <= until:
            place += 1
        held = columns[begin:place]
        if held:
            ax.step(
                [time.x(at) for at in (max(since, held[0][0]), *(c[0] for c in held[1:]), until)],
                [*(mean for _, mean, _, _ in held), held[-1][1]],
                where="post",
                color=style.colour(lane.number),
                linewidth=3.6,
                solid_capstyle="butt",
                zorder=4,
            )


def _draw_ranks(ax: Axes, time: style.TimeAxis, story: Story, top: float) -> float:
    """A row for each rank below the scores, in the colour of the node that held it; its depth."""
    told: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for name, history in story.log.scores().items():
        for us, rank in zip(history.at_us, history.ranks, strict=True):
            if name in story.lanes:
                told[rank].append((story.at(us), story.lanes[name].number))
    ranks = {rank: _changes(sorted(moments)) for rank, moments in told.items()}
    first = 0.08 * top
    for rank, held in sorted(ranks.items()):
        held = _longest_held(held, story.end)
        ends = [at for at, _ in held[1:]] + [story.end]
        spans = [
            (time.x(at), time.x(end) - time.x(at)) for (at, _), end in zip(held, ends, strict=True)
        ]
        ax.broken_barh(
            spans,
            (-first - (rank + 0.9) * STRIP * top, 0.8 * STRIP * top),
            facecolors=[style.colour(number) for _, number in held],
            zorder=2,
        )
    ax.text(
        0.0,
        -0.02 * top,
        "ranks: the best, the second, ...",
        fontsize=style.SMALL,
        color=style.SOFT,
        va="top",
    )
    return first + (max(ranks) + 1.0) * STRIP * top


def _changes(moments: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Without what repeats the one before."""
    return [now for before, now in pairwise([(0.0, -1), *moments]) if now[1] != before[1]]


def _longest_held(held: list[tuple[float, int]], end: float) -> list[tuple[float, int]]:
    """The same changes, or, where there are too many to see, who held longest in each column."""
    if len(held) <= STRIP_COLUMNS:
        return held
    width = end / STRIP_COLUMNS
    columns: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for (at, number), (until, _) in pairwise([*held, (end, -1)]):
        column = int(at / width)
        while column * width < until:
            begin, finish = max(at, column * width), min(until, (column + 1) * width)
            columns[column][number] += max(0.0, finish - begin)
            column += 1
    return [(n * width, max(times, key=times.__getitem__)) for n, times in sorted(columns.items())]


def _draw_moves(ax: Axes, time: style.TimeAxis, story: Story, top: float) -> None:
    """A line for each change of leader: solid for a handover, dotted where one was lost."""
    moves = [e for e in story.elections if e.previous is not None]
    room = style.points_wide(ax) / max(len(moves), 1)
    for election in moves:
        planned = election.cause == "handover"
        at = time.x(story.at(election.at_us))
        ax.plot(
            (at, at),
            (0.0, 1.02 * top),
            color=style.INK if planned else style.RED,
            linewidth=0.9 if room > 12 else 0.4,
            linestyle="-" if planned else ":",
            zorder=2.5,
        )
    placed = -1e9
    for election in moves:
        at = story.at(election.at_us)
        words = f"{election.previous}→{election.leader}"
        wide = 1.25 * style.text_points(words, style.SMALL) / style.points_wide(ax) * story.end
        if at - wide / 2 > placed:
            planned = election.cause == "handover"
            ax.text(
                time.x(at),
                1.03 * top,
                words,
                fontsize=style.SMALL,
                ha="center",
                va="bottom",
                color=style.INK if planned else style.RED,
                clip_on=True,
            )
            placed = at + wide / 2


def _last(points: list[tuple[float, float]]) -> float:
    """The last score that was heard."""
    return next((score for _, score in reversed(points) if score != 0.0), 0.0)


def _label_ends(
    ax: Axes, time: style.TimeAxis, lasts: list[tuple[float, Lane]], top: float
) -> None:
    """Names at the right, moved apart where the lines end near each other."""
    height = float(ax.get_window_extent().height) / float(ax.figure.dpi) * 72
    low, high = ax.get_ylim()
    gap = 1.2 * style.TEXT / max(height, 1.0) * (high - low)
    lasts = sorted(lasts, key=lambda last: last[0])
    for y, (value, lane) in zip(_spread([v for v, _ in lasts], gap), lasts, strict=True):
        ax.annotate(
            lane.name,
            (time.end, value),
            (1.015 * time.end, y),
            fontsize=style.TEXT,
            fontweight="bold",
            va="center",
            color=style.colour(lane.number),
            annotation_clip=False,
        )


def _spread(values: list[float], gap: float) -> list[float]:
    """Rising values, moved as little as keeps them ``gap`` apart: crowds stay in the middle."""
    crowds: list[list[float]] = []
    for value in values:
        crowds.append([value])
        while len(crowds) > 1 and _places(crowds[-2], gap)[-1] + gap > _places(crowds[-1], gap)[0]:
            last = crowds.pop()
            crowds[-1] += last
    return [place for crowd in crowds for place in _places(crowd, gap)]


def _places(crowd: list[float], gap: float) -> list[float]:
    middle = sum(crowd) / len(crowd)
    return [middle + (i - (len(crowd) - 1) / 2) * gap for i in range(len(crowd))]
