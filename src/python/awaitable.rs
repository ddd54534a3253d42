//! Makes calls of the control plane awaitable: pyo3-async-runtimes on this process' own runtime, which ends before the
//! interpreter does. Outcomes of tasks come by the resolver, which is a hundred times cheaper.

use super::errors;
use super::runtime::Process;
use crate::error::Error;
use pyo3::prelude::*;
use pyo3_async_runtimes::TaskLocals;
use pyo3_async_runtimes::generic::{self, ContextExt, Runtime};
use std::future::Future;
use std::pin::Pin;
use tokio::task::{JoinError, JoinHandle};

/// How a value becomes a Python object, once it is there.
type Convert<T> = fn(Python<'_>, T) -> PyResult<Py<PyAny>>;

/// The runtime of the calling context. The crate's own would be a second one, and one that nobody can stop: its threads
/// would still attach while the interpreter goes.
struct Here;

impl Runtime for Here {
    type JoinError = JoinError;
    type JoinHandle = JoinHandle<()>;

    fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) -> JoinHandle<()> {
        tokio::spawn(future)
    }

    fn spawn_blocking<F: FnOnce() + Send + 'static>(f: F) -> JoinHandle<()> {
        tokio::task::spawn_blocking(f)
    }
}

/// No locals: what is awaited here never calls Python, so nothing would read them.
impl ContextExt for Here {
    fn scope<F, R>(_: TaskLocals, future: F) -> Pin<Box<dyn Future<Output = R> + Send>>
    where
        F: Future<Output = R> + Send + 'static,
    {
        Box::pin(future)
    }

    fn get_task_locals() -> Option<TaskLocals> {
        None
    }
}

/// What came out; converted on a thread that is attached, as the runtime's own are not.
struct Answer<T> {
    result: Result<T, Error>,
    convert: Convert<T>,
}

impl<'py, T> IntoPyObject<'py> for Answer<T> {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let value = self.result.map_err(|error| errors::raise(py, error))?;
        (self.convert)(py, value).map(|object| object.into_bound(py))
    }
}

impl Process {
    /// Runs `future` on the runtime; returns an `asyncio` future of the running loop. Cancelling that ends `future`.
    pub fn awaitable<'py, T: Send + 'static>(
        &self,
        py: Python<'py>,
        future: impl Future<Output = Result<T, Error>> + Send + 'static,
        convert: Convert<T>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _inside = self.handle().enter();
        generic::future_into_py::<Here, _, _>(py, async move {
            Ok(Answer { result: future.await, convert })
        })
    }
}
