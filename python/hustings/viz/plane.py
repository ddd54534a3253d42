"""Nodes where they stand: who may be given work, who may steal from whom, and who did."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..events import EventLog, Steal, natural_order
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Place = tuple[float, float]

MAX_NODES = 512
"""Nodes drawn; more would be unreadable."""
MAX_ARROWS = 160
"""Pairs of victim and thief drawn, the busiest first."""
BALANCE = 0.74
"""Diameter of a node between arrows, as a part of what there is room for."""
NAMES = 80
"""Up to so many nodes are named."""


def map(obj: Any, ax: Axes | None = None) -> Axes:
    """Nodes where they stand; the area of a node grows with the attempts it ran (or the tasks it
    holds), the leader has a ring, and circles show how far it assigns and thieves steal.

    Args:
        obj: a run of ``TaskSimulation``, or a cluster.
        ax: where to draw; without it, a figure of its own.

    Raises:
        TypeError: ``obj`` has no positions.
        ValueError: there is no node, or there are too many.
    """
    places = _places(obj)
    ax = _axes(ax, places)
    work = _work(obj)
    leader = _leader(obj)
    _draw_reach(ax, obj, places, leader)
    _draw_nodes(ax, places, work, leader)
    did = "ran" if getattr(obj, "task_rows", None) else "hold"
    count, nodes = sum(work.values()), len(places)
    style.title(ax, f"Where nodes stand, and what they {did}: {count} tasks on {nodes} nodes")
    _dress(ax, places)
    return ax


def steals(obj: Any, ax: Axes | None = None) -> Axes:
    """Who stole from whom: an arrow from each victim to each thief, the thicker the more tasks
    moved; a node is the redder the more it lost, the greener the more it gained.

    Args:
        obj: a run of ``TaskSimulation``, or a cluster.
        ax: where to draw; without it, a figure of its own.

    Raises:
        TypeError: ``obj`` has no positions.
        ValueError: there is no node, or there are too many.
    """
    places = _places(obj)
    ax = _axes(ax, places)
    moved = Counter(_pairs(obj, places))
    most = max(moved.values(), default=1)
    drawn = sorted(moved.items(), key=lambda item: (-item[1], item[0]))[:MAX_ARROWS]
    radius = BALANCE * _node_points(ax, places) / 2
    for (victim, thief), count in reversed(drawn):
        _draw_arrow(ax, places[victim], places[thief], count / most, radius)
    balance: Counter[str] = Counter()
    for (victim, thief), count in moved.items():
        balance[victim] -= count
        balance[thief] += count
    _draw_balance(ax, places, balance, _leader(obj))
    _balance_legend(ax)
    left = f", the busiest {len(drawn)} of {len(moved)} pairs" if len(moved) > len(drawn) else ""
    total = sum(moved.values())
    style.title(ax, f"Who stole from whom: {total} steals between {len(moved)} pairs{left}")
    _dress(ax, places)
    return ax


def _places(obj: Any) -> dict[str, Place]:
    found = getattr(obj, "positions", None)
    if not isinstance(found, Mapping) and callable(getattr(obj, "members", None)):
        found = {member.name: member.position for member in obj.members()}
    if not isinstance(found, Mapping):
        raise TypeError(f"{type(obj).__name__}: give a run of TaskSimulation, or a cluster")
    if not found:
        raise ValueError("there are no nodes: nothing to draw")
    if len(found) > MAX_NODES:
        raise ValueError(f"{len(found)} nodes: at most {MAX_NODES} can be drawn")
    places = {name: found[name] for name in sorted(found, key=natural_order)}
    return places if len(set(places.values())) > 1 else _in_a_ring(places)


def _in_a_ring(places: Iterable[str]) -> dict[str, Place]:
    """Nodes that all stand at one place are drawn around it."""
    names = list(places)
    turn = 2 * math.pi / len(names)
    radius = 0.0 if len(names) == 1 else 0.5 / math.sin(min(turn, math.pi) / 2)
    return {
        name: (radius * math.sin(i * turn), radius * math.cos(i * turn))
        for i, name in enumerate(names)
    }


def _spacing(places: Mapping[str, Place]) -> float:
    """The least distance between two nodes."""
    points = sorted(set(places.values()))
    near = [
        math.dist(a, b) for i, a in enumerate(points) for b in points[i + 1 : i + 1 + len(points)]
    ]
    return min(near, default=1.0)


def _axes(ax: Axes | None, places: Mapping[str, Place]) -> Axes:
    if ax is not None:
        return ax
    xs, ys = zip(*places.values(), strict=True)
    gap = _spacing(places)
    wide, high = max(xs) - min(xs) + 2 * gap, max(ys) - min(ys) + 2 * gap
    height = min(7.0, max(2.6, style.WIDTH * high / wide))
    return style.new_axes(height + 1.1, min(style.WIDTH, max(6.5, height * wide / high)))


def _log(obj: Any) -> EventLog:
    events = getattr(obj, "events", None)
    return events if isinstance(events, EventLog) else EventLog(())


def _pairs(obj: Any, places: Mapping[str, Place]) -> list[tuple[str, str]]:
    known: Iterable[Steal] = _log(obj).steals()
    return [(s.victim, s.thief) for s in known if s.victim in places and s.thief in places]


def _leader(obj: Any) -> str | None:
    reigns = list(_log(obj).reigns())
    if reigns:
        return str(reigns[-1].leader)
    rows = _log(obj).filter("loaded")
    return str(rows[-1]["node_name"]) if len(rows) else None


def _work(obj: Any) -> Counter[str]:
    rows = getattr(obj, "task_rows", None)
    if rows:
        return Counter(str(row["node"]) for row in rows if row["kind"] == "ended")
    return Counter({member.name: member.queued + member.running for member in obj.members()})


def _draw_reach(ax: Axes, obj: Any, places: Mapping[str, Place], leader: str | None) -> None:
    from matplotlib.patches import Circle

    if hasattr(obj, "reach"):
        assign, steal = obj.reach
    else:
        config = getattr(obj, "config", None)
        assign = getattr(config, "assign_reach", None) or math.inf
        steal = getattr(getattr(config, "steal", None), "reach", None) or math.inf
    handles = []
    if leader is not None and leader in places and math.isfinite(assign):
        ring = Circle(places[leader], assign, fill=True, color=style.SIDES[1], zorder=0)
        ring.set_label(f"the leader assigns as far as {assign:g}")
        ax.add_patch(ring)
        handles.append(ring)
    if math.isfinite(steal):
        corner = min(places, key=lambda name: (sum(places[name]), name))
        ring = Circle(places[corner], steal, fill=False, color=style.ORANGE, linestyle="--")
        ring.set_label(f"{corner} steals as far as {steal:g}")
        ax.add_patch(ring)
        handles.append(ring)
    style.legend_below(ax, handles)


def _draw_nodes(
    ax: Axes, places: Mapping[str, Place], work: Counter[str], leader: str | None
) -> None:
    most = max(work.values(), default=0) or 1
    points = _node_points(ax, places)
    sizes = [points**2 * (0.15 + 0.85 * work[name] / most) for name in places]
    xs, ys = zip(*places.values(), strict=True)
    ax.scatter(xs, ys, s=sizes, color=style.COLOURS[4], edgecolor="white", linewidth=0.8, zorder=3)
    _ring_and_names(ax, places, leader, [f"{name}\n{work[name]}" for name in places])


def _draw_balance(
    ax: Axes, places: Mapping[str, Place], balance: Counter[str], leader: str | None
) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    most = max((abs(count) for count in balance.values()), default=0) or 1
    shades = LinearSegmentedColormap.from_list(
        "balance", [style.COLOURS[5], "#E9E9E9", style.COLOURS[2]]
    )
    fills = [shades(0.5 + balance[name] / most / 2) for name in places]
    xs, ys = zip(*places.values(), strict=True)
    size = (BALANCE * _node_points(ax, places)) ** 2
    ax.scatter(xs, ys, s=size, c=fills, edgecolor=style.SOFT, linewidth=0.7, zorder=4)
    words = [f"{name}\n{balance[name]:+d}" if balance[name] else name for name in places]
    _ring_and_names(ax, places, leader, words, zorder=6)


def _balance_legend(ax: Axes) -> None:
    from matplotlib.lines import Line2D

    def dot(colour: str, label: str) -> Line2D:
        return Line2D([], [], linestyle="", marker="o", markersize=9, color=colour, label=label)

    handles = [
        dot(style.COLOURS[5], "gave more than it took"),
        dot(style.COLOURS[2], "took more than it gave"),
        Line2D([], [], color=style.PURPLE, linewidth=3, label="from victim to thief"),
    ]
    style.legend_below(ax, handles)


def _ring_and_names(
    ax: Axes,
    places: Mapping[str, Place],
    leader: str | None,
    words: list[str],
    zorder: float = 5,
) -> None:
    points = _node_points(ax, places)
    if leader is not None and leader in places:
        x, y = places[leader]
        ax.scatter(
            [x],
            [y],
            s=(1.08 * points) ** 2,
            facecolor="none",
            edgecolor=style.RED,
            linewidth=1.8,
            zorder=zorder,
        )
        ax.annotate(
            "leads",
            (x, y),
            (0, 0.62 * points),
            textcoords="offset points",
            ha="center",
            fontsize=style.SMALL,
            color=style.RED,
            zorder=zorder,
        )
    if len(places) > NAMES:
        return
    size = max(5.0, min(style.SMALL, points / 3.4))
    for (x, y), word in zip(places.values(), words, strict=True):
        ax.text(x, y, word, fontsize=size, ha="center", va="center", color=style.INK, zorder=zorder)


def _node_points(ax: Axes, places: Mapping[str, Place]) -> float:
    """The diameter of a node that leaves room between neighbours, in points."""
    xs, ys = zip(*places.values(), strict=True)
    gap = _spacing(places)
    wide, high = max(xs) - min(xs) + 2 * gap, max(ys) - min(ys) + 2 * gap
    box = ax.get_window_extent()
    per_unit = min(float(box.width) / wide, float(box.height) / high) / float(ax.figure.dpi) * 72
    return float(min(44.0, 0.72 * gap * per_unit))


def _draw_arrow(ax: Axes, victim: Place, thief: Place, share: float, radius: float) -> None:
    from matplotlib.patches import FancyArrowPatch

    arrow = FancyArrowPatch(
        victim,
        thief,
        connectionstyle="arc3,rad=0.28",
        arrowstyle="-|>",
        mutation_scale=7 + 7 * share,
        shrinkA=radius,
        shrinkB=radius + 1.0,
        linewidth=0.5 + 3.5 * share,
        color=style.PURPLE,
        alpha=0.25 + 0.55 * share,
        zorder=2,
    )
    ax.add_patch(arrow)


def _dress(ax: Axes, places: Mapping[str, Place]) -> None:
    xs, ys = zip(*places.values(), strict=True)
    gap = _spacing(places)
    ax.set_facecolor("white")
    ax.figure.set_facecolor("white")
    ax.set_xlim(min(xs) - gap, max(xs) + gap)
    ax.set_ylim(min(ys) - gap, max(ys) + gap)
    ax.set_aspect("equal")
    for side in ax.spines.values():
        side.set_visible(False)
    ax.set_xticks([])
    ax.set_yticks([])
