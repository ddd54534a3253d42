//! Attempts in threads of this very process, for whoever has an interpreter here.
//!
//! A seat is the place of one such thread: the roster hands it attempts, the thread takes them, runs them and says how
//! they ended. Nobody can end a thread from outside. One that does not heed an interrupt is given up: its seat closes,
//! another thread takes its place, and what it says later is not heard.

use super::Inner;
use super::frame::{Run, RunResult};
use super::reader::report;
use super::roster::RunnerId;
use super::slot::Job;
use crate::core::boundary::Progress;
use crate::core::cluster::command::Function;
use bytes::Bytes;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

/// Runs attempts in threads of this process.
pub trait Threads: fmt::Debug + Send + Sync {
    /// Starts a thread that serves `seat` until it is closed. May block: it waits for the interpreter.
    ///
    /// # Errors
    ///
    /// Why there is no thread, in words.
    fn start(&self, seat: Arc<Seat>) -> Result<(), String>;

    /// Has the thread of `seat` notice why its attempt `seq` shall end, if it still is at that one. May block likewise.
    fn interrupt(&self, seat: &Seat, seq: u64, why: Interrupt);
}

/// Why an attempt in a thread shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// It is not wanted any more.
    Cancelled,
    /// It ran longer than its timeout.
    TimedOut,
}

/// An attempt on its way to a thread.
pub struct Work {
    seq: u64,
    job: Job,
}

/// One thread's place.
pub struct Seat {
    id: RunnerId,
    inner: Weak<Inner>,
    mailbox: Mutex<Mailbox>,
    wake: Condvar,
    control: Mutex<Control>,
}

#[derive(Default)]
struct Mailbox {
    next: Option<Work>,
    is_closed: bool,
}

/// What an interrupt needs to know, and leaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Control {
    /// The thread, by the interpreter's name for it.
    pub thread: u64,
    /// The same by the system's name; 0: not known yet.
    pub native: u32,
    /// The attempt that may be interrupted; 0: none.
    pub seq: u64,
    /// Which attempt shall end, and why.
    pub unwanted: Option<(u64, Interrupt)>,
}

impl Work {
    pub(super) fn new(seq: u64, job: Job) -> Self {
        Work { seq, job }
    }

    /// What a runner would be told of it.
    pub fn run(&self) -> Run<'_> {
        self.job.run(self.seq)
    }

    /// What it runs.
    pub fn function(&self) -> Arc<Function> {
        Arc::clone(&self.job.function)
    }
}

impl Seat {
    pub(super) fn new(id: RunnerId, inner: Weak<Inner>) -> Arc<Self> {
        let (mailbox, wake, control) = Default::default();
        Arc::new(Seat { id, inner, mailbox, wake, control })
    }

    /// For people.
    pub fn name(&self) -> String {
        format!("hustings-task{}", self.id)
    }

    pub(super) fn id(&self) -> RunnerId {
        self.id
    }

    /// Blocks until there is an attempt to run; `None`: the thread shall end.
    pub fn next(&self) -> Option<Work> {
        let mut mailbox = lock(&self.mailbox);
        loop {
            if mailbox.is_closed {
                return None;
            }
            if let Some(work) = mailbox.next.take() {
                lock(&self.control).seq = work.seq;
                return Some(work);
            }
            mailbox = self.wake.wait(mailbox).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Attempt `seq` ended. Never blocks.
    pub fn end(&self, seq: u64, result: &RunResult<'_>) {
        if let Some(inner) = self.inner.upgrade() {
            let heard = (report(result), Bytes::new());
            inner.update(|roster, now, acts| roster.on_done(now, self.id, seq, heard, acts));
        }
    }

    /// The attempt says how far it is.
    pub fn progress(&self, progress: Progress) {
        if let Some(inner) = self.inner.upgrade() {
            inner.lock().on_progress(self.id, progress);
        }
    }

    /// The thread ends and will say nothing more.
    pub fn leave(&self) {
        if let Some(inner) = self.inner.upgrade() {
            inner.update(|roster, now, acts| roster.on_left(now, self.id, acts));
        }
    }

    /// Its state for interrupts. Whoever holds this must not wait for the interpreter.
    pub fn control(&self) -> MutexGuard<'_, Control> {
        lock(&self.control)
    }

    /// From now on `seq` is known to be unwanted, begun or not.
    pub(super) fn mark(&self, seq: u64, why: Interrupt) {
        lock(&self.control).unwanted = Some((seq, why));
    }

    pub(super) fn hand(&self, work: Work) {
        lock(&self.mailbox).next = Some(work);
        self.wake.notify_one();
    }

    pub(super) fn close(&self) {
        lock(&self.mailbox).is_closed = true;
        self.wake.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
