"""Pictures of what happened: who led when, how a failover went, how much work every node held.
Needs matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .elections import Election
from .errors import HustingsError
from .story import Lane, Story, last_failover, tell_story

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RED, _ICE, _INK, _FAINT = "#C1121F", "#CFE8F7", "#222222", "#C9CDD2"
_ZOOM_BEFORE_MS, _ZOOM_AFTER_MS = 0.15, 0.35
"""Margins of the enlarged failover, as parts of its length."""


def elections(obj: Any, ax: Axes | None = None, *, zoom: bool = True) -> Axes:
    """Who led when: a lane per node; without ``ax`` the failover is drawn enlarged beside it.

    ``obj``: a cluster, an event log, a list of rows or a data frame of them.
    """
    story = tell_story(obj)
    failover = last_failover(story)
    if ax is None:
        plt = _pyplot()
        height = 1.6 + 0.62 * len(story.lanes)
        if zoom and failover is not None:
            _, (ax, detail) = plt.subplots(
                1, 2, figsize=(13, height), width_ratios=(1.55, 1), layout="constrained"
            )
            _draw_failover(story, failover, detail)
        else:
            _, ax = plt.subplots(figsize=(9.5, height), layout="constrained")
    assert ax is not None
    _draw_timeline(story, ax)
    return ax


def load(obj: Any, ax: Axes | None = None) -> Axes:
    """How many tasks every node held, queued and running, as the leader saw it."""
    return _lines(obj, ax, "loaded", "value", "tasks queued and running", "Work held by each node")


def scores(obj: Any, ax: Axes | None = None) -> Axes:
    """The score of every node, as the leader saw it: the best one is next in line."""
    return _lines(obj, ax, "scored", "score", "score (higher is better)", "Who would lead best")


def picture(obj: Any, title: str = "") -> Figure:
    """Timeline, enlarged failover and load in one figure of its own, for saving without a
    display."""
    _pyplot()
    from matplotlib.figure import Figure as NewFigure

    story = tell_story(obj)
    failover = last_failover(story)
    figure = NewFigure(figsize=(13.5, 3.6 + 0.75 * len(story.lanes)))
    figure.set_layout_engine("constrained", h_pad=0.12)
    grid = figure.add_gridspec(2, 2, width_ratios=(1.55, 1), height_ratios=(1.5, 1))
    whole = figure.add_subplot(grid[0, 0] if failover is not None else grid[0, :])
    _draw_timeline(story, whole)
    if failover is not None:
        _draw_failover(story, failover, figure.add_subplot(grid[0, 1]))
    below = figure.add_subplot(grid[1, 0] if failover is not None else grid[1, :], sharex=whole)
    load(story.log, below)
    if title:
        figure.suptitle(title, fontsize=13, fontweight="bold", color=_INK, x=0.01, ha="left")
    return figure


# --- drawing


def _draw_timeline(story: Story, ax: Axes) -> None:
    for lane in story.lanes.values():
        _draw_life(lane, story.end, ax)
        for since, until, term in lane.led:
            ax.barh(lane.y, until - since, left=since, height=0.5, color=lane.colour, zorder=3)
            # A short reign has no room for words inside its bar.
            if until - since > 0.09 * story.end:
                ax.text(
                    (since + until) / 2,
                    lane.y,
                    f"leads, term {term}",
                    ha="center",
                    va="center",
                    color="white",
                    fontsize=9,
                    fontweight="bold",
                    zorder=6,
                    clip_on=True,
                )
            else:
                ax.text(
                    since,
                    lane.y + 0.3,
                    f"term {term}",
                    ha="left",
                    va="bottom",
                    color=lane.colour,
                    fontsize=8,
                    zorder=6,
                    clip_on=True,
                )
        for since, _ in lane.down:
            ax.plot(
                since,
                lane.y,
                marker="X",
                markersize=12,
                color=_RED,
                markeredgecolor="white",
                zorder=7,
            )
    suspicions = _draw_suspicions(story, ax)
    _dress(story, ax)
    ax.set_xlim(-0.01 * story.end, 1.01 * story.end)
    ax.set_xlabel("seconds since the start")
    ax.set_title(
        "Who led when: the thick bar is the leader, there is one at a time", loc="left", fontsize=11
    )
    _legend(story, ax, suspicions)


def _draw_suspicions(story: Story, ax: Axes) -> bool:
    marks = [
        (story.at(r["at_us"]), story.lanes[story.log.name_of(r["node"])].y)
        for r in story.log
        if r["kind"] == "suspected"
    ]
    if marks:
        ax.scatter(
            [x for x, _ in marks],
            [y for _, y in marks],
            marker="v",
            s=26,
            color="#F28E2B",
            zorder=5,
            edgecolors="white",
            linewidths=0.5,
        )
    return bool(marks)


def _draw_life(lane: Lane, end: float, ax: Axes) -> None:
    alive_from = 0.0
    for since, until in lane.down:
        ax.plot((alive_from, since), (lane.y, lane.y), color=_FAINT, linewidth=1.5, zorder=1)
        ax.plot((since, until), (lane.y, lane.y), color=_RED, linewidth=1, linestyle=":", zorder=1)
        alive_from = until
    if alive_from < end:
        ax.plot((alive_from, end), (lane.y, lane.y), color=_FAINT, linewidth=1.5, zorder=1)
    for since, until in lane.frozen:
        ax.barh(
            lane.y,
            until - since,
            left=since,
            height=0.5,
            color=_ICE,
            edgecolor="#5AA9D6",
            hatch="////",
            linewidth=0.8,
            zorder=2,
        )
    if len(lane.scores) > 1:
        times, values = zip(*lane.scores, strict=True)
        base = lane.y - 0.42
        ax.fill_between(
            times,
            base,
            [base + 0.3 * v for v in values],
            color=lane.colour,
            alpha=0.16,
            linewidth=0,
            zorder=0,
        )


def _draw_failover(story: Story, election: Election, ax: Axes) -> None:
    """The same lanes in milliseconds around one change of leader, with every step of it."""
    length = max(float(election.duration_s or 0.0), 1e-3)
    begin = story.at(election.at_us) - length
    low, high = -_ZOOM_BEFORE_MS * length * 1e3, (1 + _ZOOM_AFTER_MS) * length * 1e3

    def x(seconds: float) -> float:
        return (seconds - begin) * 1e3

    for lane in story.lanes.values():
        ax.plot((low, high), (lane.y, lane.y), color=_FAINT, linewidth=1.5, zorder=1)
        for since, until, _term in lane.led:
            left, right = max(x(since), low), min(x(until), high)
            if left < right:
                ax.barh(lane.y, right - left, left=left, height=0.5, color=lane.colour, zorder=2)
        for since, until in lane.down:
            if x(since) < high and x(until) > low:
                ax.plot(
                    (max(x(since), low), min(x(until), high)),
                    (lane.y, lane.y),
                    color=_RED,
                    linestyle=":",
                )
            if low <= x(since) <= high:
                ax.plot(
                    x(since),
                    lane.y,
                    marker="X",
                    markersize=12,
                    color=_RED,
                    markeredgecolor="white",
                    zorder=7,
                )
    _draw_steps(story, ax, x, low, high)
    _dress(story, ax)
    ax.set_xlim(low, high)
    ax.set_xlabel("milliseconds since the old leader was last there")
    words = (
        f"{election.previous} → {election.leader} in {length * 1e3:.0f} ms (term {election.term})"
    )
    ax.set_title(f"The failover, enlarged: {words}", loc="left", fontsize=11)


def _draw_steps(story: Story, ax: Axes, x: Any, low: float, high: float) -> None:
    looks = {
        "suspected": ("v", "#F28E2B", "suspects the leader"),
        "polled": ("o", "white", "asks: do you, too?"),
        "campaigned": ("D", _INK, "asks for votes"),
        "voted": (".", _INK, "votes"),
    }
    for kind, (marker, colour, label) in looks.items():
        points = []
        for row in story.log.filter(kind):
            at, lane = x(story.at(row["at_us"])), story.lanes.get(story.log.name_of(row["node"]))
            if lane is None or not low <= at <= high:
                continue
            points.append((at, lane.y))
            target = story.lanes.get(row["subject_name"])
            if kind == "voted" and target is not None and target is not lane:
                ax.annotate(
                    "",
                    (at, target.y),
                    (at, lane.y),
                    zorder=4,
                    arrowprops={"arrowstyle": "->", "color": "#666666", "linewidth": 0.9},
                )
        if points:
            ax.scatter(
                [x for x, _ in points],
                [y for _, y in points],
                marker=marker,
                s=44,
                color=colour,
                edgecolors=_INK,
                linewidths=0.8,
                zorder=5,
                label=label,
            )
    if ax.get_legend_handles_labels()[0]:
        _legend_below(ax, ncols=4, handletextpad=0.2, columnspacing=1.0)


def _dress(story: Story, ax: Axes) -> None:
    lanes = sorted(story.lanes.values(), key=lambda lane: lane.y)
    ax.set_yticks([lane.y for lane in lanes], [lane.name for lane in lanes])
    ax.set_ylim(-0.6, len(lanes) - 0.4)
    _plain(ax)
    ax.tick_params(axis="y", length=0)


def _plain(ax: Axes) -> None:
    ax.set_facecolor("white")
    ax.figure.set_facecolor("white")
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.grid(axis="x", color="#EEEEEE", zorder=-1)
    ax.set_axisbelow(True)


def _legend(story: Story, ax: Axes, suspicions: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    lanes = story.lanes.values()
    handles: list[Any] = [Patch(color="#555555", label="leads")]
    if any(lane.down for lane in lanes):
        handles.append(
            Line2D([], [], marker="X", color=_RED, linestyle=":", markersize=9, label="killed")
        )
    if any(lane.frozen for lane in lanes):
        handles.append(Patch(facecolor=_ICE, edgecolor="#5AA9D6", hatch="////", label="frozen"))
    if suspicions:
        handles.append(
            Line2D([], [], marker="v", color="#F28E2B", linestyle="", label="suspects the leader")
        )
    if any(len(lane.scores) > 1 for lane in lanes):
        handles.append(Patch(color="#555555", alpha=0.2, label="score (higher is better)"))
    _legend_below(ax, handles=handles, ncols=5, handletextpad=0.4, columnspacing=1.2)


def _legend_below(ax: Axes, **layout: Any) -> None:
    ax.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.17), frameon=False, fontsize=8.5, **layout
    )


def _lines(obj: Any, ax: Axes | None, kind: str, column: str, label: str, title: str) -> Axes:
    story = tell_story(obj)
    if ax is None:
        _, ax = _pyplot().subplots(figsize=(9.5, 3.2), layout="constrained")
    assert ax is not None
    series: dict[str, list[tuple[float, float]]] = {}
    for row in story.log.filter(kind):
        series.setdefault(row["subject_name"], []).append(
            (story.at(row["at_us"]), float(row[column]))
        )
    for name, lane in story.lanes.items():
        if name in series:
            times, values = zip(*series[name], strict=True)
            ax.step(times, values, where="post", color=lane.colour, linewidth=1.4, label=name)
    _plain(ax)
    ax.grid(axis="y", color="#EEEEEE")
    ax.set_ylim(bottom=0)
    ax.set_xlabel("seconds since the start")
    ax.set_ylabel(label)
    ax.set_title(title, loc="left", fontsize=11)
    if series:
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    return ax


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise HustingsError("pictures need matplotlib: pip install 'hustings[viz]'") from error
    return plt
