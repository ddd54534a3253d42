//! `as_completed` underneath: hands out futures in the order in which they finish.

use super::errors;
use super::future::Future;
use super::runtime::{check_fork, generation, parse_timeout, wait_sliced};
use crate::error::Error;
use crate::node::client::{self, lock};
use pyo3::prelude::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Yields futures as they finish; one wake-up serves many.
#[pyclass(frozen, module = "hustings._core")]
pub(super) struct CompletionQueue {
    queue: client::CompletionQueue,
    futures: Mutex<Vec<Option<Py<Future>>>>,
    remaining: AtomicUsize,
    generation: u32,
}

#[pymethods]
impl CompletionQueue {
    #[new]
    fn new(py: Python<'_>, futures: &Bound<'_, PyAny>) -> PyResult<Self> {
        let list: Vec<Py<Future>> =
            futures.try_iter()?.map(|item| Ok(item?.extract()?)).collect::<PyResult<_>>()?;
        if let Some(first) = list.first() {
            first.get().check(py)?;
        }
        let queue = client::CompletionQueue::new(list.iter().map(|future| future.get().handle()))
            .map_err(|error| errors::raise(py, error))?;
        Ok(CompletionQueue {
            queue,
            remaining: AtomicUsize::new(list.len()),
            futures: Mutex::new(list.into_iter().map(Some).collect()),
            generation: generation(),
        })
    }

    /// The next finished future; `None` when all were given out.
    #[pyo3(signature = (timeout=None))]
    fn next(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Py<Future>>> {
        check_fork(py, self.generation, "client and its futures")?;
        let timeout = parse_timeout(py, "timeout", timeout)?;
        let next = wait_sliced(py, timeout, |at_most| {
            if self.remaining.load(Ordering::Acquire) == 0 {
                return Some(None);
            }
            self.queue.next(at_most).map(Some)
        })?;
        match next {
            Some(Some(index)) => {
                self.remaining.fetch_sub(1, Ordering::AcqRel);
                Ok(lock(&self.futures).get_mut(index).and_then(Option::take))
            }
            Some(None) => Ok(None),
            None => {
                let what = format!("the next of {} unfinished futures", self.remaining());
                let waited = timeout.unwrap_or_default();
                Err(errors::raise(py, Error::WaitTimeout { what, waited }))
            }
        }
    }

    fn remaining(&self) -> usize {
        self.remaining.load(Ordering::Acquire)
    }
}
