"""Whether a list of founders and a number of voters make sense."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from .errors import ConfigError, HustingsWarning, InvalidPeersError


def check_founders(join: Sequence[str], voters: int | None) -> list[str]:
    """The founding list, or nothing where the node joins; refuses lists that do not fit
    ``voters``."""
    if len(set(join)) != len(join):
        twice = next(a for a in join if list(join).count(a) > 1)
        raise InvalidPeersError(f"join: {twice} is listed twice; list every founder once")
    if voters is None:
        return []
    check_voters(voters, MAX_VOTERS)
    if len(join) != voters:
        raise InvalidPeersError(
            f"join: {len(join)} addresses for voters={voters}; founders list all {voters} of them, "
            "themselves included"
        )
    return sorted(join)


MAX_VOTERS = 7
"""More voters than this make every commit slower and hardly anything safer."""


def check_voters(voters: object, most: int) -> int:
    """Refuses impossible voter counts and warns about even ones."""
    if isinstance(voters, bool) or not isinstance(voters, int) or not 1 <= voters <= most:
        raise ConfigError(
            f"voters={voters!r}: give a whole number from 1 to {most}; 3 or 5 is usual"
        )
    if voters % 2 == 0:
        warnings.warn(
            f"voters={voters} is even: it survives no more failures than {voters - 1} and needs "
            "more votes",
            HustingsWarning,
            stacklevel=4,
        )
    return voters
