"""Tasks that nodes import by name."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import hustings as hs


class OwnError(Exception):
    def __init__(self, code: int, where: str) -> None:
        super().__init__(code, where)
        self.code = code


class UnlikelyError(Exception):
    """Pickles, but cannot be rebuilt from its arguments."""

    def __init__(self, *, needed: str) -> None:
        super().__init__(f"needed {needed}")


@hs.task
def square(x: int) -> int:
    return x * x


@hs.task(name="greet")
def say_hello(name: str, *, mark: str = "!") -> str:
    return f"hello {name}{mark}"


@hs.task
def fail(code: int) -> None:
    raise OwnError(code, "here")


@hs.task
def fail_strangely() -> None:
    raise UnlikelyError(needed="more")


@hs.task
def pass_gate(path: str, value: int = 0) -> int:
    """Runs until the gate is open."""
    while not os.path.exists(path):
        time.sleep(0.01)
    return value


@hs.task
def loop_for_ever() -> None:
    while True:
        pass


@hs.task
def die(marker: str, times: int) -> int:
    """Ends its process the first ``times`` times."""
    attempts = Path(marker)
    count = len(attempts.read_text()) if attempts.exists() else 0
    attempts.write_text("x" * (count + 1))
    if count < times:
        os._exit(9)
    return count + 1


@hs.task
def fail_first(marker: str, times: int) -> int:
    """Raises the first ``times`` times."""
    attempts = Path(marker)
    count = len(attempts.read_text()) if attempts.exists() else 0
    attempts.write_text("x" * (count + 1))
    if count < times:
        raise ValueError(f"attempt {count + 1}")
    return count + 1


@hs.task
async def add_later(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


@hs.task
def runner_pid() -> int:
    return os.getpid()


@hs.task
def big(size: int) -> bytes:
    return b"x" * size


@hs.task
def return_lock() -> object:
    import threading

    return threading.Lock()


@hs.task
def tell_context(seconds: float = 0.0) -> dict[str, object]:
    """What the task may know of itself."""
    time.sleep(seconds)
    context = hs.get_context()
    left = context.remaining()
    assert (left is None) == (context.deadline is None)
    return {**vars(context), "now": time.time()}


@hs.task
def segfault() -> None:
    """Dies of signal 11."""
    os.kill(os.getpid(), 11)


@hs.task
def note(path: str, line: str) -> str:
    """Leaves a line behind each time it runs."""
    with open(path, "a") as file:
        file.write(line + "\n")
    return line


@hs.task
def cyclic() -> list[object]:
    value: list[object] = []
    value.append(value)
    return value


@hs.task
def fail_at_length(size: int) -> None:
    raise ValueError("x" * size)


class WordlessError(Exception):
    """Cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


@hs.task
def fail_without_words() -> None:
    raise WordlessError


@hs.task
def fail_with_a_class_of_its_own() -> None:
    raise type("Elsewhere", (Exception,), {})("only there")


@hs.task
def submit_inside() -> int:
    return square.submit(1).result(30)


@hs.task(name="give_back")
def give_back(value: object) -> object:
    return value


@hs.task(name="odd")
def give_odd() -> object:
    return {"id": object()}
