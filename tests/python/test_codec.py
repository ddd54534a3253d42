"""Arguments as bytes: JSON refuses what would not survive, pickle says what cannot travel."""

from __future__ import annotations

import functools
import json
import pickle
import threading
from typing import Any

import pytest

import hustings as hs
from hustings import codec


def test_json_carries_data_as_it_is() -> None:
    args = (1, "é\U0001f600", None, True, 2.5, [1, {"a": []}])
    body = json.loads(codec.encode_call("json", args, {"k": -(2**70)}))
    assert body == {"args": list(args), "kwargs": {"k": -(2**70)}}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((1, 2), r"args\[0\] .*tuple"),
        ([1, {2}], r"args\[0\]\[1\] .*set"),
        ({"a": {1: 2}}, r"args\[0\]\['a'\] has the key 1"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (b"x", "bytes"),
        ("\ud800", "surrogate"),
        (object(), "object"),
    ],
)
def test_json_refuses_with_the_place(value: Any, words: str) -> None:
    with pytest.raises(hs.NotSerializableError, match=words):
        codec.encode_call("json", (value,), {})


def test_json_refuses_depth_and_cycles() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(hs.NotSerializableError, match="nested deeper"):
        codec.encode_call("json", (cycle,), {})


def test_pickle_names_the_innermost_culprit() -> None:
    class Holder:
        def __init__(self) -> None:
            self.inner = {"deep": [1, threading.Lock()]}

    with pytest.raises(hs.NotSerializableError, match=r"args\[1\].inner\['deep'\]\[1\]"):
        codec.encode_call("pickle", (1, Holder()), {})
    with pytest.raises(hs.NotSerializableError, match="argument 'file'"):
        codec.encode_call("pickle", (), {"file": threading.Lock()})


LOCKED = {"lock": threading.Lock()}


def _enclosing() -> Any:
    held = [threading.Lock()]
    return lambda: held


class Owner:
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def method(self) -> None:
        """Cannot travel: its owner cannot."""


@pytest.mark.parametrize(
    ("fn", "place"),
    [
        (_enclosing(), r"its function: its variable 'held'\[0\]"),
        (lambda: LOCKED, r"its function: the global 'LOCKED'\['lock'\]"),
        (Owner().method, r"its function\.__self__\.lock"),
        (functools.partial(print, threading.Lock()), r"its function\.args\[0\]"),
        (eval("lambda lock=lock: lock", {"lock": threading.Lock()}), "its function: default 0"),
    ],
)
def test_a_function_that_cannot_travel_says_what_it_holds(fn: Any, place: str) -> None:
    # The module cannot be imported by name under another one, so the function goes by value.
    if isinstance(fn, type(_enclosing)):
        fn.__module__ = "__main__"
    with pytest.raises(hs.NotSerializableError, match=rf"task 'f': {place} \(_thread\.lock\)"):
        codec.dumps_function(fn, "f")


def test_pickle_carries_lambdas_and_local_classes() -> None:
    args, kwargs = pickle.loads(codec.encode_call("pickle", (lambda x: x + 1,), {"a": {1: (2,)}}))
    assert args[0](1) == 2
    assert kwargs == {"a": {1: (2,)}}


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(hs.CodecRefusedError):
        codec.decode("msgpack", b"")
