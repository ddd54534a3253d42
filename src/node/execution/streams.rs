//! What generator tasks yield, on its way to their readers: held here within bounds, given by index, forgotten once the
//! reader has it.
//!
//! ```text
//!   runner ── Waiting ─▶ open ── Item ─▶ items, at most so many ──────▶ pull: those from `next` on ──▶ reader
//!   runner ◀─────────────────── Taken: the reader has all before `next` ◀── pull ◀────────────────── reader
//! ```
//! A runner yields no more than it has room for and ends only when all was taken, so an attempt that ends well has
//! no item left here; with one that dies its items are lost, and the next attempt yields them again. It is told how
//! far the reader is before it begins.

use super::frame::{self, Frame};
use super::runner::Runner;
use crate::core::cluster::command::Codec;
use crate::core::ids::{TaskId, Token};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use xxhash_rust::xxh3::Xxh3;

/// Longest Taken frame.
const TAKEN: usize = 64;

/// How much of a stream is held before its reader takes it, and how long it is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Items.
    pub items: usize,
    /// Their bytes, hence also those of one item.
    pub bytes: usize,
    /// How long a generator waits for a sign of its reader.
    pub idle: Duration,
}

impl StreamLimits {
    /// As a runner is told it.
    pub fn to_text(&self) -> String {
        format!("{},{},{}", self.items, self.bytes, self.idle.as_millis())
    }

    /// Out of such a text.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ',').map(|part| part.parse::<u64>().ok());
        let (items, bytes) = (parts.next()??, parts.next()??);
        let idle = Duration::from_millis(parts.next()??);
        Some(StreamLimits { items: items as usize, bytes: bytes as usize, idle })
    }
}

/// What stands for all items up to this one: the same for the same items in the same order only. `chain` stands for
/// those before, 0 for none.
pub fn link(chain: u128, item: &[u8]) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(&chain.to_le_bytes());
    hash.update(item);
    hash.digest128()
}

/// What a reader asks for.
#[derive(Clone, Copy, Debug)]
pub struct Pull {
    /// Whose items.
    pub task: TaskId,
    /// Of which attempt.
    pub token: Token,
    /// Who asks; a stream has one reader.
    pub reader: u128,
    /// The first item it does not have.
    pub next: u64,
    /// The [`link`] of those it has.
    pub chain: u128,
    /// Most items it takes.
    pub items: usize,
    /// Most bytes it takes, unless one item alone has more.
    pub bytes: usize,
}

/// What it gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulled {
    /// False: this attempt yields nothing here, not yet or not any more.
    pub open: bool,
    /// Their encoding.
    pub codec: Option<Codec>,
    /// The items from `next` on; none, if there were none in time.
    pub items: Vec<Bytes>,
}

/// Why it gets nothing, for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PullRefused {
    /// Another one reads.
    #[error("another reader takes the items of this attempt; a stream has one reader")]
    OtherReader,
    /// What it asks for is not to be had.
    #[error("items from {next} on were asked for, those from {first} to {end} are to be had")]
    Gone {
        /// The first it asked for.
        next: u64,
        /// The first that is held.
        first: u64,
        /// The one after the last that is held.
        end: u64,
    },
}

/// The streams of one node's attempts, by their tokens.
pub struct Streams {
    limits: StreamLimits,
    open: Mutex<BTreeMap<Token, Stream>>,
    /// Rings when one is opened.
    opened: Notify,
}

struct Stream {
    task: TaskId,
    seq: u64,
    codec: Codec,
    runner: Arc<Runner>,
    /// Its runner waits for a word.
    waiting: bool,
    /// `None` until somebody reads.
    reader: Option<u128>,
    /// The index of the first item held.
    first: u64,
    items: VecDeque<Bytes>,
    bytes: usize,
    /// Rings when there is an item, or an end.
    news: Arc<Notify>,
}

/// What a look at a stream says.
enum Look {
    Absent,
    Found(Pulled),
    Wait(Arc<Notify>),
}

impl Streams {
    /// None yet.
    pub fn new(limits: StreamLimits) -> Self {
        Streams { limits, open: Mutex::default(), opened: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Token, Stream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The items a reader asks for; waits for `patience` at most until there is one.
    pub async fn pull(&self, pull: Pull, patience: Duration) -> Result<Pulled, PullRefused> {
        let mut seen = false;
        let wait = async {
            loop {
                let mut opened = pin!(self.opened.notified());
                // Registered before the look, so that no opening in between is missed.
                opened.as_mut().enable();
                match self.look(&pull)? {
                    Look::Found(pulled) => return Ok(pulled),
                    // It was there and has ended.
                    Look::Absent if seen => return Ok(Pulled::default()),
                    Look::Absent => opened.await,
                    Look::Wait(news) => {
                        seen = true;
                        news.notified().await;
                    }
                }
            }
        };
        match tokio::time::timeout(patience, wait).await {
            Ok(found) => found,
            Err(_) => Ok(Pulled { open: seen, ..Pulled::default() }),
        }
    }

    fn look(&self, pull: &Pull) -> Result<Look, PullRefused> {
        let mut open = self.lock();
        match open.get_mut(&pull.token).filter(|stream| stream.task == pull.task) {
            None => Ok(Look::Absent),
            Some(stream) => stream.look(pull),
        }
    }

    /// A runner, told last that its reader has all before `next`, waits for more; the first time that opens the stream.
    fn wait_for_reader(
        &self,
        (task, token, codec): (TaskId, Token, Codec),
        seq: u64,
        next: u64,
        runner: &Arc<Runner>,
    ) {
        let mut open = self.lock();
        if let Some(stream) = open.get_mut(&token) {
            // Otherwise there is news for it on its way.
            stream.waiting = stream.reader.is_none() || stream.first == next;
            return;
        }
        let stream = Stream {
            task,
            seq,
            codec,
            runner: Arc::clone(runner),
            waiting: true,
            reader: None,
            first: 0,
            items: VecDeque::new(),
            bytes: 0,
            news: Arc::default(),
        };
        open.insert(token, stream);
        drop(open);
        self.opened.notify_waiters();
    }

    fn add(&self, token: Token, index: u64, body: &[u8]) -> Result<(), String> {
        let mut open = self.lock();
        let Some(stream) = open.get_mut(&token).filter(|stream| stream.reader.is_some()) else {
            return Err("it yielded before it had a reader".to_owned());
        };
        let due = stream.first + stream.items.len() as u64;
        if index != due {
            return Err(format!("it yielded item {index} where {due} was due"));
        }
        let full = stream.items.len() >= self.limits.items
            || stream.bytes + body.len() > self.limits.bytes;
        if full {
            return Err(format!("it yielded more than is held of a stream ({:?})", self.limits));
        }
        stream.bytes += body.len();
        stream.items.push_back(Bytes::copy_from_slice(body));
        stream.news.notify_one();
        Ok(())
    }

    fn close(&self, token: Token) {
        if let Some(stream) = self.lock().remove(&token) {
            stream.news.notify_one();
        }
    }
}

impl Stream {
    fn look(&mut self, pull: &Pull) -> Result<Look, PullRefused> {
        if self.reader.is_none() {
            (self.reader, self.first) = (Some(pull.reader), pull.next);
            self.waiting = false;
            self.tell(pull);
        } else if self.reader != Some(pull.reader) {
            return Err(PullRefused::OtherReader);
        } else {
            self.forget(pull)?;
        }
        let codec = Some(self.codec);
        if pull.items == 0 {
            return Ok(Look::Found(Pulled { open: true, codec, items: Vec::new() }));
        }
        let mut left = pull.bytes;
        let mut items = Vec::new();
        for item in self.items.iter().take(pull.items) {
            if item.len() > left && !items.is_empty() {
                break;
            }
            left = left.saturating_sub(item.len());
            items.push(item.clone());
        }
        if items.is_empty() {
            return Ok(Look::Wait(Arc::clone(&self.news)));
        }
        Ok(Look::Found(Pulled { open: true, codec, items }))
    }

    /// The reader has all before `pull.next`.
    fn forget(&mut self, pull: &Pull) -> Result<(), PullRefused> {
        let (next, first, end) = (pull.next, self.first, self.first + self.items.len() as u64);
        if next < first || next > end {
            return Err(PullRefused::Gone { next, first, end });
        }
        for item in self.items.drain(..(next - first) as usize) {
            self.bytes -= item.len();
        }
        self.first = next;
        if next > first || self.waiting {
            self.tell(pull);
            // A runner that is told nothing new goes on waiting, and need not say so again.
            self.waiting &= next == first;
        }
        Ok(())
    }

    /// Tells the runner. Under the lock: no such word may follow the frames of its next run.
    fn tell(&self, pull: &Pull) {
        let taken = Frame::Taken { seq: self.seq, next: pull.next, chain: pull.chain };
        let mut bytes = Vec::with_capacity(TAKEN);
        // It always fits.
        if frame::encode(&taken, TAKEN, &mut bytes).is_ok() {
            self.runner.send(&bytes);
        }
    }
}

/// The stream of one runner's present run, if it has one; it ends with the run.
pub(super) struct Outflow<'a> {
    streams: &'a Streams,
    runner: &'a Arc<Runner>,
    open: Option<(u64, Token)>,
}

impl<'a> Outflow<'a> {
    pub(super) fn new(streams: &'a Streams, runner: &'a Arc<Runner>) -> Self {
        Outflow { streams, runner, open: None }
    }

    /// The run waits for its reader; `attempt` is what it belongs to.
    pub(super) fn wait(
        &mut self,
        seq: u64,
        next: u64,
        attempt: Option<(TaskId, Token, Codec)>,
    ) -> Result<(), String> {
        let Some(attempt) = attempt else {
            return Err("it waits for the reader of what it does not run".to_owned());
        };
        self.open = Some((seq, attempt.1));
        self.streams.wait_for_reader(attempt, seq, next, self.runner);
        Ok(())
    }

    /// The run yielded an item.
    pub(super) fn add(&self, seq: u64, index: u64, body: &[u8]) -> Result<(), String> {
        match self.open {
            Some((open, token)) if open == seq => self.streams.add(token, index, body),
            _ => Err("it yielded before it had a reader".to_owned()),
        }
    }

    /// The run has ended.
    pub(super) fn close(&mut self) {
        if let Some((_, token)) = self.open.take() {
            self.streams.close(token);
        }
    }
}

impl Drop for Outflow<'_> {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
#[path = "streams_tests.rs"]
mod tests;
