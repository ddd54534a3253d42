//! Attempts that run in threads of this process. The threads are Python's own, started by `hustings._threads`: while a
//! callback runs, no frame of ours is on its stack, so that an interpreter which ends may end them.

use super::runner::{Attempt, read_answer};
use super::runtime::generation;
use crate::config::Config;
use crate::core::boundary::Progress;
use crate::core::cluster::command::{Function, FunctionSource};
use crate::core::ids::FunctionHash;
use crate::node::client::lock;
use crate::node::execution::frame::CACHED_FUNCTIONS;
use crate::node::execution::seat::{Interrupt, Seat, Threads, Work};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use std::collections::HashMap;
use std::fmt;
use std::os::raw::c_long;
use std::sync::{Arc, Mutex};

const MODULE: &str = "hustings._threads";

/// The threads of one node.
#[derive(Clone)]
pub(super) struct NodeThreads(Arc<Shared>);

struct Shared {
    node: String,
    payload_limit: usize,
    allow_pickle: bool,
    functions: Mutex<HashMap<FunctionHash, Py<PyAny>>>,
}

impl NodeThreads {
    pub(super) fn shared(node: &str, config: &Config, allow_pickle: bool) -> Arc<dyn Threads> {
        let (node, payload_limit) = (node.to_owned(), config.limits.blob_bytes as usize);
        let functions = Mutex::default();
        let shared = Shared { node, payload_limit, allow_pickle, functions };
        Arc::new(NodeThreads(Arc::new(shared)))
    }
}

impl fmt::Debug for NodeThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NodeThreads").field(&self.0.node).finish()
    }
}

impl Threads for NodeThreads {
    fn start(&self, seat: Arc<Seat>) -> Result<(), String> {
        let started = Python::try_attach(|py| {
            let shared = self.0.clone();
            let (work, generation) = (Mutex::default(), generation());
            let seat = Py::new(py, ThreadSeat { seat, shared, work, generation })?;
            py.import(MODULE)?.call_method1("start", (seat,)).map(drop)
        });
        match started {
            Some(started) => started.map_err(|error| error.to_string()),
            None => Err("the interpreter ends".to_owned()),
        }
    }

    fn interrupt(&self, seat: &Seat, seq: u64, why: Interrupt) {
        let interrupted = Python::try_attach(|py| -> PyResult<()> {
            let thread = seat.control().thread;
            let is_coroutine =
                py.import(MODULE)?.call_method1("interrupt", (thread, seq))?.is_truthy()?;
            if is_coroutine || why == Interrupt::Cancelled {
                return Ok(()); // A function may look.
            }
            let error = py.import("hustings.errors")?.getattr("TaskTimeoutError")?;
            let control = seat.control();
            if control.seq == seq {
                // SAFETY: this thread is attached; the call takes a reference of its own and runs no Python code, so
                // the attempt cannot end before it is done.
                unsafe { ffi::PyThreadState_SetAsyncExc(control.thread as c_long, error.as_ptr()) };
            }
            Ok(())
        });
        // Whoever cannot be interrupted is given up a second later.
        drop(interrupted);
    }
}

impl Shared {
    /// The function of an attempt; the same for all threads of the node.
    fn function(&self, py: Python<'_>, function: &Function) -> PyResult<Py<PyAny>> {
        if let Some(known) = lock(&self.functions).get(&function.hash) {
            return Ok(known.clone_ref(py));
        }
        let (reference, pickled) = match &function.source {
            FunctionSource::Reference(text) => (Some(text.as_str()), None),
            FunctionSource::Pickled(blob) => (None, Some(PyBytes::new(py, blob))),
        };
        // Without the lock: it runs the code of a module.
        let arguments = (function.name.as_str(), reference, pickled);
        let loaded = py.import("hustings._runner")?.call_method1("load_function", arguments)?;
        let mut functions = lock(&self.functions);
        if functions.len() >= CACHED_FUNCTIONS {
            functions.clear();
        }
        Ok(functions.entry(function.hash).or_insert(loaded.unbind()).clone_ref(py))
    }
}

/// What a thread that runs attempts is given. Its own thread uses it; a callback may ask and tell from others.
#[pyclass(frozen, module = "hustings._core")]
pub(super) struct ThreadSeat {
    seat: Arc<Seat>,
    shared: Arc<Shared>,
    work: Mutex<Option<Work>>,
    generation: u32,
}

#[pymethods]
impl ThreadSeat {
    /// The name of its thread.
    #[getter]
    fn name(&self) -> String {
        self.seat.name()
    }

    /// The name of its node.
    #[getter]
    fn node(&self) -> &str {
        &self.shared.node
    }

    /// Most bytes of a result.
    #[getter]
    fn payload_limit(&self) -> usize {
        self.shared.payload_limit
    }

    /// Whether its node unpickles.
    #[getter]
    fn allow_pickle(&self) -> bool {
        self.shared.allow_pickle
    }

    /// The number of the attempt it is at; 0: none.
    #[getter]
    fn seq(&self) -> u64 {
        lock(&self.work).as_ref().map_or(0, |work| work.run().seq)
    }

    /// `thread` serves it, which the system calls `native`.
    fn begin(&self, thread: u64, native: u32) {
        let mut control = self.seat.control();
        (control.thread, control.native) = (thread, native);
    }

    /// Blocks until there is an attempt: its codec, its arguments, what it may know of itself. `None`: the thread shall
    /// end.
    #[allow(clippy::type_complexity, reason = "a tuple of Python's")]
    fn next<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Option<(&'static str, Bound<'py, PyBytes>, Bound<'py, PyDict>)>> {
        let Some(work) = py.detach(|| self.seat.next()) else { return Ok(None) };
        let Attempt { codec, payload, info, .. } = Attempt::new(py, &work.run())?;
        *lock(&self.work) = Some(work);
        Ok(Some((codec, payload, info)))
    }

    /// What the attempt runs.
    fn function(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let function = lock(&self.work).as_ref().map(Work::function);
        let function = function.ok_or_else(|| PyRuntimeError::new_err("no attempt is here"))?;
        self.shared.function(py, &function)
    }

    /// From now on nothing interrupts the attempt.
    fn shield(&self, _py: Python<'_>) {
        if self.generation != generation() {
            // A callback forked and its child came back here: only the original may speak.
            // SAFETY: ends this process at once, as a forked child should.
            unsafe { libc::_exit(0) };
        }
        let mut control = self.seat.control();
        control.seq = 0;
        // SAFETY: this thread is attached; without an exception the call only takes back one that did not arrive yet.
        unsafe { ffi::PyThreadState_SetAsyncExc(control.thread as c_long, std::ptr::null_mut()) };
    }

    /// The attempt ended with that answer, as `hustings._runner.call` returns it.
    fn end(&self, py: Python<'_>, answer: &Bound<'_, PyTuple>) -> PyResult<()> {
        let Some(work) = lock(&self.work).take() else { return Ok(()) };
        let seq = work.run().seq;
        read_answer(py, answer, self.shared.payload_limit, |result| self.seat.end(seq, &result))
    }

    /// Whether the attempt with that fencing token is not wanted any more.
    fn is_cancelled(&self, fencing_token: u64) -> bool {
        self.is_unwanted(Some(fencing_token), Interrupt::Cancelled)
    }

    /// Whether the attempt it is at ran longer than its timeout.
    #[getter]
    fn is_timed_out(&self) -> bool {
        self.is_unwanted(None, Interrupt::TimedOut)
    }

    /// How far the attempt with that fencing token is.
    fn progress(&self, fencing_token: u64, done: f64, total: f64, note: String) {
        if self.seq_of(Some(fencing_token)).is_some() {
            self.seat.progress(Progress { done, total, note });
        }
    }

    /// The thread ends.
    fn leave(&self) {
        self.seat.leave();
    }
}

impl ThreadSeat {
    fn seq_of(&self, fencing_token: Option<u64>) -> Option<u64> {
        let work = lock(&self.work);
        let run = work.as_ref()?.run();
        fencing_token.is_none_or(|token| token == run.token.0).then_some(run.seq)
    }

    fn is_unwanted(&self, fencing_token: Option<u64>, why: Interrupt) -> bool {
        let unwanted = self.seat.control().unwanted;
        self.seq_of(fencing_token).is_some_and(|seq| unwanted == Some((seq, why)))
    }
}
