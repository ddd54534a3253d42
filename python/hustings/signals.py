"""Waits for SIGTERM or SIGINT in the main thread without polling and without doing work in a
handler."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

CUT_SHORT = 3
"""The exit code of a process that did not finish what it had."""
CAUGHT = (signal.SIGTERM, signal.SIGINT)


class SignalWaiter:
    """Catches SIGTERM and SIGINT from its creation on; :meth:`wait` returns the first one. A second
    one that nothing was prepared for ends the process at once.

    Whoever writes a byte to :attr:`descriptor` ends the wait as a signal of that number would.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._next: Callable[[], object] | None = None
        self._came = False
        for number in CAUGHT:
            signal.signal(number, self._caught)
        # The kernel may give a signal to any thread, as it does just after SIGCONT. Then Python's
        # handler waits for the main thread, which waits in `wait`; this is written at once.
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    @property
    def descriptor(self) -> int:
        """The writing end of the pipe that :meth:`wait` reads."""
        return self._write

    @property
    def came(self) -> bool:
        """Whether a signal came already."""
        return self._came

    def wait(self) -> int:
        """Blocks until a signal came; returns its number."""
        while (number := os.read(self._read, 1)[0]) not in (*CAUGHT, 0):
            pass  # another signal that somebody handles
        return number

    def on_next(self, action: Callable[[], object]) -> None:
        """Runs ``action`` at the next signal, in the main thread."""
        self._next = action

    def finish(self) -> None:
        """From now on signals change nothing: the work is done and only the interpreter is left to
        end, which would else end by the signal."""
        for number in CAUGHT:
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)

    def _caught(self, _number: int, _frame: FrameType | None) -> None:
        before, self._came = self._came, True
        if self._next is not None:
            self._next()
            return
        if before:
            os._exit(CUT_SHORT)
