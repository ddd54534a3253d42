"""Draws faults into lanes: the dead, the frozen, sides of partitions, faulty links, wrong
clocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..fault_spans import Fault
from ..story import Story
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINK_LINES: dict[str, Any] = {"cut": ":", "delayed": "--", "lossy": "-."}
LINK_WORDS = {"cut": "cut link", "delayed": "slow link", "lossy": "lossy link"}
CROWDED = 0.35
"""Share of a lane that crosses may cover."""
ARROWS = 12
"""Past that many faulty links only the deaf ends are marked."""


class Troubles:
    """Draws the faults of a story; ``x`` places a moment in seconds."""

    def __init__(
        self,
        story: Story,
        ax: Axes,
        x: Callable[[float], float],
        points: float,
        lane_points: float,
    ) -> None:
        self.story = story
        self.ax = ax
        self.x = x
        self.points = points
        self.lane_points = lane_points

    def draw(self) -> list[Any]:
        """All of them; the entries of the legend."""
        return [
            *self._partitions(),
            *self._lives(),
            *self._frozen(),
            *self._links(),
            *self._clocks(),
        ]

    def _lives(self) -> list[Any]:
        """A line while a node lives, dots while it is dead, a cross where it was killed."""
        from matplotlib.lines import Line2D

        down = self.story.faults_of("killed")
        for lane in self.story.lanes.values():
            alive_from = 0.0
            for fault in (f for f in down if f.node == lane.name):
                since, until = self.story.span(fault)
                self._level(lane.y, alive_from, since, color=style.FAINT, linewidth=1.5)
                self._level(lane.y, since, until, color=style.RED, linewidth=1.2, linestyle=":")
                alive_from = until
            self._level(lane.y, alive_from, self.story.end, color=style.FAINT, linewidth=1.5)
        places = [(f, self.story.lanes[f.node].y) for f in down if f.node in self.story.lanes]
        if not places:
            return []
        look: style.Look = {"marker": "X", "color": style.RED, "markeredgecolor": "white"}
        size = min(11.0, 0.5 * self.lane_points)
        crowd = max(Counter(y for _, y in places).values()) * size / self.points
        if crowd > CROWDED:
            # Crosses would cover the lane; strokes do not.
            size = 0.4 * size
            look = {"marker": "|", "color": style.RED, "markeredgewidth": 0.8}
        self.ax.plot(
            [self.x(self.story.at(fault.at_us)) for fault, _ in places],
            [y for _, y in places],
            markersize=size,
            linestyle="",
            zorder=8,
            **look,
        )
        return [Line2D([], [], label="killed", **{**look, "markersize": 8, "linestyle": ":"})]

    def _level(self, y: float, since: float, until: float, **look: Any) -> None:
        if until > since:
            self.ax.plot((self.x(since), self.x(until)), (y, y), zorder=1, **look)

    def _frozen(self) -> list[Any]:
        from matplotlib.patches import Patch

        look = style.FROZEN
        found = self.story.faults_of("frozen")
        for fault in found:
            lane = self.story.lanes.get(fault.node)
            if lane is not None:
                since, until = self.story.span(fault)
                self.ax.barh(
                    lane.y,
                    self.x(until) - self.x(since),
                    left=self.x(since),
                    height=0.5,
                    linewidth=0.8,
                    zorder=2,
                    **look,
                )
        return [Patch(label="frozen", **look)] if found else []

    def _partitions(self) -> list[Any]:
        """A background for each side, from the cut to the mending; of a node that was cut off from
        all others, for it alone."""
        from matplotlib.patches import Patch

        found = self.story.faults_of("partitioned")
        alone = [fault for fault in found if fault.isolated]
        sided = [fault for fault in found if not fault.isolated]
        for fault in sided:
            since, until = (self.x(moment) for moment in self.story.span(fault))
            for side, group in enumerate(fault.groups):
                fill = style.SIDES[side % len(style.SIDES)]
                for name in group:
                    self._background(name, since, until, fill, 0.0)
            for edge in (since, until):
                self.ax.axvline(edge, color=style.SOFT, linewidth=0.8, linestyle="--", zorder=0.6)
        for fault in alone:
            since, until = (self.x(moment) for moment in self.story.span(fault))
            self._background(fault.isolated, since, until, style.CUT_OFF, 0.1)
        sides = min(max((len(fault.groups) for fault in sided), default=0), len(style.SIDES))
        handles = [
            Patch(facecolor=fill, edgecolor=style.FAINT, label=f"partition, side {side + 1}")
            for side, fill in enumerate(style.SIDES[:sides])
        ]
        if alone:
            handles.append(
                Patch(facecolor=style.CUT_OFF, edgecolor=style.FAINT, label="cut off from all")
            )
        return handles

    def _background(self, name: str, since: float, until: float, fill: str, z: float) -> None:
        lane = self.story.lanes.get(name)
        if lane is not None:
            self.ax.barh(
                lane.y, until - since, left=since, height=1.0, color=fill, linewidth=0, zorder=z
            )

    def _links(self) -> list[Any]:
        """A line along the listener's lane while it hears badly, an arrow from whom."""
        from matplotlib.lines import Line2D

        found = [f for f in self.story.faults_of(*LINK_LINES) if f.listener in self.story.lanes]
        for fault in found:
            lane = self.story.lanes[fault.listener]
            since, until = self.story.span(fault)
            self.ax.plot(
                (self.x(since), self.x(until)),
                (lane.y - 0.4, lane.y - 0.4),
                color=style.RED,
                linewidth=1.4,
                linestyle=LINK_LINES[fault.what],
                zorder=4,
            )
            if len(found) <= ARROWS:
                self._mute_arrow(fault, since, lane.y)
        return [
            Line2D([], [], color=style.RED, linestyle=LINK_LINES[what], label=LINK_WORDS[what])
            for what in LINK_LINES
            if any(fault.what == what for fault in found)
        ]

    def _mute_arrow(self, fault: Fault, since: float, y: float) -> None:
        speaker = self.story.lanes.get(fault.node)
        if speaker is None:
            return
        look: style.Look = {"arrowstyle": "->", "color": style.RED, "linewidth": 0.8}
        look |= {"linestyle": LINK_LINES[fault.what], "shrinkA": 0, "shrinkB": 0}
        self.ax.annotate(
            "", (self.x(since), y - 0.4), (self.x(since), speaker.y), zorder=4, arrowprops=look
        )

    def _clocks(self) -> list[Any]:
        from matplotlib.lines import Line2D

        look: style.Look = {"color": style.PURPLE, "linewidth": 1.2}
        found = [f for f in self.story.faults_of("clock") if f.node in self.story.lanes]
        for fault in found:
            since, until = self.story.span(fault)
            y = self.story.lanes[fault.node].y + 0.3
            self.ax.plot((self.x(since), self.x(until)), (y, y), marker="|", zorder=4, **look)
        return [Line2D([], [], marker="|", label="clock is wrong", **look)] if found else []
