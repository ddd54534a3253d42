//! Hears all that a runner says: frames on its socket, and on two pipes what its task prints and logs.
//!
//! One thread hears the three, so nobody has to be waited for: a runner writes what it prints before it says `Done`,
//! hence all of it lies in the pipes when that frame is read, and they are emptied first.
//!
//! A line on stderr that begins with [`MARK`] comes from `hustings._runner` itself, `MARK L level FIELD logger FIELD
//! text`: a record of `logging`, whose line breaks are [`BREAK`]; or `MARK P done FIELD total FIELD note`: how far the
//! task is. A task that forges one only speaks for itself.

use crate::core::boundary::Progress;
use crate::core::ids::TaskId;
use crate::node::logbook::{LOGBOOK, Line, Speaker, level};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// Longest line; what is longer counts as several.
pub const MAX_LINE: usize = 8 << 10;
/// Begins a line that `hustings._runner` writes.
pub const MARK: char = '\u{1e}';
/// Ends a field of such a line.
pub const FIELD: char = '\u{1f}';
/// A line break within a field.
pub const BREAK: char = '\u{1d}';
/// Bytes read at once.
const PIECE: usize = 16 << 10;
/// Bytes taken from one pipe before the socket is looked at again: more than a pipe holds.
const TURN: usize = 128 << 10;
const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// Which attempt a runner is at.
#[derive(Clone, Debug)]
pub(super) struct AtWork {
    /// The function's registered name.
    pub(super) function: Arc<str>,
    pub(super) task: TaskId,
    pub(super) attempt: u32,
}

/// Who knows what a runner is at.
pub(super) trait Whereabouts {
    /// The attempt it is at, if any.
    fn at_work(&self) -> Option<AtWork>;
    /// It says how far it is.
    fn progressed(&self, progress: Progress);
}

/// The ends of a runner's pipes.
pub(super) type Pipes = [OwnedFd; 2];

/// A runner's socket and pipes as one source of frames.
pub(super) struct Hearing<'a, W> {
    socket: &'a UnixStream,
    pipes: [Option<OwnedFd>; 2],
    /// Begun lines.
    open: [Vec<u8>; 2],
    tail: Tail,
    node: Arc<str>,
    whereabouts: W,
    /// The attempt, once it was asked for.
    at_work: Option<AtWork>,
    /// How long it waits for a word, in milliseconds; negative: for ever.
    patience_ms: libc::c_int,
}

/// The last that was said, within a bound.
struct Tail {
    bytes: VecDeque<u8>,
    limit: usize,
    skipped: usize,
}

impl<'a, W: Whereabouts> Hearing<'a, W> {
    /// Of what is said, `limit` bytes are kept for each attempt.
    pub(super) fn new(
        socket: &'a UnixStream,
        pipes: Option<Pipes>,
        limit: usize,
        node: Arc<str>,
        whereabouts: W,
    ) -> Self {
        let pipes = pipes.map_or([None, None], |pipes| pipes.map(Some));
        let tail = Tail { bytes: VecDeque::new(), limit, skipped: 0 };
        let (open, at_work, patience_ms) = (Default::default(), None, -1);
        Hearing { socket, pipes, open, tail, node, whereabouts, at_work, patience_ms }
    }

    /// From now on reading fails as `TimedOut` once nothing was said for so many milliseconds; `None`: never.
    pub(super) fn set_patience(&mut self, milliseconds: Option<u16>) {
        self.patience_ms = milliseconds.map_or(-1, libc::c_int::from);
    }

    /// The attempt is over, and all it said before was heard: the last of it.
    pub(super) fn take_output(&mut self) -> Bytes {
        (0..2).for_each(|stream| self.end_line(stream));
        self.at_work = None;
        self.tail.take()
    }

    /// The runner is gone: the last of what it said.
    pub(super) fn finish(mut self) -> Bytes {
        (0..2).for_each(|stream| self.drain(stream));
        self.take_output()
    }

    /// Waits until something is said; says where.
    fn wait(&self) -> io::Result<[bool; 3]> {
        let of = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let pipe = |at: usize| of(self.pipes[at].as_ref().map_or(-1, AsRawFd::as_raw_fd));
        // The kernel looks at them in this order: what was printed before a frame was sent is seen with the frame.
        let mut sources = [of(self.socket.as_raw_fd()), pipe(0), pipe(1)];
        // SAFETY: the pointer and length are those of a live array; a negative descriptor is passed over.
        let count = unsafe {
            libc::poll(sources.as_mut_ptr(), sources.len() as libc::nfds_t, self.patience_ms)
        };
        match count {
            count if count < 0 => Err(io::Error::last_os_error()),
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(sources.map(|source| source.revents != 0)),
        }
    }

    /// Takes what lies in a pipe, as far as it is its turn. Never blocks.
    fn drain(&mut self, stream: usize) {
        let mut piece = [0; PIECE];
        let mut taken = 0;
        while taken < TURN {
            let Some(pipe) = &self.pipes[stream] else { return };
            // SAFETY: the pointer and length are those of a live array, the descriptor is owned.
            let count =
                unsafe { libc::read(pipe.as_raw_fd(), piece.as_mut_ptr().cast(), piece.len()) };
            match usize::try_from(count) {
                Ok(0) => self.pipes[stream] = None,
                Ok(count) => {
                    taken += count;
                    self.hear(stream, &piece[..count]);
                    if count < PIECE {
                        return;
                    }
                }
                Err(_) => match io::Error::last_os_error().kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return,
                    _ => self.pipes[stream] = None,
                },
            }
        }
    }

    fn hear(&mut self, stream: usize, mut bytes: &[u8]) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            self.open[stream].extend_from_slice(&bytes[..at]);
            self.end_line(stream);
            bytes = &bytes[at + 1..];
        }
        let open = &mut self.open[stream];
        open.extend_from_slice(bytes);
        // A bar that is drawn over and over is only as long as its last look.
        if let Some(at) = open.iter().rposition(|byte| *byte == b'\r')
            && at + 1 < open.len()
        {
            open.drain(..=at);
        }
        if open.len() > MAX_LINE {
            self.end_line(stream);
        }
    }

    /// Passes on the line that has come to its end, if there is one.
    fn end_line(&mut self, stream: usize) {
        let bytes = std::mem::take(&mut self.open[stream]);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches('\r');
        let text = text.rsplit('\r').next().unwrap_or(text);
        // A record may come while a line is begun.
        let at = if stream == 1 { text.find(MARK).unwrap_or(0) } else { 0 };
        let parts = text.split_at(at);
        [parts.0, parts.1].into_iter().for_each(|part| self.pass_on(stream, part));
    }

    fn pass_on(&mut self, stream: usize, text: &str) {
        if text.is_empty() {
            return;
        }
        if let Some(progress) = (stream == 1).then(|| progress(text)).flatten() {
            return self.whereabouts.progressed(progress);
        }
        match (stream == 1).then(|| record(text)).flatten() {
            Some((level, logger, text)) => {
                self.tail.add(&format!("{} {logger}: {text}", level_name(level)));
                self.tell(level, "log", format!("{logger}: {text}"));
            }
            None => {
                self.tail.add(text);
                self.tell(level::INFO, STREAMS[stream], text.to_owned());
            }
        }
    }

    fn tell(&mut self, level: u8, stream: &'static str, text: String) {
        if !LOGBOOK.is_open() {
            return;
        }
        if self.at_work.is_none() {
            self.at_work = self.whereabouts.at_work();
        }
        let (logger, task, attempt) = match &self.at_work {
            Some(at) => (format!("hustings.task.{}", at.function), at.task, at.attempt),
            None => ("hustings.runner".to_owned(), TaskId(0), 0),
        };
        let said_by = Some(Speaker { node: self.node.clone(), task, attempt, stream });
        LOGBOOK.write(Line { said_by, ..Line::new(level, logger, text) });
    }
}

impl<W: Whereabouts> Read for Hearing<'_, W> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let [frames, printed, erred] = self.wait()?;
            if printed {
                self.drain(0);
            }
            if erred {
                self.drain(1);
            }
            if frames {
                return (&mut &*self.socket).read(into);
            }
        }
    }
}

impl Tail {
    fn add(&mut self, line: &str) {
        if self.limit == 0 {
            return;
        }
        self.bytes.extend(line.as_bytes());
        self.bytes.push_back(b'\n');
        let excess = self.bytes.len().saturating_sub(self.limit);
        self.bytes.drain(..excess);
        self.skipped += excess;
    }

    fn take(&mut self) -> Bytes {
        let skipped = std::mem::take(&mut self.skipped);
        let mut bytes = Vec::from(std::mem::take(&mut self.bytes));
        if skipped > 0 {
            // It begins with a whole line, or at least with a whole character.
            let whole = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let cut = if whole < bytes.len() { whole } else { 0 };
            bytes.drain(..cut);
            bytes = String::from_utf8_lossy(&bytes).into_owned().into_bytes();
        }
        Bytes::from(bytes)
    }
}

/// The level, logger and text of a record of `logging`.
fn record(line: &str) -> Option<(u8, &str, String)> {
    let mut fields = line.strip_prefix(MARK)?.strip_prefix('L')?.splitn(3, FIELD);
    let level = fields.next()?.parse().ok()?;
    let (logger, text) = (fields.next()?, fields.next()?);
    Some((level, logger, text.replace(BREAK, "\n")))
}

/// How far the task is.
fn progress(line: &str) -> Option<Progress> {
    let mut fields = line.strip_prefix(MARK)?.strip_prefix('P')?.splitn(3, FIELD);
    let (done, total) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Progress { done, total, note: fields.next()?.to_owned() })
}

fn level_name(level: u8) -> &'static str {
    match level {
        0..=19 => "DEBUG",
        20..=29 => "INFO",
        30..=39 => "WARNING",
        40..=49 => "ERROR",
        _ => "CRITICAL",
    }
}

/// The last line of what a runner said.
pub(super) fn last_line(output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    text.lines().rev().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
