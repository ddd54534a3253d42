//! Bytes of the codec `"safe"` into Python values. Whatever the bytes are, no more is held than they can stand for, and
//! nothing is looked up by a name that they say, but numpy's dtypes and Arrow's own types.

use super::{MAX_DEPTH, kind};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString,
    PyTuple,
};
use rmp::Marker;
use rmp::decode as msgpack;

struct Decoder<'py, 'a> {
    body: &'a Bound<'py, PyBytes>,
    rest: &'a [u8],
}

type Decoded<'py> = PyResult<Bound<'py, PyAny>>;

/// The one value in `body`.
pub(super) fn whole<'py>(body: &Bound<'py, PyBytes>) -> Decoded<'py> {
    let mut decoder = Decoder { body, rest: body.as_bytes() };
    let value = decoder.value(0)?;
    decoder.end()?;
    Ok(value)
}

fn bad(what: &str) -> PyErr {
    PyValueError::new_err(format!("not a value of the codec \"safe\": {what}"))
}

fn ends<E>(_: E) -> PyErr {
    bad("it ends too early")
}

impl<'py, 'a> Decoder<'py, 'a> {
    fn value(&mut self, depth: usize) -> Decoded<'py> {
        if depth > MAX_DEPTH {
            return Err(bad("it is nested too deep"));
        }
        let py = self.body.py();
        let first = *self.rest.first().ok_or_else(|| ends(()))?;
        let rest = &mut self.rest;
        Ok(match Marker::from_u8(first) {
            Marker::Null => {
                self.take(1)?;
                py.None().into_bound(py)
            }
            Marker::True | Marker::False => {
                self.take(1)?;
                (first == 0xc3).into_pyobject(py)?.to_owned().into_any()
            }
            Marker::F32 => {
                PyFloat::new(py, msgpack::read_f32(rest).map_err(ends)?.into()).into_any()
            }
            Marker::F64 => PyFloat::new(py, msgpack::read_f64(rest).map_err(ends)?).into_any(),
            Marker::U64 => msgpack::read_u64(rest).map_err(ends)?.into_pyobject(py)?.into_any(),
            Marker::FixPos(_)
            | Marker::FixNeg(_)
            | Marker::U8
            | Marker::U16
            | Marker::U32
            | Marker::I8
            | Marker::I16
            | Marker::I32
            | Marker::I64 => {
                let number: i64 = msgpack::read_int(rest).map_err(ends)?;
                number.into_pyobject(py)?.into_any()
            }
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                let length = msgpack::read_str_len(rest).map_err(ends)?;
                let text = std::str::from_utf8(self.take(length as usize)?);
                PyString::new(py, text.map_err(|_| bad("text is not UTF-8"))?).into_any()
            }
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
                let length = msgpack::read_bin_len(rest).map_err(ends)?;
                PyBytes::new(py, self.take(length as usize)?).into_any()
            }
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
                PyList::new(py, self.items(depth)?)?.into_any()
            }
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => self.map(depth)?,
            Marker::Reserved => return Err(bad("it has a byte that means nothing")),
            _ => {
                let head = msgpack::read_ext_meta(rest).map_err(ends)?;
                let content = self.take(head.size as usize)?;
                let inner = Decoder { body: self.body, rest: content };
                inner.extension(head.typeid, depth + 1)?
            }
        })
    }

    fn items(&mut self, depth: usize) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let length = msgpack::read_array_len(&mut self.rest).map_err(ends)? as usize;
        // Every item takes a byte at least.
        if length > self.rest.len() {
            return Err(ends(()));
        }
        (0..length).map(|_| self.value(depth + 1)).collect()
    }

    fn map(&mut self, depth: usize) -> Decoded<'py> {
        let length = msgpack::read_map_len(&mut self.rest).map_err(ends)?;
        let dict = PyDict::new(self.body.py());
        for _ in 0..length {
            let (key, value) = (self.value(depth + 1)?, self.value(depth + 1)?);
            dict.set_item(key, value)?;
        }
        Ok(dict.into_any())
    }

    /// The whole content of an extension.
    fn extension(mut self, of: i8, depth: usize) -> Decoded<'py> {
        let py = self.body.py();
        let value = match of {
            kind::TUPLE => PyTuple::new(py, self.items(depth)?)?.into_any(),
            kind::SET => PySet::new(py, self.items(depth)?)?.into_any(),
            kind::FROZENSET => PyFrozenSet::new(py, self.items(depth)?)?.into_any(),
            kind::INT => {
                let signed = PyDict::new(py);
                signed.set_item("signed", true)?;
                let arguments = (PyBytes::new(py, self.take_rest()), "little");
                py.get_type::<PyInt>().call_method("from_bytes", arguments, Some(&signed))?
            }
            kind::DATETIME | kind::DATE | kind::TIME => self.moment(of)?,
            kind::TIMEDELTA => {
                let parts = PyTuple::new(py, self.items(depth)?)?;
                py.import("datetime")?.getattr("timedelta")?.call1(parts)?
            }
            kind::COMPLEX => {
                let half = |bytes: &[u8]| bytes.try_into().map(f64::from_le_bytes).map_err(ends);
                let (real, imag) = (half(self.take(8)?)?, half(self.take(8)?)?);
                PyComplex::from_doubles(py, real, imag).into_any()
            }
            kind::UUID => {
                let bytes = PyDict::new(py);
                bytes.set_item("bytes", PyBytes::new(py, self.take_rest()))?;
                py.import("uuid")?.getattr("UUID")?.call((), Some(&bytes))?
            }
            kind::DECIMAL => {
                let text = std::str::from_utf8(self.take_rest()).map_err(|_| bad("a Decimal"))?;
                let class = py.import("decimal")?.getattr("Decimal")?;
                class.call1((text,)).map_err(|_| bad("a Decimal"))?
            }
            kind::BYTEARRAY => PyByteArray::new(py, self.take_rest()).into_any(),
            kind::NDARRAY | kind::NUMPY_SCALAR => self.numbers(of, depth)?,
            kind::ARROW_TABLE | kind::ARROW_BATCH => self.columns(of)?,
            other => return Err(bad(&format!("extension {other} is unknown here"))),
        };
        self.end()?;
        Ok(value)
    }

    fn moment(&mut self, of: i8) -> Decoded<'py> {
        let class = match of {
            kind::DATETIME => "datetime",
            kind::DATE => "date",
            _ => "time",
        };
        let fold = self.take(1)?[0];
        let text = std::str::from_utf8(self.take_rest()).map_err(|_| bad("a date or time"))?;
        let class = self.body.py().import("datetime")?.getattr(class)?;
        let value = class.call_method1("fromisoformat", (text,))?;
        if fold == 0 {
            return Ok(value);
        }
        let how = PyDict::new(self.body.py());
        how.set_item("fold", fold)?;
        value.call_method("replace", (), Some(&how))
    }

    fn numbers(&mut self, of: i8, depth: usize) -> Decoded<'py> {
        let head = self.items_of_numbers(depth)?;
        let [dtype, shape, columns_first] = head;
        let numpy = self.body.py().import("numpy")?;
        let dtype = numpy.getattr("dtype")?.call1((dtype.cast_into::<PyString>()?,))?;
        let letter: String = dtype.getattr("kind")?.extract()?;
        if !"biufcmMSU".contains(&letter) {
            return Err(bad("a dtype that does not travel"));
        }
        let shape = PyTuple::new(self.body.py(), shape.cast_into::<PyList>()?.iter())?;
        let how = PyDict::new(self.body.py());
        how.set_item("shape", shape)?;
        how.set_item("dtype", dtype)?;
        how.set_item("order", if columns_first.is_truthy()? { "F" } else { "C" })?;
        // The array owns these bytes: they are copied once, and may be written to.
        how.set_item("buffer", PyByteArray::new(self.body.py(), self.take_rest()))?;
        let array = numpy.getattr("ndarray")?.call((), Some(&how))?;
        // Of an array without dimensions, that is the number.
        if of == kind::NDARRAY { Ok(array) } else { array.get_item(PyTuple::empty(self.body.py())) }
    }

    fn items_of_numbers(&mut self, depth: usize) -> PyResult<[Bound<'py, PyAny>; 3]> {
        self.items(depth)?.try_into().map_err(|_| bad("an array without its shape"))
    }

    /// Read where they lie: nobody can write to them, and they keep the payload.
    fn columns(&mut self, of: i8) -> Decoded<'py> {
        let gap = self.take(1)?[0];
        self.take(gap.into())?;
        let content = self.take_rest();
        let start = content.as_ptr().addr() - self.body.as_bytes().as_ptr().addr();
        let arguments = (self.body, start, content.len(), of == kind::ARROW_TABLE);
        self.body.py().import("hustings._arrow")?.call_method1("loads", arguments)
    }

    fn take(&mut self, count: usize) -> PyResult<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or_else(|| ends(()))?;
        self.rest = tail;
        Ok(head)
    }

    fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    fn end(&self) -> PyResult<()> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(bad(&format!("{count} bytes come after it"))),
        }
    }
}
