"""What ``hustings top`` and ``completion`` take, and every command that asks a cluster; imports
nothing heavy, as ``--help`` needs it."""

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


def add_looks(p: argparse.ArgumentParser) -> None:
    """Where a node can be looked at: by Prometheus, and by people."""
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
