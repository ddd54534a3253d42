"""What nodes offer and tasks ask for: labels and resources, checked where they are given."""

from __future__ import annotations

import math
from collections.abc import Mapping

MAX_LABELS = 32
"""Labels of one node or task."""
MAX_RESOURCES = 16
"""Resources of one node or task, ``cpu`` not counted."""
MAX_WORD = 256
"""Bytes of a name or value."""
MAX_AMOUNT = 1e15
"""The greatest amount of a resource; amounts count in thousandths."""
MAX_CPU = 4_096
"""Slots one task may take."""


def check_labels(value: object) -> dict[str, str] | None:
    """A copy of the labels, or ``None`` for none.

    Raises:
        TypeError: Not a mapping of text to text.
        ValueError: Too many, or a word that is empty, too long or not printable.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"labels={value!r}: give a mapping of text to text, e.g. {{'zone': 'eu'}}")
    if len(value) > MAX_LABELS:
        raise ValueError(f"labels: {len(value)} given; at most {MAX_LABELS}")
    for name, word in value.items():
        _check_word("labels", name)
        _check_word(f"labels[{name!r}]", word)
    return dict(value)


def check_resources(value: object, *, cpu: bool) -> dict[str, float] | None:
    """A copy of the resources, or ``None`` for none. ``cpu``: whether slots may be among them.

    Raises:
        TypeError: Not a mapping of text to numbers.
        ValueError: Too many, a bad name, or an amount out of bounds.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(
            f"resources={value!r}: give a mapping of text to numbers, e.g. {{'gpu': 1}}"
        )
    if len(value) - ("cpu" in value) > MAX_RESOURCES:
        raise ValueError(f"resources: {len(value)} given; at most {MAX_RESOURCES}")
    for name, amount in value.items():
        _check_word("resources", name)
        if name == "cpu":
            _check_cpu(amount, allowed=cpu)
        else:
            _check_amount(name, amount)
    return dict(value)


def split_cpu(resources: Mapping[str, float] | None) -> tuple[int, dict[str, float]]:
    """How many slots a task takes, and what else."""
    rest = dict(resources or {})
    return int(rest.pop("cpu", 1)), rest


def _check_cpu(amount: object, *, allowed: bool) -> None:
    if not allowed:
        raise ValueError("resources: a node's cpu is its slots; give slots=")
    number = isinstance(amount, (int, float)) and not isinstance(amount, bool)
    if not number or amount not in range(1, MAX_CPU + 1):
        raise ValueError(f"resources: cpu={amount!r}: give whole slots from 1 to {MAX_CPU}")


def _check_amount(name: str, amount: object) -> None:
    if isinstance(amount, bool) or not isinstance(amount, (int, float)):
        raise TypeError(f"resources: {name}={amount!r}: give a number")
    if not math.isfinite(amount) or not 0.001 <= amount <= MAX_AMOUNT:
        raise ValueError(f"resources: {name}={amount!r}: give a number from 0.001 to 1e15")


def _check_word(field: str, word: object) -> None:
    if not isinstance(word, str):
        raise TypeError(f"{field}: {word!r}: give text")
    size = len(word.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= MAX_WORD or not word.isprintable():
        raise ValueError(f"{field}: {word[:60]!a}: give 1 to {MAX_WORD} bytes of printable text")
