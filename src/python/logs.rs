//! The one thread that hands lines of the logbook to Python's `logging`: attached once, detached while it waits, a page
//! at a time. Whoever writes a line never waits for it, nor for the interpreter.

use crate::node::client::lock;
use crate::node::logbook::{LOGBOOK, Line, Page};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::sync::Mutex;
use std::thread::JoinHandle;

/// That thread, once it runs.
#[derive(Default)]
pub(super) struct LogThread {
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl LogThread {
    /// Starts it. A process that has no thread left for it goes on without logs.
    pub fn start(&self) {
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            LOGBOOK.open();
            let builder = std::thread::Builder::new().name("hustings-logs".into());
            *thread = builder.spawn(run).ok();
            if thread.is_none() {
                LOGBOOK.close();
            }
        }
    }

    /// Lets it write what is left, ends it and waits for it. Must be called detached.
    pub fn stop(&self) {
        LOGBOOK.close_and_wake();
        if let Some(thread) = lock(&self.thread).take()
            // A handler of `logging` may be what calls `shutdown`: it cannot wait for itself.
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

fn run() {
    let _ = Python::try_attach(|py| {
        while let Some(page) = py.detach(|| LOGBOOK.read()) {
            if let Err(error) = hand_over(py, page) {
                error.write_unraisable(py, None);
            }
        }
    });
}

fn hand_over(py: Python<'_>, page: Page) -> PyResult<()> {
    let lines = PyList::empty(py);
    for line in page.lines {
        lines.append(row(py, line)?)?;
    }
    let deliver = py.import(intern!(py, "hustings.logs"))?.getattr(intern!(py, "deliver"))?;
    deliver.call1((lines, page.dropped)).map(drop)
}

/// `(level, logger, text, seconds since 1970, what is known of the attempt that said it)`.
fn row<'py>(py: Python<'py>, line: Line) -> PyResult<Bound<'py, PyAny>> {
    let said_by = match line.said_by {
        None => None,
        Some(speaker) => {
            let dict = PyDict::new(py);
            dict.set_item(intern!(py, "node"), &*speaker.node)?;
            dict.set_item(intern!(py, "task_id"), speaker.task.to_string())?;
            dict.set_item(intern!(py, "attempt"), speaker.attempt)?;
            dict.set_item(intern!(py, "stream"), speaker.stream)?;
            Some(dict)
        }
    };
    let at_s = line.at_us as f64 / 1e6;
    Ok((line.level, line.logger, line.text, at_s, said_by).into_pyobject(py)?.into_any())
}
