"""Distances between nodes by name, where positions do not say them: as Python has them, and as
the core reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import ConfigError


def distances_to_text(value: object) -> str:
    """The text for the core. ``{("a", "b"): 3.0}``, or triples as in TOML: ``[["a", "b", 3]]``.

    A distance holds both ways unless both are given. Raises ``ConfigError``.
    """
    rows: Iterable[Any]
    if isinstance(value, Mapping):
        rows = [(key, distance) for key, distance in value.items()]
        triples = [(*_pair(key), distance) for key, distance in rows]
    elif isinstance(value, (list, tuple)):
        triples = [_triple(row) for row in value]
    else:
        raise ConfigError(f'distances={value!r}: give a mapping, e.g. {{("a", "b"): 3.0}}')
    return "".join(f"{a}\t{b}\t{_number(a, b, d)!r}\n" for a, b, d in triples)


def distances_from_json(text: str) -> str:
    """The text for the core out of ``[["a", "b", 3], ...]``, as the environment has it."""
    try:
        return distances_to_text(json.loads(text))
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f'distances: {error}; give [["a", "b", 3], ...]') from None


def distances_from_text(text: str) -> dict[tuple[str, str], float]:
    """What :func:`distances_to_text` wrote."""
    rows = (line.split("\t") for line in text.splitlines() if line)
    return {(a, b): float(distance) for a, b, distance in rows}


def _pair(key: object) -> tuple[str, str]:
    if isinstance(key, tuple) and len(key) == 2:
        return _name(key[0]), _name(key[1])
    raise ConfigError(f'distances: {key!r}: a key is a pair of names, e.g. ("a", "b")')


def _triple(row: object) -> tuple[str, str, object]:
    if isinstance(row, (list, tuple)) and len(row) == 3:
        return _name(row[0]), _name(row[1]), row[2]
    raise ConfigError(f'distances: {row!r}: give name, name, distance, e.g. ["a", "b", 3]')


def _name(name: object) -> str:
    if isinstance(name, str) and name and "\t" not in name and "\n" not in name:
        return name
    raise ConfigError(f"distances: {name!r}: give the name of a node")


def _number(a: str, b: str, distance: object) -> float:
    if isinstance(distance, (int, float)) and not isinstance(distance, bool) and distance >= 0:
        return float(distance)
    raise ConfigError(f"distances: {a} to {b}: {distance!r} is not a number of at least 0")
