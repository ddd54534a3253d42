"""What ``hustings events``, ``tasks``, ``cancel``, ``remove``, ``drain`` and ``handover`` take;
imports nothing heavy, as ``--help`` needs it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from .terminal_arguments import add_connect

Connect = Callable[[argparse.Namespace], Any]
"""Connects to the cluster that is asked."""
NewCommand = Callable[[str, str], argparse.ArgumentParser]
"""Makes the parser of a command, by its name and summary."""


def add(new_command: NewCommand, connect: Connect) -> None:
    """Adds the commands."""
    for fill, name, summary in (
        (_add_events, "events", "what happened: elections, members, steals, faults"),
        (_add_tasks, "tasks", "the tasks the cluster holds"),
        (_add_cancel, "cancel", "cancel tasks"),
        (_add_remove, "remove", "remove a member for good; its work goes elsewhere"),
        (_add_drain, "drain", "have a node hand back its work and take no more"),
        (_add_handover, "handover", "move leadership to another voter"),
    ):
        parser = new_command(name, summary)
        run = fill(parser)
        add_connect(parser)
        parser.set_defaults(run=_runner(run, connect))


def _runner(run: str, connect: Connect) -> Callable[[argparse.Namespace], int]:
    def call(arguments: argparse.Namespace) -> int:
        from . import operator_commands

        with connect(arguments) as cluster:
            return int(getattr(operator_commands, run)(cluster, arguments))

    return call


def _add_events(parser: argparse.ArgumentParser) -> str:
    parser.add_argument(
        "--kind", action="append", default=[], help="only these, e.g. became_leader (repeatable)"
    )
    parser.add_argument("--node", metavar="NAME", help="only those of that node, by name or id")
    parser.add_argument("--last", type=int, metavar="N", help="at most the last N")
    parser.add_argument(
        "--all", action="store_true", help="also the scores and loads, several a second"
    )
    parser.add_argument("--follow", action="store_true", help="go on until Ctrl-C")
    return "print_events"


def _add_tasks(parser: argparse.ArgumentParser) -> str:
    states = ("pending", "assigned", "succeeded", "failed", "cancelled", "quarantined", "expired")
    parser.add_argument("--state", choices=states, help="only those")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="at most (default 100)")
    return "print_tasks"


def _add_cancel(parser: argparse.ArgumentParser) -> str:
    parser.add_argument("task_ids", nargs="+", metavar="ID", help="the tasks' ids, UUIDs")
    parser.add_argument("--kill", action="store_true", help="also those that run")
    return "cancel"


def _add_remove(parser: argparse.ArgumentParser) -> str:
    parser.add_argument("node", help="its name, id or address")
    parser.add_argument("--grace", type=float, default=10.0, help="seconds for its running tasks")
    return "remove"


def _add_drain(parser: argparse.ArgumentParser) -> str:
    parser.add_argument("node", help="its name, id or address")
    parser.add_argument("--grace", type=float, default=30.0, help="seconds for its running tasks")
    return "drain"


def _add_handover(parser: argparse.ArgumentParser) -> str:
    parser.add_argument(
        "node", nargs="?", help="its name, id or address (default: the best of the others)"
    )
    return "hand_over"
