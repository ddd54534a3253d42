"""What a runner says to its node beside its answers: records of ``logging``, and how far a task is.

They go line by line over a copy of stderr, which is a pipe to the node; ``src/node/execution/
output.rs`` tells them from what is printed there. The node always reads, so nothing waits.
"""

from __future__ import annotations

import faulthandler
import io
import logging
import os
import select
import sys
import time

MARK, FIELD, BREAK = "\x1e", "\x1f", "\x1d"
MAX_LINE = 4000
"""Bytes of a line; so many are written at once or not at all, whoever else writes to the pipe."""

PROGRESS_EVERY_S = 0.1
"""How often a task's progress is passed on."""

_descriptor = -1
_progress_at = 0.0
"""When progress was passed on last, by the monotonic clock."""


class Records(logging.Handler):
    """Sends every record to the node."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line of it, cut if it is long."""
        try:
            say("L", str(min(record.levelno, 255)), record.name, self.format(record))
        except Exception:
            self.handleError(record)


def begin() -> None:
    """Called once by a runner, before any task: prints go out line by line, records of ``INFO`` and
    above go to the node, and a crash says where it was."""
    global _descriptor
    _descriptor = os.dup(2)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    faulthandler.enable()
    root = logging.getLogger()
    root.addHandler(Records())
    root.setLevel(logging.INFO)


def begin_attempt() -> None:
    """What it says first of its progress is passed on at once."""
    global _progress_at
    _progress_at = 0.0


def report_progress(done: float, total: float, note: str) -> None:
    """Tells the node, unless that was done just before or it does not listen."""
    global _progress_at
    now = time.monotonic()
    whole = total > 0 and done >= total
    if (whole or now - _progress_at >= PROGRESS_EVERY_S) and has_room():
        _progress_at = now
        say("P", repr(done), repr(total), note.replace(FIELD, " "))


def has_room() -> bool:
    """Whether the node takes a line at once."""
    return _descriptor >= 0 and bool(select.select([], [_descriptor], [], 0)[1])


def say(kind: str, *fields: str) -> None:
    """Writes one line to the node."""
    if _descriptor >= 0:
        text = FIELD.join(fields).replace("\r", "").replace("\n", BREAK)
        line = f"{MARK}{kind}{text}".encode("utf-8", "backslashreplace")
        os.write(_descriptor, line[:MAX_LINE] + b"\n")
