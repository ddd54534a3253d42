"""What a runner does with one attempt: loads, calls, encodes, and describes what went wrong."""

import asyncio
import json
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import pytest

from hustings import _runner, _terms

LIMIT = 2000


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    configure(monkeypatch, pickle_allowed=True)
    yield
    _terms.of_process.cache_clear()


def configure(monkeypatch: pytest.MonkeyPatch, *, pickle_allowed: bool) -> None:
    monkeypatch.setenv("HUSTINGS_PAYLOAD_LIMIT", str(LIMIT))
    monkeypatch.setenv("HUSTINGS_ALLOW_PICKLE", "1" if pickle_allowed else "0")
    _terms.of_process.cache_clear()


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An importable user module."""
    module = ModuleType("user_tasks")
    monkeypatch.setitem(sys.modules, "user_tasks", module)
    return module


def run(fn: Any, *args: Any, codec: str = "json", **kwargs: Any) -> tuple[Any, ...]:
    if codec == "json":
        payload = json.dumps({"args": args, "kwargs": kwargs}).encode()
    else:
        payload = pickle.dumps((args, kwargs), 5)
    return _runner.call(fn, codec, payload, {"task_id": "t", "attempt": 1})


def value(answer: tuple[Any, ...]) -> Any:
    ok, codec, body, *texts = answer
    assert ok, texts
    assert texts == ["", "", ""]
    return json.loads(body) if codec == "json" else pickle.loads(body)


def failure(answer: tuple[Any, ...]) -> tuple[str, str, str, bytes]:
    ok, _, pickled, type_name, message, traceback = answer
    assert not ok
    return type_name, message, traceback, pickled


# --- loading -------------------------------------------------------------------------------------


def test_a_reference_is_imported(module: ModuleType) -> None:
    class Outer:
        @staticmethod
        def inner() -> int:
            return 5

    module.Outer = Outer  # type: ignore[attr-defined]
    assert _runner.load_function("n", "user_tasks:Outer.inner", None)() == 5


def test_a_task_is_unwrapped_but_other_wrappers_stay(module: ModuleType) -> None:
    def plain() -> str:
        return "plain"

    class Task:
        def __call__(self) -> str:
            return "submitted"

    Task.__module__ = "hustings.task"
    module.task = Task()  # type: ignore[attr-defined]
    module.task.__wrapped__ = plain

    def logged() -> str:
        return "logged " + plain()

    logged.__wrapped__ = plain  # type: ignore[attr-defined]
    module.logged = logged  # type: ignore[attr-defined]
    assert _runner.load_function("n", "user_tasks:task", None) is plain
    assert _runner.load_function("n", "user_tasks:logged", None)() == "logged plain"


@pytest.mark.parametrize(
    ("reference", "error", "words"),
    [
        ("no_colon", ValueError, "module:qualname"),
        (":f", ValueError, "module:qualname"),
        ("__main__:f", ValueError, "allow pickle"),
        ("user_tasks:f.<locals>.g", ValueError, "top level"),
        ("user_tasks:missing", AttributeError, "has no 'missing'"),
        ("no_such_module_x:f", ModuleNotFoundError, "no_such_module_x"),
        ("user_tasks:number", TypeError, "'n' is a int, which cannot be called"),
    ],
)
def test_a_bad_reference_names_what_is_wrong(
    module: ModuleType, reference: str, error: type[Exception], words: str
) -> None:
    module.number = 3  # type: ignore[attr-defined]
    with pytest.raises(error, match=words):
        _runner.load_function("n", reference, None)


def test_a_pickled_function_needs_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    offset = 4
    blob = cloudpickle.dumps(lambda x: x + offset)
    assert _runner.load_function("n", None, blob)(1) == 5
    configure(monkeypatch, pickle_allowed=False)
    with pytest.raises(Exception, match="allow_pickle=True"):
        _runner.load_function("n", None, blob)


# --- calling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["json", "pickle"])
def test_arguments_and_result_travel(codec: str) -> None:
    def f(a: int, *, b: int) -> list[int]:
        return [a, b]

    assert value(run(f, 1, b=2, codec=codec)) == [1, 2]


def test_a_coroutine_function_is_awaited_in_a_loop_of_its_own() -> None:
    async def f(x: int) -> int:
        await asyncio.sleep(0)
        return x * 2

    assert value(run(f, 4)) == 8
    assert value(run(f, 5)) == 10


def test_the_attempt_is_known_while_it_runs_only() -> None:
    seen: list[Any] = []
    run(lambda: seen.append(_runner.info))
    assert seen == [{"task_id": "t", "attempt": 1}]
    assert _runner.info is None


@pytest.mark.parametrize("payload", [b"", b"[1]", b'{"args": 1}', b'{"x": 1}', b'{"args": [NaN]}'])
def test_a_malformed_json_payload_fails_the_attempt(payload: bytes) -> None:
    answer = _runner.call(print, "json", payload, {})
    assert failure(answer)[0] in ("builtins.ValueError", "json.decoder.JSONDecodeError")


def test_pickled_arguments_need_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, pickle_allowed=False)
    type_name, message, _, pickled = failure(run(print, codec="pickle"))
    assert type_name.endswith("CodecRefusedError")
    assert "arguments: pickle is refused" in message
    assert pickled == b""


# --- results -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result",
    [None, True, 7, -(10**30), 1.5, "é", "\ud800", [], {}, [[1, None], {"a": [{"b": 2.5}]}]],
)
def test_json_values_survive(result: Any) -> None:
    assert value(run(lambda: result)) == result


class Colour(IntEnum):
    RED = 1


class Text(str):
    pass


LOOP: list[Any] = [1]
LOOP.append({"again": LOOP})
DEEP: list[Any] = []
for _ in range(500):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"a": [1, (2,)]}, r"result\['a'\]\[1\] is a tuple"),
        ([float("nan")], r"result\[0\] is nan"),
        (float("inf"), "result is inf"),
        ({"k": {1: 2}}, r"result\['k'\] has the key 1, an int"),
        ([Colour.RED], r"result\[0\] is a .*Colour"),
        (Text("x"), r"result is a .*Text"),
        ({"s": {1}}, r"result\['s'\] is a set"),
        (b"x", "result is a bytes"),
        (LOOP, "contains itself"),
        (DEEP, "nested more than 200"),
    ],
)
def test_what_json_would_change_is_refused_with_its_path(result: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        _runner.encode_result("json", result)


def test_shared_parts_that_would_explode_are_refused_early() -> None:
    bomb: list[Any] = [0]
    for _ in range(100):
        bomb = [bomb, bomb]
    with pytest.raises(Exception, match=r"limits\.blob_bytes"):
        _runner.encode_result("json", bomb)


@pytest.mark.parametrize("codec", ["json", "pickle"])
def test_a_result_over_the_limit_fails_with_size_limit_and_knob(codec: str) -> None:
    assert value(run(lambda: "x" * (LIMIT - 100), codec=codec))
    type_name, message, _, _ = failure(run(lambda: "x" * LIMIT, codec=codec))
    assert type_name.endswith("PayloadTooLargeError")
    assert str(LIMIT) in message
    assert "limits.blob_bytes" in message


def test_a_value_of_a_class_from_main_is_pickled_by_value() -> None:
    source = "class Point:\n    def __init__(self, x): self.x = x\n"
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(source, namespace)
    body = _runner.encode_result("pickle", namespace["Point"](3))
    assert pickle.loads(body).x == 3


# --- failures ------------------------------------------------------------------------------------


def test_an_exception_travels_with_its_own_traceback_only() -> None:
    def outer() -> None:
        inner()

    def inner() -> None:
        raise ValueError("no such é")

    type_name, message, traceback, pickled = failure(run(outer))
    assert (type_name, message) == ("builtins.ValueError", "no such é")
    assert "in outer" in traceback
    assert "in inner" in traceback
    assert _runner.__file__ not in traceback
    rebuilt = pickle.loads(pickled)
    assert type(rebuilt) is ValueError
    assert rebuilt.args == ("no such é",)


def test_an_exception_in_a_coroutine_shows_no_event_loop() -> None:
    async def f() -> None:
        raise KeyError("k")

    traceback = failure(run(f))[2]
    assert "in f" in traceback
    assert "asyncio" not in traceback


def test_the_cause_of_an_exception_is_shown() -> None:
    def f() -> None:
        try:
            raise OSError("disk")
        except OSError as error:
            raise RuntimeError("job") from error

    assert "OSError: disk" in failure(run(f))[2]


@pytest.mark.parametrize(
    ("statement", "type_name"),
    [
        (lambda: sys.exit(3), "builtins.SystemExit"),
        (lambda: (_ for _ in ()).throw(KeyboardInterrupt), "builtins.KeyboardInterrupt"),
    ],
)
def test_exits_end_the_attempt_and_never_travel_as_objects(statement: Any, type_name: str) -> None:
    name, _, _, pickled = failure(run(statement))
    assert name == type_name
    assert pickled == b"", "raised again, it would end the submitter"


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("mute")


class PickyError(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__("picky")


class StickyError(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("sticky")


@pytest.mark.parametrize("error", [PickyError(1, 2), StickyError("s")])
def test_an_exception_that_cannot_be_rebuilt_travels_as_text(error: Exception) -> None:
    def f() -> None:
        raise error

    type_name, message, _, pickled = failure(run(f))
    assert type_name == f"{__name__}.{type(error).__name__}"
    assert message == str(error)
    assert pickled == b""


def test_an_exception_without_text_still_travels() -> None:
    def f() -> None:
        raise MuteError

    type_name, message, traceback, _ = failure(run(f))
    assert type_name == f"{__name__}.MuteError"
    assert "its __str__ raised RuntimeError" in message
    assert "in f" in traceback


def test_long_texts_are_cut_to_their_bounds_and_stay_valid() -> None:
    def f(depth: int) -> None:
        if depth:
            f(depth - 1)
        raise ValueError("ü" * 200_000 + "\ud800")

    _, message, traceback, pickled = failure(run(f, 2))
    assert len(message.encode()) <= _runner.MAX_MESSAGE_BYTES
    assert len(traceback.encode()) <= _runner.MAX_TRACEBACK_BYTES
    assert "bytes cut" in message
    assert message.startswith("ü")
    assert traceback.startswith("Traceback")
    assert pickled == b"", "over the payload limit"


def test_no_pickled_exception_where_pickle_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, pickle_allowed=False)
    assert failure(run(lambda: 1 / 0))[3] == b""


def test_what_a_task_prints_is_seen_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    run(print, "hello")
    assert capfd.readouterr().out == "hello\n"


# --- the process ---------------------------------------------------------------------------------


def test_the_path_gains_what_it_lacks_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/b", "/z"])
    _runner.extend_path(os.pathsep.join(["/a", "/b", "", "/c", "/a"]))
    assert sys.path == ["/a", "/c", "/b", "/z"]


def spawn(stdin: Any) -> subprocess.Popen[str]:
    pytest.importorskip("hustings._core")
    package = Path(_runner.__file__).parent.parent
    env = {**os.environ, "PYTHONPATH": str(package)}
    return subprocess.Popen(
        [sys.executable, "-m", "hustings._runner"],
        stdin=stdin,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        start_new_session=True,
    )


def test_a_runner_started_by_hand_says_so() -> None:
    with spawn(subprocess.DEVNULL) as process:
        assert "started by a node" in process.communicate(timeout=60)[1]
    assert process.returncode == 1


def test_a_runner_ends_when_its_node_hangs_up_even_in_an_endless_loop() -> None:
    def sized(data: bytes) -> bytes:
        return struct.pack("<I", len(data)) + data

    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    with spawn(theirs) as process:
        theirs.close()
        assert ours.recv(64), "the runner is ready"
        key = bytes(16)
        source = b"builtins:exec"
        load = b"\x02" + key + sized(b"spin") + b"\x01" + sized(source)
        arguments = json.dumps({"args": ["while True: pass"]}).encode()
        head = struct.pack("<Q16sB16sIQQQB", 1, key, 1, key, 1, 1, 0, 0, 0) + sized(b"no key")
        ours.sendall(sized(load) + sized(b"\x03" + head + sized(arguments)))
        # An idle runner uses no processor time.
        ticks = Path(f"/proc/{process.pid}/stat")
        start = cpu_ticks(ticks)
        deadline = time.monotonic() + 60
        while cpu_ticks(ticks) < start + 10:
            assert time.monotonic() < deadline, "the task never ran"
        process.send_signal(signal.SIGINT)
        assert process.poll() is None, "Ctrl-C is the node's business"
        hung_up = time.monotonic()
        ours.close()
        process.communicate(timeout=60)
        assert time.monotonic() - hung_up < 1.0
    assert process.returncode == -signal.SIGKILL


def cpu_ticks(stat: Path) -> int:
    fields = stat.read_text().rsplit(") ", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_a_generator_is_refused_with_what_to_do() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    ok, _, _, name, message, _ = run(numbers)
    assert (ok, name) == (False, "builtins.TypeError")
    assert "numbers yields" in message
    assert "return a list" in message
