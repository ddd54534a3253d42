"""The options of ``hustings sim``; apart from what it does, so that ``--help`` stays quick."""

from __future__ import annotations

import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--nodes", type=int, default=5, help="voters, 1 to 7 (default 5)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed, the same run")
    parser.add_argument("--seconds", type=float, default=60.0, help="virtual seconds (default 60)")
    parser.add_argument("--profile", help="lan (default), lan_fast, wan, ci, raft, classic")
    parser.add_argument(
        "--at",
        action="append",
        default=[],
        metavar="T:ACTION[:NODE...]",
        help='e.g. --at 5:kill:leader --at "8:partition:n1,n2:n3,n4,n5" --at 12:heal',
    )
    parser.add_argument("--tasks", type=float, default=0.0, metavar="N", help="tasks a second (0)")
    parser.add_argument("--workers", type=int, default=0, help="nodes that only work (0)")
    parser.add_argument("--failing-disks", action="store_true", help="imagine disks that can fail")
    parser.add_argument("--mtbf", type=float, metavar="S", help="mean seconds between failures")
    parser.add_argument("--mttr", type=float, metavar="S", default=5.0, help="and to repair (5)")
    parser.add_argument("--kinds", default="kill", help="what fails: kill,freeze,partition")
    parser.add_argument("--plot", metavar="FILE", help="draws the elections into this file")
