"""Pictures of ``election.py``: one distribution per section, ours beside plain Raft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hustings as hs


def draw(
    path: Path,
    title: str,
    xlabel: str,
    samples: dict[str, list[float]],
    goals: dict[float, float],
    note: str,
) -> None:
    """Draws distributions of milliseconds, with percentiles, goals and settings, into a file."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    seconds = {label: [ms / 1e3 for ms in values] for label, values in samples.items() if values}
    figure, ax = plt.subplots(figsize=(9.5, 4.6), dpi=150)
    hs.viz.failover_cdf(seconds, ax=ax, goals={share: ms / 1e3 for share, ms in goals.items()})
    ax.set_title(title, loc="left", fontsize=12, fontweight="bold")
    ax.set_xlabel(xlabel)
    figure.canvas.draw()
    below = figure.get_tightbbox().y0 / figure.get_figheight() - 0.03
    figure.text(0.01, below, note, fontsize=7.5, color="#555555", va="top", ha="left")
    figure.savefig(path, bbox_inches="tight", pad_inches=0.15)
    plt.close(figure)


def draw_all(folder: Path, result: dict[str, Any], note: str) -> list[Path]:
    """One picture per section that has distributions; returns what was written."""
    written = []
    for name, section in result["sections"].items():
        picture = section.get("picture")
        if not picture:
            continue
        path = folder / f"{name}.png"
        goals = {float(share): ms for share, ms in picture["goals"].items()}
        draw(path, picture["title"], picture["xlabel"], picture["samples"], goals, note)
        written.append(path)
    return written
