"""Faults that were made on purpose, as spans of time, read from their rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

Row = dict[str, Any]

NODE_FAULTS = {"killed": ("restarted",), "frozen": ("resumed", "killed", "restarted")}
"""What is done to a node, and the words that end it."""
LINK_FAULTS = ("cut", "delayed", "lossy")
"""What is done to the words of one node to another."""


@dataclass(frozen=True)
class Fault:
    """Something that was broken on purpose, and until when."""

    what: str
    """``"killed"``, ``"frozen"``, ``"partitioned"``, ``"cut"``, ``"delayed"``, ``"lossy"``,
    ``"clock"`` or another word of the ``detail`` column."""
    node: str
    """Whom it hit; for a link, who speaks; empty for a partition."""
    at_us: int
    until_us: int | None
    """When it was mended; ``None`` if it never was."""
    listener: str = ""
    """For a link: who no longer hears, or hears late."""
    groups: tuple[tuple[str, ...], ...] = ()
    """For a partition: who can still hear whom."""
    value: float = 0.0
    """Seconds of delay, share of losses, rate of a clock."""

    def separates(self, one: str, other: str) -> bool:
        """Whether this is a partition with the two nodes on different sides."""
        side = {name: i for i, group in enumerate(self.groups) for name in group}
        return one in side and other in side and side[one] != side[other]

    @property
    def isolated(self) -> str:
        """The node that a partition cut off from all others; empty for other partitions."""
        alone = [group for group in self.groups if len(group) == 1]
        whole = len(self.groups) == 2 and len(alone) == 1
        return alone[0][0] if whole else ""

    def __repr__(self) -> str:
        whom = " | ".join(" ".join(group) for group in self.groups) or self.node
        link = f" to {self.listener}" if self.listener else ""
        lasted = "for good"
        if self.until_us is not None:
            lasted = f"for {(self.until_us - self.at_us) / 1e6:.3g} s"
        return f"Fault({self.what} {whom}{link}, {lasted})"


def fault_word(row: Mapping[str, Any]) -> str:
    """``"partitioned"`` of ``"partitioned: n1 | n2 n3"``."""
    return re.split(r"[\s:]", str(row.get("detail") or ""), maxsplit=1)[0]


def read_faults(rows: Iterable[Mapping[str, Any]], name_of: Callable[[object], str]) -> list[Fault]:
    """The faults among ``rows``, which are in order of time; in order of their beginning."""
    reader = _Reader(name_of)
    for row in rows:
        if row["kind"] == "fault":
            reader.take(row)
    return reader.found


_Key: TypeAlias = "tuple[str, str, str, tuple[tuple[str, ...], ...]]"


class _Reader:
    """Opens and closes spans; ``open`` holds their places in ``found``."""

    def __init__(self, name_of: Callable[[object], str]) -> None:
        self.found: list[Fault] = []
        self._name_of = name_of
        self._open: dict[_Key, int] = {}

    def take(self, row: Mapping[str, Any]) -> None:
        word, at = fault_word(row), int(row["at_us"])
        writer, subject = self._name_of(row.get("node")), self._name_of(row.get("subject"))
        value = float(row.get("value") or 0.0)
        if word == "healed":
            self._heal(writer, subject, at)
        elif word == "partitioned":
            self._begin(Fault(word, "", at, None, groups=self._groups(str(row["detail"]))))
        elif word in LINK_FAULTS:
            # A delay or a loss of zero is none.
            whole = word == "cut" or value > 0.0
            self._begin(Fault(word, writer, at, None, listener=subject, value=value), whole)
        elif word == "clock":
            self._begin(Fault(word, subject or writer, at, None, value=value), value != 1.0)
        else:
            name = subject or writer
            for what in (what for what, ends in NODE_FAULTS.items() if word in ends):
                self._close((what, name, "", ()), at)
            if word not in ("restarted", "resumed"):
                self._begin(Fault(word, name, at, None, value=value))

    def _begin(self, fault: Fault, lasts: bool = True) -> None:
        """Ends the same fault, if it was there, and begins it anew."""
        key = (fault.what, fault.node, fault.listener, fault.groups)
        self._close(key, fault.at_us)
        if lasts:
            self._open[key] = len(self.found)
            self.found.append(fault)

    def _close(self, key: _Key, at: int) -> None:
        place = self._open.pop(key, None)
        if place is not None:
            self.found[place] = replace(self.found[place], until_us=at)

    def _heal(self, writer: str, subject: str, at: int) -> None:
        """Mends all links, or those of one node with itself as subject, or one link."""
        for key, place in list(self._open.items()):
            fault = self.found[place]
            if not subject:
                mended = fault.what in (*LINK_FAULTS, "partitioned")
            elif subject == writer:
                ends = (fault.node, fault.listener)
                mended = fault.what in LINK_FAULTS and subject in ends
                mended = mended or (subject,) in fault.groups
            else:
                mended = (fault.node, fault.listener) == (writer, subject)
                mended = mended or fault.separates(writer, subject)
            if mended:
                self._close(key, at)

    def _groups(self, detail: str) -> tuple[tuple[str, ...], ...]:
        text = detail.partition(":")[2]
        groups = (tuple(map(self._name_of, part.split())) for part in text.split("|"))
        return tuple(group for group in groups if group)
