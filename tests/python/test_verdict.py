"""The history checker: every kind of broken history is seen, and no good one is."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hustings import _core
from hustings.verdict import KINDS, Verdict, check_history

Row = dict[str, Any]
SHARED = {"lost": "lost", "double": "contradicting"}
"""What both judges look for: the name here, and the native one."""


def row(kind: str, task: str = "t", token: int | None = None, outcome: str | None = None) -> Row:
    who = "node" if kind in ("started", "ended") else "client"
    made = {"at_us": 0, "kind": kind, "task": task, who: "x", "token": token, "outcome": outcome}
    return made


def story(task: str = "t", token: int = 1, outcome: str = "ok") -> list[Row]:
    """One task as it should go."""
    return [
        row("submitted", task),
        row("accepted", task),
        row("started", task, token),
        row("ended", task, token),
        row("outcome", task, token, outcome),
    ]


def faults(verdict: Verdict) -> dict[str, Any]:
    """What is wrong, and only that."""
    found = verdict.to_dict()
    names = ("lost", "double", "invented", "contradictions", "unfounded")
    return {name: found[name] for name in names if found[name]}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], {}),
        (story(), {}),
        # Not accepted: it may be gone, whatever the client was told or was not.
        ([row("submitted")], {}),
        ([row("submitted"), row("unknown")], {}),
        ([row("submitted"), row("refused")], {}),
        # An indefinite answer that turned out well.
        ([row("submitted"), row("unknown"), row("started", token=1)], {}),
        ([row("submitted"), row("unknown"), row("outcome", outcome="ok")], {}),
        # Refused, asked again, accepted: the refusal was true then.
        ([row("submitted"), row("refused"), *story()], {}),
        # A second attempt decides; both may have run.
        (
            [row("submitted"), row("accepted"), row("started", token=1), *story(token=2)[2:]],
            {},
        ),
        # Several observers of one outcome.
        ([*story(), row("outcome", token=1, outcome="ok")], {}),
        ([row("submitted"), row("accepted"), row("cancelled")], {}),
        ([row("submitted"), row("accepted"), row("cancelled"), row("cancelled")], {}),
        # Somebody else's starts were not written down.
        ([row("submitted"), row("accepted"), row("outcome", token=1, outcome="ok")], {}),
        # And now what must not be.
        ([row("submitted"), row("accepted")], {"lost": ["t"]}),
        (story()[:4], {"lost": ["t"]}),
        ([row("accepted")], {"lost": ["t"]}),
        ([*story(), row("outcome", token=1, outcome="no")], {"double": {"t": ["ok", "no"]}}),
        ([*story(), row("cancelled")], {"double": {"t": ["ok", "cancelled"]}}),
        (story()[2:], {"invented": ["t"]}),
        ([row("started", token=1)], {"invented": ["t"]}),
        ([row("ended", token=1)], {"invented": ["t"]}),
        ([row("outcome", outcome="ok")], {"invented": ["t"]}),
        ([row("cancelled")], {"invented": ["t"]}),
        (
            [row("submitted"), row("refused"), row("started", token=1)],
            {"contradictions": ["t"]},
        ),
        (
            [row("submitted"), row("submitted"), row("refused"), row("refused"), story()[4]],
            {"contradictions": ["t"]},
        ),
        (
            [*story(), row("submitted", "u"), row("accepted", "u"), row("started", "v", 1)],
            {"lost": ["u"], "invented": ["v"]},
        ),
        (
            [*story()[:4], row("outcome", token=9, outcome="ok")],
            {"unfounded": ["t"]},
        ),
    ],
)
def test_what_is_broken_and_what_is_not(rows: list[Row], expected: dict[str, Any]) -> None:
    verdict = check_history(rows)
    assert faults(verdict) == expected
    assert verdict.ok is not bool(expected)
    assert check_history(reversed(rows)).ok is verdict.ok


def test_duplicate_starts_are_counted_and_allowed() -> None:
    again = [row("started", token=2), row("started", token=2), row("started", token=3)]
    verdict = check_history([*story(), *again, *story("u")])
    assert verdict.ok
    assert verdict.duplicate_starts == {"t": 3}
    assert verdict.same_token_starts == {"t": 1}
    assert verdict.counts == {
        **dict.fromkeys(KINDS, 0),
        **dict.fromkeys(("submitted", "accepted", "started", "ended", "outcome"), 2),
    }


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"kind": "vanished", "task": "t"}, "row 1: kind='vanished': give one of submitted"),
        ({"task": "t"}, "row 1: kind=None"),
        ({"kind": "started"}, "row 1: task=None"),
        ({"kind": "started", "task": ""}, "row 1: task=''"),
        ({"kind": "started", "task": b"t"}, "row 1: task=b't'"),
        ({"kind": "outcome", "task": "t"}, "row 1: outcome=None: say how t ended"),
        ({"kind": "outcome", "task": "t", "outcome": 3}, "row 1: outcome=3"),
    ],
)
def test_a_row_that_is_none_is_refused(bad: Row, words: str) -> None:
    with pytest.raises(ValueError, match="row 1") as caught:
        check_history([row("submitted"), bad])
    assert str(caught.value).startswith(words)


def test_the_text_names_offenders_and_is_bounded() -> None:
    rows = [row("accepted", f"t{n}") for n in range(9)] + story("u") + [row("cancelled", "u")]
    text = str(check_history(rows))
    assert "lost: 9 (t0, t1, t2, t3, t4, ...)" in text
    assert "two outcomes: 1 (u (ok | cancelled))" in text
    assert "invented: 0" in text


# --- any good history, and what becomes of it when one thing is changed -------------------------


@st.composite
def good_task(draw: st.DrawFn, task: str) -> list[Row]:
    """One task's rows in a history that breaks no promise."""
    ending = draw(st.sampled_from(["outcome", "cancelled", "refused", "unknown", "open"]))
    submissions = draw(st.integers(1, 3))
    rows = [row("submitted", task) for _ in range(submissions)]
    if ending == "refused":
        return rows + [row("refused", task) for _ in range(submissions)]
    # Some of the submissions may have been refused; not the one that made the task.
    rows += [row("refused", task) for _ in range(draw(st.integers(0, submissions - 1)))]
    starts = draw(st.lists(st.integers(1, 5), max_size=3))
    rows += [row("started", task, token) for token in starts]
    rows += [row("ended", task, token) for token in starts if draw(st.booleans())]
    if ending in ("unknown", "open"):
        return rows + [row("unknown", task)] * (ending == "unknown")
    rows += [row("accepted", task)] * draw(st.integers(0, 2))
    seen = draw(st.integers(1, 3))
    if ending == "cancelled":
        return rows + [row("cancelled", task)] * seen
    token = draw(st.sampled_from(starts)) if starts else None
    word = draw(st.sampled_from(["ok", "raised", "lost"]))
    return rows + [row("outcome", task, token, word)] * seen


@st.composite
def good_history(draw: st.DrawFn) -> list[Row]:
    tasks = [f"t{n}" for n in range(draw(st.integers(1, 6)))]
    rows = itertools.chain.from_iterable(draw(good_task(task)) for task in tasks)
    return draw(st.permutations(list(rows)))


def finished(rows: list[Row]) -> list[str]:
    return sorted({r["task"] for r in rows if r["kind"] in ("outcome", "cancelled")})


def without(rows: list[Row], task: str, *kinds: str) -> list[Row]:
    return [r for r in rows if r["task"] != task or r["kind"] not in kinds]


def lose(rows: list[Row], task: str) -> tuple[list[Row], str]:
    return [*without(rows, task, "outcome", "cancelled"), row("accepted", task)], "lost"


def split(rows: list[Row], task: str) -> tuple[list[Row], str]:
    return [*rows, row("outcome", task, None, "another")], "double"


def invent(rows: list[Row], task: str) -> tuple[list[Row], str]:
    return without(rows, task, "submitted", "refused"), "invented"


def contradict(rows: list[Row], task: str) -> tuple[list[Row], str]:
    asked = sum(r["task"] == task and r["kind"] == "submitted" for r in rows)
    return [*without(rows, task, "refused"), *[row("refused", task)] * asked], "contradictions"


def unfound(rows: list[Row], task: str) -> tuple[list[Row], str]:
    kept = [{**r, "token": 99} if r["kind"] == "outcome" else r for r in rows]
    word = next((r["outcome"] for r in kept if r["task"] == task and r["outcome"]), None)
    kept = without(kept, task, "cancelled")
    return [*kept, row("started", task, 7), row("outcome", task, 99, word or "ok")], "unfounded"


@settings(max_examples=150, deadline=None)
@given(good_history())
def test_a_good_history_is_good(rows: list[Row]) -> None:
    verdict = check_history(rows)
    assert faults(verdict) == {}
    assert verdict.rows == len(rows)
    starts: dict[str, int] = {}
    for r in rows:
        starts[r["task"]] = starts.get(r["task"], 0) + (r["kind"] == "started")
    assert verdict.duplicate_starts == {t: n - 1 for t, n in sorted(starts.items()) if n > 1}


@pytest.mark.parametrize("break_it", [lose, split, invent, contradict, unfound])
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_good_history_with_one_thing_changed_is_not(break_it: Any, data: st.DataObject) -> None:
    rows = data.draw(good_history())
    victims = finished(rows)
    if not victims:
        rows, victims = [*rows, *story("w")], ["w"]
    victim = data.draw(st.sampled_from(victims))
    broken, fault = break_it(rows, victim)
    verdict = check_history(data.draw(st.permutations(broken)))
    assert victim in faults(verdict)[fault]
    assert not verdict.ok


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_the_native_checker_agrees(data: st.DataObject) -> None:
    native = getattr(_core, "check_history", None)
    if native is None:
        pytest.skip("hustings._core.check_history: the native checker is not there (yet)")
    rows = data.draw(good_history())
    # There a cancellation is a wish, an outcome must follow; here it is the word that it is done.
    assume(all(row["kind"] != "cancelled" for row in rows))
    victims = finished(rows)
    if victims and data.draw(st.booleans()):
        break_it = data.draw(st.sampled_from([lose, split, invent, contradict]))
        rows, _ = break_it(rows, data.draw(st.sampled_from(victims)))
    ours, theirs = check_history(rows).to_dict(), native(rows)
    for name, called in SHARED.items():
        assert sorted(task for task, _ in theirs[called]) == sorted(ours[name]), name
