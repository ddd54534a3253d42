"""Waits for SIGTERM or SIGINT in the main thread without polling and without doing work in a
handler."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from types import FrameType


class SignalWaiter:
    """Catches SIGTERM and SIGINT from its creation on; :meth:`wait` returns the first one.

    Whoever writes a byte to :attr:`descriptor` ends the wait as a signal of that number would.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._next: Callable[[], object] | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._caught)

    @property
    def descriptor(self) -> int:
        """The writing end of the pipe that :meth:`wait` reads."""
        return self._write

    def wait(self) -> int:
        """Blocks until a signal came; returns its number."""
        return os.read(self._read, 1)[0]

    def on_next(self, action: Callable[[], object]) -> None:
        """Runs ``action`` at the next signal, in the main thread."""
        self._next = action

    def _caught(self, number: int, _frame: FrameType | None) -> None:
        if self._next is not None:
            self._next()
            return
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, bytes([number]))
