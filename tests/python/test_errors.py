"""``errors``: one tree, drawn in its docstring, and failures rebuilt from what travelled."""

from __future__ import annotations

import concurrent.futures
import pickle

import pytest

import hustings as hs
from hustings import codec


def test_every_error_is_drawn_exported_and_under_the_root() -> None:
    assert hs.errors.__doc__ is not None
    for name in hs.errors.__all__:
        cls = getattr(hs, name)
        assert name in hs.errors.__doc__ or name == "HustingsWarning"
        outside = ("CancelledError", "HustingsWarning", "RemoteTraceback")
        assert name in outside or issubclass(cls, hs.HustingsError)
    assert hs.CancelledError is concurrent.futures.CancelledError


@pytest.mark.parametrize("name", [n for n in hs.errors.__all__ if n not in ("HustingsWarning",)])
def test_every_error_survives_pickle(name: str) -> None:
    error = getattr(hs, name)("some words")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)


@pytest.mark.parametrize(
    ("cls", "standard"),
    [
        (hs.ConfigError, ValueError),
        (hs.WaitTimeoutError, TimeoutError),
        (hs.NoQuorumError, TimeoutError),
        (hs.BindError, OSError),
        (hs.TaskNotRegisteredError, LookupError),
        (hs.NotSerializableError, TypeError),
        (hs.PayloadTooLargeError, ValueError),
        (hs.TaskTimeoutError, TimeoutError),
    ],
)
def test_errors_are_also_their_standard_kind(cls: type, standard: type) -> None:
    assert issubclass(cls, standard)


def test_a_failure_whose_class_is_missing_here_becomes_words() -> None:
    body = pickle.dumps(ValueError("x")).replace(b"ValueError", b"NoSuchErro")
    failure = {"kind": "failure", "type_name": "m.Gone", "message": "bad", "traceback": "T"}
    error = codec.rebuild({**failure, "pickled": body})
    assert isinstance(error, hs.RemoteTaskError)
    assert str(error) == "m.Gone: bad"
    assert "T" in str(error.__cause__)


def test_refusals_and_losses_have_classes_of_their_own() -> None:
    full = codec.rebuild({"kind": "rejected", "refusal": "queue_full", "retry_after_s": 0.5})
    assert isinstance(full, hs.QueueFullError)
    assert full.retry_after_s == 0.5
    lost = codec.rebuild({"kind": "lost", "message": "node died", "attempts": 3, "task_id": "t"})
    assert isinstance(lost, hs.TaskLostError)
    assert lost.attempts == 3
    timeout = codec.rebuild({"kind": "timeout", "message": "too long"})
    assert isinstance(timeout, hs.TaskTimeoutError)
    assert isinstance(codec.rebuild({"kind": "cancelled"}), hs.CancelledError)
    unknown = codec.rebuild({"kind": "rejected", "refusal": "unknown_function", "message": "m"})
    assert isinstance(unknown, hs.TaskNotRegisteredError)


def test_every_error_is_at_the_one_door() -> None:
    import hustings.errors

    assert set(hs._ERRORS) == set(hustings.errors.__all__)
    for name in hs.__all__:
        assert getattr(hs, name) is not None
