"""Reads a history as a story: who lived, led, was killed or frozen, and when; what the pictures
are drawn from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .elections import Election
from .events import EventLog, Row

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8F7A00", "#7F7F7F")
"""Okabe and Ito's palette, distinguishable with any kind of colour vision."""
MAX_LANES = 64
"""Nodes drawn; more would be unreadable."""


@dataclass
class Lane:
    """One node's life, in seconds since the start of the picture."""

    name: str
    colour: str
    y: int
    led: list[tuple[float, float, int]] = field(default_factory=list)
    down: list[tuple[float, float]] = field(default_factory=list)
    frozen: list[tuple[float, float]] = field(default_factory=list)
    scores: list[tuple[float, float]] = field(default_factory=list)


@dataclass
class Story:
    """A history and the lanes of its nodes."""

    log: EventLog
    start_us: int
    end: float
    lanes: dict[str, Lane]

    def at(self, us: float) -> float:
        """Seconds since the start."""
        return (us - self.start_us) / 1e6


def _log_of(obj: Any) -> EventLog:
    if isinstance(obj, EventLog):
        return obj
    events = getattr(obj, "events", None)
    if isinstance(events, EventLog):
        return events
    to_dict = getattr(obj, "to_dict", None)
    if callable(to_dict):
        return EventLog(to_dict("records"))
    if isinstance(obj, Iterable) and not isinstance(obj, (str, bytes, Mapping)):
        return EventLog(obj)
    raise TypeError(f"{obj!r} ({type(obj).__name__}): give a cluster, its events, or rows")


def tell_story(obj: Any) -> Story:
    log = _log_of(obj)
    rows = log.to_dicts()
    if not rows:
        raise ValueError("there are no events yet: nothing to draw")
    names = sorted({log.name_of(r["node"]) for r in rows if log.name_of(r["node"])}, key=_natural)
    if len(names) > MAX_LANES:
        raise ValueError(
            f"{len(names)} nodes: at most {MAX_LANES} can be drawn; filter the events by node"
        )
    lanes = {
        name: Lane(name, _COLOURS[i % len(_COLOURS)], len(names) - 1 - i)
        for i, name in enumerate(names)
    }
    start, end_us = rows[0]["at_us"], rows[-1]["at_us"]
    story = Story(log, start, max((end_us - start) / 1e6, 1e-3), lanes)
    for row in rows:
        lane = lanes.get(row["subject_name"])
        if row["kind"] == "scored" and lane is not None:
            lane.scores.append((story.at(row["at_us"]), float(row["score"])))
    _collect_faults(story, rows)
    _collect_reigns(story, rows)
    return story


def _collect_faults(story: Story, rows: list[Row]) -> None:
    for what, until, kept in (("killed", "restarted", "down"), ("frozen", "resumed", "frozen")):
        open_since: dict[str, float] = {}
        for row in rows:
            if row["kind"] != "fault":
                continue
            name, at = str(row["subject_name"] or row.get("node_name")), story.at(row["at_us"])
            if row["detail"] == what:
                open_since[name] = at
            elif row["detail"] in (until, "killed") and name in open_since:
                getattr(story.lanes[name], kept).append((open_since.pop(name), at))
        for name, at in open_since.items():
            if name in story.lanes:
                getattr(story.lanes[name], kept).append((at, story.end))


def _collect_reigns(story: Story, rows: list[Row]) -> None:
    reign: tuple[str, float, int] | None = None

    def close(at: float) -> None:
        nonlocal reign
        if reign is not None:
            name, since, term = reign
            story.lanes[name].led.append((since, at, term))
            reign = None

    highest = 0
    for row in rows:
        at, kind = story.at(row["at_us"]), row["kind"]
        name = story.log.name_of(row["node"])
        if kind == "became_leader" and int(row["term"]) > highest:
            close(at)
            highest = int(row["term"])
            reign = (name, at, highest)
        elif reign is not None and name == reign[0]:
            ended = kind in ("stepped_down", "node_stopped")
            if ended or (kind == "fault" and row["detail"] in ("killed", "frozen")):
                close(at)
    close(story.end)


def last_failover(story: Story) -> Election | None:
    """The failover worth a closer look: the last one after a kill, else the last one."""
    found = [e for e in story.log.elections() if e.cause == "failover" and e.duration_s is not None]
    killed = {
        r["subject_name"] for r in story.log if r["kind"] == "fault" and r["detail"] == "killed"
    }
    after_kill = [e for e in found if e.previous in killed]
    return next(reversed(after_kill or found), None)


def _natural(name: str) -> list[Any]:
    return [
        (1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", name)
    ]
