//! Python values into bytes of the codec `"safe"`.

use super::{ALIGNMENT, MAX_DEPTH, kind};
use pyo3::buffer::PyBuffer;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    IntoPyDict, PyBool, PyByteArray, PyBytes, PyComplex, PyComplexMethods, PyDict, PyFloat,
    PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
};
use rmp::encode as msgpack;

/// Longest spelling of a key in an error.
const MAX_KEY: usize = 60;
const REMEDY: &str = "the codec \"safe\" carries None, bool, int, float, complex, str, bytes, bytearray, list, \
     tuple, set, frozenset, dict, datetime and its kin, UUID, Decimal, numpy arrays of numbers, and tables and record \
     batches of Arrow; convert it, or allow pickle on both sides (allow_pickle=True, hustings node \
     --allow-pickle)";
/// Contents of at least so many bytes stay where they are until the payload is put together.
const APART: usize = 4096;

/// Why a value does not travel.
pub(super) enum Refused {
    /// It is over the limit, with at least so many bytes.
    TooLarge(usize),
    /// A part of it: the way there, innermost first, and what is the matter with it.
    Value { path: Vec<String>, why: String },
    /// Its own methods raised.
    Raised(PyErr),
}

impl Refused {
    /// The same, of a part of something.
    pub(super) fn below(mut self, step: String) -> Self {
        if let Refused::Value { path, .. } = &mut self {
            path.push(step);
        }
        self
    }

    fn value(why: impl Into<String>) -> Self {
        Refused::Value { path: Vec::new(), why: why.into() }
    }
}

impl From<PyErr> for Refused {
    fn from(error: PyErr) -> Self {
        Refused::Raised(error)
    }
}

type Done = Result<(), Refused>;

/// A content that is copied once, from where it is into the payload.
enum Apart<'py> {
    Bytes(Bound<'py, PyBytes>),
    /// Of an object that cannot be resized meanwhile.
    Buffer(PyBuffer<u8>),
}

impl Apart<'_> {
    fn length(&self) -> usize {
        match self {
            Apart::Bytes(bytes) => bytes.as_bytes().len(),
            Apart::Buffer(buffer) => buffer.len_bytes(),
        }
    }

    fn copy_to(&self, py: Python<'_>, to: &mut [u8]) -> PyResult<()> {
        match self {
            Apart::Bytes(bytes) => to.copy_from_slice(bytes.as_bytes()),
            Apart::Buffer(buffer) => buffer.copy_to_slice(py, to)?,
        }
        Ok(())
    }
}

/// Bytes in the making.
pub(super) struct Encoder<'py> {
    out: Vec<u8>,
    /// What is copied at the end, and before which byte of `out` it comes.
    apart: Vec<(usize, Apart<'py>)>,
    apart_bytes: usize,
    limit: usize,
}

impl<'py> Encoder<'py> {
    pub(super) fn new(limit: usize) -> Self {
        Encoder { out: Vec::new(), apart: Vec::new(), apart_bytes: 0, limit }
    }

    /// The payload.
    pub(super) fn finish(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        PyBytes::new_with(py, self.length(), |mut to| {
            let mut from = 0;
            for (at, part) in &self.apart {
                let (head, rest) = std::mem::take(&mut to).split_at_mut(at - from);
                head.copy_from_slice(&self.out[from..*at]);
                let (content, rest) = rest.split_at_mut(part.length());
                part.copy_to(py, content)?;
                (from, to) = (*at, rest);
            }
            to.copy_from_slice(&self.out[from..]);
            Ok(())
        })
    }

    fn length(&self) -> usize {
        self.out.len() + self.apart_bytes
    }

    pub(super) fn call(&mut self, args: &Bound<'py, PyTuple>, kwargs: &Bound<'py, PyDict>) -> Done {
        self.array(2)?;
        self.array(args.len())?;
        for (at, item) in args.iter().enumerate() {
            self.value(&item, 1).map_err(|refused| refused.below(format!("args[{at}]")))?;
        }
        self.map(kwargs.len())?;
        for (key, item) in kwargs.iter() {
            self.value(&key, 1)?;
            let step = || format!("argument {}", shown(&key));
            self.value(&item, 1).map_err(|refused| refused.below(step()))?;
        }
        Ok(())
    }

    /// Exact types only: a subclass would come back as its base.
    pub(super) fn value(&mut self, value: &Bound<'py, PyAny>, depth: usize) -> Done {
        if self.length() > self.limit {
            return Err(Refused::TooLarge(self.length()));
        }
        if value.is_none() {
            return written(msgpack::write_nil(&mut self.out));
        }
        if let Ok(text) = value.cast_exact::<PyString>() {
            let text = text.to_str().map_err(|_| Refused::value("holds a lone surrogate"))?;
            return written(msgpack::write_str(&mut self.out, text));
        }
        if let Ok(flag) = value.cast_exact::<PyBool>() {
            return written(msgpack::write_bool(&mut self.out, flag.is_true()));
        }
        if let Ok(number) = value.cast_exact::<PyInt>() {
            return self.int(number);
        }
        if let Ok(number) = value.cast_exact::<PyFloat>() {
            return written(msgpack::write_f64(&mut self.out, number.value()));
        }
        if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            let length = self.fits(bytes.as_bytes().len())?;
            written(msgpack::write_bin_len(&mut self.out, length).map(drop))?;
            return self.content(Apart::Bytes(bytes.clone()));
        }
        if depth >= MAX_DEPTH {
            let why = format!("is nested deeper than {MAX_DEPTH}, or contains itself; flatten it");
            return Err(Refused::value(why));
        }
        self.collection(value, depth + 1)
    }

    fn collection(&mut self, value: &Bound<'py, PyAny>, depth: usize) -> Done {
        if let Ok(list) = value.cast_exact::<PyList>() {
            return self.items(list.len(), list.iter(), depth);
        }
        if let Ok(dict) = value.cast_exact::<PyDict>() {
            self.map(dict.len())?;
            for (key, item) in dict.iter() {
                let step = || format!("[{}]", shown(&key));
                self.value(&key, depth).map_err(|refused| refused.below(": its key".into()))?;
                self.value(&item, depth).map_err(|refused| refused.below(step()))?;
            }
            return Ok(());
        }
        if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            return self.extension(kind::TUPLE, |to| to.items(tuple.len(), tuple.iter(), depth));
        }
        if let Ok(set) = value.cast_exact::<PySet>() {
            return self.extension(kind::SET, |to| to.elements(set.len(), set.iter(), depth));
        }
        if let Ok(set) = value.cast_exact::<PyFrozenSet>() {
            return self.extension(kind::FROZENSET, |to| to.elements(set.len(), set.iter(), depth));
        }
        if let Ok(bytes) = value.cast_exact::<PyByteArray>() {
            let content = Apart::Buffer(PyBuffer::get(bytes)?);
            return self.extension(kind::BYTEARRAY, |to| to.content(content));
        }
        if let Ok(number) = value.cast_exact::<PyComplex>() {
            let (real, imag) = (number.real().to_le_bytes(), number.imag().to_le_bytes());
            return self.extension(kind::COMPLEX, |to| to.raw(&[real, imag].concat()));
        }
        self.by_class(value)
    }

    /// What is no builtin, but known.
    fn by_class(&mut self, value: &Bound<'py, PyAny>) -> Done {
        let class = value.get_type();
        let (module, known) = (class.module()?.to_string(), class.qualname()?.to_string());
        let name = format!("{module}.{known}");
        let is_it = || match value.py().import(&*module) {
            Ok(module) => module.getattr(&*known).is_ok_and(|found| found.is(&class)),
            Err(_) => false,
        };
        match name.as_str() {
            "datetime.datetime" if is_it() => self.moment(kind::DATETIME, value),
            "datetime.time" if is_it() => self.moment(kind::TIME, value),
            "datetime.date" if is_it() => {
                let text = format!("\0{}", value.call_method0("isoformat")?);
                self.extension(kind::DATE, |to| to.raw(text.as_bytes()))
            }
            "datetime.timedelta" if is_it() => self.extension(kind::TIMEDELTA, |to| {
                to.array(3)?;
                for field in ["days", "seconds", "microseconds"] {
                    to.value(&value.getattr(field)?, 0)?;
                }
                Ok(())
            }),
            "uuid.UUID" if is_it() => {
                let bytes: Vec<u8> = value.getattr("bytes")?.extract()?;
                self.extension(kind::UUID, |to| to.raw(&bytes))
            }
            "decimal.Decimal" if is_it() => {
                let text = value.str()?.to_string();
                self.extension(kind::DECIMAL, |to| to.raw(text.as_bytes()))
            }
            "numpy.ndarray" if is_it() => self.numbers(kind::NDARRAY, value),
            "pyarrow.lib.Table" if is_it() => self.columns(kind::ARROW_TABLE, value),
            "pyarrow.lib.RecordBatch" if is_it() => self.columns(kind::ARROW_BATCH, value),
            _ if module == "numpy" && is_it() && value.hasattr("dtype")? => {
                self.numbers(kind::NUMPY_SCALAR, value)
            }
            _ => Err(Refused::value(format!("({name}) would not survive; {REMEDY}"))),
        }
    }

    /// A datetime or time; of zones only those that are a plain offset have a text that says all.
    fn moment(&mut self, of: i8, value: &Bound<'py, PyAny>) -> Done {
        let zone = value.getattr("tzinfo")?;
        let text = value.call_method0("isoformat")?;
        if !zone.is_none() {
            let plain = value.py().import("datetime")?.getattr("timezone")?;
            let again = value.get_type().call_method1("fromisoformat", (&text,))?;
            let same = zone.get_type().is(&plain)
                && again.call_method0("tzname")?.eq(value.call_method0("tzname")?)?;
            if !same {
                let why = format!(
                    "has the time zone {}, which would come back as an offset; use \
                     .astimezone(datetime.timezone.utc)",
                    shown(&zone)
                );
                return Err(Refused::value(why));
            }
        }
        let fold: u8 = value.getattr("fold")?.extract()?;
        let text = text.to_string();
        self.extension(of, |to| to.raw(&[&[fold], text.as_bytes()].concat()))
    }

    /// Of numpy: numbers, times, and text or bytes of fixed length.
    fn numbers(&mut self, of: i8, value: &Bound<'py, PyAny>) -> Done {
        let dtype = value.getattr(intern!(value.py(), "dtype"))?;
        let letter: String = dtype.getattr("kind")?.extract()?;
        if !"biufcmMSU".contains(&letter) {
            let why = format!("has the dtype {dtype}, which would not survive; {REMEDY}");
            return Err(Refused::value(why));
        }
        let flags = value.getattr("flags")?;
        let is = |flag: &str| flags.getattr(flag)?.is_truthy();
        let columns_first = is("f_contiguous")? && !is("c_contiguous")?;
        let order = if of == kind::NDARRAY && columns_first { "F" } else { "C" };
        let at_once = of == kind::NDARRAY && (columns_first || is("c_contiguous")?);
        let content = if at_once && value.getattr("nbytes")?.is_truthy()? {
            let how = [("order", order)].into_py_dict(value.py())?;
            let flat = value.call_method("reshape", (-1,), Some(&how))?;
            Apart::Buffer(PyBuffer::get(&flat.call_method1("view", ("u1",))?)?)
        } else {
            // With gaps, or no numbers at all: numpy gathers them.
            let bytes = value.call_method1("tobytes", (order,))?.cast_into::<PyBytes>();
            Apart::Bytes(bytes.map_err(PyErr::from)?)
        };
        self.extension(of, |to| {
            to.array(3)?;
            to.value(&dtype.getattr("str")?, 0)?;
            let shape: Vec<u64> = value.getattr("shape")?.extract()?;
            to.array(shape.len())?;
            for length in shape {
                written(msgpack::write_uint(&mut to.out, length).map(drop))?;
            }
            written(msgpack::write_bool(&mut to.out, columns_first))?;
            to.content(content)
        })
    }

    /// Of Arrow: what its own stream format says, so that it is read where it lies.
    fn columns(&mut self, of: i8, value: &Bound<'py, PyAny>) -> Done {
        let arrow = value.py().import("hustings._arrow")?;
        if let Some(why) = arrow.call_method1("problem", (value,))?.extract::<Option<String>>()? {
            return Err(Refused::value(format!("{why}; {REMEDY}")));
        }
        // Its size is known before anything of it is copied.
        let size: usize = arrow.call_method1("stream_bytes", (value,))?.extract()?;
        self.fits(size)?;
        let stream = arrow.call_method1("dumps", (value, size))?;
        let content = Apart::Buffer(PyBuffer::get(&stream)?);
        self.extension(of, |to| {
            let gap = (to.length() + 1).wrapping_neg() % ALIGNMENT;
            to.raw(&vec![gap as u8; 1 + gap])?;
            to.content(content)
        })
    }

    fn int(&mut self, number: &Bound<'py, PyInt>) -> Done {
        if let Ok(small) = number.extract::<i64>() {
            return written(msgpack::write_sint(&mut self.out, small).map(drop));
        }
        if let Ok(large) = number.extract::<u64>() {
            return written(msgpack::write_uint(&mut self.out, large).map(drop));
        }
        let py = number.py();
        let bits: usize = number.call_method0(intern!(py, "bit_length"))?.extract()?;
        let signed = PyDict::new(py);
        signed.set_item(intern!(py, "signed"), true)?;
        let arguments = (bits / 8 + 1, intern!(py, "little"));
        let bytes: Vec<u8> =
            number.call_method(intern!(py, "to_bytes"), arguments, Some(&signed))?.extract()?;
        self.extension(kind::INT, |to| to.raw(&bytes))
    }

    fn items(
        &mut self,
        length: usize,
        items: impl Iterator<Item = Bound<'py, PyAny>>,
        depth: usize,
    ) -> Done {
        self.array(length)?;
        for (at, item) in items.enumerate() {
            self.value(&item, depth).map_err(|refused| refused.below(format!("[{at}]")))?;
        }
        Ok(())
    }

    fn elements(
        &mut self,
        length: usize,
        elements: impl Iterator<Item = Bound<'py, PyAny>>,
        depth: usize,
    ) -> Done {
        self.array(length)?;
        for element in elements {
            let step = || format!(": its element {}", shown(&element));
            self.value(&element, depth).map_err(|refused| refused.below(step()))?;
        }
        Ok(())
    }

    /// An extension whose content `write` writes; its length is filled in afterwards.
    fn extension(&mut self, of: i8, write: impl FnOnce(&mut Self) -> Done) -> Done {
        let start = self.out.len();
        written(msgpack::write_ext_meta(&mut self.out, u32::MAX, of).map(drop))?;
        let content = self.length();
        write(self)?;
        let length = self.length() - content;
        let length = u32::try_from(length).map_err(|_| Refused::TooLarge(length))?;
        // `u32::MAX` has the long form: a marker, four bytes of length, the type.
        self.out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn array(&mut self, length: usize) -> Done {
        let length = u32::try_from(length).map_err(|_| Refused::TooLarge(length))?;
        written(msgpack::write_array_len(&mut self.out, length).map(drop))
    }

    fn map(&mut self, length: usize) -> Done {
        let length = u32::try_from(length).map_err(|_| Refused::TooLarge(length))?;
        written(msgpack::write_map_len(&mut self.out, length).map(drop))
    }

    fn raw(&mut self, bytes: &[u8]) -> Done {
        self.fits(bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// What follows; if it is long, copied when all the rest is known.
    fn content(&mut self, content: Apart<'py>) -> Done {
        let length = content.length();
        self.fits(length)?;
        if let Apart::Bytes(bytes) = &content
            && length < APART
        {
            self.out.extend_from_slice(bytes.as_bytes());
            return Ok(());
        }
        self.apart_bytes += length;
        self.apart.push((self.out.len(), content));
        Ok(())
    }

    /// That so many bytes more are within the limit.
    fn fits(&self, more: usize) -> Result<u32, Refused> {
        let length = self.length().saturating_add(more);
        match u32::try_from(more) {
            Ok(more) if length <= self.limit => Ok(more),
            _ => Err(Refused::TooLarge(length)),
        }
    }
}

/// Writing into memory does not fail.
fn written<E>(result: Result<(), E>) -> Done {
    result.map_err(|_| Refused::value("could not be written"))
}

fn shown(key: &Bound<'_, PyAny>) -> String {
    let text = key.repr().map_or_else(|_| "?".to_owned(), |text| text.to_string_lossy().into());
    text.chars().take(MAX_KEY).collect()
}
