"""The codec "safe": what comes back is equal and of the same type, or it was refused."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import doctest
import enum
import importlib
import math
import re
import warnings
import zoneinfo
from collections.abc import Iterator
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hustings as hs
import sample_tasks
from conftest import run_script
from hustings import _core, codec

LIMIT = 1 << 20


def dumps(value: Any) -> bytes:
    return _core.safe_dumps(value, "result", LIMIT)


def alike(a: Any, b: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict):
        return alike(list(a.items()), list(b.items()))
    if isinstance(a, (set, frozenset)):
        return len(a) == len(b) and all(any(alike(x, y) for y in b) for x in a)
    if isinstance(a, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, complex):
        return alike(a.real, b.real) and alike(a.imag, b.imag)
    if isinstance(a, (dt.datetime, dt.time)):
        return (a.isoformat(), a.fold, a.tzinfo) == (b.isoformat(), b.fold, b.tzinfo)
    if isinstance(a, decimal.Decimal):
        return str(a) == str(b)
    return bool(a == b)


zones = st.one_of(
    st.none(),
    st.just(dt.timezone.utc),
    st.integers(-1439, 1439).map(lambda m: dt.timezone(dt.timedelta(minutes=m))),
)
plain_ones = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(),
    st.complex_numbers(),
    st.text(),
    st.binary(),
    st.datetimes(timezones=zones),
    st.dates(),
    st.times(timezones=zones),
    st.timedeltas(),
    st.uuids(),
    st.decimals().filter(lambda d: not d.is_snan()),  # has no hash
)


@st.composite
def plain(draw: st.DrawFn) -> Any:
    return draw(plain_ones)


@st.composite
def hashable(draw: st.DrawFn) -> Any:
    inner = plain()
    return draw(inner | st.tuples(inner, inner) | st.frozensets(inner, max_size=3))


@st.composite
def anything(draw: st.DrawFn, depth: int = 3) -> Any:
    if depth == 0:
        return draw(plain() | st.binary().map(bytearray))
    inner = anything(depth - 1)
    some = st.lists(inner, max_size=4)
    keys = hashable()
    return draw(
        inner
        | some
        | some.map(tuple)
        | st.sets(keys, max_size=4)
        | st.frozensets(keys, max_size=4)
        | st.dictionaries(keys, inner, max_size=4)
    )


@settings(max_examples=200, deadline=None)
@given(anything())
def test_what_comes_back_is_the_same(value: Any) -> None:
    assert alike(_core.safe_loads(dumps(value)), value)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(), anything().map(dumps)), st.data())
def test_bytes_that_are_anything_decode_or_are_refused(body: bytes, data: st.DataObject) -> None:
    cut = bytearray(body[: data.draw(st.integers(0, len(body)))])
    if cut:
        cut[data.draw(st.integers(0, len(cut) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        value = _core.safe_loads(bytes(cut))
    except (ValueError, TypeError, OverflowError):
        return
    assert alike(_core.safe_loads(dumps(value)), value)


class Colour(enum.IntEnum):
    RED = 1


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (object(), "result (builtins.object) would not survive"),
        ([1, Point(1, 2)], "result[1] (test_safe_codec.Point)"),
        ({"a": [{"b": Colour.RED}]}, "result['a'][0]['b'] (test_safe_codec.Colour)"),
        (collections.OrderedDict(), "result (collections.OrderedDict)"),
        ({1: {(1, object()): 2}}, "result[1]: its key[1] (builtins.object)"),
        ((1, {2, Colour.RED}), "result[1]: its element <Colour.RED: 1> (test_safe_codec.Colour)"),
        (["\ud800"], "result[0] holds a lone surrogate"),
        (print, "result (builtins.builtin_function_or_method)"),
        (
            dt.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo("UTC")),
            "result has the time zone zoneinfo.ZoneInfo(key='UTC')",
        ),
        (
            dt.time(1, tzinfo=dt.timezone(dt.timedelta(0), "home")),
            "result has the time zone datetime.timezone(datetime.timedelta(0), 'home')",
        ),
        (numpy.array([object()]), "result has the dtype object"),
        (numpy.zeros(2, dtype="i4,f8"), "result has the dtype"),
    ],
)
def test_what_would_not_survive_is_refused_with_its_place(value: Any, place: str) -> None:
    with pytest.raises(hs.NotSerializableError, match=re.escape(place)):
        dumps(value)


def test_depth_cycles_and_size_are_bounded() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(hs.NotSerializableError, match="nested deeper than 64"):
        dumps(cycle)
    shared: list[Any] = ["x" * 1000]
    for _ in range(60):
        shared = [shared, shared]
    with pytest.raises(hs.PayloadTooLargeError, match=rf"the limit is {LIMIT}"):
        dumps(shared)
    with pytest.raises(ValueError, match="nested too deep"):
        _core.safe_loads(b"\x91" * 10_000)
    with pytest.raises(ValueError, match="ends too early"):
        _core.safe_loads(b"\xdd\xff\xff\xff\xff")


@pytest.mark.parametrize(
    "array",
    [
        numpy.arange(12, dtype="<i8").reshape(3, 4),
        numpy.asfortranarray(numpy.arange(12.0).reshape(3, 4)),
        numpy.arange(12, dtype=">u2")[::3],
        numpy.array(["a", "bc"]),
        numpy.array([b"x", b"yz"]),
        numpy.array(["2026-11-24", "NaT"], dtype="M8[D]"),
        numpy.array([1.5 + 2j, numpy.nan]),
        numpy.zeros((0, 3)),
        numpy.array(7.5),
        numpy.array([True, False]),
    ],
)
def test_arrays_of_numpy_survive(array: Any) -> None:
    back = _core.safe_loads(dumps({"deep": [array]}))["deep"][0]
    assert type(back) is numpy.ndarray
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert numpy.array_equal(back, array, equal_nan=array.dtype.kind in "fcmM")
    assert back.flags.writeable
    assert back.flags.f_contiguous == (array.flags.f_contiguous or back.ndim < 2)


@pytest.mark.parametrize(
    "number",
    [numpy.float64(1.5), numpy.int8(-3), numpy.bool_(True), numpy.datetime64("2026-11-24", "D")],
)
def test_numbers_of_numpy_survive(number: Any) -> None:
    back = _core.safe_loads(dumps(number))
    assert type(back) is type(number)
    assert back == number


pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install pyarrow")
TABLE = pa.table(
    {
        "n": [1, None, 3],
        "words": ["x", "yy", None],
        "kinds": pa.array(["u", "v", "u"]).dictionary_encode(),
        "lists": [[1], [2, 3], None],
    },
    metadata={"of": "a test"},
)


@pytest.mark.parametrize(
    "columns",
    [
        TABLE,
        TABLE.slice(1, 1),
        pa.concat_tables([TABLE, TABLE.slice(0, 2)]),
        TABLE.schema.empty_table(),
        pa.table({"nothing": pa.nulls(10)}),
        TABLE.to_batches()[0],
        TABLE.to_batches()[0].slice(2),
    ],
)
def test_tables_and_batches_of_arrow_survive(columns: Any) -> None:
    for before in range(20):  # wherever they begin in the payload
        body = dumps(["x" * before, (columns,), 5])
        _, (back,), after = _core.safe_loads(body)
        assert type(back) is type(columns)
        assert back.equals(columns)
        assert back.schema.equals(columns.schema, check_metadata=True)
        assert after == 5


def test_the_examples_in_the_code_hold() -> None:
    found = doctest.testmod(importlib.import_module("hustings._arrow"))
    assert (found.failed, found.attempted) == (0, 2)


def test_columns_of_arrow_stay_in_the_payload() -> None:
    body = dumps(("a", pa.table({"n": numpy.arange(10_000)})))
    start = pa.py_buffer(body).address
    _, table = _core.safe_loads(body)
    for buffer in table.column("n").chunk(0).buffers():
        if buffer is not None:
            assert start <= buffer.address < start + len(body)
            assert buffer.address % 8 == 0


class Kelvin(pa.ExtensionType):  # type: ignore[misc,unused-ignore]
    def __init__(self) -> None:
        super().__init__(pa.float64(), "test.kelvin")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: Any, serialized: bytes) -> Kelvin:
        return cls()


def test_arrow_that_would_change_or_unfold_is_refused() -> None:
    own = pa.ExtensionArray.from_storage(Kelvin(), pa.array([1.0]))
    with pytest.raises(hs.NotSerializableError, match=r"result\[0\] has a column of an extension"):
        dumps([pa.table({"t": own})])
    with pytest.raises(hs.PayloadTooLargeError, match=r"result is \d{7,} bytes"):
        dumps(pa.table({"n": numpy.zeros(LIMIT, dtype="u1")}))
    sink = pa.BufferOutputStream()
    packed = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, TABLE.schema, options=packed) as writer:
        writer.write(TABLE)
    for stream, why in [(sink.getvalue().to_pybytes(), "compressed"), (b"", ""), (b"x" * 90, "")]:
        body = b"\xc9" + (len(stream) + 1).to_bytes(4, "big") + b"\x0f\0" + stream
        with pytest.raises(ValueError, match=f'codec "safe": an Arrow stream: .*{why}'):
            _core.safe_loads(body)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_stream_is_read_or_refused(data: st.DataObject) -> None:
    body = bytearray(dumps(TABLE))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(6, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        _core.safe_loads(bytes(body)).to_pylist()
    except (ValueError, TypeError, OverflowError):
        return


@pytest.mark.parametrize(
    ("value", "most"),
    [
        ("b'x' * size", 1),
        ("bytearray(b'x') * size", 1),
        ("numpy.ones(size, dtype='u1')", 1),
        ("numpy.ones((size >> 10, 1 << 7)).T", 1),
        ("pyarrow.table({'n': numpy.ones(size >> 3)})", 2),
    ],
)
def test_large_contents_are_copied_once(value: str, most: int) -> None:
    """Into the payload; by Arrow into its own format before. Seen in the peak of a process."""
    script = (
        "import re, numpy, pyarrow\n"
        "from hustings import _core\n"
        "status = lambda: open('/proc/self/status').read()\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', status())[1]) << 10\n"
        "size = 64 << 20\n"
        f"small = _core.safe_dumps({value.replace('size', '(1 << 20)')}, 'x', 1 << 30)\n"
        f"value = {value}\n"
        "before = peak()\n"
        "body = _core.safe_dumps([value], 'x', 1 << 30)\n"
        "assert size <= len(body) < size + 4096\n"
        "print((peak() - before) / size)"
    )
    done = run_script(script)
    assert done.returncode == 0, done.stderr
    assert most - 0.6 < float(done.stdout) < most + 0.4


def test_a_call_names_its_arguments() -> None:
    body = codec.encode_call("safe", (1, (2, 3)), {"k": {4}})
    assert _core.safe_loads(body) == [[1, (2, 3)], {"k": {4}}]
    with pytest.raises(hs.NotSerializableError, match=r"args\[1\]\['a'\] \(builtins.object\)"):
        codec.encode_call("safe", (1, {"a": object()}), {})
    with pytest.raises(hs.NotSerializableError, match=r"argument 'k'\[0\] \(builtins.object\)"):
        codec.encode_call("safe", (), {"k": [object()]})


@pytest.fixture(scope="module")
def strict() -> Iterator[hs.Cluster]:
    """A connection to a node that both refuse pickle."""
    node = hs.Node("strict", slots=1, config=hs.Config.ci())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.HustingsWarning)  # it is alone
        node.register("give_back", sample_tasks.give_back)
        node.register("odd", sample_tasks.give_odd)
        node.start()
    with node, hs.Cluster.connect(node.address or "") as cluster:
        yield cluster


def test_it_is_the_codec_where_pickle_is_refused(strict: hs.Cluster) -> None:
    sent = {"when": dt.datetime(2026, 11, 24, tzinfo=dt.timezone.utc), 1: (b"x", {2, 3})}
    assert alike(strict.submit("give_back", sent).result(30), sent)
    array = numpy.arange(100_000)
    assert numpy.array_equal(strict.submit("give_back", array).result(30), array)
    table = pa.table({"n": array, "text": array.astype(str)})
    assert strict.submit("give_back", table).result(30).equals(table)
    with pytest.raises(hs.NotSerializableError, match=r"args\[0\]"):
        strict.submit("give_back", object())
    with pytest.raises(hs.RemoteTaskError, match=r"result\['id'\] \(.*\) would not survive"):
        strict.submit("odd").result(30)
    assert strict.options(codec="json").submit("give_back", [1]).result(30) == [1]
    with pytest.raises(hs.NotSerializableError, match="tuple"):
        strict.options(codec="json").submit("give_back", (1,))
