//! The codec `"safe"`: data as msgpack, with extension types for what Python tells apart and msgpack does not. What
//! comes back is equal and of the same type, or it is refused with the way to it; nothing in it is ever executed.
//!
//! | extension | holds |
//! |---|---|
//! | 1, 2, 3 | tuple, set, frozenset: a msgpack array |
//! | 4 | an int beyond 64 bits: two's complement, least byte first |
//! | 5, 6, 7 | datetime, date, time: a byte for `fold`, then ISO 8601 |
//! | 8 | timedelta: a msgpack array of days, seconds, microseconds |
//! | 9 | complex: two doubles, least byte first |
//! | 10, 11, 12 | UUID: its bytes; Decimal: its text; bytearray: its bytes |
//! | 13, 14 | numpy array, numpy scalar: msgpack array of dtype, shape, whether columns come first; then the bytes |
//! | 15, 16 | Arrow table, Arrow record batch: a byte that says how many are skipped, those, and the stream format |
//!
//! Long contents are copied once, from where they are into the payload, and once out of it; those of Arrow are copied
//! by Arrow first, into its format, and afterwards stay in the payload, as nobody writes to them.

mod decoding;
mod encoding;

use super::errors;
use crate::error::Error;
use encoding::{Encoder, Refused};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

/// Deepest nesting.
const MAX_DEPTH: usize = 64;
/// Streams of Arrow begin at a multiple of it, counted from the beginning of the payload.
const ALIGNMENT: usize = 16;

mod kind {
    pub const TUPLE: i8 = 1;
    pub const SET: i8 = 2;
    pub const FROZENSET: i8 = 3;
    pub const INT: i8 = 4;
    pub const DATETIME: i8 = 5;
    pub const DATE: i8 = 6;
    pub const TIME: i8 = 7;
    pub const TIMEDELTA: i8 = 8;
    pub const COMPLEX: i8 = 9;
    pub const UUID: i8 = 10;
    pub const DECIMAL: i8 = 11;
    pub const BYTEARRAY: i8 = 12;
    pub const NDARRAY: i8 = 13;
    pub const NUMPY_SCALAR: i8 = 14;
    pub const ARROW_TABLE: i8 = 15;
    pub const ARROW_BATCH: i8 = 16;
}

/// `value`, which an error calls `name`, in at most `limit` bytes.
#[pyfunction]
pub(super) fn safe_dumps<'py>(
    value: Bound<'py, PyAny>,
    name: &str,
    limit: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = value.py();
    let mut encoder = Encoder::new(limit);
    let done = encoder.value(&value, 0).map_err(|refused| refused.below(name.to_owned()));
    finish(py, encoder, done, name, limit)
}

/// The arguments of a call, in at most `limit` bytes.
#[pyfunction]
pub(super) fn safe_dumps_call<'py>(
    args: Bound<'py, PyTuple>,
    kwargs: Bound<'py, PyDict>,
    limit: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = args.py();
    let mut encoder = Encoder::new(limit);
    let done = encoder.call(&args, &kwargs);
    finish(py, encoder, done, "arguments", limit)
}

/// The value in `body`. Raises `ValueError` where `body` is not what `safe_dumps` makes.
#[pyfunction]
pub(super) fn safe_loads<'py>(body: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    decoding::whole(body)
}

fn finish<'py>(
    py: Python<'py>,
    encoder: Encoder<'py>,
    done: Result<(), Refused>,
    name: &str,
    limit: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    match done {
        Ok(()) => encoder.finish(py),
        Err(Refused::TooLarge(size)) => {
            let (what, knob) = (name.to_owned(), "limits.blob_bytes");
            Err(errors::raise(py, Error::PayloadTooLarge { what, size, limit, knob }))
        }
        Err(Refused::Value { path, why }) => {
            let path: String = path.into_iter().rev().collect();
            let class = py.import("hustings.errors")?.getattr("NotSerializableError")?;
            Err(PyErr::from_value(class.call1((format!("{path} {why}"),))?))
        }
        Err(Refused::Raised(error)) => Err(error),
    }
}
