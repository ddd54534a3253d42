//! A task's outcome to come, as Python sees it: the methods of `concurrent.futures.Future`, awaitable, native inside.

use super::client::{CANCEL_TIMEOUT, Home};
use super::errors;
use super::outcome::{self, Decoded};
use super::records::explanation_dict;
use super::resolver::{self, Job};
use super::runtime::{parse_timeout, process, wait_sliced};
use crate::core::cluster::output;
use crate::error::Error;
use crate::node::client::messages::ExplainResponse;
use crate::node::client::words::node_text;
use crate::node::client::{Handle, Phase, Settled};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use std::sync::Arc;

/// A task's outcome to come. Thread-safe; the result stays bytes until it is asked for.
#[pyclass(frozen, generic, weakref, module = "hustings._core")]
pub(super) struct Future {
    handle: Arc<Handle>,
    home: Arc<Home>,
    key: Option<Box<str>>,
    /// The same object each time, as in the standard library.
    decoded: PyOnceLock<Decoded>,
}

impl Future {
    pub fn new(handle: Arc<Handle>, home: Arc<Home>, key: Option<&str>) -> Self {
        let key = key.filter(|key| !key.is_empty()).map(Box::from);
        Future { handle, home, key, decoded: PyOnceLock::new() }
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    pub fn shared_handle(&self) -> Arc<Handle> {
        self.handle.clone()
    }

    pub fn home(&self) -> Arc<Home> {
        self.home.clone()
    }

    pub fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.home.client.check(py, "client and its futures")
    }

    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<&Settled> {
        self.check(py)?;
        let timeout = parse_timeout(py, "timeout", timeout)?;
        wait_sliced(py, timeout, |at_most| self.handle.wait(at_most).then_some(()))?;
        self.handle.settled().ok_or_else(|| {
            let id = self.handle.task().to_string();
            let waited = timeout.unwrap_or_default();
            let trouble = self.home.client.trouble();
            let leaderless = self.home.client.leaderless();
            let phase = self.handle.phase();
            errors::raise(py, errors::wait_timeout(&id, phase, &trouble, leaderless, waited))
        })
    }

    fn decode(&self, py: Python<'_>, settled: &Settled) -> PyResult<&Decoded> {
        self.decoded.get_or_try_init(py, || {
            outcome::decode(py, self.handle.task(), settled, self.home.allow_pickle)
        })
    }

    /// What to raise instead of a value; a result that cannot be decoded raises why.
    fn finish<'py>(&self, py: Python<'py>, settled: &Settled) -> PyResult<Bound<'py, PyAny>> {
        match self.decode(py, settled)? {
            Decoded::Value(value) => Ok(value.bind(py).clone()),
            Decoded::Raised(raised) => Err(PyErr::from_value(raised.bind(py).clone())),
        }
    }

    fn explain<'py>(&self, py: Python<'py>, timeout: f64) -> PyResult<Bound<'py, PyDict>> {
        self.check(py)?;
        if let Some(Settled::Refused { message, .. }) = self.handle.settled() {
            let (kind, sentence) = ("rejected".to_owned(), format!("it was refused: {message}"));
            let told = ExplainResponse { kind, sentence, ..Default::default() };
            return explanation_dict(py, &told);
        }
        let timeout = parse_timeout(py, "timeout", Some(timeout))?.unwrap_or_default();
        let (home, id) = (self.home.clone(), self.handle.task());
        let asked = async move { home.client.explain(id, timeout).await };
        explanation_dict(py, &process(py)?.block_on(py, asked)?)
    }

    fn is_cancelled(&self) -> bool {
        self.handle.phase() == Phase::Cancelled
    }

    /// Copies the outcome into a `concurrent.futures.Future`.
    pub fn fill_std(&self, py: Python<'_>, std_future: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some(settled) = self.handle.settled() else { return Ok(()) };
        if self.is_cancelled() {
            std_future.call_method0(intern!(py, "cancel"))?;
        }
        let notify = intern!(py, "set_running_or_notify_cancel");
        // Somebody cancelled the copy: nobody wants the outcome.
        let done = std_future.call_method0(intern!(py, "done"))?.is_truthy()?;
        if (done && !self.is_cancelled()) || !std_future.call_method0(notify)?.is_truthy()? {
            return Ok(());
        }
        match self.finish(py, settled) {
            Ok(value) => std_future.call_method1(intern!(py, "set_result"), (value,)),
            Err(error) => {
                std_future.call_method1(intern!(py, "set_exception"), (error.into_value(py),))
            }
        }
        .map(drop)
    }

    /// Copies the outcome into an `asyncio` future, on its loop's thread.
    pub fn fill_asyncio(&self, py: Python<'_>, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some(settled) = self.handle.settled() else { return Ok(()) };
        if waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        if self.is_cancelled() {
            return waiter.call_method0(intern!(py, "cancel")).map(drop);
        }
        let set_exception = intern!(py, "set_exception");
        match self.finish(py, settled) {
            Ok(value) => waiter.call_method1(intern!(py, "set_result"), (value,)).map(drop),
            Err(error) => {
                let raised = error.value(py).clone();
                match waiter.call_method1(set_exception, (raised,)) {
                    // asyncio refuses StopIteration, which would end the awaiting coroutine silently.
                    Err(refused) if refused.is_instance_of::<PyTypeError>(py) => {
                        let replaced = PyRuntimeError::new_err(format!("the task raised {error}"));
                        replaced.set_cause(py, Some(error));
                        waiter.call_method1(set_exception, (replaced.into_value(py),)).map(drop)
                    }
                    other => other.map(drop),
                }
            }
        }
    }

    /// A done-callback that cancels the task if the copy it is called with was cancelled. Nobody waits for the answer:
    /// the copy is cancelled either way.
    fn cancelling(
        &self,
    ) -> impl Fn(&Bound<'_, PyTuple>, Option<&Bound<'_, PyDict>>) -> PyResult<()> + Send + use<>
    {
        let (home, handle) = (self.home.clone(), self.handle.clone());
        move |args, _| {
            let py = args.py();
            let copy = args.get_item(0)?;
            let cancelled = copy.call_method0(intern!(py, "cancelled"))?.is_truthy()?;
            if cancelled && handle.settled().is_none() {
                let (home, id) = (home.clone(), handle.id());
                let cancel =
                    async move { home.client.cancel(&[id], false, CANCEL_TIMEOUT).await.map(drop) };
                drop(process(py)?.handle().spawn(cancel));
            }
            Ok(())
        }
    }

    /// Has the resolver do `job` when this future settles.
    fn on_settled(&self, py: Python<'_>, job: Job) -> PyResult<()> {
        let resolver = process(py)?.resolver.clone();
        resolver.start().map_err(|error| {
            errors::raise(py, Error::Runner { problem: format!("no thread: {error}") })
        })?;
        let registered = self.handle.on_settled(move || resolver.push(job));
        registered.map_err(|error| errors::raise(py, error))
    }
}

#[pymethods]
impl Future {
    #[getter]
    fn task_id(&self) -> String {
        self.handle.task().to_string()
    }

    #[getter]
    fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Why the task is where it is: an `Explanation`.
    #[pyo3(signature = (timeout=5.0))]
    fn why<'py>(&self, py: Python<'py>, timeout: f64) -> PyResult<Bound<'py, PyAny>> {
        let told = self.explain(py, timeout)?;
        py.import("hustings.explanation")?.getattr("build_explanation")?.call1((told,))
    }

    /// What happened to the task so far: a list of `TaskEvent`.
    #[pyo3(signature = (timeout=5.0))]
    fn history<'py>(&self, py: Python<'py>, timeout: f64) -> PyResult<Bound<'py, PyAny>> {
        let told = self.explain(py, timeout)?;
        py.import("hustings.explanation")?.getattr("build_history")?.call1((told,))
    }

    #[getter]
    fn state(&self) -> &'static str {
        self.handle.phase().as_str()
    }

    #[getter]
    fn node(&self) -> Option<String> {
        match self.handle.settled()? {
            Settled::Outcome { node, .. } => node_text(node.0),
            _ => None,
        }
    }

    #[getter]
    fn attempt(&self) -> u32 {
        match self.handle.settled() {
            Some(Settled::Outcome { attempts, .. }) => *attempts,
            _ => 0,
        }
    }

    /// How far the task was when it last said so, or `None`.
    #[getter]
    fn progress<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(told) = self.handle.progress() else { return Ok(None) };
        let total = Some(told.total).filter(|total| *total > 0.0);
        let class = py.import("hustings.context")?.getattr("Progress")?;
        class.call1((told.done, total, told.note)).map(Some)
    }

    /// The last that the task's last attempt printed and logged; empty while it has no outcome.
    fn output(&self, py: Python<'_>) -> PyResult<String> {
        self.check(py)?;
        Ok(match self.handle.settled() {
            Some(Settled::Outcome { output, .. }) => {
                String::from_utf8_lossy(output::last(output)).into_owned()
            }
            _ => String::new(),
        })
    }

    /// What is kept of that of all attempts, by their number; empty while it has no outcome.
    fn outputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.check(py)?;
        let outputs = PyDict::new(py);
        if let Some(Settled::Outcome { output, .. }) = self.handle.settled() {
            for (attempt, said) in output::split(output) {
                outputs.set_item(attempt, String::from_utf8_lossy(said))?;
            }
        }
        Ok(outputs)
    }

    /// The value, or raises what the task raised.
    #[pyo3(signature = (timeout=None))]
    fn result<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        let settled = self.wait(py, timeout)?;
        if self.is_cancelled() {
            return Err(cancelled(py));
        }
        self.finish(py, settled)
    }

    /// What the task raised, or `None`; raises `CancelledError` for a cancelled one.
    #[pyo3(signature = (timeout=None))]
    fn exception<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let settled = self.wait(py, timeout)?;
        if self.is_cancelled() {
            return Err(cancelled(py));
        }
        match self.decode(py, settled) {
            Ok(Decoded::Value(_)) => Ok(None),
            Ok(Decoded::Raised(raised)) => Ok(Some(raised.bind(py).clone())),
            Err(error) => Ok(Some(error.into_value(py).into_bound(py).into_any())),
        }
    }

    fn done(&self, py: Python<'_>) -> PyResult<bool> {
        self.check(py)?;
        Ok(self.handle.settled().is_some())
    }

    /// Accepted by the cluster and without an outcome.
    fn running(&self, py: Python<'_>) -> PyResult<bool> {
        self.check(py)?;
        Ok(self.handle.phase() == Phase::Accepted)
    }

    fn cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        self.check(py)?;
        Ok(self.is_cancelled())
    }

    /// Asks the cluster to cancel the task; `kill`: also if it runs. True if it is cancelled now.
    #[pyo3(signature = (kill=false))]
    fn cancel(&self, py: Python<'_>, kill: bool) -> PyResult<bool> {
        self.check(py)?;
        if self.handle.settled().is_none() {
            let (home, id) = (self.home.clone(), self.handle.id());
            process(py)?.block_on(py, async move {
                match home.client.cancel(&[id], kill, CANCEL_TIMEOUT).await {
                    // This future is told so too.
                    Ok(_) | Err(Error::TaskNotFound { .. }) => Ok(()),
                    Err(error) => Err(error),
                }
            })?;
        }
        Ok(self.is_cancelled())
    }

    /// Calls `fn(self)` once the task is done: now, if it is, else on hustings' own thread.
    #[pyo3(name = "add_done_callback", signature = (r#fn, /))]
    fn add_done_callback(slf: Bound<'_, Self>, r#fn: Bound<'_, PyAny>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        this.check(py)?;
        let (callback, future) = (r#fn.unbind(), slf.clone().unbind());
        if this.handle.settled().is_some() {
            resolver::call(py, &callback, future);
            return Ok(());
        }
        this.on_settled(py, Job::Callback { callback, future })
    }

    /// A real `concurrent.futures.Future` with the same outcome; cancelling it cancels the task.
    fn as_future<'py>(slf: Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        this.check(py)?;
        let class = py.import(intern!(py, "concurrent.futures"))?.getattr(intern!(py, "Future"))?;
        let std_future = class.call0()?;
        if this.handle.settled().is_some() {
            this.fill_std(py, &std_future)?;
            return Ok(std_future);
        }
        let forward = PyCFunction::new_closure(py, None, None, this.cancelling())?;
        std_future.call_method1(intern!(py, "add_done_callback"), (forward,))?;
        let job =
            Job::Complete { std_future: std_future.clone().unbind(), future: slf.clone().unbind() };
        this.on_settled(py, job)?;
        Ok(std_future)
    }

    fn __await__<'py>(slf: Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        this.check(py)?;
        let asyncio = py.import(intern!(py, "asyncio"))?;
        let event_loop = asyncio.call_method0(intern!(py, "get_running_loop"))?;
        let waiter = event_loop.call_method0(intern!(py, "create_future"))?;
        if this.handle.settled().is_some() {
            this.fill_asyncio(py, &waiter)?;
        } else {
            // Whoever cancels the wait does not want the outcome.
            let forward = PyCFunction::new_closure(py, None, None, this.cancelling())?;
            waiter.call_method1(intern!(py, "add_done_callback"), (forward,))?;
            let job = Job::Wake {
                event_loop: event_loop.unbind(),
                waiter: waiter.clone().unbind(),
                future: slf.clone().unbind(),
            };
            this.on_settled(py, job)?;
        }
        waiter.call_method0(intern!(py, "__await__"))
    }

    /// A card for notebooks.
    fn _repr_html_<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let row = (self.task_id(), self.state(), self.node(), self.attempt());
        py.import("hustings.members")?.getattr("future_card")?.call1(row)
    }

    fn __repr__(&self) -> String {
        let state = self.state();
        match self.handle.settled() {
            Some(Settled::Outcome { attempts, node, .. }) if node.0 != 0 => {
                let tries = if *attempts == 1 { "attempt" } else { "attempts" };
                format!("<Future {} {state} on {node}, {attempts} {tries}>", self.handle.task())
            }
            _ => format!("<Future {} {state}>", self.handle.task()),
        }
    }
}

fn cancelled(py: Python<'_>) -> PyErr {
    let class = py
        .import(intern!(py, "concurrent.futures"))
        .and_then(|module| module.getattr(intern!(py, "CancelledError")));
    match class.and_then(|class| class.call0()) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}
