"""Systems whose client is a coroutine: an event loop on a thread of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from peer_system import HERE, System, await_port, free_port, own_command

AT_ONCE = 500
"""Submissions on their way at once."""


class OnLoop(System):
    """With a loop that other threads may ask."""

    def ask(self, what: Coroutine[Any, Any, Any], timeout: float = 600.0) -> Any:
        """What the coroutine returns."""
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(timeout)

    def start_loop(self) -> None:
        """Once, before anything is asked."""
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()


class TaskIq(OnLoop):
    """Redis as queue and result store, one worker command of one process and one place per slot."""

    name = "TaskIQ + Redis"
    package = "taskiq"
    commands = ("redis-server",)

    def start(self) -> None:
        port = int(os.environ["PEER_REDIS_PORT"])
        where = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(self.folder))
        self.spawn("redis-server", *where)
        await_port(port)
        import peer_taskiq

        self.tasks = peer_taskiq.TASKS
        for _ in range(self.slots):
            self.spawn(
                *(own_command("taskiq"), "worker", "peer_taskiq:broker", "--workers", "1"),
                *("--max-async-tasks", "1", "--log-level", "WARNING"),
            )
        self.start_loop()
        self.ask(peer_taskiq.broker.startup())
        self.collect(self.submit("noop", [1]), 60)

    def submit(self, function: str, arguments: Sequence[Any]) -> list[Any]:
        return list(self.ask(self._submit(function, arguments)))

    async def _submit(self, function: str, arguments: Sequence[Any]) -> list[Any]:
        room = asyncio.Semaphore(100)

        async def one(argument: Any) -> Any:
            async with room:
                return await self.tasks[function].kiq(argument)

        return await asyncio.gather(*(one(a) for a in arguments))

    def collect(self, handles: list[Any], patience_s: float) -> list[Any]:
        return list(self.ask(self._collect(handles, patience_s)))

    async def _collect(self, handles: list[Any], patience_s: float) -> list[Any]:
        room = asyncio.Semaphore(100)
        # One alone is looked for often, as its round trip is timed; many would only load Redis.
        every = 0.001 if len(handles) == 1 else 0.05

        async def one(handle: Any) -> Any:
            async with room:
                try:
                    found = await handle.wait_result(check_interval=every, timeout=patience_s)
                except Exception as error:
                    return None if "Timeout" in type(error).__name__ else error
                return found.return_value

        return await asyncio.gather(*(one(h) for h in handles))


class Nats(OnLoop):
    """JetStream as a work queue in memory of one server, one worker process per slot."""

    name = "NATS + own workers"
    package = "nats-py"
    commands = ("nats-server",)

    def start(self) -> None:
        port = free_port()
        where = ("-a", "127.0.0.1", "-p", str(port), "-sd", str(self.folder))
        self.spawn("nats-server", "-js", *where)
        await_port(port)
        url = f"nats://127.0.0.1:{port}"
        self.start_loop()
        self.ask(self._connect(url))
        for _ in range(self.slots):
            self.spawn(sys.executable, str(HERE / "peer_nats.py"), url)
        self.collect(self.submit("noop", [1]), 60)

    async def _connect(self, url: str) -> None:
        import nats
        from nats.js import api

        self.connection = await nats.connect(url)
        self.stream = self.connection.jetstream()
        queue = api.RetentionPolicy.WORK_QUEUE
        await self.stream.add_stream(api.StreamConfig("WORK", subjects=["work"], retention=queue))
        workers = api.ConsumerConfig(durable_name="workers", max_ack_pending=20_000)
        await self.stream.add_consumer("WORK", workers)
        self.reply, self.next = self.connection.new_inbox(), 0
        self.results: dict[int, Any] = {}
        await self.connection.subscribe(self.reply, cb=self._hear)

    async def _hear(self, message: Any) -> None:
        number, value = json.loads(message.data)
        self.results[number] = value

    def submit(self, function: str, arguments: Sequence[Any]) -> list[Any]:
        numbers = range(self.next, self.next + len(arguments))
        self.next = numbers.stop
        self.ask(self._submit(function, numbers, arguments))
        return list(numbers)

    async def _submit(self, function: str, numbers: range, arguments: Sequence[Any]) -> None:
        room = asyncio.Semaphore(AT_ONCE)

        async def one(number: int, argument: Any) -> None:
            async with room:
                body = json.dumps([self.reply, number, function, argument]).encode()
                await self.stream.publish("work", body, timeout=20)

        await asyncio.gather(*(one(n, a) for n, a in zip(numbers, arguments, strict=True)))

    def collect(self, handles: list[Any], patience_s: float) -> list[Any]:
        end = time.monotonic() + patience_s
        wait = 0.0001 if len(handles) == 1 else 0.002
        # The last one is looked for first: it is cheap, and mostly decides.
        while any(handle not in self.results for handle in reversed(handles)):
            if time.monotonic() > end:
                break
            time.sleep(wait)
        return [self.results.pop(h, None) for h in handles]

    def close(self) -> None:
        self.ask(self.connection.close(), 5)
