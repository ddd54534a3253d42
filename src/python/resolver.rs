//! The one thread that calls Python when tasks settle: attached once, detached while it waits, everything in batches.

use super::future::Future;
use crate::node::client::lock;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What is to be told to Python.
pub(super) enum Job {
    /// Call `callback(future)`.
    Callback { callback: Py<PyAny>, future: Py<Future> },
    /// Copy the outcome into a `concurrent.futures.Future`.
    Complete { std_future: Py<PyAny>, future: Py<Future> },
    /// Wake an `asyncio` future on its own loop.
    Wake { event_loop: Py<PyAny>, waiter: Py<PyAny>, future: Py<Future> },
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    waiting: bool,
    stopping: bool,
    thread: Option<JoinHandle<()>>,
}

/// The queue in front of that thread.
#[derive(Default)]
pub(super) struct Resolver {
    queue: Mutex<Queue>,
    filled: Condvar,
}

impl Resolver {
    /// Starts the thread if it does not run yet.
    pub fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let mut queue = lock(&self.queue);
        if queue.thread.is_none() && !queue.stopping {
            let resolver = self.clone();
            let thread = std::thread::Builder::new()
                .name("hustings-resolver".into())
                .spawn(move || resolver.run())?;
            queue.thread = Some(thread);
        }
        Ok(())
    }

    /// Queues a job. Called from any thread, attached or not.
    pub fn push(&self, job: Job) {
        let mut queue = lock(&self.queue);
        queue.jobs.push_back(job);
        if queue.waiting {
            self.filled.notify_one();
        }
    }

    /// Ends the thread and waits for it; returns what it had not done. Must be called detached.
    pub fn stop(&self) -> VecDeque<Job> {
        let thread = {
            let mut queue = lock(&self.queue);
            queue.stopping = true;
            self.filled.notify_one();
            queue.thread.take()
        };
        if let Some(thread) = thread {
            // A callback may be what calls `shutdown`: it cannot wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
        std::mem::take(&mut lock(&self.queue).jobs)
    }

    fn run(&self) {
        // Attaching costs a thread state each time, so it is done once for the life of the thread.
        let _ = Python::try_attach(|py| {
            while let Some(jobs) = py.detach(|| self.take()) {
                perform(py, jobs);
            }
        });
    }

    /// Everything that is queued; `None` when it is time to end.
    fn take(&self) -> Option<VecDeque<Job>> {
        let mut queue = lock(&self.queue);
        queue.waiting = true;
        let mut queue = self
            .filled
            .wait_while(queue, |queue| queue.jobs.is_empty() && !queue.stopping)
            .unwrap_or_else(PoisonError::into_inner);
        queue.waiting = false;
        // What settled before the end is still told: `shutdown` settles everything first.
        let done = queue.stopping && queue.jobs.is_empty();
        (!done).then(|| std::mem::take(&mut queue.jobs))
    }
}

fn perform(py: Python<'_>, jobs: VecDeque<Job>) {
    let mut loops: Vec<(Py<PyAny>, Bound<'_, PyList>)> = Vec::new();
    for job in jobs {
        match job {
            Job::Callback { callback, future } => call(py, &callback, future),
            Job::Complete { std_future, future } => {
                if let Err(error) = future.get().fill_std(py, std_future.bind(py)) {
                    report(py, "completing a concurrent.futures.Future failed", error);
                }
            }
            Job::Wake { event_loop, waiter, future } => {
                let at = loops.iter().position(|(other, _)| other.is(&event_loop));
                let at = at.unwrap_or_else(|| {
                    loops.push((event_loop, PyList::empty(py)));
                    loops.len() - 1
                });
                if let Err(error) = loops[at].1.append((waiter, future)) {
                    report(py, "waking asyncio failed", error);
                }
            }
        }
    }
    for (event_loop, chunk) in loops {
        wake(py, event_loop.bind(py), chunk);
    }
}

fn wake(py: Python<'_>, event_loop: &Bound<'_, PyAny>, chunk: Bound<'_, PyList>) {
    let wake = || -> PyResult<()> {
        let drain = py.import(intern!(py, "hustings._core"))?.getattr(intern!(py, "_drain"))?;
        event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (drain, chunk)).map(drop)
    };
    if let Err(error) = wake() {
        // Nobody waits in a loop that is closed.
        let closed = event_loop.call_method0(intern!(py, "is_closed"));
        if !closed.and_then(|c| c.is_truthy()).unwrap_or(false) {
            report(py, "waking asyncio failed", error);
        }
    }
}

/// Calls a done-callback; what it raises is logged, as `concurrent.futures` does.
pub(super) fn call(py: Python<'_>, callback: &Py<PyAny>, future: Py<Future>) {
    if let Err(error) = callback.call1(py, (future,)) {
        report(py, "exception calling callback", error);
    }
}

fn report(py: Python<'_>, what: &str, error: PyErr) {
    let log = || -> PyResult<()> {
        let logger = py.import("logging")?.call_method1("getLogger", ("hustings",))?;
        let kwargs = pyo3::types::PyDict::new(py);
        kwargs.set_item("exc_info", error.value(py))?;
        logger.call_method("error", (what,), Some(&kwargs)).map(drop)
    };
    if log().is_err() {
        error.write_unraisable(py, None);
    }
}

/// On the event loop's own thread: copies outcomes into its futures.
#[pyfunction]
pub(super) fn _drain(py: Python<'_>, chunk: &Bound<'_, PyList>) -> PyResult<()> {
    for pair in chunk.iter() {
        let (waiter, future): (Bound<'_, PyAny>, Py<Future>) = pair.extract()?;
        if let Err(error) = future.get().fill_asyncio(py, &waiter) {
            report(py, "completing an asyncio future failed", error);
        }
    }
    Ok(())
}
