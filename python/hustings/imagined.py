"""``hustings sim``: imagines a cluster, says who led when and why, and draws it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .config import Config
from .errors import ConfigError
from .failures import RandomFailures
from .simulation import Run, Simulation, Step


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; 1 if a promise was broken."""
    failures = None
    if arguments.mtbf is not None:
        kinds = tuple(arguments.kinds.split(","))
        failures = RandomFailures(arguments.mtbf, arguments.mttr, kinds=kinds, seed=arguments.seed)
    simulation = Simulation(
        arguments.nodes,
        seed=arguments.seed,
        config=Config(profile=arguments.profile),
        script=[parse_step(text) for text in arguments.at],
        failures=failures,
        workers=arguments.workers,
        tasks_per_s=arguments.tasks,
        disk="imagined" if arguments.failing_disks else True,
    )
    ran = simulation.run(seconds=arguments.seconds)
    if arguments.plot:
        _draw(ran, arguments.plot)
    print(json.dumps(_as_dict(ran)) if arguments.json else _as_text(ran))
    return 1 if ran.violations else 0


def parse_step(text: str) -> Step:
    """``"8:partition:n1,n2:n3"`` as a step of a script."""
    at, *words = text.split(":")
    try:
        seconds = float(at)
    except ValueError:
        raise ConfigError(f"--at {text!r}: give T:ACTION[:NODE...], T in seconds") from None
    if not words:
        raise ConfigError(f"--at {text!r}: the action is missing, e.g. 5:kill:leader")
    action, *rest = words
    if action == "partition":
        return (seconds, action, *(group.split(",") for group in rest))
    return (seconds, action, *(_word(word) for word in rest))


def _word(word: str) -> str | float | None:
    if word in ("", "*"):
        return None
    try:
        return float(word)
    except ValueError:
        return word


def _as_dict(ran: Run) -> dict[str, Any]:
    return {
        "seed": ran.seed,
        "trace": ran.trace,
        "virtual_s": ran.duration_s,
        "messages": ran.messages,
        "facts": ran.facts,
        "writes": list(ran.writes),
        "faults": dict(ran.faults),
        "healed_s": ran.healed_s,
        "tasks": None if ran.tasks is None else vars(ran.tasks),
        "violations": [vars(violation) for violation in ran.violations],
        "changes": [{**vars(change), "best_won": change.best_won} for change in ran.changes],
    }


def _as_text(ran: Run) -> str:
    lines = []
    for change in ran.changes:
        took = "" if change.duration_s is None else f" {change.duration_s * 1e3:7.1f} ms"
        best = {None: "", True: "  the best", False: f"  not the best ({change.best})"}
        lines.append(
            f"{change.at_s:10.3f} s  term {change.term:<4} {change.leader:4} "
            f"{change.cause:9}{took}{best[change.best_won]}"
        )
    sent, told = ran.writes
    faults = ", ".join(f"{kind} {count}" for kind, count in sorted(ran.faults.items())) or "none"
    lines += [
        f"faults    {faults}",
        f"writes    {told} of {sent} acknowledged",
        *_tasks(ran),
        f"promises  {ran.facts} facts looked at, {len(ran.violations)} broken",
        *(f"  {v.promise} at {v.at_s:.3f} s: {v.problem}" for v in ran.violations),
        f"trace     {ran.trace} ({ran.messages} messages in {ran.duration_s:.1f} virtual s)",
    ]
    return "\n".join(lines)


def _tasks(ran: Run) -> list[str]:
    tasks = ran.tasks
    if tasks is None:
        return []
    drained = "never" if tasks.drained_s is None else f"{tasks.drained_s:.1f} s after healing"
    return [
        f"tasks     {tasks.accepted} of {tasks.submitted} accepted, {tasks.outcomes} outcomes, "
        f"{tasks.attempts} attempts; all out {drained}",
        f"          lost {tasks.lost}, double {tasks.double}, invented {tasks.invented}, "
        f"contradicting {tasks.contradicting}",
    ]


def _draw(ran: Run, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from . import viz

    viz.picture(ran).savefig(path, dpi=150, bbox_inches="tight")
