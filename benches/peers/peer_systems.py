"""The systems, each started by its own commands and with its own defaults. Their packages are
imported when they are asked for: each lives in an environment of its own."""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import peer_work
from peer_brokers import Nats, TaskIq
from peer_system import System, await_port, each, free_port, own_command


class Hustings(System):
    """Three voters, each with one slot; state in memory of all three."""

    name = "hustings"
    package = "hustings"
    disk = False

    def start(self) -> None:
        from processes import Group, Spec

        import hustings as hs

        spec = Spec(
            self.folder,
            voters=self.slots,
            tasks=["peer_hustings"],
            slots=1,
            disk=self.disk,
            cwd=os.path.dirname(peer_work.__file__),  # type: ignore[arg-type]
        )
        self.group = Group(spec)
        self.group.start()
        self.client = hs.Cluster.connect(*self.group.places, timeout=60)
        self.collect(self.submit("noop", [1]), 60)

    def submit(self, function: str, arguments: Sequence[Any]) -> list[Any]:
        name = f"peer_work.{function}"
        return [self.client.submit(name, argument) for argument in arguments]

    def collect(self, handles: list[Any], patience_s: float) -> list[Any]:
        return each(handles, lambda future, left: _or_none(future.result, left), patience_s)

    def gather(self, handles: list[Any]) -> list[Any]:
        import hustings as hs

        return list(hs.gather(*handles, timeout=300))

    def head(self) -> int:
        return self.group[self.client.wait_leader().name].pid

    def worker(self) -> int:
        leader = self.client.wait_leader().name
        return next(node.pid for node in self.group if node.name != leader)

    def close(self) -> None:
        self.client.close()

    def stop(self) -> None:
        super().stop()
        self.group.kill()


class HustingsOnDisk(Hustings):
    """The same, every change synced to three disks before it is confirmed."""

    name = "hustings, on disk"
    disk = True


class Dask(System):
    """A scheduler and workers of one thread each."""

    name = "Dask"
    package = "distributed"

    def _launch_scheduler(self) -> None:
        self.scheduler = self.spawn(
            own_command("dask"), "scheduler", "--host", "127.0.0.1", "--port", str(self.port)
        )

    def start(self) -> None:
        from distributed import Client

        self.port = free_port()
        self._launch_scheduler()
        await_port(self.port)
        address = f"tcp://127.0.0.1:{self.port}"
        for _ in range(self.slots):
            self.spawn(own_command("dask"), "worker", address, "--nthreads", "1")
        self.client = Client(address, timeout=60)
        self.client.wait_for_workers(self.slots, timeout=60)

    def submit(self, function: str, arguments: Sequence[Any]) -> list[Any]:
        return list(self.client.map(getattr(peer_work, function), arguments, pure=False))

    def collect(self, handles: list[Any], patience_s: float) -> list[Any]:
        from distributed import wait

        with contextlib.suppress(Exception):
            wait(handles, timeout=patience_s)
        with contextlib.suppress(Exception):
            return list(self.client.gather(handles))
        return each(handles, self._value, 30)

    @staticmethod
    def _value(future: Any, left: float) -> Any:
        if future.status == "pending":
            return None
        return future.result(timeout=min(left, 1.0))

    def head(self) -> int:
        return self.scheduler.pid

    def worker(self) -> int:
        return int(next(iter(self.client.run(os.getpid).values())))

    def restart_head(self) -> None:
        self._launch_scheduler()

    def close(self) -> None:
        self.client.close(timeout=2)


class Ray(System):
    """One head node with as many processors as slots."""

    name = "Ray"
    package = "ray"

    def start(self) -> None:
        import ray

        # "local": not whatever cluster an earlier run has written down.
        ray.init(
            address="local",
            num_cpus=self.slots,
            include_dashboard=False,
            object_store_memory=256 << 20,
            log_to_driver=False,
            logging_level="ERROR",
        )
        self.functions = {
            name: ray.remote(getattr(peer_work, name)) for name in ("noop", "nap", "mark")
        }
        self.whose = ray.remote(peer_work.whose)
        ray.get([self.whose.remote() for _ in range(20)])

    def submit(self, function: str, arguments: Sequence[Any]) -> list[Any]:
        remote = self.functions[function]
        return [remote.remote(argument) for argument in arguments]

    def collect(self, handles: list[Any], patience_s: float) -> list[Any]:
        import ray

        # A driver whose control service is gone for a minute is ended by Ray itself.
        patience_s = min(patience_s, 45.0)
        ready, _ = ray.wait(handles, num_returns=len(handles), timeout=patience_s)
        known = set(ready)
        return [_ray_value(ray, ref) if ref in known else None for ref in handles]

    def head(self) -> int:
        from processes import descendants

        for pid in descendants(os.getpid()):
            with open(f"/proc/{pid}/comm") as comm:
                if comm.read().startswith("gcs_server"):
                    return pid
        raise RuntimeError("the control service was not found")

    def worker(self) -> int:
        import ray

        return int(ray.get(self.whose.remote()))

    def close(self) -> None:
        import ray

        ray.shutdown()


class Celery(System):
    """Redis as broker and result store, one worker command of one process per slot."""

    name = "Celery + Redis"
    package = "celery"
    commands = ("redis-server",)

    def start(self) -> None:
        self.port = int(os.environ["PEER_REDIS_PORT"])
        self._launch_redis()
        import peer_celery

        for i in range(self.slots):
            self.spawn(
                *(own_command("celery"), "-A", "peer_celery", "worker", "-c", "1"),
                *("-n", f"w{i}@peers", "-l", "WARNING"),
            )
        self.app = peer_celery.app
        self.collect(self.submit("noop", [1]), 60)

    def _launch_redis(self) -> None:
        self.redis = self.spawn(
            *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--dir", str(self.folder)),
        )
        await_port(self.port)

    def submit(self, function: str, arguments: Sequence[Any]) -> list[Any]:
        task = self.app.tasks[f"peer_work.{function}"]
        handles: list[Any] = []
        for argument in arguments:
            try:
                handles.append(task.delay(argument))
            except Exception as error:
                handles.append(error)
        return handles

    def collect(self, handles: list[Any], patience_s: float) -> list[Any]:
        return each(handles, self._value, patience_s)

    @staticmethod
    def _value(handle: Any, left: float) -> Any:
        if isinstance(handle, Exception):
            return handle
        end = time.monotonic() + left
        while True:
            try:
                return _or_none(handle.get, max(end - time.monotonic(), 0.01))
            except Exception as error:
                if "ConnectionError" not in type(error).__name__:
                    raise
                # The broker is away; it comes back.
                if time.monotonic() > end:
                    return None
                time.sleep(0.1)

    def head(self) -> int:
        return self.redis.pid

    def worker(self) -> int:
        from processes import descendants

        return descendants(self._spawned[1].pid)[0]

    def restart_head(self) -> None:
        self._launch_redis()


class Pool(System):
    """The standard library's processes on one machine: no broker, no second machine."""

    name = "ProcessPoolExecutor"
    package = "python"

    def start(self) -> None:
        self.pool = cf.ProcessPoolExecutor(self.slots)
        self.collect(self.submit("noop", range(100)), 60)

    def submit(self, function: str, arguments: Sequence[Any]) -> list[Any]:
        call = getattr(peer_work, function)
        return [self.pool.submit(call, argument) for argument in arguments]

    def collect(self, handles: list[Any], patience_s: float) -> list[Any]:
        return each(handles, lambda future, left: _or_none(future.result, left), patience_s)

    def gather(self, handles: list[Any]) -> list[Any]:
        return [future.result() for future in handles]

    def worker(self) -> int:
        return next(iter(self.pool._processes))

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)


class Threads(Pool):
    """Threads of one process: nothing travels anywhere."""

    name = "ThreadPoolExecutor"

    def start(self) -> None:
        self.pool = cf.ThreadPoolExecutor(self.slots)  # type: ignore[assignment]

    def worker(self) -> int:
        raise NotImplementedError


def _or_none(wait: Any, left: float) -> Any:
    """What ``wait`` returns, ``None`` if it takes longer than ``left`` seconds."""
    try:
        return wait(timeout=left)
    except Exception as error:
        if isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutError":
            return None
        raise


def _ray_value(ray: Any, ref: Any) -> Any:
    try:
        return ray.get(ref, timeout=5)
    except Exception as error:
        return error


SYSTEMS = {
    "hustings": Hustings,
    "hustings-disk": HustingsOnDisk,
    "pool": Pool,
    "threads": Threads,
    "dask": Dask,
    "ray": Ray,
    "celery": Celery,
    "taskiq": TaskIq,
    "nats": Nats,
}


def missing(system: type[System]) -> str | None:
    """What of it is not installed here."""
    from importlib import metadata
    from shutil import which

    for command in system.commands:
        if which(command) is None:
            return f"the command {command}"
    try:
        version(system)
    except metadata.PackageNotFoundError:
        return f"the package {system.package}"
    return None


def version(system: type[System]) -> str:
    """Of its package."""
    from importlib import metadata

    if system.package == "python":
        return sys.version.split()[0]
    return metadata.version(system.package)
