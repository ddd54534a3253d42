"""``cluster.watch()``: the live view of a node's page, as a widget in a notebook (needs
``anywidget``)."""

from __future__ import annotations

import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import _core
from .errors import ConfigError, HustingsError
from .frames import optional_module

if TYPE_CHECKING:
    from .cluster import Cluster

Message = dict[str, Any]
Send = Callable[[Message], None]

MIN_INTERVAL_S = 0.1
MAX_INTERVAL_S = 60.0
KEPT_ROWS = 2_000
"""Rows kept for a view that opens later."""
MAX_ASKED = 32
"""Questions of the view that wait at once."""
MAX_LISTED = 100
_READ = 4_096
_STATUS_TIMEOUT_S = 1.5


def watch(cluster: Cluster, interval: float = 0.4) -> Any:
    """The widget of ``cluster``; it ends when it is closed, or with the cluster.

    Raises ``ConfigError`` for an interval out of bounds, ``HustingsError`` without ``anywidget``.
    """
    if not MIN_INTERVAL_S <= interval <= MAX_INTERVAL_S:
        bounds = f"{MIN_INTERVAL_S:g} to {MAX_INTERVAL_S:g} seconds"
        raise ConfigError(f"interval={interval!r}: give {bounds}")
    anywidget = optional_module("anywidget", "the live view")

    class Watch(anywidget.AnyWidget):  # type: ignore[misc, name-defined]
        _esm = _core.VIEW_MODULE
        _css = _core.VIEW_STYLE

        def close(self) -> None:
            feeder.stop()
            super().close()

    widget = Watch()
    alive = weakref.ref(widget)

    def send(message: Message) -> None:
        shown = alive()
        if shown is None:
            feeder.stop()
        else:
            shown.send(message)

    feeder = Feeder(cluster, send, interval)
    widget.on_msg(lambda _, content, __: feeder.on_message(content))
    return widget


class Feeder:
    """Tells a view what a client of the cluster hears, from a thread of its own, once it asks."""

    def __init__(self, cluster: Cluster, send: Send, interval: float) -> None:
        self._cluster = cluster
        self._send = send
        self._interval = interval
        self._asked: queue.Queue[Mapping[str, Any]] = queue.Queue(MAX_ASKED)
        self._rows: deque[Message] = deque(maxlen=KEPT_ROWS)
        self._after = 0
        self._first = True
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def on_message(self, content: Mapping[str, Any]) -> None:
        """Takes what the view says: that it is there, or a question."""
        if content.get("type") == "start":
            self._first = True
            self.start()
        elif content.get("type") == "ask":
            try:
                self._asked.put_nowait(content)
            except queue.Full:
                self._reply(content, problem="too many questions at once")

    def start(self) -> None:
        """Begins to tell; again is no harm."""
        if self._thread is None and not self._ended.is_set():
            self._thread = threading.Thread(target=self._run, name="hustings-watch", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ends; what is under way is finished."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            if not self._cluster._open:
                self._send({"type": "ended"})
                return
            self._send({"type": "news", "news": self._news()})
            self._answer_for(self._interval)

    def _news(self) -> Message:
        first, self._first = self._first, False
        self._after, rows = self._cluster._client.records(self._after, _READ, True)
        self._rows.extend(rows)
        try:
            status = self._cluster._client.status(None, _STATUS_TIMEOUT_S)
        except HustingsError as error:
            status = {"error": str(error)}
        return {"first": first, "status": status, "rows": list(self._rows) if first else rows}

    def _answer_for(self, seconds: float) -> None:
        """Answers questions until it is time for the next news."""
        try:
            self._answer(self._asked.get(timeout=seconds))
        except queue.Empty:
            return

    def _answer(self, content: Mapping[str, Any]) -> None:
        parameters = content.get("parameters") or {}
        try:
            if content.get("what") == "tasks":
                state = str(parameters.get("state") or "") or None
                tasks = self._cluster.tasks(state, MAX_LISTED)
                self._reply(content, answer={"tasks": tasks, "total": len(tasks)})
            else:
                self._reply(content, answer=self._cluster._explain(str(parameters.get("task"))))
        except (HustingsError, ValueError, LookupError) as error:
            self._reply(content, problem=str(error))

    def _reply(self, content: Mapping[str, Any], **answer: Any) -> None:
        self._send({"type": "answer", "number": content.get("number"), **answer})
