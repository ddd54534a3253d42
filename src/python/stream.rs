//! The items of a generator task, as Python sees them: taken one by one, waited for by threads and by coroutines.

use super::client::{CANCEL_TIMEOUT, Home};
use super::errors;
use super::future::Future;
use super::outcome;
use super::runtime::{Resident, parse_timeout, process, wait_sliced};
use crate::error::Error;
use crate::node::client::{Item, Reader};
use pyo3::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Reads what a task yields. Thread-safe.
#[pyclass(frozen, module = "hustings._core")]
pub(super) struct ItemReader {
    reader: Resident<Reader>,
    home: Arc<Home>,
    attempt: AtomicU32,
}

impl ItemReader {
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.reader.check(py, "client and its streams")
    }
}

#[pymethods]
impl ItemReader {
    #[new]
    fn new(py: Python<'_>, future: &Future) -> PyResult<Self> {
        future.check(py)?;
        let (home, handle) = (future.home(), future.shared_handle());
        let process = process(py)?;
        let _inside = process.handle().enter();
        let reader = home.client.read(handle).map_err(|error| errors::raise(py, error))?;
        Ok(ItemReader { reader: Resident::new(reader), home, attempt: AtomicU32::new(0) })
    }

    /// The next item, in a tuple; `None` after the last one.
    #[pyo3(signature = (timeout=None))]
    fn next(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<(Py<PyAny>,)>> {
        self.check(py)?;
        let timeout = parse_timeout(py, "timeout", timeout)?;
        let Some(taken) = wait_sliced(py, timeout, |at_most| self.reader.take(at_most))? else {
            let what = format!("the next item of task {}", self.reader.handle().task());
            let waited = timeout.unwrap_or_default();
            return Err(errors::raise(py, Error::WaitTimeout { what, waited }));
        };
        let Some(Item { value, attempt }) = taken.map_err(|error| errors::raise(py, error))? else {
            return Ok(None);
        };
        self.attempt.store(attempt, Ordering::Relaxed);
        Ok(Some((outcome::decode_value(py, &value, self.home.allow_pickle)?,)))
    }

    /// For a coroutine: an awaitable that is done when `next` would not wait.
    fn ready<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.check(py)?;
        let ready = self.reader.ready();
        let wait = async move {
            ready.await;
            Ok(())
        };
        process(py)?.awaitable(py, wait, |py, ()| Ok(py.None()))
    }

    /// Reads no more, and has the task cancelled and killed if it has no outcome. Waits for nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.check(py)?;
        self.reader.close();
        let handle = self.reader.handle();
        // After `shutdown` there is no cluster left to tell.
        let Ok(process) = process(py) else { return Ok(()) };
        if handle.settled().is_none() {
            let (home, id) = (self.home.clone(), handle.id());
            let cancel =
                async move { home.client.cancel(&[id], true, CANCEL_TIMEOUT).await.map(drop) };
            drop(process.handle().spawn(cancel));
        }
        Ok(())
    }

    /// The attempt that yielded the item given last, counted from 1; 0: none was given.
    #[getter]
    fn attempt(&self) -> u32 {
        self.attempt.load(Ordering::Relaxed)
    }
}
