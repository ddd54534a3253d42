"""Tables and record batches of Arrow in the codec ``"safe"``: Arrow's own stream format, and what
must be true of a stream before anybody looks into it. The native half calls this."""

from __future__ import annotations

import struct
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped,import-not-found,unused-ignore]

_EXTENSION = b"ARROW:extension:name"
# Places of fields in Arrow's flatbuffers `Message`, `RecordBatch` and `DictionaryBatch`.
_HEADER = 2
_COMPRESSION = 3
_DATA = 1


def problem(value: Any) -> str | None:
    """Why a table or batch would come back as something else, if it would.

    Example:
        >>> problem(pa.table({"a": [1, 2]})) is None
        True
    """
    # A type of somebody's own is one where its class is registered, and a plain one elsewhere.
    if _EXTENSION in value.schema.serialize().to_pybytes():
        return "has a column of an extension type, which would not survive; cast it to its storage"
    return None


def stream_bytes(value: Any) -> int:
    """How long its stream is; nothing is copied for that.

    Example:
        >>> stream_bytes(pa.table({"a": [1, 2]})) == len(dumps(pa.table({"a": [1, 2]}), 4096))
        True
    """
    sink = pa.MockOutputStream()
    _write(value, sink)
    return int(sink.size())


def dumps(value: Any, size: int) -> memoryview:
    """The stream, of at most ``size`` bytes, in one piece of memory."""
    room = pa.allocate_buffer(size)
    sink = pa.FixedSizeBufferWriter(room)
    _write(value, sink)
    return memoryview(room).cast("B")[: sink.tell()]


def _write(value: Any, sink: Any) -> None:
    with pa.ipc.new_stream(sink, value.schema) as writer:
        writer.write(value)


def loads(body: bytes, start: int, length: int, whole: bool) -> Any:
    """The table (``whole``) or batch that is in ``body`` from ``start``; it stays there, and keeps
    ``body``.

    Raises:
        ValueError: It is no such stream, or one that would unfold to more than it is.
    """
    stream = pa.py_buffer(body).slice(start, length)
    try:
        _check(stream)
        with pa.ipc.open_stream(stream) as reader:
            value = reader.read_all() if whole else reader.read_next_batch()
            if not whole and next(iter(reader), None) is not None:
                raise ValueError("more than one record batch")
        # Its offsets may point anywhere: who reads them afterwards does not look.
        value.validate(full=True)
    except Exception as error:
        raise ValueError(f'not a value of the codec "safe": an Arrow stream: {error}') from error
    return value


def _check(stream: Any) -> None:
    """That every message is what it seems: a compressed one may stand for any amount of memory."""
    read = 0
    for message in pa.ipc.MessageReader.open_stream(stream):
        data = message.metadata.to_pybytes()
        header = _table(data, _field(data, _table(data, 0), _HEADER))
        if message.type == "dictionary":
            header = _table(data, _field(data, header, _DATA))
        elif message.type not in ("schema", "record batch"):
            raise ValueError(f"it holds a {message.type}")
        if message.type != "schema" and _field(data, header, _COMPRESSION):
            raise ValueError("it is compressed")
        read += 1
    if not read:
        raise ValueError("it is empty")


def _table(data: bytes, at: int) -> int:
    """Where the flatbuffers table is that ``at`` refers to."""
    return at + int(struct.unpack_from("<I", data, at)[0])


def _field(data: bytes, table: int, index: int) -> int:
    """Where a table's field is; 0 if it has none."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    entry = 4 + 2 * index
    if entry + 2 > struct.unpack_from("<H", data, vtable)[0]:
        return 0
    offset = struct.unpack_from("<H", data, vtable + entry)[0]
    return table + int(offset) if offset else 0
