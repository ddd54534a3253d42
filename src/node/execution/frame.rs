//! The frames between a node and its runners: one codec for both ends, so that they cannot drift apart.
//!
//! ```text
//!   u32 length of the rest | u8 kind | fixed fields | variable fields, each u32 length + bytes      (little endian)
//!
//!   runner ── Ready ──▶ node        once, after its interpreter is up
//!   node ── Load, Run ──▶ runner    Load only where this runner does not hold the function yet
//!   runner ── Done ──▶ node         exactly one per Run, in order
//!
//!   runner ── Waiting, Item ──▶ node   while it runs a generator: it waits for its reader; what it yielded
//!   node ── Taken ──▶ runner           as often as its reader has taken more
//! ```

use crate::core::cluster::command::{Codec, FunctionSource};
use crate::core::ids::{FunctionHash, TaskId, Token};
use crate::core::trace::TraceContext;
use std::io;

/// The version both ends must share; a runner of another installation is refused.
pub const PROTOCOL: u16 = 5;
/// Functions a runner keeps. At the bound both ends forget all of them, by the same rule.
pub const CACHED_FUNCTIONS: usize = 1024;
/// What a frame may hold beside a payload: fixed fields, names, an exception's message and traceback.
pub const SLACK: usize = 128 << 10;
/// Most bytes of a function's pickled body, the upper bound of `limits.function_bytes`.
pub const MAX_FUNCTION: usize = 2 << 20;

const READY: u8 = 1;
const LOAD: u8 = 2;
const RUN: u8 = 3;
const DONE_VALUE: u8 = 4;
const DONE_FAILURE: u8 = 5;
const WAITING: u8 = 6;
const ITEM: u8 = 7;
const TAKEN: u8 = 8;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The runner is up.
    Ready {
        /// Its [`PROTOCOL`].
        protocol: u16,
    },
    /// A function the next runs refer to.
    Load(Load<'a>),
    /// Run a function.
    Run(Run<'a>),
    /// A run ended.
    Done {
        /// Which run.
        seq: u64,
        /// How.
        result: RunResult<'a>,
    },
    /// A run that yields waits until its reader has taken more, or has come at all.
    Waiting {
        /// Which run.
        seq: u64,
        /// What it was told last of how far its reader is.
        next: u64,
    },
    /// What a run yielded.
    Item {
        /// Which run.
        seq: u64,
        /// How many it yielded before.
        index: u64,
        /// The item, in the encoding of the run's arguments.
        body: &'a [u8],
    },
    /// The reader has all items before this one.
    Taken {
        /// Which run.
        seq: u64,
        /// The index of the first it does not have.
        next: u64,
        /// The [`super::streams::link`] of all those before.
        chain: u128,
    },
}

/// A function, by reference or by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load<'a> {
    /// What runs refer to it by.
    pub hash: FunctionHash,
    /// Its registered name.
    pub name: &'a str,
    /// Where it comes from.
    pub source: Source<'a>,
}

/// A borrowed [`FunctionSource`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// `module:qualname`.
    Reference(&'a str),
    /// A cloudpickled callable.
    Pickled(&'a [u8]),
}

impl<'a> From<&'a FunctionSource> for Source<'a> {
    fn from(source: &'a FunctionSource) -> Self {
        match source {
            FunctionSource::Reference(text) => Source::Reference(text),
            FunctionSource::Pickled(blob) => Source::Pickled(blob),
        }
    }
}

/// One attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run<'a> {
    /// Names this run on this runner.
    pub seq: u64,
    /// What to run; loaded before.
    pub hash: FunctionHash,
    /// The encoding of `payload`.
    pub codec: Codec,
    /// Whose attempt.
    pub task: TaskId,
    /// Counted from 1.
    pub attempt: u32,
    /// Its fencing token.
    pub token: Token,
    /// Wall time it may take, for the callback to know; the node enforces it. 0: none.
    pub timeout_ms: u64,
    /// When its task must have an outcome, in milliseconds since 1970, for the callback to know. 0: some time.
    pub end_by_ms: u64,
    /// The trace its task belongs to, for the callback to be part of.
    pub trace: Option<TraceContext>,
    /// Its task's key, or empty.
    pub key: &'a str,
    /// The arguments.
    pub payload: &'a [u8],
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunResult<'a> {
    /// It returned.
    Value {
        /// The encoding of `body`.
        codec: Codec,
        /// The result.
        body: &'a [u8],
    },
    /// It raised.
    Failure {
        /// `module.QualName` of the exception's class.
        type_name: &'a str,
        /// Its text.
        message: &'a str,
        /// Where.
        traceback: &'a str,
        /// The pickled exception, or empty.
        pickled: &'a [u8],
    },
}

/// Why bytes are not a frame, or a frame cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than the receiver accepts.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// Its length.
        length: usize,
        /// The receiver's bound.
        limit: usize,
    },
    /// Ends inside a field.
    #[error("a frame ends inside its {field}")]
    Truncated {
        /// Which field.
        field: &'static str,
    },
    /// Bytes after the last field.
    #[error("a frame has {count} bytes too many")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// A field with a value it cannot have.
    #[error("a frame's {field} is invalid")]
    Invalid {
        /// Which field.
        field: &'static str,
    },
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// Longest frame a node sends when payloads are at most `payload_limit`.
pub fn to_runner_limit(payload_limit: usize) -> usize {
    payload_limit.max(MAX_FUNCTION).saturating_add(SLACK)
}

/// Longest frame a runner sends when payloads are at most `payload_limit`.
pub fn to_node_limit(payload_limit: usize) -> usize {
    payload_limit.saturating_add(SLACK)
}

/// Appends `frame` to `out`; on error `out` is as it was.
pub fn encode(frame: &Frame<'_>, limit: usize, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let mut w = Writer(out);
    match frame {
        Frame::Ready { protocol } => {
            w.u8(READY);
            w.raw(&protocol.to_le_bytes());
        }
        Frame::Load(load) => {
            w.u8(LOAD);
            w.raw(&load.hash.0.to_le_bytes());
            w.var(load.name.as_bytes());
            let (kind, body) = match load.source {
                Source::Reference(text) => (1, text.as_bytes()),
                Source::Pickled(blob) => (2, blob),
            };
            w.u8(kind);
            w.var(body);
        }
        Frame::Run(run) => {
            w.u8(RUN);
            w.u64(run.seq);
            w.raw(&run.hash.0.to_le_bytes());
            w.u8(codec_number(run.codec));
            w.raw(&run.task.0.to_le_bytes());
            w.raw(&run.attempt.to_le_bytes());
            w.u64(run.token.0);
            w.u64(run.timeout_ms);
            w.u64(run.end_by_ms);
            w.trace(run.trace);
            w.var(run.key.as_bytes());
            w.var(run.payload);
        }
        Frame::Done { seq, result } => w.done(*seq, result),
        Frame::Waiting { seq, next } => {
            w.head(WAITING, [*seq, *next]);
        }
        Frame::Item { seq, index, body } => {
            w.head(ITEM, [*seq, *index]);
            w.var(body);
        }
        Frame::Taken { seq, next, chain } => {
            w.head(TAKEN, [*seq, *next]);
            w.raw(&chain.to_le_bytes());
        }
    }
    let length = out.len() - start - 4;
    match u32::try_from(length) {
        Ok(n) if length <= limit => {
            out[start..start + 4].copy_from_slice(&n.to_le_bytes());
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(FrameError::TooLong { length, limit })
        }
    }
}

/// The frame in `body`, which is what follows the length.
pub fn decode(body: &[u8]) -> Result<Frame<'_>, FrameError> {
    let mut r = Reader(body);
    let frame = match r.u8("kind")? {
        READY => Frame::Ready { protocol: u16::from_le_bytes(r.array("protocol")?) },
        LOAD => Frame::Load(Load {
            hash: r.hash()?,
            name: r.text("name")?,
            source: match r.u8("source")? {
                1 => Source::Reference(r.text("reference")?),
                2 => Source::Pickled(r.var("pickled function")?),
                _ => return Err(FrameError::Invalid { field: "source" }),
            },
        }),
        RUN => Frame::Run(Run {
            seq: r.u64("seq")?,
            hash: r.hash()?,
            codec: r.codec()?,
            task: TaskId(u128::from_le_bytes(r.array("task")?)),
            attempt: u32::from_le_bytes(r.array("attempt")?),
            token: Token(r.u64("token")?),
            timeout_ms: r.u64("timeout")?,
            end_by_ms: r.u64("deadline")?,
            trace: r.trace()?,
            key: r.text("key")?,
            payload: r.var("payload")?,
        }),
        DONE_VALUE => Frame::Done {
            seq: r.u64("seq")?,
            result: RunResult::Value { codec: r.codec()?, body: r.var("result")? },
        },
        DONE_FAILURE => Frame::Done {
            seq: r.u64("seq")?,
            result: RunResult::Failure {
                type_name: r.text("type name")?,
                message: r.text("message")?,
                traceback: r.text("traceback")?,
                pickled: r.var("pickled exception")?,
            },
        },
        WAITING => Frame::Waiting { seq: r.u64("seq")?, next: r.u64("next")? },
        ITEM => Frame::Item { seq: r.u64("seq")?, index: r.u64("index")?, body: r.var("item")? },
        TAKEN => Frame::Taken {
            seq: r.u64("seq")?,
            next: r.u64("next")?,
            chain: u128::from_le_bytes(r.array("chain")?),
        },
        _ => return Err(FrameError::Invalid { field: "kind" }),
    };
    match r.0.len() {
        0 => Ok(frame),
        count => Err(FrameError::Trailing { count }),
    }
}

fn codec_number(codec: Codec) -> u8 {
    match codec {
        Codec::Json => 1,
        Codec::Pickle => 2,
        Codec::Safe => 3,
    }
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    fn trace(&mut self, trace: Option<TraceContext>) {
        self.u8(u8::from(trace.is_some()));
        if let Some(TraceContext { trace, span, flags }) = trace {
            self.raw(&trace.to_le_bytes());
            self.u64(span);
            self.u8(flags);
        }
    }

    fn head(&mut self, kind: u8, numbers: [u64; 2]) {
        self.u8(kind);
        numbers.into_iter().for_each(|number| self.u64(number));
    }

    /// A length that does not fit makes the whole frame too long, which `encode` refuses.
    fn var(&mut self, bytes: &[u8]) {
        self.raw(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.raw(bytes);
    }

    fn done(&mut self, seq: u64, result: &RunResult<'_>) {
        match result {
            RunResult::Value { codec, body } => {
                self.u8(DONE_VALUE);
                self.u64(seq);
                self.u8(codec_number(*codec));
                self.var(body);
            }
            RunResult::Failure { type_name, message, traceback, pickled } => {
                self.u8(DONE_FAILURE);
                self.u64(seq);
                self.var(type_name.as_bytes());
                self.var(message.as_bytes());
                self.var(traceback.as_bytes());
                self.var(pickled);
            }
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], FrameError> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(FrameError::Truncated { field })?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], FrameError> {
        let (head, tail) = self.0.split_first_chunk().ok_or(FrameError::Truncated { field })?;
        self.0 = tail;
        Ok(*head)
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, FrameError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, FrameError> {
        self.array(field).map(u64::from_le_bytes)
    }

    fn hash(&mut self) -> Result<FunctionHash, FrameError> {
        self.array("hash").map(|bytes| FunctionHash(u128::from_le_bytes(bytes)))
    }

    fn codec(&mut self) -> Result<Codec, FrameError> {
        match self.u8("codec")? {
            1 => Ok(Codec::Json),
            2 => Ok(Codec::Pickle),
            3 => Ok(Codec::Safe),
            _ => Err(FrameError::Invalid { field: "codec" }),
        }
    }

    fn trace(&mut self) -> Result<Option<TraceContext>, FrameError> {
        match self.u8("trace")? {
            0 => Ok(None),
            1 => Ok(Some(TraceContext {
                trace: u128::from_le_bytes(self.array("trace")?),
                span: self.u64("trace")?,
                flags: self.u8("trace")?,
            })),
            _ => Err(FrameError::Invalid { field: "trace" }),
        }
    }

    fn var(&mut self, field: &'static str) -> Result<&'a [u8], FrameError> {
        let length = u32::from_le_bytes(self.array(field)?) as usize;
        self.take(length, field)
    }

    fn text(&mut self, field: &'static str) -> Result<&'a str, FrameError> {
        std::str::from_utf8(self.var(field)?).map_err(|_| FrameError::Invalid { field })
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
