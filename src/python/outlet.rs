//! A runner's line to its node, and what a generator that runs there sends over it: items, as far as their reader has
//! room.

use crate::node::client::lock;
use crate::node::execution::frame::{self, Frame, FrameError};
use crate::node::execution::stream::FrameReader;
use crate::node::execution::streams::{StreamLimits, link};
use pyo3::exceptions::{PyConnectionError, PyRuntimeError};
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Frames up to this length never wait: the node reads as soon as it is sent to.
const SHORT_FRAME: usize = 16 << 10;
/// Where the node does not say.
const DEFAULT_LIMITS: StreamLimits =
    StreamLimits { items: 64, bytes: 1 << 20, idle: Duration::from_secs(30) };

/// Both directions of the socket. One thread uses it, the runner's main one.
pub(super) struct Line {
    socket: UnixStream,
    pub(super) frames: Mutex<FrameReader<UnixStream>>,
    out: Mutex<Vec<u8>>,
    payload_limit: usize,
    limits: StreamLimits,
    pid: u32,
}

impl Line {
    pub(super) fn new(socket: UnixStream, payload_limit: usize) -> io::Result<Self> {
        let heard = socket.try_clone()?;
        let told = std::env::var("HUSTINGS_STREAM_LIMITS").ok();
        Ok(Line {
            socket,
            frames: Mutex::new(FrameReader::new(heard, frame::to_runner_limit(payload_limit))),
            out: Mutex::default(),
            payload_limit,
            limits: told.and_then(|text| StreamLimits::from_text(&text)).unwrap_or(DEFAULT_LIMITS),
            pid: std::process::id(),
        })
    }

    pub(super) fn send(&self, py: Python<'_>, frame: &Frame<'_>) -> PyResult<()> {
        let mut out = lock(&self.out);
        out.clear();
        let limit = frame::to_node_limit(self.payload_limit);
        frame::encode(frame, limit, &mut out)
            .map_err(|error: FrameError| PyRuntimeError::new_err(error.to_string()))?;
        let (mut socket, bytes) = (&self.socket, &out[..]);
        if bytes.len() <= SHORT_FRAME {
            socket.write_all(bytes)?;
        } else {
            py.detach(|| socket.write_all(bytes))?;
            out.clear();
            out.shrink_to(SHORT_FRAME);
        }
        Ok(())
    }

    /// A callback forked and its child came back here: only the original may speak.
    pub(super) fn end_copy(&self) {
        if std::process::id() != self.pid {
            // SAFETY: ends this process at once, as a forked child should.
            unsafe { libc::_exit(0) };
        }
    }
}

/// How far the reader is, and what is on its way to it.
#[derive(Default)]
struct Sent {
    /// The items before this one are not sent: the reader had them from an earlier attempt.
    start: Option<u64>,
    /// What stands for those items.
    wanted: u128,
    /// What stands for the items so far; only until `start`.
    chain: u128,
    /// Items yielded.
    count: u64,
    /// The reader has those before.
    taken: u64,
    /// Bytes of those it has not.
    sizes: VecDeque<usize>,
    bytes: usize,
}

/// What a generator's items go through. Used by the thread that runs it only.
#[pyclass(frozen, module = "hustings._core")]
pub(super) struct Outlet {
    line: Arc<Line>,
    seq: u64,
    sent: Mutex<Sent>,
}

impl Outlet {
    pub(super) fn new(line: Arc<Line>, seq: u64) -> Self {
        Outlet { line, seq, sent: Mutex::default() }
    }

    fn note(&self, next: u64, chain: u128) {
        let mut sent = lock(&self.sent);
        if sent.start.is_none() {
            (sent.start, sent.wanted, sent.taken) = (Some(next), chain, next);
        }
        while sent.taken < next {
            sent.taken += 1;
            let size = sent.sizes.pop_front().unwrap_or(0);
            sent.bytes -= size;
        }
    }

    /// Waits for a word of the node; false: none came in time, or a signal did.
    fn poll(&self, py: Python<'_>, at_most: Duration) -> bool {
        let mut entry =
            libc::pollfd { fd: self.line.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let ms = at_most.as_millis().min(60_000) as libc::c_int;
        // SAFETY: a plain system call on one live entry.
        py.detach(|| unsafe { libc::poll(&raw mut entry, 1, ms) } > 0)
    }
}

#[pymethods]
impl Outlet {
    /// Most bytes of one item.
    #[getter]
    fn item_limit(&self) -> usize {
        self.line.limits.bytes
    }

    /// Seconds to wait for a sign of the reader.
    #[getter]
    fn idle_s(&self) -> f64 {
        self.line.limits.idle.as_secs_f64()
    }

    /// Items yielded so far.
    #[getter]
    fn count(&self) -> u64 {
        lock(&self.sent).count
    }

    /// Whether somebody reads.
    #[getter]
    fn has_reader(&self) -> bool {
        lock(&self.sent).start.is_some()
    }

    /// Whether the reader has all there is.
    #[getter]
    fn is_drained(&self) -> bool {
        let sent = lock(&self.sent);
        sent.start.is_some() && sent.taken >= sent.count
    }

    /// The items before this one were read from an earlier attempt.
    #[getter]
    fn start(&self) -> u64 {
        lock(&self.sent).start.unwrap_or(0)
    }

    /// Whether an item of that size can go out now.
    fn has_room(&self, size: usize) -> bool {
        let sent = lock(&self.sent);
        match sent.start {
            None => false,
            Some(start) if sent.count < start => true,
            Some(_) => {
                let limits = self.line.limits;
                sent.sizes.len() < limits.items && sent.bytes + size <= limits.bytes
            }
        }
    }

    /// Takes the next item; there must be room for it. False: the items so far are not those the reader had from an
    /// earlier attempt.
    fn put(&self, py: Python<'_>, body: &[u8]) -> PyResult<bool> {
        self.line.end_copy();
        let mut sent = lock(&self.sent);
        let index = sent.count;
        let Some(start) = sent.start else {
            return Err(PyRuntimeError::new_err("nobody reads yet"));
        };
        sent.count += 1;
        if index < start {
            sent.chain = link(sent.chain, body);
            return Ok(sent.count < start || sent.chain == sent.wanted);
        }
        sent.sizes.push_back(body.len());
        sent.bytes += body.len();
        drop(sent);
        self.line.send(py, &Frame::Item { seq: self.seq, index, body })?;
        Ok(true)
    }

    /// Says that the generator waits for its reader.
    fn announce(&self, py: Python<'_>) -> PyResult<()> {
        self.line.end_copy();
        let next = lock(&self.sent).taken;
        self.line.send(py, &Frame::Waiting { seq: self.seq, next })
    }

    /// Waits for a sign of the reader; false: none came within so many seconds, or a signal did.
    fn wait(&self, py: Python<'_>, seconds: f64) -> PyResult<bool> {
        let at_most = Duration::from_secs_f64(seconds.clamp(0.0, 60.0));
        let mut frames = lock(&self.line.frames);
        let frames = &mut *frames;
        if !frames.has_frame() && !self.poll(py, at_most) {
            py.check_signals()?;
            return Ok(false);
        }
        let mut came = false;
        loop {
            let Some(body) = py.detach(|| frames.read_body())? else {
                return Err(PyConnectionError::new_err("the node has gone"));
            };
            match frame::decode(body).map_err(io::Error::from)? {
                Frame::Taken { seq, next, chain } if seq == self.seq => {
                    self.note(next, chain);
                    came = true;
                }
                // Of a run before.
                Frame::Taken { .. } => {}
                _ => return Err(PyRuntimeError::new_err("the node sent more while a task runs")),
            }
            // What is read already is not seen by whoever watches the descriptor.
            if !frames.has_frame() {
                return Ok(came);
            }
        }
    }

    /// What to watch for such signs.
    fn fileno(&self) -> RawFd {
        self.line.socket.as_raw_fd()
    }
}
