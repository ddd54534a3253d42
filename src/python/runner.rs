//! The runner's side of the frames: an interpreter-held loop around two Python functions, and a watchdog that ends
//! the runner when its node is gone.
//!
//! The loop is attached to the interpreter while it executes and detached only around a blocking read or a long
//! write. The watchdog is a native thread that never needs the interpreter: an endless loop that holds the GIL does
//! not outlive its node.

use super::arguments::parse_codec;
use super::outlet::{Line, Outlet};
use crate::config::Config;
use crate::core::cluster::command::Codec;
use crate::core::ids::FunctionHash;
use crate::node::client::lock;
use crate::node::execution::frame::{
    self, CACHED_FUNCTIONS, Frame, Load, PROTOCOL, Run, RunResult, Source,
};
use pyo3::exceptions::{PyConnectionError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// How often the watchdog looks whether its parent is still the same; a hang-up wakes it at once.
const WATCH_MS: i32 = 100;
/// Longest pickled exception: failures travel in the log.
const MAX_PICKLED: usize = 64 << 10;
/// Bounds of a failure's texts; `_runner.py` keeps them too.
const MAX_TYPE_NAME: usize = 512;
const MAX_MESSAGE: usize = 4 << 10;
const MAX_TRACEBACK: usize = 64 << 10;

/// The frame loop of a runner process, on file descriptor 0. Returns when the node closes it.
#[pyfunction]
pub fn run_runner(
    py: Python<'_>,
    load_function: Bound<'_, PyAny>,
    call: Bound<'_, PyAny>,
) -> PyResult<()> {
    let socket = take_stdin()?;
    start_watchdog(socket.as_raw_fd())?;
    let payload_limit = payload_limit();
    let mut runner = RunnerLoop {
        load_function,
        call,
        line: Arc::new(Line::new(socket, payload_limit)?),
        payload_limit,
        functions: HashMap::new(),
    };
    match serve(py, &mut runner) {
        // The node went away in the middle of an answer: nobody is left to tell.
        Err(error) if error.is_instance_of::<PyConnectionError>(py) => Ok(()),
        other => other,
    }
}

fn serve<'py>(py: Python<'py>, runner: &mut RunnerLoop<'py>) -> PyResult<()> {
    let line = runner.line.clone();
    line.send(py, &Frame::Ready { protocol: PROTOCOL })?;
    loop {
        let attempt = {
            let mut frames = lock(&line.frames);
            let frames = &mut *frames;
            let Some(body) = py.detach(|| frames.read_body())? else { return Ok(()) };
            match frame::decode(body).map_err(io::Error::from)? {
                Frame::Load(load) => {
                    runner.load(&load);
                    continue;
                }
                Frame::Run(run) => Attempt::new(py, &run)?,
                // The reader of a run that has ended.
                Frame::Taken { .. } => continue,
                Frame::Ready { .. }
                | Frame::Done { .. }
                | Frame::Waiting { .. }
                | Frame::Item { .. } => {
                    return Err(PyRuntimeError::new_err("the node sent a runner's frame"));
                }
            }
        };
        runner.run(py, &attempt)?;
    }
}

/// A run as Python is given it. It owns what it holds: while it runs, its outlet reads further frames.
pub(super) struct Attempt<'py> {
    seq: u64,
    hash: FunctionHash,
    pub(super) codec: &'static str,
    pub(super) payload: Bound<'py, PyBytes>,
    pub(super) info: Bound<'py, PyDict>,
}

impl<'py> Attempt<'py> {
    pub(super) fn new(py: Python<'py>, run: &Run<'_>) -> PyResult<Self> {
        let info = PyDict::new(py);
        info.set_item(intern!(py, "task_id"), run.task.to_string())?;
        info.set_item(intern!(py, "attempt"), run.attempt)?;
        info.set_item(intern!(py, "fencing_token"), run.token.0)?;
        let timeout = (run.timeout_ms > 0).then(|| run.timeout_ms as f64 / 1000.0);
        info.set_item(intern!(py, "timeout_s"), timeout)?;
        let end_by = (run.end_by_ms > 0).then(|| run.end_by_ms as f64 / 1000.0);
        info.set_item(intern!(py, "end_by"), end_by)?;
        info.set_item(intern!(py, "key"), (!run.key.is_empty()).then_some(run.key))?;
        let trace = run.trace.map(|trace| trace.to_string());
        info.set_item(intern!(py, "traceparent"), trace)?;
        let (codec, payload) = (codec_name(run.codec), PyBytes::new(py, run.payload));
        Ok(Attempt { seq: run.seq, hash: run.hash, codec, payload, info })
    }
}

/// A function as it came, or as it was loaded.
enum Function {
    Source { name: String, reference: Option<String>, pickled: Option<Vec<u8>> },
    Callable(Py<PyAny>),
}

struct RunnerLoop<'py> {
    load_function: Bound<'py, PyAny>,
    call: Bound<'py, PyAny>,
    line: Arc<Line>,
    payload_limit: usize,
    functions: HashMap<FunctionHash, Function>,
}

impl<'py> RunnerLoop<'py> {
    /// Keeps the source. It is loaded by its first run, which fails if that fails; the next run tries again.
    fn load(&mut self, load: &Load<'_>) {
        if self.functions.len() >= CACHED_FUNCTIONS {
            self.functions.clear();
        }
        let (reference, pickled) = match load.source {
            Source::Reference(text) => (Some(text.to_owned()), None),
            Source::Pickled(blob) => (None, Some(blob.to_vec())),
        };
        let function = Function::Source { name: load.name.to_owned(), reference, pickled };
        self.functions.insert(load.hash, function);
    }

    fn run(&mut self, py: Python<'py>, attempt: &Attempt<'py>) -> PyResult<()> {
        let (seq, codec) = (attempt.seq, attempt.codec);
        match self.call(py, attempt) {
            Ok(answer) => self.answer(py, seq, &answer),
            Err(error) => {
                let (type_name, message) = describe(py, &error);
                // The callback's function could not be loaded: its traceback helps.
                let value = error.into_value(py);
                let answer = py
                    .import("hustings._runner")
                    .and_then(|m| m.call_method1("describe_failure", (value, codec)))
                    .and_then(|answer| Ok(answer.cast_into::<PyTuple>()?));
                match answer {
                    Ok(answer) => self.answer(py, seq, &answer),
                    Err(_) => self.fail(py, seq, &type_name, &message),
                }
            }
        }
    }

    fn call(&mut self, py: Python<'py>, attempt: &Attempt<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let function = self.function(py, attempt.hash)?;
        let outlet = Py::new(py, Outlet::new(self.line.clone(), attempt.seq))?;
        let Attempt { codec, payload, info, .. } = attempt;
        let answer = self.call.call1((function, *codec, payload, info, outlet));
        self.line.end_copy();
        Ok(answer?.cast_into::<PyTuple>()?)
    }

    fn function(&mut self, py: Python<'py>, hash: FunctionHash) -> PyResult<Py<PyAny>> {
        let Some(function) = self.functions.get_mut(&hash) else {
            return Err(PyRuntimeError::new_err("the node did not send the function it wants run"));
        };
        let (name, reference, pickled) = match function {
            Function::Callable(callable) => return Ok(callable.clone_ref(py)),
            Function::Source { name, reference, pickled } => (name, reference, pickled),
        };
        let pickled = pickled.as_ref().map(|blob| PyBytes::new(py, blob));
        let callable = self.load_function.call1((&*name, &*reference, pickled))?.unbind();
        *function = Function::Callable(callable.clone_ref(py));
        Ok(callable)
    }

    fn answer(&mut self, py: Python<'py>, seq: u64, answer: &Bound<'py, PyTuple>) -> PyResult<()> {
        read_answer(py, answer, self.payload_limit, |result| {
            self.line.send(py, &Frame::Done { seq, result })
        })?
    }

    fn fail(&mut self, py: Python<'py>, seq: u64, type_name: &str, message: &str) -> PyResult<()> {
        self.line.send(py, &Frame::Done { seq, result: failure(type_name, message) })
    }
}

/// Tells `hear` what `call` returned: `(ok, codec, body, type_name, message, traceback)`.
pub(super) fn read_answer<R>(
    py: Python<'_>,
    answer: &Bound<'_, PyTuple>,
    payload_limit: usize,
    hear: impl FnOnce(RunResult<'_>) -> R,
) -> PyResult<R> {
    let ok: bool = answer.get_item(0)?.extract()?;
    let body = answer.get_item(2)?.cast_into::<PyBytes>()?;
    let body = body.as_bytes();
    if ok {
        let codec = text(&answer.get_item(1)?)?;
        let codec = parse_codec(py, &codec)?;
        if body.len() > payload_limit {
            let message = format!(
                "the result is {} bytes, the limit is {payload_limit} (limits.blob_bytes)",
                body.len()
            );
            return Ok(hear(failure("hustings.PayloadTooLargeError", &message)));
        }
        return Ok(hear(RunResult::Value { codec, body }));
    }
    let pickled = if body.len() > MAX_PICKLED { &[] } else { body };
    let (type_name, message) = (text(&answer.get_item(3)?)?, text(&answer.get_item(4)?)?);
    let traceback = text(&answer.get_item(5)?)?;
    Ok(hear(RunResult::Failure {
        type_name: cut(&type_name, MAX_TYPE_NAME),
        message: cut(&message, MAX_MESSAGE),
        traceback: cut(&traceback, MAX_TRACEBACK),
        pickled,
    }))
}

fn failure<'a>(type_name: &'a str, message: &'a str) -> RunResult<'a> {
    RunResult::Failure {
        type_name: cut(type_name, MAX_TYPE_NAME),
        message: cut(message, MAX_MESSAGE),
        traceback: "",
        pickled: &[],
    }
}

fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::Json => "json",
        Codec::Pickle => "pickle",
        Codec::Safe => "safe",
    }
}

/// A Python string as it can travel, whatever surrogates it holds.
fn text(value: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(value.cast::<PyString>()?.to_string_lossy().into_owned())
}

/// The class and the text of an exception that `_runner.py` did not turn into an answer.
fn describe(py: Python<'_>, error: &PyErr) -> (String, String) {
    let class = error.get_type(py);
    let name = class.fully_qualified_name().map_or_else(|_| "Exception".into(), |n| n.to_string());
    let name = if name.contains('.') { name } else { format!("builtins.{name}") };
    let message = match error.value(py).str() {
        Ok(message) => message.to_string_lossy().into_owned(),
        Err(_) => "(its text cannot be shown: __str__ raised)".to_owned(),
    };
    (name, message)
}

/// At most `limit` bytes of `text`, whole characters.
fn cut(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn payload_limit() -> usize {
    let given = std::env::var("HUSTINGS_PAYLOAD_LIMIT").ok().and_then(|text| text.parse().ok());
    given.unwrap_or(Config::default().limits.blob_bytes as usize)
}

/// Moves the node's socket away from descriptor 0, where callbacks would find it as their stdin.
fn take_stdin() -> PyResult<UnixStream> {
    // SAFETY: plain system calls; the new descriptor is owned by the returned stream alone.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        let is_socket =
            libc::fstat(0, &raw mut stat) == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFSOCK;
        if !is_socket {
            return Err(PyRuntimeError::new_err(
                "file descriptor 0 is no socket: runners are started by a node, not by hand",
            ));
        }
        let fd = check(libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 3))?;
        let socket = UnixStream::from_raw_fd(fd);
        let null = check(libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC))?;
        check(libc::dup2(null, 0))?;
        libc::close(null);
        Ok(socket)
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn start_watchdog(socket: RawFd) -> io::Result<()> {
    let node = std::env::var("HUSTINGS_NODE_PID").ok().and_then(|text| text.parse().ok());
    // SAFETY: a plain system call.
    let parent = unsafe { libc::getppid() };
    let watch = move || watch(socket, parent, node.unwrap_or(parent));
    std::thread::Builder::new().name("hustings-watch".into()).stack_size(64 << 10).spawn(watch)?;
    Ok(())
}

/// Waits until the node hangs up or is gone, then kills this runner and whatever it started.
fn watch(socket: RawFd, parent: libc::pid_t, node: libc::pid_t) {
    loop {
        let mut entry = libc::pollfd { fd: socket, events: 0, revents: 0 };
        // SAFETY: plain system calls on one live entry. A closed descriptor is reported, not undefined.
        unsafe {
            let count = libc::poll(&raw mut entry, 1, WATCH_MS);
            // The node may close its sending half first: the loop then ends by itself and this is no hang-up.
            let hung_up = count > 0 && entry.revents != 0;
            // A forked copy of the node may keep the socket open after the node has died.
            let orphaned = libc::getppid() != parent
                || (libc::kill(node, 0) < 0
                    && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH));
            if !hung_up && !orphaned {
                continue;
            }
            if libc::getpgrp() == libc::getpid() {
                libc::kill(0, libc::SIGKILL);
            }
            libc::kill(libc::getpid(), libc::SIGKILL);
        }
    }
}
