"""Calm against quickness: how often leadership moves for nothing, and how soon when it should."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..events import EventLog
from ..story import log_of
from ..summary import quantile
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST_S = 0.05
"""Anything quicker is drawn here: the axis is logarithmic."""


def leader_moves(
    calm: Mapping[str, Any], reactions: Mapping[str, Sequence[float]], ax: Axes | None = None
) -> Axes:
    """Each policy as a point: moves per hour under noise alone, and seconds until leadership left
    a node whose load rose for good (median, with a line up to the 95th percentile). Low and left
    is best.

    Args:
        calm: the events of hours in which there was no reason to move, by policy: a simulated run,
            its events, or a list of these.
        reactions: seconds from a lasting step in load to the move it called for, by policy.
        ax: where to draw; without it, a figure of its own.
    """
    rates = {str(label): _rate(source) for label, source in calm.items()}
    if not rates:
        raise ValueError("no policy is given: nothing to draw")
    if ax is None:
        ax = style.new_axes(3.8 + 0.18 * len(rates))
    ax.set_xscale("log")
    ax.set_yscale("log")
    rows: list[tuple[style.Look, list[str]]] = []
    for number, (label, (moves, hours)) in enumerate(rates.items()):
        look: style.Look = {"color": style.colour(number), "linewidth": 1.5, "zorder": 3}
        took = sorted(reactions.get(label, ()))
        # No move at all is drawn as half a move in the time that was watched.
        rate = (moves or 0.5) / hours
        said = ["never", "never"]
        if took:
            middle, slow = (max(quantile(took, share), LEAST_S) for share in (0.5, 0.95))
            ax.plot((rate, rate), (middle, slow), **look)
            ax.plot(rate, slow, marker="_", markersize=12, **look)
            ax.plot(rate, middle, marker="o", markersize=10, **look)
            said = [f"{quantile(took, share):.3g}" for share in (0.5, 0.95)]
        often = f"{moves / hours:.3g}" if moves < 1000 * hours else f"{moves / hours:.0f}"
        rows.append(({**look, "marker": "o", "markersize": 7}, [label, often, *said]))
    _dress(ax)
    style.table_below(ax, ("", "moves/hour", "p50", "p95 / s"), rows)
    return ax


def _dress(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter

    ax.margins(0.08, 0.15)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    style.plain(ax, "both")
    ax.set_xlabel("moves of leadership per hour, under noise alone", fontsize=style.TEXT)
    ax.set_ylabel("seconds until it leaves a bad node", fontsize=style.TEXT)
    style.title(ax, "Calm against quickness (low and left is best)")


def _rate(source: Any) -> tuple[int, float]:
    """Moves and hours."""
    several = isinstance(source, Iterable) and not isinstance(source, (EventLog, Mapping, str))
    items = list(source) if several and not hasattr(source, "events") else [source]
    steady = [log_of(item).steadiness() for item in items]
    hours = sum(s.hours for s in steady)
    if hours <= 0:
        raise ValueError("a history without length has no moves per hour")
    return sum(s.moves for s in steady), hours
