"""How long failovers take: their distribution, as one curve per source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..story import log_of
from ..summary import quantile
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHARES = (0.5, 0.9, 0.99, 1.0)
LEAST_MS = 0.1
"""Anything shorter is drawn here: the axis is logarithmic."""
_LINES = ("-", "--", "-.", ":")
_GOAL: style.Look = {
    "marker": "<",
    "markersize": 8,
    "color": "white",
    "markeredgecolor": style.INK,
    "linestyle": "",
}


def failover_cdf(
    obj: Any, ax: Axes | None = None, *, goals: Mapping[float, float] | None = None
) -> Axes:
    """The share of failovers that took no longer than x; a table of p50, p90, p99 and maximum.

    Args:
        obj: a cluster, its events, a simulated run or sweep, failovers, or seconds; a list of
            these, taken together; or a mapping of labels to any of them, one curve each.
        ax: where to draw; without it, a figure of its own.
        goals: seconds that a share of failovers should not exceed, such as ``{0.5: 0.02}``.
    """
    named = obj if isinstance(obj, Mapping) else {"": obj}
    samples = {str(label): sorted(_seconds(source)) for label, source in named.items()}
    samples = {label: values for label, values in samples.items() if values}
    if not samples:
        raise ValueError("there are no failovers of known length yet: nothing to draw")
    if ax is None:
        ax = style.new_axes(3.6 + 0.18 * len(samples))
    for number, seconds in enumerate(samples.values()):
        milliseconds = [max(LEAST_MS, s * 1e3) for s in seconds]
        shares = [(i + 1) / len(milliseconds) for i in range(len(milliseconds))]
        ax.step(
            [milliseconds[0], *milliseconds],
            [0.0, *shares],
            where="post",
            **_look(number),
        )
    _draw_goals(ax, goals or {})
    _dress(ax, samples, goals or {})
    return ax


def _seconds(source: Any) -> list[float]:
    """The known lengths of failovers."""
    if isinstance(source, (int, float)) and not isinstance(source, bool):
        return [float(source)]
    failovers = getattr(source, "failovers", None)
    if callable(failovers):
        return _seconds(failovers())
    if hasattr(source, "events") or hasattr(source, "notna"):
        return _seconds(log_of(source))
    if hasattr(source, "duration_s"):
        return [] if source.duration_s is None else [float(source.duration_s)]
    if isinstance(source, Iterable) and not isinstance(source, (str, bytes, Mapping)):
        items = list(source)
        if items and isinstance(items[0], Mapping):
            return _seconds(log_of(items))
        return [seconds for item in items for seconds in _seconds(item)]
    raise TypeError(
        f"{source!r} ({type(source).__name__}): give a cluster, its events, failovers or seconds"
    )


def _draw_goals(ax: Axes, goals: Mapping[float, float]) -> None:
    for share, seconds in goals.items():
        ax.plot(seconds * 1e3, share, zorder=6, **_GOAL)


def _dress(ax: Axes, samples: Mapping[str, list[float]], goals: Mapping[float, float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set_xscale("log")
    ax.set_ylim(0.0, 1.02)
    ax.set_yticks([0.0, 0.25, 0.5, 0.75, 0.9, 1.0])
    low, high = ax.get_xlim()
    if high / low < 30:
        # A decade holds too few round numbers for a short range.
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    style.plain(ax, "both")
    ax.set_xlabel("milliseconds without a leader (logarithmic)", fontsize=style.TEXT)
    ax.set_ylabel("share of failovers", fontsize=style.TEXT)
    style.title(ax, "How long a failover takes")
    rows: list[tuple[style.Look, list[str]]] = []
    for number, (label, seconds) in enumerate(samples.items()):
        cells = [_cell(quantile(seconds, share)) for share in SHARES]
        rows.append((_look(number), [label, str(len(seconds)), *cells]))
    if goals:
        known = [_cell(goals[share]) if share in goals else "" for share in SHARES]
        rows.append((_GOAL, ["goals", "", *known]))
    style.table_below(ax, ("", "failovers", "p50", "p90", "p99", "max / ms"), rows)


def _look(number: int) -> style.Look:
    line = _LINES[number // len(style.COLOURS) % len(_LINES)]
    return {"color": style.colour(number), "linestyle": line, "linewidth": 2.0}


def _cell(seconds: float) -> str:
    milliseconds = seconds * 1e3
    return f"{milliseconds:.1f}" if milliseconds < 100 else f"{milliseconds:.0f}"
