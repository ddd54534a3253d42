"""What ``hustings top`` and ``completion`` take; imports nothing, as ``--help`` needs it."""

from __future__ import annotations

import argparse


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
