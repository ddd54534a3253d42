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

MARK, FIELD, BREAK = "\x1e", "\x1f", "\x1d"
MAX_LINE = 4000
"""Bytes of a line; so many are written at once or not at all, whoever else writes to the pipe."""

_descriptor = -1


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


def has_room() -> bool:
    """Whether the node takes a line at once."""
    return _descriptor >= 0 and bool(select.select([], [_descriptor], [], 0)[1])


def say(kind: str, *fields: str) -> None:
    """Writes one line to the node."""
    if _descriptor >= 0:
        text = FIELD.join(fields).replace("\r", "").replace("\n", BREAK)
        line = f"{MARK}{kind}{text}".encode("utf-8", "backslashreplace")
        os.write(_descriptor, line[:MAX_LINE] + b"\n")
