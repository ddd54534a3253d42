"""Reads a history as a story: who lived, led, was broken, suspected and stood for election, and
when; what the pictures are drawn from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .elections import Election, Handover
from .events import EventLog, natural_order
from .fault_spans import Fault

MAX_LANES = 64
"""Nodes drawn; more would be unreadable."""


@dataclass
class Lane:
    """One node's life, in seconds since the start of the picture."""

    name: str
    y: int
    number: int
    """Its place in the natural order of names, from 0; gives its colour."""
    led: list[tuple[float, float, int]] = field(default_factory=list)
    """Begin, end and term of each reign."""
    marks: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Moments by what happened: ``suspected``, ``misjudged``, ``polled``, ``campaigned``,
    ``voted``."""
    scores: list[tuple[float, float]] = field(default_factory=list)
    """Moments and scores; 0 is what a leader writes that has not heard of the node."""


@dataclass
class Story:
    """A history and the lanes of its nodes."""

    log: EventLog
    start_us: int
    end: float
    lanes: dict[str, Lane]
    elections: list[Election]
    handovers: list[Handover]
    faults: list[Fault]

    def at(self, us: float) -> float:
        """Seconds since the start."""
        return (us - self.start_us) / 1e6

    def span(self, fault: Fault) -> tuple[float, float]:
        """Begin and end of a fault, within the picture."""
        until = self.end if fault.until_us is None else self.at(fault.until_us)
        return self.at(fault.at_us), min(until, self.end)

    def faults_of(self, *words: str) -> list[Fault]:
        """The faults of these kinds."""
        return [fault for fault in self.faults if fault.what in words]


def log_of(obj: Any) -> EventLog:
    """The events of a cluster or a simulated run, of rows, of a data frame of them."""
    if isinstance(obj, EventLog):
        return obj
    events = getattr(obj, "events", None)
    if isinstance(events, EventLog):
        return events
    if hasattr(obj, "to_dict") and hasattr(obj, "notna"):
        return EventLog(obj.astype(object).where(obj.notna(), None).to_dict("records"))
    if isinstance(obj, Iterable) and not isinstance(obj, (str, bytes, Mapping)):
        rows = list(obj)
        if all(isinstance(row, Mapping) and "kind" in row for row in rows):
            return EventLog(rows)
    raise TypeError(f"{obj!r} ({type(obj).__name__}): give a cluster, its events, or rows")


def tell_story(obj: Any) -> Story:
    """Raises ``ValueError`` where there is nothing to draw, or too much."""
    log = log_of(obj)
    if not len(log):
        raise ValueError("there are no events yet: nothing to draw")
    names = log.nodes
    if len(names) > MAX_LANES:
        raise ValueError(
            f"{len(names)} nodes: at most {MAX_LANES} can be drawn; filter the events by node"
        )
    lanes = {name: Lane(name, len(names) - 1 - i, i) for i, name in enumerate(names)}
    start, end_us = log[0]["at_us"], log[-1]["at_us"]
    story = Story(
        log=log,
        start_us=start,
        end=max((end_us - start) / 1e6, 1e-3),
        lanes=lanes,
        elections=log.elections(),
        handovers=log.handovers(),
        faults=log.faults(),
    )
    _collect_marks(story)
    _collect_reigns(story)
    for name, history in log.scores().items():
        if name in lanes:
            points = zip(history.at_us, history.scores, strict=True)
            lanes[name].scores = [(story.at(us), score) for us, score in points]
    return story


def _collect_marks(story: Story) -> None:
    open_suspicions: dict[str, float] = {}
    for row in story.log:
        kind, at = row["kind"], story.at(row["at_us"])
        name = story.log.name_of(row["node"])
        if kind == "suspected":
            open_suspicions[name] = at
            story.lanes[name].marks[kind].append(at)
        elif kind == "false_suspicion" and name in open_suspicions:
            del open_suspicions[name]
            # Its own last suspicion, so it stands at the end.
            since = story.lanes[name].marks["suspected"].pop()
            story.lanes[name].marks["misjudged"].append(since)
        elif kind in ("polled", "campaigned", "voted"):
            story.lanes[name].marks[kind].append(at)


def _collect_reigns(story: Story) -> None:
    reigns = [r for r in story.log.reigns() if r.leader in story.lanes]
    for reign in reigns:
        until = story.end if reign.until_us is None else story.at(reign.until_us)
        story.lanes[reign.leader].led.append((story.at(reign.since_us), until, reign.term))


def change_to_enlarge(story: Story) -> Election | None:
    """The change of leader worth a closer look: the last failover after a kill, else the last
    failover, else the last handover."""
    found = [e for e in story.elections if e.duration_s is not None]
    killed = {fault.node for fault in story.faults_of("killed")}
    failovers = [e for e in found if e.cause == "failover"]
    after_kill = [e for e in failovers if e.previous in killed]
    return next(reversed(after_kill or failovers or found), None)


__all__ = ["Lane", "Story", "change_to_enlarge", "log_of", "natural_order", "tell_story"]
