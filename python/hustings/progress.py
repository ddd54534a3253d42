"""How far many futures are, on stderr or in a notebook: tqdm if it is there, else rich, else plain
lines."""

from __future__ import annotations

import sys
from typing import Any, Protocol, cast


class Bar(Protocol):
    """What shows progress."""

    def update(self, n: int = 1) -> object:
        """Counts ``n`` more."""

    def close(self) -> object:
        """Leaves what is shown as it is."""


class _NoBar:
    def update(self, n: int = 1) -> None:
        """Shows nothing."""

    def close(self) -> None:
        """Shows nothing."""


class _LineBar:
    """Without a library: one line, rewritten on a terminal, a line every tenth elsewhere."""

    def __init__(self, total: int | None, name: str) -> None:
        self._total, self._name, self._done, self._shown = total, name, 0, -1
        self._live = sys.stderr.isatty()

    def update(self, n: int = 1) -> None:
        """Counts ``n`` more."""
        self._done += n
        if not self._total:
            return
        step = self._done * (100 if self._live else 10) // self._total
        if step != self._shown:
            self._shown = step
            end = "\r" if self._live else "\n"
            percent = 100 * self._done // self._total
            text = f"{self._name}{self._done}/{self._total} ({percent} %)"
            print(text, end=end, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends the line."""
        if self._live and self._done:
            print(file=sys.stderr)


class _RichBar:
    def __init__(self, progress: Any, total: int | None, name: str) -> None:
        self._progress = progress
        self._progress.start()
        self._job = progress.add_task(name or "tasks", total=total)

    def update(self, n: int = 1) -> None:
        """Counts ``n`` more."""
        self._progress.update(self._job, advance=n)

    def close(self) -> None:
        """Gives the terminal back."""
        self._progress.stop()


def start_bar(total: int | None, progress: bool, name: str = "") -> Bar:
    """A bar for ``total`` steps; without ``progress`` one that shows nothing."""
    if not progress:
        return _NoBar()
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return _start_rich(total, name)
    return cast("Bar", tqdm(total=total, desc=name or None))


def _start_rich(total: int | None, name: str) -> Bar:
    try:
        from rich.console import Console  # type: ignore[import-not-found,unused-ignore]
        from rich.progress import Progress  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return _LineBar(total, f"{name} " if name else "")
    return _RichBar(Progress(console=Console(stderr=True)), total, name)
