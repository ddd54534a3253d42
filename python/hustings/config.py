"""Knobs as frozen, keyword-only objects; names, defaults and bounds exist once, in the native
core."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from . import _core
from .distances import distances_from_json, distances_from_text, distances_to_text
from .errors import ConfigError, did_you_mean
from .failures import RandomFailures

PROFILES = ("lan", "lan_fast", "wan", "ci", "raft", "classic")
TOML_LIMIT_BYTES = 1 << 20
"""The largest configuration file that is read."""

_PREFIX = "HUSTINGS_"
_SETTINGS = ("CONFIG", "PROFILE", "STATE_DIR", "CONNECT", "LOG", "TLS", "TOKEN")
"""``HUSTINGS_*`` names that are no knobs: file, profile, where ``up`` keeps its state, whom
commands ask, what is logged, this end's certificate, a join token."""
_INTERNAL = (
    "SYS_PATH",
    "ALLOW_PICKLE",
    "PAYLOAD_LIMIT",
    "STREAM_LIMITS",
    "NODE_PID",
    "NODE_NAME",
)
"""Set by a node for its runners."""


class _Section:
    """Refuses unknown keyword arguments with the nearest name."""

    def __new__(cls, *args: object, **knobs: object) -> Any:
        if args:
            raise ConfigError(f"{cls.__name__} takes keyword arguments only, got {args[0]!r}")
        known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
        for name in knobs:
            if name not in known:
                raise ConfigError(
                    f"{cls.__name__}: unknown knob {name!r}{did_you_mean(name, known)}"
                )
        return super().__new__(cls)


@dataclass(frozen=True, kw_only=True)
class ElectionConfig(_Section):
    """When a leader is suspected, who campaigns when, when a leader yields. ``None``: the
    profile's value."""

    heartbeat_s: float | None = None
    suspicion_min_s: float | None = None
    suspicion_max_s: float | None = None
    rank_delay_s: float | None = None
    poll_patience_s: float | None = None
    lease_s: float | None = None
    score_period_s: float | None = None
    score_tau_s: float | None = None
    handover_margin: float | None = None
    handover_floor: float | None = None
    handover_dwell_s: float | None = None
    handover_cooldown_s: float | None = None
    handover_doublings: int | None = None
    plain: bool | None = None


@dataclass(frozen=True, kw_only=True)
class ScoreWeights(_Section):
    """What makes a good leader; normalised to a sum of 1. ``None``: the profile's value."""

    cpu: float | None = None
    memory: float | None = None
    uptime: float | None = None
    jitter: float | None = None
    classic: bool | None = None


@dataclass(frozen=True, kw_only=True)
class StealPolicy(_Section):
    """Who may take work from whom. ``None``: the profile's value."""

    reach: float | None = None
    cooldown_s: float | None = None
    cpu_floor: float | None = None
    batch: int | None = None
    per_task: int | None = None
    profit: float | None = None
    random_victim: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Limits(_Section):
    """Bounds on everything. ``None``: the profile's value."""

    queued_tasks: int | None = None
    queued_bytes: int | None = None
    payload_bytes: int | None = None
    blob_bytes: int | None = None
    blobs_bytes: int | None = None
    function_bytes: int | None = None
    functions: int | None = None
    message_bytes: int | None = None
    outcomes: int | None = None
    outcome_bytes: int | None = None
    outcome_ttl_s: float | None = None
    id_memory_s: float | None = None
    remembered_ids: int | None = None
    events: int | None = None
    node_queue: int | None = None
    crash_budget: int | None = None
    worker_lease_s: float | None = None
    members: int | None = None
    sessions: int | None = None
    task_output_bytes: int | None = None
    stream_items: int | None = None
    stream_bytes: int | None = None
    stream_idle_s: float | None = None
    log_entries: int | None = None
    log_bytes: int | None = None
    copies_ratio: float | None = None


_SECTIONS: dict[str, type[_Section]] = {
    "election": ElectionConfig,
    "score": ScoreWeights,
    "steal": StealPolicy,
    "limits": Limits,
}


@dataclass(frozen=True, kw_only=True)
class Config(_Section):
    """All knobs, resolved and checked: argument > ``HUSTINGS_*`` > TOML file > default of the
    profile.

    Environment: ``HUSTINGS_ELECTION__HEARTBEAT_S=0.05``. File: ``HUSTINGS_CONFIG=hustings.toml``,
    either with the
    sections at the top or below ``[tool.hustings]``. After construction every field holds its
    value. ``faults`` is no knob of a node: it makes the nodes of a local or simulated cluster fail.
    """

    profile: str | None = None
    election: ElectionConfig = field(default_factory=ElectionConfig)
    score: ScoreWeights = field(default_factory=ScoreWeights)
    steal: StealPolicy = field(default_factory=StealPolicy)
    placement: str | None = None
    """Who gets a waiting task: ``"auto"``, ``"window"``, ``"random"``, ``"p2c"`` or ``"lpt"``."""
    assign_reach: float | None = None
    """How far the leader may assign."""
    out_of_reach: str | None = None
    """A task that only nodes beyond that could run: ``"wait"``, or ``"relay"`` it along a chain of
    members, each in reach of the next."""
    speculate: bool | None = None
    """Whether attempts of idempotent tasks that take too long get a copy elsewhere."""
    distances: Mapping[tuple[str, str], float] | None = None
    """Distances by names of nodes, where their positions do not say them; both ways unless both
    are given. All nodes of a cluster should be given the same."""
    limits: Limits = field(default_factory=Limits)
    faults: RandomFailures | None = None

    def __post_init__(self) -> None:
        """Resolves every knob; raises ``ConfigError``."""
        if self.faults is not None and not isinstance(self.faults, RandomFailures):
            raise ConfigError(f"faults={self.faults!r}: give a RandomFailures(...)")
        overrides = _overrides_from_file()
        overrides |= _overrides_from_environment()
        given = _given(self)
        profile = self.profile or overrides.pop("profile", None)
        overrides.pop("profile", None)
        resolved = _core.resolve_config(str(profile or "lan"), {**overrides, **given})
        object.__setattr__(self, "profile", str(profile or "lan"))
        object.__setattr__(self, "_resolved", dict(resolved))
        object.__setattr__(self, "placement", str(resolved["placement"]))
        object.__setattr__(self, "assign_reach", float(resolved["assign_reach"]))
        object.__setattr__(self, "out_of_reach", str(resolved["out_of_reach"]))
        object.__setattr__(self, "speculate", bool(resolved["speculate"]))
        distances = distances_from_text(str(resolved["distances"]))
        object.__setattr__(self, "distances", distances)
        for name, cls in _SECTIONS.items():
            object.__setattr__(self, name, _section(cls, name, resolved))

    def resolved(self) -> dict[str, float | str]:
        """Every knob by its full name, as the core takes it."""
        return dict(self.__dict__["_resolved"])

    @classmethod
    def lan(cls, **knobs: Any) -> Config:
        """The default: a local network."""
        return cls(profile="lan", **knobs)

    @classmethod
    def lan_fast(cls, **knobs: Any) -> Config:
        """A quiet local network: suspicion after 80 ms."""
        return cls(profile="lan_fast", **knobs)

    @classmethod
    def wan(cls, **knobs: Any) -> Config:
        """Nodes tens of milliseconds apart."""
        return cls(profile="wan", **knobs)

    @classmethod
    def ci(cls, **knobs: Any) -> Config:
        """Busy shared machines: slower to suspect."""
        return cls(profile="ci", **knobs)

    @classmethod
    def raft(cls, **knobs: Any) -> Config:
        """Plain randomised Raft by openraft's own timers (heartbeat 50 ms, election 150 to 300 ms):
        no ranks, no poll, no handover by score. What the others are compared with."""
        return cls(profile="raft", **knobs)

    @classmethod
    def classic(cls, **knobs: Any) -> Config:
        """The policies of the system hustings grew out of, on this Raft."""
        return cls(profile="classic", **knobs)


def _given(config: Config) -> dict[str, float | bool | str]:
    """The knobs given as arguments, by full name."""
    given: dict[str, float | bool | str] = {}
    for section, cls in _SECTIONS.items():
        value = getattr(config, section)
        if not isinstance(value, cls):
            raise ConfigError(f"{section}={value!r}: give a {cls.__name__}(...)")
        for f in fields(cls):  # type: ignore[arg-type]
            knob = getattr(value, f.name)
            if knob is not None:
                given[f"{section}.{f.name}"] = _checked(f"{section}.{f.name}", knob, str(f.type))
    for name in ("placement", "out_of_reach"):
        word = getattr(config, name)
        if word is not None:
            if not isinstance(word, str):
                raise ConfigError(f"{name}={word!r}: give the name of a policy")
            given[name] = word
    if config.distances is not None:
        given["distances"] = distances_to_text(config.distances)
    if config.assign_reach is not None:
        given["assign_reach"] = _checked("assign_reach", config.assign_reach, "float")
    if config.speculate is not None:
        given["speculate"] = _checked("speculate", config.speculate, "bool")
    return given


def _checked(name: str, value: object, kind: str) -> float | bool:
    if isinstance(value, bool):
        if "bool" not in kind:
            raise ConfigError(f"{name}={value!r}: give a number")
        return value
    if not isinstance(value, (int, float)) or "bool" in kind:
        wanted = "True or False" if "bool" in kind else "a number"
        raise ConfigError(f"{name}={value!r}: give {wanted}")
    if kind.startswith("int") and value != int(value):
        raise ConfigError(f"{name}={value!r}: give a whole number")
    return float(value)


def _section(cls: type[_Section], name: str, resolved: Mapping[str, float | str]) -> _Section:
    values: dict[str, object] = {}
    for f in fields(cls):  # type: ignore[arg-type]
        value = float(resolved[f"{name}.{f.name}"])
        kind = str(f.type)
        whole = kind.startswith("int")
        values[f.name] = bool(value) if kind.startswith("bool") else int(value) if whole else value
    made: _Section = cls(**values)
    return made


def _knob_names() -> list[str]:
    return [str(k["name"]) for k in _core.knobs()] + ["placement", "out_of_reach", "distances"]


def _overrides_from_environment() -> dict[str, float | bool | str]:
    names = {_PREFIX + name.upper().replace(".", "__"): name for name in _knob_names()}
    allowed = [*names, *(_PREFIX + s for s in _SETTINGS)]
    overrides: dict[str, float | bool | str] = {}
    for variable, text in sorted(os.environ.items()):
        if not variable.startswith(_PREFIX):
            continue
        word = variable[len(_PREFIX) :]
        if word == "PROFILE":
            overrides["profile"] = text
        elif variable in names:
            overrides[names[variable]] = _from_text(variable, names[variable], text)
        elif word not in _SETTINGS and word not in _INTERNAL:
            raise ConfigError(
                f"environment variable {variable}: unknown knob{did_you_mean(variable, allowed)}"
            )
    return overrides


def _from_text(variable: str, name: str, text: str) -> float | str:
    if name in ("placement", "out_of_reach"):
        return text
    if name == "distances":
        return distances_from_json(text)
    if text in ("true", "false"):
        return float(text == "true")
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"environment variable {variable}={text!r}: give a number") from None


def _overrides_from_file() -> dict[str, float | bool | str]:
    path = os.environ.get(_PREFIX + "CONFIG")
    return read_toml(Path(path)) if path else {}


def read_toml(path: Path) -> dict[str, float | bool | str]:
    """The knobs in a TOML file by full name; raises ``ConfigError``."""
    if sys.version_info < (3, 11):
        raise ConfigError(
            f"{path}: reading TOML needs Python 3.11; use HUSTINGS_* variables instead"
        )
    import tomllib

    try:
        size = path.stat().st_size
        if size > TOML_LIMIT_BYTES:
            raise ConfigError(f"{path} is {size} bytes, the limit is {TOML_LIMIT_BYTES}")
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: {error}") from error
    table = document.get("tool", {}).get("hustings", None) if "tool" in document else document
    overrides: dict[str, float | bool | str] = {}
    known = [*_knob_names(), "profile"]
    for key, value in (table or {}).items():
        nested = value.items() if isinstance(value, dict) else [(None, value)]
        for inner, knob in nested:
            name = key if inner is None else f"{key}.{inner}"
            if name not in known:
                raise ConfigError(f"{path}: unknown knob {name!r}{did_you_mean(name, known)}")
            if name == "distances":
                overrides[name] = distances_to_text(knob)
                continue
            if not isinstance(knob, (int, float, str)):
                raise ConfigError(f"{path}: {name} = {knob!r}: give a number or text")
            overrides[name] = knob if isinstance(knob, (bool, str)) else float(knob)
    return overrides


def print_knobs(profile: str | None, *, as_json: bool) -> None:
    """Every knob with its value, bounds and meaning: ``hustings config show``."""
    values = Config(profile=profile).resolved()
    if as_json:
        print(json.dumps({k: v if v != float("inf") else "inf" for k, v in values.items()}))
        return
    for knob in _core.knobs():
        bounds = f"[{knob['min']:g}, {knob['max']:g}]"
        print(f"{knob['name']:32} {values[knob['name']]:<12g} {bounds:22} {knob['doc']}")
    for name in ("placement", "out_of_reach"):
        print(f"{name:32} {values[name]}")
