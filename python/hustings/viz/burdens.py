"""How much work each node held: lines for a few nodes, shades for many."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from ..story import log_of, natural_order
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW = 8
"""Up to so many nodes are drawn as lines."""
MAX_NODES = 512
"""Nodes drawn; more would be unreadable."""
COLUMNS = 400
"""Moments at which shades are drawn."""

Series = dict[str, list[tuple[float, float]]]


def load(obj: Any, ax: Axes | None = None) -> Axes:
    """How many tasks every node held, queued and running, as the leader saw it: a line for each of
    up to eight nodes; for more a row of shades each.

    Args:
        obj: a cluster, its events, a simulated run, a list of rows or a data frame of them.
        ax: where to draw; without it, a figure of its own.

    Raises:
        ValueError: there are no events, or too many nodes.
    """
    log = log_of(obj)
    if not len(log):
        raise ValueError("there are no events yet: nothing to draw")
    # An imagined cluster comes together before its work begins.
    start = max(log[0]["at_us"], int(getattr(obj, "began_s", 0.0) * 1e6))
    end = max((log[-1]["at_us"] - start) / 1e6, 1e-3)
    found: Series = {}
    for row in log.filter("loaded"):
        point = (max(0.0, (row["at_us"] - start) / 1e6), float(row["value"]))
        found.setdefault(row["subject_name"], []).append(point)
    series = {name: found[name] for name in sorted(found, key=natural_order)}
    if len(series) > MAX_NODES:
        raise ValueError(f"{len(series)} nodes: at most {MAX_NODES} can be drawn; filter the rows")
    many = len(series) > FEW
    if ax is None:
        ax = style.new_axes(max(3.2, min(8.0, 1.4 + 0.11 * len(series))) if many else 3.2)
    time = style.TimeAxis(end)
    style.plain(ax)
    style.title(ax, "Work held by each node")
    time.dress(ax)
    if many:
        _draw_shades(ax, time, series, end)
    else:
        numbers = {
            name: i for i, name in enumerate(sorted({*log.nodes, *series}, key=natural_order))
        }
        _draw_lines(ax, time, series, numbers)
    return ax


def _draw_lines(ax: Axes, time: style.TimeAxis, series: Series, numbers: dict[str, int]) -> None:
    for name, points in series.items():
        times, values = zip(*points, strict=True)
        ax.step(
            [time.x(at) for at in times],
            values,
            where="post",
            color=style.colour(numbers[name]),
            linewidth=1.4,
            label=name,
        )
    ax.grid(axis="y", color=style.GRID)
    ax.set_ylim(0.0, max(1.0, ax.get_ylim()[1]))
    ax.set_ylabel("tasks queued and running", fontsize=style.TEXT)
    if series:
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=style.TEXT)


def _draw_shades(ax: Axes, time: style.TimeAxis, series: Series, end: float) -> None:
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    moments = [end * (i + 0.5) / COLUMNS for i in range(COLUMNS)]
    rows = [_sampled(points, moments) for points in series.values()]
    most = max((value for row in rows for value in row), default=1.0) or 1.0
    shades = LinearSegmentedColormap.from_list("burdens", ["white", "#9CC3E0", "#0B3C5D"])
    image = ax.imshow(
        rows,
        aspect="auto",
        interpolation="nearest",
        cmap=shades,
        # A node with one task must not look idle beside one with a thousand.
        norm=PowerNorm(0.5, 0.0, most),
        extent=(0.0, time.x(end), len(rows) - 0.5, -0.5),
    )
    names = list(series)
    every = 1 + (len(names) - 1) // 32
    ax.set_yticks(range(0, len(names), every), names[::every])
    ax.grid(visible=False)
    bar = ax.figure.colorbar(image, ax=ax, pad=0.015, aspect=30)
    bar.set_label("tasks queued and running", fontsize=style.TEXT, color=style.INK)
    bar.ax.tick_params(labelsize=style.SMALL, colors=style.INK)
    bar.outline.set_visible(False)


def _sampled(points: list[tuple[float, float]], moments: list[float]) -> list[float]:
    times = [at for at, _ in points]
    places = (bisect_right(times, moment) for moment in moments)
    return [points[place - 1][1] if place else 0.0 for place in places]
