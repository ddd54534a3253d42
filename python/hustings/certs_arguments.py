"""What ``hustings certs`` takes, and what concerns TLS elsewhere; imports nothing, as ``--help``
needs it."""

from __future__ import annotations

import argparse
from typing import Any


def run(arguments: argparse.Namespace) -> int:
    """Performs them."""
    from . import certs

    return certs.run(arguments)


def add(parser: argparse.ArgumentParser) -> None:
    """The commands below ``hustings certs``."""
    commands = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    p = _command(commands, "init", "make the authority of a new cluster in FOLDER")
    p.add_argument("folder", metavar="FOLDER")
    p = _command(commands, "node", "a certificate for a node")
    p.add_argument("name", metavar="NAME", help="its name in the cluster")
    p.add_argument(
        "hosts", nargs="+", metavar="HOST", help="its addresses without port, as others reach it"
    )
    _add_issuing(p)
    p = _command(commands, "client", "a certificate for a script: tasks and their outcomes")
    p.add_argument("name", metavar="NAME", help="a word for people")
    _add_issuing(p)
    p = _command(commands, "admin", "a certificate for an operator: also drain, remove, handover")
    p.add_argument("name", metavar="NAME", help="a word for people")
    _add_issuing(p)
    p = _command(commands, "token", "a token for one node: its certificate, once, in 15 minutes")
    p.add_argument("name", metavar="NAME", help="the node's name in the cluster")
    p.add_argument("hosts", nargs="+", metavar="HOST", help="its addresses without port")
    p.add_argument("--ca", required=True, metavar="FOLDER", help="the authority's folder")
    p.add_argument(
        "--at", required=True, metavar="HOST:PORT", help="where a node admits: its --admit"
    )
    p.add_argument("--days", type=int, default=365, help="how long its certificate lasts")
    p = _command(commands, "show", "whose certificate lies in FOLDER, and whether it can be used")
    p.add_argument("folder", metavar="FOLDER")


def _command(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    # What was given before the word counts too, so there is no default here.
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    return parser


def _add_issuing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ca", required=True, metavar="FOLDER", help="the authority's folder")
    parser.add_argument(
        "--out", required=True, metavar="FOLDER", help="where ca.pem, cert.pem and key.pem go"
    )
    parser.add_argument("--days", type=int, default=365, help="how long it lasts (default 365)")


def add_tls(parser: argparse.ArgumentParser) -> None:
    """With which certificate one connects."""
    parser.add_argument(
        "--tls",
        metavar="FOLDER",
        help="this end's certificate, from `hustings certs` (default: HUSTINGS_TLS; none: no TLS)",
    )


def add_node(parser: argparse.ArgumentParser) -> None:
    """A node's certificate, and how it admits others."""
    add_tls(parser)
    parser.add_argument(
        "--token",
        metavar="TOKEN",
        help="get the certificate into --tls first, by a token of `hustings certs token` "
        "(@FILE: read it there; default: HUSTINGS_TOKEN)",
    )
    parser.add_argument(
        "--admit", metavar="HOST:PORT", help="admit nodes with a token here; needs --ca"
    )
    parser.add_argument("--ca", metavar="FOLDER", help="the authority's folder, for --admit")
