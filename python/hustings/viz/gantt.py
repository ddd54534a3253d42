"""Which node ran what, and when: a bar for each attempt."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from ..attempts import Attempt, read_attempts
from ..events import EventLog, natural_order
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_LANES = 128
"""Nodes drawn; more would be unreadable."""
LANE = 0.26
"""Inches of one node, and at least as many of the whole."""
SHORT, LONG = "#9CC3E0", "#0B3C5D"
"""Colours of the shortest and the longest attempt."""
IDLE = "#F4F4F4"


def tasks(obj: Any, ax: Axes | None = None) -> Axes:
    """A bar for each attempt on the line of the node that ran it, the darker the longer it took;
    orange edges mark tasks that were stolen, red ones those that ran before.

    Args:
        obj: a simulated run, or rows of a history of tasks: mappings with ``at_us``, ``kind``
            (``"started"``, ``"ended"``), ``task``, ``node`` and ``token``.
        ax: where to draw; without it, a figure of its own.

    Raises:
        TypeError: ``obj`` is neither.
        ValueError: nothing began, or there are too many nodes.
    """
    attempts = read_attempts(obj)
    names = sorted(_known(obj) | {attempt.node for attempt in attempts}, key=natural_order)
    if len(names) > MAX_LANES:
        raise ValueError(f"{len(names)} nodes: at most {MAX_LANES} can be drawn; choose some rows")
    stolen = _stolen(obj)
    end = max(attempt.until_s for attempt in attempts)
    begin = min(attempt.since_s for attempt in attempts)
    if ax is None:
        ax = style.new_axes(max(2.4, 1.2 + LANE * len(names) * (0.55 if len(names) > 24 else 1.0)))
    style.plain(ax)
    time = style.TimeAxis(max(end - begin, 1e-6))
    lanes = {name: len(names) - 1 - i for i, name in enumerate(names)}
    for lane in lanes.values():
        ax.barh(lane, time.end, height=0.8, color=IDLE, zorder=0)
    _draw(ax, time, attempts, lanes, begin, stolen)
    time.dress(ax)
    every = 1 + (len(names) - 1) // 32
    shown = [name for i, name in enumerate(names) if i % every == 0]
    ax.set_yticks([lanes[name] for name in shown], shown)
    ax.set_ylim(-0.7, len(names) - 0.3)
    ax.grid(axis="y", visible=False)
    busy = sum(attempt.until_s - attempt.since_s for attempt in attempts)
    share = busy / (len(names) * max(end - begin, 1e-9))
    last = (
        f"{len(attempts)} attempts in {end - begin:.3g} s; "
        f"{share:.2f} of them at once per node on average"
    )
    style.title(ax, f"Who ran what: {last}")
    _legend(ax, attempts, stolen)
    return ax


def _known(obj: Any) -> set[str]:
    """All nodes of a run, also those that never ran anything."""
    return set(getattr(obj, "positions", None) or ())


def _stolen(obj: Any) -> set[str]:
    events = getattr(obj, "events", None)
    if not isinstance(events, EventLog):
        return set()
    return {steal.task_id for steal in events.steals()}


def _draw(
    ax: Axes,
    time: style.TimeAxis,
    attempts: list[Attempt],
    lanes: dict[str, int],
    begin: float,
    stolen: set[str],
) -> None:
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    shades = LinearSegmentedColormap.from_list("durations", [SHORT, LONG])
    longest = max(attempt.until_s - attempt.since_s for attempt in attempts) or 1.0
    room = style.points_wide(ax) / max(len(attempts) / max(len(lanes), 1), 1.0)
    spans: dict[int, list[tuple[float, float]]] = defaultdict(list)
    fills: dict[int, list[str]] = defaultdict(list)
    edges: dict[int, list[str]] = defaultdict(list)
    for attempt in attempts:
        lane = lanes[attempt.node]
        length = attempt.until_s - attempt.since_s
        spans[lane].append((time.x(attempt.since_s - begin), time.x(length)))
        fills[lane].append(to_hex(shades((length / longest) ** 0.5)))
        edges[lane].append(_edge(attempt, stolen))
    for lane, found in spans.items():
        bold = 1.0 if len(lanes) <= 24 else 0.6
        for wanted, width in (("white", 0.4), (style.ORANGE, bold), (style.RED, 1.2 * bold)):
            chosen = [i for i, edge in enumerate(edges[lane]) if edge == wanted]
            if chosen:
                ax.broken_barh(
                    [found[i] for i in chosen],
                    (lane - 0.4, 0.8),
                    facecolors=[fills[lane][i] for i in chosen],
                    edgecolors=wanted,
                    linewidth=min(width, room / 4) if wanted == "white" else width,
                    zorder=2 if wanted == "white" else 3,
                )


def _edge(attempt: Attempt, stolen: set[str]) -> str:
    if attempt.again:
        return style.RED
    return style.ORANGE if attempt.task in stolen else "white"


def _legend(ax: Axes, attempts: list[Attempt], stolen: set[str]) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=SHORT, label="short attempt"),
        Patch(facecolor=LONG, label="long attempt"),
    ]
    if any(attempt.task in stolen for attempt in attempts):
        handles.append(Patch(facecolor=SHORT, edgecolor=style.ORANGE, label="stolen"))
    if any(attempt.again for attempt in attempts):
        handles.append(Patch(facecolor=SHORT, edgecolor=style.RED, label="ran before"))
    style.legend_below(ax, handles)
