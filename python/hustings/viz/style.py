"""How all pictures look: colours, white axes, legends that cover nothing, units of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ..frames import optional_module

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Look: TypeAlias = dict[str, Any]
"""How something is drawn."""

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8F7A00", "#7F7F7F")
"""Okabe and Ito's palette, distinguishable with any kind of colour vision; on white, so their
yellow is darkened."""
RED = "#C1121F"
FROZEN: Look = {"facecolor": "#CFE8F7", "edgecolor": "#5AA9D6", "hatch": "////"}
ORANGE, PURPLE, INK, SOFT, FAINT = "#F28E2B", "#7B3294", "#222222", "#666666", "#C9CDD2"
GRID = "#EEEEEE"
SIDES = ("#FFF3D6", "#DDEFE8", "#E8E1F2", "#FBE3DC")
"""Backgrounds of the sides of a partition."""
CUT_OFF = "#F3D9B8"
"""Background of a node that was cut off from all others."""
WIDTH = 9.5
"""Inches of a picture on its own."""
SMALL, TEXT, TITLE = 8.0, 9.0, 11.0
"""Font sizes in points."""


def colour(number: int) -> str:
    """The colour of the n-th node."""
    return COLOURS[number % len(COLOURS)]


def pyplot() -> Any:
    """``matplotlib.pyplot``; raises ``HustingsError`` where it is missing."""
    return optional_module("matplotlib.pyplot", "a picture")


def new_axes(height: float, width: float = WIDTH) -> Axes:
    """Axes of a figure of their own."""
    _, ax = pyplot().subplots(figsize=(width, height), layout="constrained")
    drawn: Axes = ax
    return drawn


def plain(ax: Axes, grid: str = "x") -> None:
    """White, with a faint grid and no frame."""
    ax.set_facecolor("white")
    ax.figure.set_facecolor("white")
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.grid(axis=grid, color=GRID, zorder=-1)  # type: ignore[arg-type]
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=TEXT, colors=INK)


def title(ax: Axes, text: str) -> None:
    """A title at the left."""
    ax.set_title(text, loc="left", fontsize=TITLE, color=INK)


def legend_below(ax: Axes, handles: Sequence[Any], below: float = 34.0) -> None:
    """A legend ``below`` points under the axes, whatever their height."""
    from matplotlib.transforms import ScaledTranslation

    if not handles:
        return
    down = ScaledTranslation(0, -below / 72, ax.figure.dpi_scale_trans)
    ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.0, 0.0),
        bbox_transform=ax.transAxes + down,
        borderaxespad=0.0,
        frameon=False,
        fontsize=SMALL + 0.5,
        ncols=min(len(handles), max(2, int(points_wide(ax) / 105))),
        handletextpad=0.5,
        columnspacing=1.4,
    )


def table_below(
    ax: Axes, header: Sequence[str], rows: Sequence[tuple[Look, Sequence[str]]]
) -> None:
    """A legend with columns: the first to the left, the others to the right."""
    from matplotlib.lines import Line2D
    from matplotlib.transforms import ScaledTranslation

    cells = [list(header), *(list(words) for _, words in rows)]
    wide = [max(len(line[i]) for line in cells) for i in range(len(header))]

    def lay(words: Sequence[str]) -> str:
        first, *rest = (
            word.rjust(room) if i else word.ljust(room)
            for i, (word, room) in enumerate(zip(words, wide, strict=True))
        )
        return "  ".join((first, *rest))

    handles = [Line2D([], [], linestyle="", label=lay(header))]
    handles += [Line2D([], [], label=lay(words), **look) for look, words in rows]
    down = ScaledTranslation(0, -36 / 72, ax.figure.dpi_scale_trans)
    legend = ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.0, 0.0),
        bbox_transform=ax.transAxes + down,
        borderaxespad=0.0,
        frameon=False,
        prop={"family": "monospace", "size": SMALL},
    )
    legend.get_texts()[0].set_color(SOFT)


def points_wide(ax: Axes) -> float:
    """Width of the axes in points."""
    return float(ax.get_window_extent().width) / float(ax.figure.dpi) * 72


def text_points(text: str, size: float) -> float:
    """About how wide a text is, in points."""
    return 0.58 * size * len(text)


class TimeAxis:
    """Seconds of a story as seconds, minutes or hours of a picture."""

    def __init__(self, end_s: float) -> None:
        steps = ((300.0, 1.0, "seconds"), (3 * 3600.0, 60.0, "minutes"))
        self.unit_s, self.unit = next(
            ((unit, name) for most, unit, name in steps if end_s < most), (3600.0, "hours")
        )
        self.end = end_s / self.unit_s

    def x(self, seconds: float) -> float:
        """Where a moment stands."""
        return seconds / self.unit_s

    def dress(self, ax: Axes) -> None:
        """Limits and label of the axis."""
        ax.set_xlim(-0.01 * self.end, 1.01 * self.end)
        ax.set_xlabel(f"{self.unit} since the start", fontsize=TEXT, color=INK)


def gather(moments: Sequence[float], gap: float) -> list[tuple[float, int]]:
    """Moments nearer than ``gap`` to the first of their group as one: (its middle, how many)."""
    groups: list[list[float]] = []
    for moment in sorted(moments):
        if groups and moment - groups[-1][0] < gap:
            groups[-1].append(moment)
        else:
            groups.append([moment])
    return [((group[0] + group[-1]) / 2, len(group)) for group in groups]
