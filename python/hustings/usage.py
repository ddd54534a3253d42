"""What processes and the machine use, as Linux tells it: processor time, memory, how busy others
are."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far; 0 once it is gone.

    >>> cpu_seconds(os.getpid()) > 0
    True
    """
    # The clock that clock_getcpuclockid(3) gives, to the nanosecond: /proc counts ticks of 10 ms.
    with contextlib.suppress(OSError):
        return time.clock_gettime(~pid << 3 | 2)
    return 0.0


def peak_rss_mib(pid: int) -> float:
    """The most memory that was resident in a process at once; 0 once it is gone.

    >>> peak_rss_mib(os.getpid()) > 1
    True
    """
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def children(pid: int) -> list[int]:
    """The processes that a process started and that are there still.

    >>> all(child > 0 for child in children(os.getpid()))
    True
    """
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                told = Path(f"/proc/{pid}/task/{thread}/children").read_text()
                found += [int(child) for child in told.split()]
    return found


class MachineTime:
    """The processor time of the whole machine since it was made.

    >>> 0 <= MachineTime().busy_cores(1.0) <= 2 * (os.cpu_count() or 1)
    True
    """

    def __init__(self) -> None:
        self._before = self._used()

    @staticmethod
    def _used() -> float:
        with contextlib.suppress(OSError, ValueError):
            line = Path("/proc/stat").read_text().split("\n", 1)[0]
            fields = [int(x) for x in line.split()[1:9]]
            # Neither idle nor waiting for a disk; what the host took away counts as used.
            return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def busy_cores(self, wall_s: float) -> float:
        """Cores in use on average over ``wall_s`` seconds, by anybody."""
        return (self._used() - self._before) / max(wall_s, 1e-3)


def describe_machine() -> dict[str, str | int | float]:
    """What the figures were measured on.

    >>> describe_machine()["cores"] >= 1
    True
    """
    model, memory = platform.processor() or "unknown", 0.0
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    with contextlib.suppress(OSError, ValueError):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": model,
        "cores": usable or 1,
        "memory_gib": round(memory, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
