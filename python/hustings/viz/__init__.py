"""Pictures of what happened: who led when, how a failover went, how scores and ranks moved, how
fast failovers are, how much work every node held; which node ran what, where nodes stand, and who
stole from whom. Needs matplotlib: ``hustings[viz]``.

Each takes a cluster, its events, a simulated run, rows or a data frame of rows (what it can be
drawn from, each says); draws into ``ax`` or a figure of its own; returns the axes.
"""

from .burdens import load
from .failovers import failover_cdf
from .gantt import tasks
from .moves import leader_moves
from .overview import picture
from .plane import map, steals
from .scores import scores
from .timeline import elections

__all__ = [
    "elections",
    "failover_cdf",
    "leader_moves",
    "load",
    "map",
    "picture",
    "scores",
    "steals",
    "tasks",
]
