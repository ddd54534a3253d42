"""What ``hustings top``, ``bench`` and ``completion`` take, and every command that asks a cluster;
imports nothing heavy, as ``--help`` needs it."""

from __future__ import annotations

import argparse

from .certs_arguments import add_tls


def add_connect(parser: argparse.ArgumentParser) -> None:
    """Where the cluster is."""
    parser.add_argument(
        "--connect",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="any node (default: HUSTINGS_CONNECT, else the nodes of `hustings up`)",
    )
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds")
    add_tls(parser)


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Whether tasks may run inside a node."""
    parser.add_argument(
        "--allow-threads",
        action="store_true",
        help='run tasks with run_in="thread" in threads of the node itself, not in processes',
    )


def add_force(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hustings force-new-cluster``, and what runs it."""
    parser.set_defaults(run=run_force)
    parser.add_argument("data_dir", metavar="DIR", help="the data directory of a stopped voter")
    parser.add_argument(
        "--cluster", metavar="ID", help="do it to this cluster (default: only tell what is there)"
    )


def run_force(arguments: argparse.Namespace) -> int:
    """``hustings force-new-cluster``."""
    from . import recovery

    return recovery.run(arguments)


def add_places(p: argparse.ArgumentParser) -> None:
    """Where a node listens, where others reach it, and where it can be looked at."""
    p.add_argument("--listen", default="127.0.0.1:7400", metavar="HOST:PORT")
    p.add_argument("--advertise", metavar="HOST:PORT", help="where others reach it, if elsewhere")
    p.add_argument(
        "--listen-clients",
        metavar="HOST:PORT",
        help="a listener for clients alone; --listen is for nodes alone then",
    )
    p.add_argument(
        "--advertise-clients", metavar="HOST:PORT", help="where clients reach it, if elsewhere"
    )
    p.add_argument("--metrics", metavar="HOST:PORT", help="serve /metrics for Prometheus there")
    p.add_argument(
        "--metrics-open",
        action="store_true",
        help="let other machines read the metrics: in plain text, without a password",
    )
    p.add_argument("--http", metavar="HOST:PORT", help="serve the live page there, read-only")
    p.add_argument(
        "--http-open",
        action="store_true",
        help="let other machines see the page: in plain text, without a password",
    )
    p.add_argument(
        "--http-tls",
        metavar="FOLDER",
        help="inside TLS: the certificate of a client, with which the page asks its cluster",
    )
    p.add_argument(
        "--otlp",
        metavar="URL",
        help="send spans of traced tasks to that OpenTelemetry collector, by OTLP over gRPC "
        "(default: OTEL_EXPORTER_OTLP_ENDPOINT)",
    )


def add_top(parser: argparse.ArgumentParser) -> None:
    """The options of ``hustings top``."""
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="S", help="seconds (default 1)"
    )
    parser.add_argument(
        "--count", type=int, metavar="N", help="so often, then end (default: until Ctrl-C)"
    )


def add_completion(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hustings completion``."""
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"])


def add_bench(parser: argparse.ArgumentParser) -> None:
    """The options of ``hustings bench``, and what runs it."""
    parser.set_defaults(run=run_bench)
    parser.add_argument("--nodes", type=int, default=3, metavar="N", help="voters (default 3)")
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="more nodes (default 0)"
    )
    parser.add_argument("--slots", type=int, help="callbacks at once on a node (default: by cores)")
    parser.add_argument("--disk", action="store_true", help="keep state on disk, in a new folder")
    parser.add_argument("--data-dir", metavar="DIR", help="keep state there: the disk to measure")
    parser.add_argument(
        "--run-in", choices=["process", "thread"], default="process", help="where tasks run"
    )
    parser.add_argument("--tasks", type=int, default=50_000, metavar="N", help="a round (50000)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of each (default 5)")
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="at each rate, where latency is measured (3)"
    )
    parser.add_argument(
        "--sections",
        default="throughput,latency,fanout,payload",
        help="of throughput,latency,fanout,payload,pools; all but the last by default",
    )
    parser.add_argument("--out", metavar="FILE", help="writes the figures there as JSON too")


def run_bench(arguments: argparse.Namespace) -> int:
    """``hustings bench``."""
    from . import benchmark

    return benchmark.run(arguments)
