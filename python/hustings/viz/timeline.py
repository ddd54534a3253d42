"""Who led when: a lane per node, with everything that was done to nodes and links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..story import Lane, Story, change_to_enlarge, tell_story
from . import style
from .closeup import MOST_LANES, draw_change
from .troubles import Troubles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAR = 0.5
"""Height of a reign, in lanes."""
ROOM = 24.0
"""Points of width that the votes and polls of an election need; with less they are left out."""
ARROWS, BATONS = 60, 200
"""Past that many handovers and failovers no lines between lanes are drawn."""

_MARKS = {
    "suspected": ("v", style.ORANGE, style.INK, "suspects the leader"),
    "misjudged": ("v", "white", style.ORANGE, "suspects it wrongly"),
    "campaigned": ("D", style.INK, "white", "campaigns"),
    "polled": ("o", "white", style.INK, "polls"),
    "voted": (".", style.INK, style.INK, "votes"),
}


def elections(obj: Any, ax: Axes | None = None, *, zoom: bool = True) -> Axes:
    """Who led when: a lane per node; without ``ax`` the last failover is drawn enlarged as well.

    Args:
        obj: a cluster, its events, a simulated run, a list of rows or a data frame of them.
        ax: where to draw; without it, a figure of its own.
        zoom: whether that figure has a second picture, of one change of leader in milliseconds.
    """
    story = tell_story(obj)
    change = change_to_enlarge(story) if zoom and ax is None else None
    lanes = len(story.lanes)
    height = 1.75 + lane_inches(lanes) * lanes
    if ax is None and change is not None:
        if lanes <= MOST_LANES:
            shape: style.Look = {"figsize": (13, height), "ncols": 2, "width_ratios": (1.55, 1)}
        else:
            shape = {"figsize": (11, height + 4), "nrows": 2, "height_ratios": (height, 4)}
        _, (ax, detail) = style.pyplot().subplots(layout="constrained", **shape)
        draw_change(story, change, detail)
    ax = ax or style.new_axes(height)
    draw_timeline(story, ax)
    return ax


def lane_inches(lanes: int) -> float:
    """Height of a lane: many nodes have narrow ones."""
    return max(0.27, min(0.62, 7.0 / max(lanes, 1)))


def draw_timeline(story: Story, ax: Axes) -> None:
    """Draws the lanes into ``ax``."""
    _Timeline(story, ax).draw()


class _Timeline:
    """One drawing of a story."""

    def __init__(self, story: Story, ax: Axes) -> None:
        self.story = story
        self.ax = ax
        self.time = style.TimeAxis(story.end)
        self.x = self.time.x
        self.points = max(style.points_wide(ax), 50.0)
        lane_points = float(ax.get_window_extent().height) / float(ax.figure.dpi) * 72
        self.lane_points = max(4.0, lane_points / max(len(story.lanes), 1))

    def draw(self) -> None:
        dress_lanes(self.story, self.ax)
        self.time.dress(self.ax)
        for lane in self.story.lanes.values():
            self._score(lane)
            self._reigns(lane)
        handles = [_patch("leads", color="#555555")]
        handles += Troubles(self.story, self.ax, self.x, self.points, self.lane_points).draw()
        handles += self._marks() + self._changes()
        if any(len(lane.scores) > 1 for lane in self.story.lanes.values()):
            handles.append(_patch("score", color="#555555", alpha=0.2))
        counts = [_count(len(self.story.lanes), "node")]
        counts.append(_count(len(self.story.elections), "election"))
        style.title(self.ax, f"Who led when: {', '.join(counts)}")
        style.legend_below(self.ax, handles)

    def seconds(self, points: float) -> float:
        """How long so many points of width are."""
        return points / self.points * self.story.end

    def _score(self, lane: Lane) -> None:
        """Each lane's floor is its score."""
        if len(lane.scores) < 2:
            return
        top = max(1.0, *(s for other in self.story.lanes.values() for _, s in other.scores))
        step = max(1, len(lane.scores) // 400)
        points = lane.scores[::step]
        until = lane.scores[-1][0]
        points = [*points, (until, points[-1][1])]
        floor = lane.y - 0.46
        self.ax.fill_between(
            [self.x(at) for at, _ in points],
            floor,
            [floor + 0.3 * max(0.0, score) / top for _, score in points],
            color=style.colour(lane.number),
            alpha=0.18,
            linewidth=0,
            step="post",
            zorder=0.5,
        )

    def _reigns(self, lane: Lane) -> None:
        colour = style.colour(lane.number)
        least = self.seconds(1.5)
        for since, until, term in lane.led:
            length = max(until - since, least)
            self.ax.barh(
                lane.y, self.x(length), left=self.x(since), height=BAR, color=colour, zorder=3
            )
            room = length / self.story.end * self.points - 6
            size = min(style.TEXT, 0.8 * BAR * self.lane_points)
            for words in (f"leads, term {term}", f"term {term}", f"{term}"):
                if size >= 5 and style.text_points(words, size) < room:
                    self.ax.text(
                        self.x(since + length / 2),
                        lane.y - 0.01,
                        words,
                        ha="center",
                        va="center",
                        color="white",
                        fontsize=size,
                        fontweight="bold",
                        zorder=6,
                        clip_on=True,
                    )
                    break

    def _marks(self) -> list[Any]:
        """Suspicions above the lane's line, candidacies on it; near ones are one larger mark."""
        dense = len(self.story.elections) * ROOM > self.points
        crowded = len(self.story.elections) * ROOM > 6 * self.points
        size = min(5.5, 0.35 * self.lane_points) * (0.75 if dense else 1.0)
        gap = self.seconds(1.3 * size)
        handles = []
        for kind, (marker, fill, edge, label) in _MARKS.items():
            if (dense and kind in ("polled", "voted")) or (crowded and kind == "suspected"):
                continue
            above = 0.36 if kind in ("suspected", "misjudged") else -0.36
            places = []
            for lane in self.story.lanes.values():
                moments = lane.marks.get(kind, [])
                if kind == "campaigned":
                    moments = _in_vain(moments, lane)
                places += [(at, lane.y + above, n) for at, n in style.gather(moments, gap)]
            if not places:
                continue
            area = [size**2 * min(2.5, n**0.3) for _, _, n in places]
            self.ax.scatter(
                [self.x(at) for at, _, _ in places],
                [y for _, y, _ in places],
                s=area,
                marker=marker,
                color=fill,
                edgecolors=edge,
                linewidths=0.6,
                zorder=7,
            )
            if kind == "campaigned":
                label = "campaigns in vain"
            handles.append(_marker(label, marker, fill, edge))
        return handles

    def _changes(self) -> list[Any]:
        """An arrow for each handover, a thin line for each failover."""
        handles: list[Any] = []
        lanes = self.story.lanes
        begun = [h for h in self.story.handovers if h.from_node in lanes and h.to_node in lanes]
        done = [h for h in begun if h.outcome == "done"]
        vain = [h for h in begun if h.outcome != "done"]
        for some, line, label in ((done, "-", "hands over"), (vain, ":", "hands over in vain")):
            if some and len(some) <= ARROWS:
                for handover in some:
                    at = self.x(self.story.at(handover.at_us))
                    self._arrow(at, lanes[handover.from_node].y, lanes[handover.to_node].y, line)
            if some:
                handles.append(_line(label, color=style.INK, linestyle=line, marker=">"))
        failovers = [e for e in self.story.elections if e.cause == "failover"]
        for election in failovers if len(failovers) <= BATONS else ():
            old, new = lanes.get(election.previous or ""), lanes.get(election.leader)
            if old is not None and new is not None and old is not new:
                at = self.x(self.story.at(election.at_us))
                self.ax.plot((at, at), (old.y, new.y), color=style.SOFT, linewidth=0.8, zorder=2.5)
        return handles

    def _arrow(self, at: float, old: float, new: float, line: str) -> None:
        self.ax.annotate(
            "",
            (at, new + (BAR / 2 if old > new else -BAR / 2)),
            (at, old),
            zorder=6,
            arrowprops={
                "arrowstyle": "-|>,head_width=0.22,head_length=0.4",
                "color": style.INK,
                "linewidth": 1.2,
                "linestyle": line,
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )


def _in_vain(campaigns: list[float], lane: Lane) -> list[float]:
    """The campaigns that no reign followed at once: a won one is where a bar begins."""
    begins = sorted(since for since, _, _ in lane.led)
    vain, place = [], 0
    for at in campaigns:
        while place < len(begins) and begins[place] < at:
            place += 1
        if place == len(begins) or begins[place] - at > 0.5:
            vain.append(at)
    return vain


def dress_lanes(story: Story, ax: Axes) -> None:
    """Names at the left, one lane below the other."""
    lanes = sorted(story.lanes.values(), key=lambda lane: lane.y)
    ax.set_yticks([lane.y for lane in lanes], [lane.name for lane in lanes])
    ax.set_ylim(-0.6, len(lanes) - 0.4)
    style.plain(ax)
    ax.tick_params(axis="y", length=0)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _patch(label: str, **look: Any) -> Any:
    from matplotlib.patches import Patch

    return Patch(label=label, **look)


def _line(label: str, **look: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **{"markersize": 5, "linewidth": 1.2, **look})


def _marker(label: str, marker: str, fill: str, edge: str) -> Any:
    return _line(
        label,
        marker=marker,
        linestyle="",
        color=fill,
        markeredgecolor=edge,
        markeredgewidth=0.6,
        markersize=6,
    )
