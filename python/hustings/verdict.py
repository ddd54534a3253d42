"""Judges a recorded history of tasks: was one lost, did one get two outcomes, did one come out of
nowhere?

A history is rows that anybody wrote down who saw something: clients what they asked and were told,
nodes or tasks what they began and finished. A row is a mapping:

``kind``
    ``submitted``: a client asked for the task. ``accepted``: it was told that the cluster holds
    it. ``refused``: it was told for certain that the cluster does not. ``unknown``: it gave up
    without an answer. ``started``, ``ended``: an attempt began, finished. ``outcome``: somebody was
    told the final word. ``cancelled``: somebody was told that the task is cancelled, which is a
    final word too.
``task``
    The task's id, any text.
``token``
    The fencing token of the attempt, where one is known, else ``None``.
``outcome``
    The final word in a form that can be compared, for kind ``outcome``.
``at_us``, ``node``, ``client``
    When it was written and by whom; for readers: the verdict does not depend on them.

The verdict is a pure function of the *set* of rows: clocks of several machines need not agree and
the order of the rows does not matter. It is right about losses only if the history is complete: the
faults have ended, whatever was accepted had time to finish, and every client has written down what
it was told. An operation that ended ``unknown`` stays open for ever: it may have happened or not,
and neither is a fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

KINDS = (
    "submitted",
    "accepted",
    "refused",
    "unknown",
    "started",
    "ended",
    "outcome",
    "cancelled",
)
"""What a row may say."""
CANCELLED = "cancelled"
"""How the final word of a cancelled task compares: as an outcome of this text."""
SHOWN = 5
"""Offenders that the text of a verdict names for each fault."""


@dataclass(frozen=True)
class Verdict:
    """What :func:`check_history` found; ``ok`` if nothing that was promised is broken."""

    rows: int
    """Rows that were read."""
    counts: Mapping[str, int]
    """Tasks for which at least one row of that kind exists, by kind."""
    lost: tuple[str, ...]
    """Accepted, and nobody ever saw an outcome."""
    double: Mapping[str, tuple[str, ...]]
    """Tasks of which two different outcomes were seen, and which."""
    invented: tuple[str, ...]
    """Started, ended or finished, though nobody submitted them."""
    contradictions: tuple[str, ...]
    """Every submission was refused for certain, and yet it ran or has an outcome."""
    unfounded: tuple[str, ...]
    """The outcome names an attempt that nobody saw start, though starts of that task were written
    down."""
    duplicate_starts: Mapping[str, int]
    """Starts beyond the first of each task. They are allowed (a function may run again when its
    node dies or freezes), and what they cost is worth knowing."""
    same_token_starts: Mapping[str, int] = field(default_factory=dict)
    """Those of them that carried a fencing token which had been started before."""

    @property
    def ok(self) -> bool:
        """No promise is broken."""
        return not (
            self.lost or self.double or self.invented or self.contradictions or self.unfounded
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "ok": self.ok,
            "rows": self.rows,
            "counts": dict(self.counts),
            "lost": list(self.lost),
            "double": {task: list(seen) for task, seen in self.double.items()},
            "invented": list(self.invented),
            "contradictions": list(self.contradictions),
            "unfounded": list(self.unfounded),
            "duplicate_starts": dict(self.duplicate_starts),
            "same_token_starts": dict(self.same_token_starts),
        }

    def __str__(self) -> str:
        faults = {
            "lost": [*self.lost],
            "two outcomes": [f"{t} ({' | '.join(o)})" for t, o in self.double.items()],
            "invented": [*self.invented],
            "contradictions": [*self.contradictions],
            "unfounded outcomes": [*self.unfounded],
        }
        lines = [f"{self.counts['submitted']} tasks, {self.rows} rows"]
        for name, found in faults.items():
            shown = ", ".join(found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
            lines.append(f"{name}: {len(found)}" + (f" ({shown})" if found else ""))
        lines.append(f"duplicate starts: {sum(self.duplicate_starts.values())}")
        return "\n".join(lines)


@dataclass
class _Task:
    """What is known of one task; the rows themselves are not kept."""

    kinds: set[str] = field(default_factory=set)
    submissions: int = 0
    refusals: int = 0
    starts: int = 0
    tokens: set[object] = field(default_factory=set)
    repeated: int = 0
    outcomes: dict[str, None] = field(default_factory=dict)
    decided_by: set[object] = field(default_factory=set)

    def take(self, kind: str, token: object, outcome: str | None) -> None:
        """Adds one row."""
        self.kinds.add(kind)
        self.submissions += kind == "submitted"
        self.refusals += kind == "refused"
        if kind == "started":
            self.starts += 1
            if token is not None:
                self.repeated += token in self.tokens
                self.tokens.add(token)
        if outcome is not None:
            self.outcomes[outcome] = None
            if token is not None and kind == "outcome":
                self.decided_by.add(token)

    @property
    def exists(self) -> bool:
        """It ran, or somebody was told how it ended."""
        return bool(self.outcomes or self.kinds & {"started", "ended"})


def check_history(rows: Iterable[Mapping[str, Any]]) -> Verdict:
    """Judges ``rows``, in one pass; memory grows with the number of tasks, not with that of rows.

    Raises:
        ValueError: a row has an unknown kind, no task, or an outcome that does not fit its kind;
            the text gives its position, the field and what would be right.
    """
    tasks: dict[str, _Task] = {}
    count = 0
    for kind, task, token, outcome in _checked(rows):
        count += 1
        tasks.setdefault(task, _Task()).take(kind, token, outcome)

    def those(broken: Iterator[tuple[str, bool]]) -> tuple[str, ...]:
        return tuple(sorted(task for task, is_broken in broken if is_broken))

    return Verdict(
        rows=count,
        counts={kind: sum(kind in t.kinds for t in tasks.values()) for kind in KINDS},
        lost=those((k, "accepted" in t.kinds and not t.outcomes) for k, t in tasks.items()),
        double={k: tuple(t.outcomes) for k, t in sorted(tasks.items()) if len(t.outcomes) > 1},
        invented=those((k, t.exists and not t.submissions) for k, t in tasks.items()),
        contradictions=those(
            (k, t.exists and 0 < t.submissions <= t.refusals) for k, t in tasks.items()
        ),
        unfounded=those((k, bool(t.starts and t.decided_by - t.tokens)) for k, t in tasks.items()),
        duplicate_starts={k: t.starts - 1 for k, t in sorted(tasks.items()) if t.starts > 1},
        same_token_starts={k: t.repeated for k, t in sorted(tasks.items()) if t.repeated},
    )


def _checked(
    rows: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[str, str, object, str | None]]:
    for n, row in enumerate(rows):
        kind, task, outcome = row.get("kind"), row.get("task"), row.get("outcome")
        if kind not in KINDS:
            raise ValueError(f"row {n}: kind={kind!r}: give one of {', '.join(KINDS)}")
        if not isinstance(task, str) or not task:
            raise ValueError(f"row {n}: task={task!r}: give the id of a task as text")
        if kind == "outcome":
            if not isinstance(outcome, str) or not outcome:
                raise ValueError(f"row {n}: outcome={outcome!r}: say how {task} ended, as text")
        else:
            outcome = CANCELLED if kind == "cancelled" else None
        yield kind, task, row.get("token"), outcome


__all__ = ["KINDS", "Verdict", "check_history"]
