"""Arguments as bytes: JSON refuses what would not survive, pickle says what cannot travel."""

from __future__ import annotations

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


def test_pickle_carries_lambdas_and_local_classes() -> None:
    args, kwargs = pickle.loads(codec.encode_call("pickle", (lambda x: x + 1,), {"a": {1: (2,)}}))
    assert args[0](1) == 2
    assert kwargs == {"a": {1: (2,)}}


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(hs.CodecRefusedError):
        codec.decode("msgpack", b"")
