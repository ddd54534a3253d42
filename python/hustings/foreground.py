"""``hustings node``: one node in the foreground until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import warnings
from pathlib import Path
from types import ModuleType

from . import certs, loads
from .config import Config, read_toml
from .errors import ConfigError, HustingsWarning, StorageError
from .node import Node
from .service import ServiceManager
from .signals import CUT_SHORT, SignalWaiter
from .tasks import Task

OK = 0
NODE_FAILED = 0
"""What the waiter returns when the node ended by itself; no signal has that number."""


def run(arguments: argparse.Namespace) -> int:
    """Runs the node; 0 if its stop cut nothing off, else 3."""
    waiter = SignalWaiter()  # first of all: from here on a signal asks, and does not end us
    manager = ServiceManager()
    config = _config(arguments.config, arguments.profile)
    tls = _certificate(arguments)
    functions = [pair for name in arguments.tasks for pair in tasks_of(name)]
    node = _node(arguments, config, tls)
    for name, reference in functions:
        node.register(name, reference)
    address = node.bind()
    if waiter.came:
        node.abort()  # it is no member yet: there is nothing to hand over
        return OK
    resumed = node.founded
    _warn_of_memory(arguments)
    node.notify_failure(waiter.descriptor)
    node.enter()
    if arguments.json:
        print(json.dumps(_ready(node)), flush=True)
    else:
        what = "resumes its cluster" if resumed else _describe(arguments)
        many = "1 task" if len(functions) == 1 else f"{len(functions)} tasks"
        print(f"node {node.name} listens on {address}, {what}; {many}{_looks(node)}", flush=True)
    manager.ready(node)
    caught = waiter.wait()
    if caught == NODE_FAILED:
        raise node.failure or StorageError(f"node {node.name} ended by itself")
    waiter.on_next(lambda: _end_at_once(node))
    manager.stopping()
    print(
        f"node {node.name} stops: handing over (again to end at once)", file=sys.stderr, flush=True
    )
    whole = node.stop(arguments.grace)
    waiter.finish()
    return OK if whole else CUT_SHORT


def _node(arguments: argparse.Namespace, config: Config | None, tls: str | None) -> Node:
    return Node(
        arguments.name,
        listen=arguments.listen,
        advertise=arguments.advertise,
        listen_clients=arguments.listen_clients,
        advertise_clients=arguments.advertise_clients,
        join=arguments.join,
        voters=arguments.voters,
        voter=arguments.voter,
        position=_position(arguments.position),
        slots=arguments.slots,
        labels=dict(_pairs("--label", arguments.label)),
        resources=_resources(arguments.resource),
        allow_pickle=arguments.allow_pickle,
        allow_threads=arguments.allow_threads,
        allow_faults=arguments.allow_faults,
        load=loads.measured(own_process=True),
        config=config,
        data_dir=arguments.data_dir,
        metrics=arguments.metrics,
        metrics_open=arguments.metrics_open,
        http=arguments.http,
        http_open=arguments.http_open,
        http_tls=arguments.http_tls,
        otlp=arguments.otlp,
        tls=tls,
        admit=arguments.admit,
        ca=arguments.ca,
    )


def _ready(node: Node) -> dict[str, object]:
    served = {"metrics": node.metrics_address, "http": node.http_address}
    return {
        "name": node.name,
        "address": node.address,
        "client_address": node.client_address,
        "id": node.id,
        "pid": os.getpid(),
        **{what: address for what, address in served.items() if address is not None},
    }


def _looks(node: Node) -> str:
    apart = node.client_address != node.address
    clients = f"; clients at {node.client_address}" if apart else ""
    metrics = f"; metrics at http://{node.metrics_address}/metrics" if node.metrics_address else ""
    page = f"; page at http://{node.http_address}/" if node.http_address else ""
    return clients + metrics + page


def _certificate(arguments: argparse.Namespace) -> str | None:
    """The folder of this node's certificate, which a token may have to fill first."""
    folder = certs.check_folder(arguments.tls)
    token: str | None = arguments.token or os.environ.pop("HUSTINGS_TOKEN", None)
    if token is None:
        return folder
    if folder is None:
        raise ConfigError("--token: say where the certificate goes (--tls FOLDER)")
    if certs.holds_certificate(folder):
        return folder  # it came for this token at an earlier start
    if token.startswith("@"):
        try:
            token = Path(token[1:]).read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            raise ConfigError(f"--token {token}: {error}") from None
    holder = certs.enrol(token, folder)
    print(f"certificate of {holder.name} in {folder}", file=sys.stderr, flush=True)
    return folder


def _warn_of_memory(arguments: argparse.Namespace) -> None:
    votes = arguments.voter or arguments.voters is not None or not arguments.join
    if votes and arguments.data_dir is None:
        warnings.warn(
            "state is in memory only: tasks survive while a majority of the voters keeps running; "
            "give --data-dir DIR to keep them on disk",
            HustingsWarning,
            stacklevel=2,
        )


def _describe(arguments: argparse.Namespace) -> str:
    if arguments.voters is not None:
        return f"founds a cluster of {arguments.voters} voters"
    if arguments.join:
        return f"joins {arguments.join}"
    return "FOUNDS A CLUSTER OF ITS OWN (no --join, no --voters)"


def tasks_of(module_name: str) -> list[tuple[str, str]]:
    """The tasks at the top of a module, as (registered name, reference). Raises ``ConfigError``."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module: ModuleType = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"--tasks {module_name}: {error}") from error
    found = {}
    for attribute, value in vars(module).items():
        if isinstance(value, Task):
            found[value.name] = value.reference() or f"{module_name}:{attribute}"
    if not found:
        raise ConfigError(
            f"--tasks {module_name}: no @hustings.task at the top of {module.__file__}"
        )
    return list(found.items())


def _config(path: str | None, profile: str | None) -> Config:
    if path is not None:
        read_toml(Path(path))  # refuses a bad file with the name that was given here
        os.environ["HUSTINGS_CONFIG"] = path
    return Config(profile=profile)


def _pairs(option: str, words: list[str]) -> list[tuple[str, str]]:
    for word in words:
        if "=" not in word:
            raise ConfigError(f"{option} {word!r}: give NAME=VALUE")
    return [(name, value) for name, _, value in (word.partition("=") for word in words)]


def _resources(words: list[str]) -> dict[str, float]:
    try:
        return {name: float(amount) for name, amount in _pairs("--resource", words)}
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"--resource {' '.join(words)}: give NAME=AMOUNT, a number") from None


def _position(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--position {text!r}: give X,Y, e.g. 0,1.5") from None
    return x, y


def _end_at_once(node: Node) -> None:
    try:
        node.abort()
    finally:
        os._exit(CUT_SHORT)
