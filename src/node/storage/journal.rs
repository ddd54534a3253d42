//! The way of changes to the disk: one ordered queue, one writer that takes all that waits, makes it durable in one
//! transaction, and only then answers (group commit).
//!
//! ```text
//!   append, vote, truncate, purge ──▶ queue ──▶ writer: drain ─ one transaction ─ sync ──▶ all answers
//! ```
//!
//! The writer is a thread on a real disk and a task on a simulated one. After the first error it answers with that one.

use super::Owner;
use super::disk::Pace;
use super::engine::{Change, Engine};
use super::health::Health;
use crate::error::{Error, Result};
use crate::node::consensus::types::{Entry, LogId, TypeConfig, Vote};
use openraft::EntryPayload;
use openraft::storage::IOFlushed;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

/// Bytes of entries that one transaction takes, if there is more than one append.
const MAX_COMMIT_BYTES: usize = 8 << 20;
/// Jobs that one transaction takes.
const MAX_COMMIT_JOBS: usize = 4_096;

type Answer = oneshot::Sender<io::Result<()>>;

enum Job {
    Append(Change, IOFlushed<TypeConfig>),
    Change(Change, Option<Answer>),
    Close(Answer),
    /// Look at the flags.
    Wake,
}

/// The way into the queue; clones lead to the same writer. What waits is bounded by the entries in flight.
#[derive(Clone, Debug)]
pub struct Journal {
    queue: UnboundedSender<Job>,
    health: Arc<Health>,
    halted: Arc<AtomicBool>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Journal {
    /// Starts the writer. It keeps `owner` alive, and with it the lock, until it has closed the database.
    pub(super) fn start(engine: Engine, owner: Arc<Owner>, health: Arc<Health>) -> Result<Self> {
        let (queue, jobs) = unbounded_channel();
        let halted = Arc::new(AtomicBool::new(false));
        let pace = owner.disk.pace();
        let path = owner.disk.path("");
        let writer = Writer {
            engine: Some(engine),
            owner,
            health: health.clone(),
            halted: halted.clone(),
            committed: None,
        };
        let thread = match pace {
            Pace::Virtual(_) => {
                tokio::spawn(writer.run_task(jobs));
                None
            }
            Pace::Blocking => {
                let thread = std::thread::Builder::new().name("hustings-disk".into());
                let started = thread.spawn(move || writer.run_thread(jobs));
                let problem = |error: io::Error| format!("no thread to write with: {error}");
                Some(started.map_err(|error| Error::Storage { path, problem: problem(error) })?)
            }
        };
        Ok(Journal { queue, health, halted, thread: Arc::new(Mutex::new(thread)) })
    }

    /// Appends `entries`; `flushed` is told when they are durable.
    pub fn append(&self, entries: Vec<Entry>, flushed: IOFlushed<TypeConfig>) -> io::Result<()> {
        self.health.check()?;
        if let Err(refused) = self.queue.send(Job::Append(Change::Append(entries), flushed))
            && let Job::Append(_, flushed) = refused.0
        {
            flushed.io_completed(Err(closed()));
        }
        Ok(())
    }

    /// Saves a vote; it is durable when this returns.
    pub async fn save_vote(&self, vote: Vote) -> io::Result<()> {
        self.change(Change::Vote(vote)).await
    }

    /// Removes the entries from `first_gone` on; durable when this returns.
    pub async fn truncate(&self, first_gone: u64) -> io::Result<()> {
        self.change(Change::Truncate(first_gone)).await
    }

    /// Removes the entries up to `last`, some time. A crash before that only brings back what a snapshot covers.
    pub fn purge(&self, last: LogId) -> io::Result<()> {
        self.note(Change::Purge(last))
    }

    /// Notes how far the log is committed, with the next transaction: knowing less costs nothing but time.
    pub fn save_committed(&self, last: LogId) -> io::Result<()> {
        self.note(Change::Committed(last))
    }

    /// Writes what waits and closes the database; later changes are refused.
    pub async fn close(&self) -> io::Result<()> {
        let (answer, answered) = oneshot::channel();
        if self.queue.send(Job::Close(answer)).is_err() {
            return self.health.check();
        }
        answered.await.unwrap_or_else(|_| self.health.check())
    }

    /// Ends as a crash would: what waits is not written. Returns once nothing is written any more.
    pub fn halt(&self) {
        self.halted.store(true, Ordering::Release);
        let _ = self.queue.send(Job::Wake);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It panics nowhere; if it did, it has ended as well.
            let _ = thread.join();
        }
    }

    async fn change(&self, change: Change) -> io::Result<()> {
        self.health.check()?;
        let (answer, answered) = oneshot::channel();
        self.queue.send(Job::Change(change, Some(answer))).map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    fn note(&self, change: Change) -> io::Result<()> {
        self.health.check()?;
        self.queue.send(Job::Change(change, None)).map_err(|_| closed())
    }
}

fn closed() -> io::Error {
    io::Error::other("storage is closed: the node stops")
}

/// The one that writes.
struct Writer {
    engine: Option<Engine>,
    owner: Arc<Owner>,
    health: Arc<Health>,
    halted: Arc<AtomicBool>,
    /// How far the log is committed, not written yet.
    committed: Option<LogId>,
}

impl Writer {
    fn run_thread(mut self, mut queue: UnboundedReceiver<Job>) {
        let mut jobs = Vec::new();
        while let Some(first) = queue.blocking_recv() {
            drain(&mut queue, first, &mut jobs);
            if !self.perform(&mut jobs) {
                break;
            }
        }
    }

    async fn run_task(mut self, mut queue: UnboundedReceiver<Job>) {
        let mut jobs = Vec::new();
        while let Some(first) = queue.recv().await {
            jobs.push(first);
            if let Pace::Virtual(latency) = self.owner.disk.pace() {
                tokio::time::sleep(latency).await;
            }
            if let Some(first) = jobs.pop() {
                drain(&mut queue, first, &mut jobs);
            }
            if !self.perform(&mut jobs) {
                break;
            }
        }
    }

    /// Writes `jobs` and answers them; false when it is over.
    fn perform(&mut self, jobs: &mut Vec<Job>) -> bool {
        if self.halted.load(Ordering::Acquire) {
            return false;
        }
        for job in jobs.iter() {
            if let Job::Change(Change::Committed(last), _) = job {
                self.committed = Some(*last);
            }
        }
        let closing = jobs.iter().any(|job| matches!(job, Job::Close(_)));
        if let Err(error) = self.commit(jobs, closing) {
            self.health.fail(error);
        }
        if closing || self.health.failure().is_some() {
            // Dropped before anybody is answered, so that who is told that it is closed can open it again.
            self.engine = None;
        }
        let failure = self.health.failure();
        jobs.drain(..).for_each(|job| job.answer(failure));
        !closing
    }

    /// Nobody waits for a commit index: it travels with what must be written anyway, at the latest when closing.
    fn commit(&mut self, jobs: &[Job], closing: bool) -> Result<()> {
        if let Some(error) = self.health.failure() {
            return Err(error.clone());
        }
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let urgent = |change: &&Change| !matches!(change, Change::Committed(_));
        let mut changes = jobs.iter().filter_map(Job::change).filter(urgent).peekable();
        if changes.peek().is_none() && !(closing && self.committed.is_some()) {
            return Ok(());
        }
        let committed = self.committed.take().map(Change::Committed);
        engine.commit(changes.chain(&committed))
    }
}

/// Takes what waits, up to the bounds of one transaction.
fn drain(queue: &mut UnboundedReceiver<Job>, first: Job, jobs: &mut Vec<Job>) {
    let mut bytes = first.size();
    let mut last = matches!(first, Job::Close(_));
    jobs.push(first);
    while !last && bytes < MAX_COMMIT_BYTES && jobs.len() < MAX_COMMIT_JOBS {
        let Ok(job) = queue.try_recv() else { return };
        bytes += job.size();
        last = matches!(job, Job::Close(_));
        jobs.push(job);
    }
}

impl Job {
    fn change(&self) -> Option<&Change> {
        match self {
            Job::Append(change, _) | Job::Change(change, _) => Some(change),
            Job::Close(_) | Job::Wake => None,
        }
    }

    fn answer(self, failure: Option<&Error>) {
        let result = || failure.map_or(Ok(()), |error| Err(io::Error::other(error.clone())));
        match self {
            Job::Append(_, flushed) => flushed.io_completed(result()),
            Job::Change(_, Some(answer)) | Job::Close(answer) => {
                // Who asked may have stopped waiting.
                let _ = answer.send(result());
            }
            Job::Change(_, None) | Job::Wake => {}
        }
    }

    fn size(&self) -> usize {
        let Some(Change::Append(entries)) = self.change() else { return 0 };
        let size = |entry: &Entry| match &entry.payload {
            EntryPayload::Normal(batch) => batch.size(),
            EntryPayload::Blank | EntryPayload::Membership(_) => 64,
        };
        entries.iter().map(size).sum()
    }
}
