"""Lines of the native half as records of ``logging``: what nodes do below ``hustings``, what tasks
say below ``hustings.task``."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

Row = tuple[int, str, str, float, "dict[str, Any] | None"]
"""Level, logger, text, seconds since 1970, and of what a task said ``node``, ``task_id``,
``attempt`` and ``stream``."""

ENVIRONMENT = "HUSTINGS_LOG"
FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

_tasks = logging.getLogger("hustings.task")
if _tasks.level == logging.NOTSET:
    # What a task prints is no remark of a library: no level of the root keeps it away.
    _tasks.setLevel(logging.INFO)


def deliver(rows: list[Row], dropped: int) -> None:
    """Hands lines to ``logging``; called on one native thread of this process.

    Where nothing is set up to show what tasks say, it is printed, as it would have been without
    us: ``[square n2] ...``.
    """
    for level, name, text, at_s, said_by in rows:
        logger = logging.getLogger(name)
        if said_by is not None and not logger.hasHandlers():
            _print(name, text, said_by)
        elif logger.isEnabledFor(level):
            logger.handle(_record(logger, level, text, at_s, said_by or {}))
    if dropped:
        logging.getLogger("hustings.logs").warning(
            "%d lines were dropped: more was said than could be written down", dropped
        )


def _record(
    logger: logging.Logger, level: int, text: str, at_s: float, extra: dict[str, Any]
) -> logging.LogRecord:
    record = logger.makeRecord(logger.name, level, "", 0, text, (), None, extra=extra)
    record.created, record.msecs = at_s, at_s % 1 * 1000
    return record


def _print(name: str, text: str, said_by: dict[str, Any]) -> None:
    out = sys.stdout if said_by["stream"] == "stdout" else sys.stderr
    if out is not None:
        who = name.removeprefix("hustings.task.").removeprefix("hustings.")
        out.write(f"[{who} {said_by['node']}] {text}\n")
        out.flush()


def show_if_asked() -> None:
    """With ``HUSTINGS_LOG`` set and no handler anywhere, records go to stderr, as whoever sets it
    expects."""
    logger = logging.getLogger("hustings")
    if os.environ.get(ENVIRONMENT) and not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(FORMAT))
        logger.addHandler(handler)
    if os.environ.get(ENVIRONMENT) and logger.level == logging.NOTSET:
        # The filter is applied where the lines come from.
        logger.setLevel(logging.DEBUG)


show_if_asked()
