"""What the nodes of the trial over several hosts run."""

from __future__ import annotations

import time

import hustings as hs


@hs.task(retries=5)
def square_slowly(x: int) -> list[int]:
    """The square, and the fencing token of the attempt that worked it out."""
    time.sleep(0.003)
    return [x * x, hs.get_context().fencing_token]
