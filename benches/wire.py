"""Reads off the loopback interface when one process sends to another, by the kernel's own times:
what is measured so neither the sender nor Python can make look better. Wants root."""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import socket
import struct
import threading
from pathlib import Path


class Wire:
    """Listens on loopback: when what was sent to which of the ports, by kernel time."""

    _ETHERNET_IP = 0x0800
    """Of this kind loopback shows each packet once, as it is received."""
    _SO_TIMESTAMPNS = 35
    _SO_RCVBUFFORCE = 33

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW, socket.htons(self._ETHERNET_IP)
        )
        self._socket.bind(("lo", 0))
        self._socket.setsockopt(socket.SOL_SOCKET, self._SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, self._SO_RCVBUFFORCE, 64 << 20)
        self._socket.settimeout(0.2)
        self._ended = threading.Event()
        self.seen: dict[tuple[int, int], list[float]] = collections.defaultdict(list)
        """By source and destination port: when data went that way."""
        self.ports: frozenset[int] = frozenset()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Wire:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                data, told, _, _ = self._socket.recvmsg(128, 256)
            except TimeoutError:
                continue
            self._take(data, told)

    def _take(self, data: bytes, told: list[tuple[int, int, bytes]]) -> None:
        start = 14 + 4 * (data[14] & 15)
        if data[23] != socket.IPPROTO_TCP:
            return
        source, to = struct.unpack_from("!HH", data, start)
        length = struct.unpack_from("!H", data, 16)[0] - (start - 14) - 4 * (data[start + 12] >> 4)
        if to in self.ports and length > 0:
            seconds, nanos = struct.unpack("=qq", told[0][2][:16])
            self.seen[source, to].append(seconds + nanos / 1e9)


def sockets_of(pid: int) -> set[int]:
    """Local ports of a process' TCP connections."""
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(fd).removeprefix("socket:[").rstrip("]"))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[9] in inodes}


def cadence(times: list[float], span: tuple[float, float]) -> list[float]:
    """Seconds between one message and the next, of those within ``span``."""
    inside = [at for at in times if span[0] <= at <= span[1]]
    return [b - a for a, b in itertools.pairwise(inside)]
