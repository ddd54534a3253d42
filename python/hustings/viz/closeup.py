"""One change of leader in milliseconds, with every step of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..elections import Election, Phases
from ..story import Story
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEFORE, AFTER = 0.15, 0.35
"""Margins, as parts of the length."""
MOST_LANES = 9
"""In larger clusters only the nodes are drawn that took part."""
SILENT = 3.0
"""A silence this many times longer than the steps after it is left out."""

_STEPS = {
    "suspected": ("v", style.ORANGE, "suspects the leader"),
    "polled": ("o", "white", "polls: do you, too?"),
    "campaigned": ("D", style.INK, "campaigns"),
    "voted": (".", style.INK, "votes"),
}


def draw_change(story: Story, election: Election, ax: Axes) -> None:
    """Draws the lanes around ``election``, whose duration is known."""
    from .timeline import dress_lanes

    story = _crop(story, election)
    length = max(float(election.duration_s or 0.0), 1e-3) * 1e3
    zero_us = election.at_us - length * 1e3
    low, high = _window(election.phases, length)

    def x(seconds: float) -> float:
        return (seconds * 1e6 + story.start_us - zero_us) / 1e3

    for lane in story.lanes.values():
        ax.plot((low, high), (lane.y, lane.y), color=style.FAINT, linewidth=1.5, zorder=1)
        for since, until, _ in lane.led:
            _span(ax, lane.y, x(since), x(until), (low, high), color=style.colour(lane.number))
    _draw_outages(story, ax, x, low, high)
    handles = _draw_steps(story, ax, x, low, high)
    dress_lanes(story, ax)
    ax.set_xlim(low, high)
    lost = "began to hand over" if election.cause == "handover" else "was lost"
    ax.set_xlabel(f"milliseconds since the old leader {lost}", fontsize=style.TEXT)
    words = f"{election.previous} → {election.leader} in {_ms(length)} (term {election.term})"
    style.title(ax, f"The {election.cause}, enlarged: {words}")
    steps = _describe(election.phases) if election.cause == "failover" else ""
    ax.text(
        0.0,
        1.0,
        steps,
        transform=ax.transAxes,
        fontsize=style.SMALL,
        color=style.SOFT,
        va="bottom",
    )
    if steps:
        ax.set_title(ax.get_title(loc="left"), loc="left", fontsize=style.TITLE, pad=16)
    style.legend_below(ax, handles)


def _crop(story: Story, election: Election) -> Story:
    """A large cluster without the nodes that took no part."""
    if len(story.lanes) <= MOST_LANES:
        return story
    steps = story.log.filter(
        *_STEPS, since_us=election.at_us - 60_000_000, until_us=election.at_us + 1_000_000
    )
    took_part = {story.log.name_of(row["node"]) for row in steps}
    took_part |= {election.previous or "", election.leader}
    kept = [lane for lane in story.lanes.values() if lane.name in took_part]
    lanes = {lane.name: replace(lane, y=len(kept) - 1 - i) for i, lane in enumerate(kept)}
    return replace(story, lanes=lanes)


def _window(phases: Phases, length: float) -> tuple[float, float]:
    """From when until when, in milliseconds since the loss."""
    silent = phases.suspicion_ms or 0.0
    steps = length - silent
    if silent > SILENT * steps > 0.0:
        return silent - max(2.0, steps), length + max(2.0, 0.8 * steps)
    return -BEFORE * length, (1 + AFTER) * length


def _span(
    ax: Axes, y: float, since: float, until: float, window: tuple[float, float], **look: Any
) -> None:
    left, right = max(since, window[0]), min(until, window[1])
    if left < right:
        ax.barh(y, right - left, left=left, height=0.5, zorder=2, **look)


def _draw_outages(story: Story, ax: Axes, x: Any, low: float, high: float) -> None:
    for fault in story.faults_of("killed", "frozen"):
        lane = story.lanes.get(fault.node)
        since, until = (x(moment) for moment in story.span(fault))
        if lane is None or since > high or until < low:
            continue
        if fault.what == "frozen":
            _span(ax, lane.y, since, until, (low, high), linewidth=0.8, **style.FROZEN)
            continue
        ends = (max(since, low), min(until, high))
        ax.plot(ends, (lane.y, lane.y), color="white", linewidth=2.5, zorder=1.5)
        ax.plot(ends, (lane.y, lane.y), color=style.RED, linestyle=":", zorder=1.6)
        if low <= since <= high:
            ax.plot(
                since,
                lane.y,
                marker="X",
                markersize=11,
                color=style.RED,
                markeredgecolor="white",
                zorder=8,
            )


def _draw_steps(story: Story, ax: Axes, x: Any, low: float, high: float) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = []
    for kind, (marker, fill, label) in _STEPS.items():
        points = []
        for row in story.log.filter(kind):
            at, lane = x(story.at(row["at_us"])), story.lanes.get(story.log.name_of(row["node"]))
            if lane is None or not low <= at <= high:
                continue
            points.append((at, lane.y))
            target = story.lanes.get(row["subject_name"])
            if kind == "voted" and target is not None and target is not lane:
                arrow = {"arrowstyle": "->", "color": style.SOFT, "linewidth": 0.9}
                ax.annotate("", (at, target.y), (at, lane.y), zorder=4, arrowprops=arrow)
        if not points:
            continue
        look: style.Look = {"color": fill, "markeredgecolor": style.INK, "markeredgewidth": 0.8}
        ax.plot(
            [at for at, _ in points],
            [y for _, y in points],
            marker=marker,
            markersize=6.5,
            linestyle="",
            zorder=7,
            **look,
        )
        handles.append(
            Line2D([], [], marker=marker, markersize=6.5, linestyle="", label=label, **look)
        )
    return handles


def _describe(phases: Phases) -> str:
    """The winner's steps in words."""
    words = (
        ("noticed after {}", phases.suspicion_ms),
        ("polled {} later", phases.poll_ms),
        ("campaigned {} later", phases.campaign_ms),
        ("led {} later", phases.win_ms),
    )
    return " · ".join(text.format(_ms(took)) for text, took in words if took is not None)


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"
