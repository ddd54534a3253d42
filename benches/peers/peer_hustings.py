"""The work as hustings nodes load it: ``--tasks peer_hustings``."""

from __future__ import annotations

import peer_work

import hustings as hs

noop = hs.task(name="peer_work.noop")(peer_work.noop)
nap = hs.task(name="peer_work.nap")(peer_work.nap)
mark = hs.task(name="peer_work.mark")(peer_work.mark)
