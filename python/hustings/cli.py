"""The ``hustings`` command. Exit codes: 0 done, 1 failed, 2 bad input (a sentence), 3 cut short."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from . import certs_arguments as certs
from . import operator_arguments, terminal_arguments
from .terminal_arguments import add_bench, add_completion, add_connect, add_places, add_top

OK, FAILED, USAGE, CUT_SHORT = 0, 1, 2, 3
MAX_UP = 64
"""Nodes that one ``hustings up`` starts."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line ``argv`` and returns its exit code."""
    arguments = _parser().parse_args(argv)
    warnings.showwarning = _warn
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        print("hustings: interrupted", file=sys.stderr)
        return CUT_SHORT
    except BrokenPipeError:
        return CUT_SHORT
    except Exception as error:
        return _explain(error)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    """A warning is a sentence for a person, not a place in our code."""
    print(f"hustings: warning: {message}", file=sys.stderr)


def _explain(error: Exception) -> int:
    from .demo import DemoInputError
    from .errors import (
        AuthError,
        BindError,
        ConfigError,
        DataDirLockedError,
        HustingsError,
        InvalidTaskIdError,
        WaitTimeoutError,
    )

    busy = (BindError, DataDirLockedError)
    named = (AuthError, ConfigError, DemoInputError, InvalidTaskIdError)
    bad_input = (*named, *busy, ModuleNotFoundError, Usage)
    if not isinstance(error, (HustingsError, *bad_input)):
        raise error
    print(f"hustings: {error}", file=sys.stderr)
    if isinstance(error, bad_input):
        return USAGE
    return CUT_SHORT if isinstance(error, WaitTimeoutError) else FAILED


class Usage(ValueError):
    """Bad input; one sentence."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hustings",
        description="A task cluster that elects its own leader.",
        epilog="Exit codes: 0 done, 1 the work failed, 2 bad input, 3 cut short (interrupt).",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_up(commands)
    _add_down(commands)
    _add_node(commands)
    _add_status(commands)
    _add_terminal(commands)
    _add_members(commands)
    _add_submit(commands)
    _add_why(commands)
    operator_arguments.add(lambda name, summary: _command(commands, name, None, summary), _connect)
    _add_sim(commands)
    _add_config(commands)
    summary = "make a voter the only one, where a majority of them is lost for ever"
    terminal_arguments.add_force(_command(commands, "force-new-cluster", None, summary))
    certs.add(_command(commands, "certs", certs.run, "certificates for several machines"))
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from ._core import __version__

        print(f"hustings {__version__}")
        parser.exit()


def _command(commands: Any, name: str, run: Any, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_demo(commands: Any) -> None:
    p = _command(commands, "demo", _demo, "five nodes elect, work, lose their leader, finish")
    p.add_argument(
        "folder", nargs="?", help="a folder with .py files (default: the standard library)"
    )
    p.add_argument("--out", default=".", metavar="DIR", help="where the picture and the CSV go")
    p.add_argument(
        "--kill-entry", action="store_true", help="also kill the node the client first spoke to"
    )
    p.add_argument("--profile", default="ci", help="timing: ci (default), lan, lan_fast, wan")


def _demo(arguments: argparse.Namespace) -> int:
    from . import demo

    return demo.run(
        arguments.folder,
        out=arguments.out,
        kill_entry=arguments.kill_entry,
        profile=arguments.profile,
        as_json=arguments.json,
    )


def _add_up(commands: Any) -> None:
    p = _command(commands, "up", _up, "start N nodes on this machine in the background")
    p.add_argument("n", type=int, nargs="?", default=5, metavar="N", help="how many (default 5)")
    p.add_argument(
        "--tasks", action="append", default=[], metavar="MODULE", help="register its tasks"
    )
    p.add_argument(
        "--allow-pickle", action="store_true", help="accept pickled functions and arguments"
    )
    terminal_arguments.add_threads(p)
    p.add_argument(
        "--data-dir", metavar="DIR", help="keep log and state below it (default: in memory only)"
    )
    p.add_argument("--port", type=int, help="the first of N consecutive ports (default: free ones)")
    p.add_argument("--metrics", type=int, metavar="PORT", help="the first port for Prometheus")
    p.add_argument("--http", type=int, metavar="PORT", help="the first port of the live pages")
    p.add_argument("--profile", help="timing: lan (default), lan_fast, ci, wan, raft, classic")
    p.add_argument(
        "--timeout", type=float, default=30.0, help="seconds until a leader must be there"
    )


def _up(arguments: argparse.Namespace) -> int:
    from . import background

    if not 1 <= arguments.n <= MAX_UP:
        raise Usage(f"N={arguments.n}: give 1 to {MAX_UP} nodes")
    state = background.start(
        arguments.n,
        tasks=arguments.tasks,
        allow_pickle=arguments.allow_pickle,
        allow_threads=arguments.allow_threads,
        first_port=arguments.port,
        profile=arguments.profile,
        timeout=arguments.timeout,
        data_dir=arguments.data_dir,
        first_metrics_port=arguments.metrics,
        first_http_port=arguments.http,
    )
    if arguments.json:
        print(json.dumps(state))
    else:
        for node in state["nodes"]:
            print(f"{node['name']}  {node['address']}  pid {node['pid']}  log {node['log']}")
        if arguments.http is not None:
            print(f"page: http://127.0.0.1:{arguments.http}/")
        print(f"leader: {state['leader']}; stop them with: hustings down")
    return OK


def _add_down(commands: Any) -> None:
    p = _command(
        commands, "down", _down, "end the nodes that `hustings up` started, and only those"
    )
    p.add_argument("--grace", type=float, default=10.0, help="seconds before SIGKILL")


def _down(arguments: argparse.Namespace) -> int:
    from . import background

    ended = background.stop(arguments.grace)
    if arguments.json:
        print(json.dumps(ended))
    else:
        told = [f"{name}: {how}" for name, how in ended.items()]
        print("\n".join(told) or "no node that `hustings up` started is running")
    return OK if all(how != "still running" for how in ended.values()) else FAILED


def _add_node(commands: Any) -> None:
    p = _command(commands, "node", _node, "run one node in the foreground")
    p.add_argument("--name", help="unique in the cluster (default: host and process id)")
    add_places(p)
    p.add_argument(
        "--voters", type=int, metavar="N", help="found a cluster of N voters, all in --join"
    )
    p.add_argument(
        "--join", default="", metavar="A,B,C", help="founders, or any nodes of a cluster to join"
    )
    p.add_argument("--voter", action="store_true", help="ask to become a voter after joining")
    p.add_argument(
        "--tasks", action="append", default=[], metavar="MODULE", help="register its tasks"
    )
    p.add_argument("--slots", type=int, help="callbacks at once (default: cores)")
    p.add_argument("--position", default="0,0", metavar="X,Y", help="where the node stands")
    p.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what tasks may ask for by labels=",
    )
    p.add_argument(
        "--resource",
        action="append",
        default=[],
        metavar="NAME=AMOUNT",
        help="what tasks may ask for by resources=, besides slots",
    )
    p.add_argument(
        "--allow-pickle", action="store_true", help="accept pickled functions and arguments"
    )
    terminal_arguments.add_threads(p)
    p.add_argument(
        "--allow-faults", action="store_true", help="take fault calls: cut links, wrong clocks"
    )
    p.add_argument("--profile", help="timing: lan (default), lan_fast, ci, wan, raft, classic")
    p.add_argument("--config", metavar="FILE", help="knobs as TOML")
    p.add_argument(
        "--data-dir", metavar="DIR", help="keep log and state there (default: in memory only)"
    )
    p.add_argument("--grace", type=float, default=30.0, help="seconds for running tasks at SIGTERM")
    certs.add_node(p)


def _node(arguments: argparse.Namespace) -> int:
    from . import foreground

    return foreground.run(arguments)


def _connect(arguments: argparse.Namespace, allow_pickle: bool = False) -> Any:
    import os

    from . import background
    from .cluster import Cluster

    addresses = [a for given in arguments.connect for a in given.split(",") if a]
    addresses = addresses or [a for a in os.environ.get("HUSTINGS_CONNECT", "").split(",") if a]
    addresses = addresses or background.addresses()
    if not addresses:
        raise Usage(
            "no cluster: give --connect HOST:PORT, set HUSTINGS_CONNECT, or start one with: "
            "hustings up 3"
        )
    return Cluster.connect(
        *addresses, tls=arguments.tls, allow_pickle=allow_pickle, timeout=arguments.timeout
    )


def _add_status(commands: Any) -> None:
    p = _command(commands, "status", _status, "who leads, who is there, what is done")
    add_connect(p)


def _status(arguments: argparse.Namespace) -> int:
    from . import standing

    with _connect(arguments) as cluster:
        return standing.print_status(cluster, as_json=arguments.json)


def _add_terminal(commands: Any) -> None:
    p = _command(commands, "top", _top, "the same again and again: scores, queues, what moves")
    add_top(p)
    add_connect(p)
    add_bench(_command(commands, "bench", None, "measure a cluster on this machine"))
    p = _command(commands, "completion", _completion, "print what completes commands in a shell")
    add_completion(p)


def _top(arguments: argparse.Namespace) -> int:
    from . import top

    top.check(arguments.interval, arguments.count)
    with _connect(arguments) as cluster:
        return top.run(cluster, arguments.interval, arguments.count, as_json=arguments.json)


def _completion(arguments: argparse.Namespace) -> int:
    from . import completion

    script = completion.build_script(_parser(), arguments.shell)
    print(json.dumps({"shell": arguments.shell, "script": script}) if arguments.json else script)
    return OK


def _add_members(commands: Any) -> None:
    p = _command(commands, "members", _members, "every member: who votes, who is there, its load")
    add_connect(p)


def _members(arguments: argparse.Namespace) -> int:
    from . import standing

    with _connect(arguments) as cluster:
        return standing.print_members(cluster, as_json=arguments.json)


def _add_submit(commands: Any) -> None:
    p = _command(commands, "submit", _submit, "submit a registered task, once or at a rate")
    p.add_argument("task", help="the registered name, e.g. app.tasks.square")
    p.add_argument("args", nargs="?", default="[]", help='JSON: [1, 2], {"x": 1}, or one value')
    p.add_argument("--count", type=int, default=1, metavar="N", help="how many (default 1)")
    p.add_argument(
        "--rate", type=float, metavar="R", help="per second (default: as fast as possible)"
    )
    p.add_argument("--retries", type=int, default=0)
    p.add_argument("--task-timeout", type=float, metavar="S", help="seconds one attempt may take")
    p.add_argument(
        "--idempotent",
        action="store_true",
        help="it may run twice at once: stragglers get a copy elsewhere",
    )
    p.add_argument("--wait", type=float, default=60.0, help="seconds for the last outcomes")
    add_connect(p)


def _submit(arguments: argparse.Namespace) -> int:
    from . import load_generator

    args, kwargs = load_generator.parse_call(arguments.args)
    with _connect(arguments) as cluster:
        return load_generator.run(cluster, arguments, args, kwargs)


def _add_why(commands: Any) -> None:
    p = _command(commands, "why", _why, "why a task is where it is, and what happened to it")
    p.add_argument("task_id", metavar="ID", help="the task's id, a UUID")
    add_connect(p)


def _why(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    with _connect(arguments) as cluster:
        why, events = cluster.why(arguments.task_id), cluster.history(arguments.task_id)
    if arguments.json:
        print(json.dumps({**asdict(why), "history": [asdict(event) for event in events]}))
    else:
        print("\n".join([f"{why.kind}: {why}", *(f"  {event}" for event in events)]))
    return FAILED if why.kind in ("unknown", "no_quorum") else OK


def _add_sim(commands: Any) -> None:
    from . import sim_arguments

    p = _command(commands, "sim", _sim, "imagine a cluster: elections, faults, the same by seed")
    sim_arguments.add(p)


def _sim(arguments: argparse.Namespace) -> int:
    from . import imagined

    return imagined.run(arguments)


def _add_config(commands: Any) -> None:
    p = _command(commands, "config", _config, "show every knob with its value, bounds and meaning")
    p.add_argument("what", choices=["show"])
    p.add_argument("--profile", help="lan (default), lan_fast, wan, ci, raft, classic")


def _config(arguments: argparse.Namespace) -> int:
    from . import config

    config.print_knobs(arguments.profile, as_json=arguments.json)
    return OK
