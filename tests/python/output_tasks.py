"""Tasks that talk: by print, by logging, from native code, on their way out."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time

import hustings as hs

log = logging.getLogger("app.work")


@hs.task(name="talk")
def talk(words: str) -> int:
    print(words)
    print("to stderr", file=sys.stderr)
    log.info("looked at %s", words)
    log.debug("not asked for")
    os.write(1, b"from native code\n")
    subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
    return len(words)


@hs.task(name="quiet")
def quiet() -> int:
    return 7


@hs.task(name="stumble")
def stumble() -> None:
    print("before the stumble")
    try:
        raise KeyError("inner")
    except KeyError:
        log.exception("it went\nwrong")
    raise ValueError("stumbled")


@hs.task(name="crash")
def crash() -> None:
    print("last words")
    import ctypes

    ctypes.string_at(0)


@hs.task(name="overrun")
def overrun() -> None:
    print("endless from here")
    while True:
        try:
            time.sleep(1e6)
        except Exception:
            continue


@hs.task(name="chatter")
def chatter(lines: int) -> int:
    for n in range(lines):
        print("line", n, "x" * 80)
    return lines


@hs.task(name="draw")
def draw() -> int:
    for n in range(200):
        sys.stderr.write(f"\r{n:>4} of 200")
        sys.stderr.flush()
    return 200


@hs.task(retries=2)
def talk_and_fail(words: str) -> int:
    attempt = hs.get_context().attempt
    print(f"{words} {attempt}")
    if attempt < 3:
        raise ValueError("not yet")
    return attempt
