"""The Celery application, for its workers and for the one who submits."""

from __future__ import annotations

import os

import peer_work
from celery import Celery

URL = f"redis://127.0.0.1:{os.environ['PEER_REDIS_PORT']}/0"
app = Celery("peers", broker=URL, backend=URL)
for function in (peer_work.noop, peer_work.nap, peer_work.mark):
    app.task(name=f"peer_work.{function.__name__}")(function)
