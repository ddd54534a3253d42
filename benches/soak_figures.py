"""The figures of a soak: how long nothing was accepted after each fault, and how often work began
twice."""

from __future__ import annotations

import bisect
import collections
import itertools
import math
from typing import Any

from nemesis import Strike

from hustings.verdict import Verdict

SHARES = (0.5, 0.99, 1.0)
WINDOW_US = 10_000_000
"""How long after a fault a gap still counts as its, unless the next fault comes first."""


def quantile(values: list[float], share: float) -> float:
    """The nearest rank: a value that was measured."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def gap_ms(accepted_us: list[int], since_us: int, until_us: int) -> float | None:
    """The longest time without an acceptance between the two; ``None`` if there was none at all
    until the next fault came: how long it would have been nobody knows."""
    first = bisect.bisect_right(accepted_us, since_us)
    after = bisect.bisect_left(accepted_us, until_us)
    if first == after:
        return None
    times = [since_us, *accepted_us[first:after], until_us]
    return max((b - a) / 1e3 for a, b in itertools.pairwise(times))


def begun_again_ms(strikes: list[Strike], ran: list[dict[str, Any]]) -> list[float]:
    """For each attempt that a SIGKILL cut off: how long after it the task began again."""
    again: list[float] = []
    kills = [strike for strike in strikes if strike.killed]
    times = [strike.at_us for strike in kills]
    running: dict[str, tuple[str, int]] = {}
    for row in ran:
        task, at = row["task"], row["at_us"]
        if row["kind"] == "ended":
            running.pop(task, None)
            continue
        before = running.pop(task, None)
        if before is not None:
            node, since = before
            first = bisect.bisect_left(times, since)
            kill = next((k for k in kills[first:] if node in k.nodes and k.at_us < at), None)
            if kill is not None:
                again.append((at - kill.at_us) / 1e3)
        running[task] = (row["node"], at)
    return again


def figures(
    strikes: list[Strike],
    seen: list[dict[str, Any]],
    ran: list[dict[str, Any]],
    verdict: Verdict,
) -> dict[str, Any]:
    """What the table shows. ``seen``: the clients' rows in order of time, ``ran``: the nodes'."""
    accepted = [row["at_us"] for row in seen if row["kind"] == "accepted"]
    gaps: dict[str, list[float]] = collections.defaultdict(list)
    end = accepted[-1] if accepted else 0
    for i, strike in enumerate(strikes):
        following = strikes[i + 1].at_us if i + 1 < len(strikes) else math.inf
        gap = gap_ms(accepted, strike.at_us, int(min(following, strike.at_us + WINDOW_US, end)))
        if gap is None:
            continue
        kind = strike.kind + (" (leader)" if strike.led and "leader" not in strike.kind else "")
        gaps[kind if strike.whole else f"{kind}, while another was mended"].append(gap)
    kinds = collections.Counter(strike.kind for strike in strikes)
    killed = sum(strike.killed for strike in strikes)
    # A task that raised is meant to begin again.
    duplicates = sum(verdict.duplicate_starts.values()) - sum(bool(r.get("raised")) for r in ran)
    codes = collections.Counter(str(c) for s in strikes for c in s.exit_codes)
    drains = [seconds * 1e3 for s in strikes for seconds in s.drain_s]
    return {
        "faults": dict(sorted(kinds.items())),
        "processes_killed": killed,
        "tasks": verdict.counts["accepted"],
        "lost": len(verdict.lost),
        "second_outcomes": len(verdict.double),
        "invented": len(verdict.invented),
        "contradictions": len(verdict.contradictions),
        "duplicate_starts": duplicates,
        "duplicate_starts_per_kill": duplicates / killed if killed else None,
        "same_token_starts": sum(verdict.same_token_starts.values()),
        "sigterm_exit_codes": dict(codes),
        "complaints": [text for strike in strikes for text in strike.complaints],
        "drain_ms": shares(drains),
        "begun_again_ms": shares(begun_again_ms(strikes, ran)),
        "unavailable_ms": {kind: shares(values) for kind, values in sorted(gaps.items())},
    }


def shares(values: list[float]) -> dict[str, float]:
    """How many, and the quantiles that are shown."""
    found = {name(share): quantile(values, share) for share in SHARES} if values else {}
    return {"n": len(values), **found}


def name(share: float) -> str:
    """``p50``, ``p99``, ``max``."""
    return "max" if share == 1.0 else f"p{share * 100:g}"


def show(result: dict[str, Any]) -> None:
    """Prints one mode's table."""
    print(f"\n{result['plan']['mode']} mode, {result['seconds']:.0f} s")
    print(f"  tasks accepted          {result['tasks']}")
    print(f"  processes killed        {result['processes_killed']}")
    for kind, count in result["faults"].items():
        print(f"    {kind:<22}{count}")
    for label in ("lost", "second_outcomes", "invented", "contradictions"):
        print(f"  {label.replace('_', ' '):<24}{result[label]}")
    per_kill = result["duplicate_starts_per_kill"]
    shown = f"{per_kill:.2f} per kill" if per_kill is not None else "no kills"
    print(
        f"  duplicate starts        {result['duplicate_starts']} ({shown}), "
        f"{result['same_token_starts']} of them under the same token"
    )
    print(f"  SIGTERM exit codes      {result['sigterm_exit_codes']}")
    print(f"  slowest to be whole     {result['slowest_to_be_whole_s']:.1f} s")
    checkers = result["checkers"]
    said = {None: "there is no native one", True: "agree", False: "DISAGREE"}[checkers["agree"]]
    print(f"  checkers                {said}")
    times = {"drained in": "drain_ms", "cut off, begun again in": "begun_again_ms"}
    for label, key in times.items():
        row = result[key]
        cells = ", ".join(f"{k} {v:.0f} ms" for k, v in row.items() if k != "n")
        print(f"  {label:<24}{row['n']} times{': ' if cells else ''}{cells}")
    for complaint in result["complaints"]:
        print(f"  COMPLAINT {complaint}")
    print(f"  longest time without an acceptance / ms{'n':>25}      p50      p99      max")
    for kind, row in result["unavailable_ms"].items():
        cells = "  ".join(f"{row[name(share)]:7.1f}" for share in SHARES)
        print(f"    {kind:<56}{row['n']:>5}  {cells}")
    if result["trouble"]:
        print(f"  TROUBLE {result['trouble']}")
    if not result["verdict"]["ok"]:
        verdict = result["verdict"]
        names = ("lost", "double", "invented", "contradictions", "unfounded")
        print(f"  BROKEN { ({k: verdict[k] for k in names if verdict[k]}) }"[:4000])
    print(flush=True)
