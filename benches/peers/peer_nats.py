"""A work queue on NATS JetStream with workers written by hand: what a broker alone costs. It is no
task system: retries, results and their bookkeeping are these few lines.
"""

from __future__ import annotations

import asyncio
import json
import sys

import nats
import peer_work
from nats.errors import TimeoutError as NothingThere

FETCH = 20
"""Tasks one worker takes at a time."""


async def serve(url: str) -> None:
    """A worker: takes tasks, runs them, publishes results, acknowledges."""
    connection = await nats.connect(url)
    stream = connection.jetstream()
    queue = await stream.pull_subscribe("work", durable="workers")
    while True:
        try:
            messages = await queue.fetch(FETCH, timeout=5)
        except NothingThere:
            continue
        for message in messages:
            reply, number, function, argument = json.loads(message.data)
            value = getattr(peer_work, function)(argument)
            await connection.publish(reply, json.dumps([number, value]).encode())
            await message.ack()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
