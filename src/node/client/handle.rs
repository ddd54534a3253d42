//! One task's outcome to come: settled once, watched by threads, callbacks and queues without a channel each.

use super::completion::Slot;
use super::lock;
use crate::core::boundary::Progress;
use crate::core::cluster::command::Outcome;
use crate::core::ids::{NodeId, TaskId};
use crate::error::{Error, Result};
use crate::node::proto::Refusal;
use bytes::Bytes;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, OnceLock};
use std::time::Duration;

/// Callbacks and queues one handle may have at once.
pub const MAX_WATCHERS: usize = 100_000;

/// The final word on a task, as this client knows it.
#[derive(Clone, Debug)]
pub enum Settled {
    /// The cluster's one outcome.
    Outcome {
        /// What it is; values stay encoded.
        outcome: Outcome,
        /// Attempts it took.
        attempts: u32,
        /// Who ran the last one; 0: nobody.
        node: NodeId,
        /// The last that one printed and logged.
        output: Bytes,
    },
    /// The cluster refused the task; nothing was stored.
    Refused {
        /// Why.
        refusal: Refusal,
        /// The cluster's words.
        message: String,
        /// When to ask again, if that may help.
        retry_after: Duration,
        /// The task that holds the key.
        existing: Option<TaskId>,
    },
    /// This client gives up on it.
    Failed(Error),
}

/// Where a task is, as far as this client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not yet known to be held by a majority.
    Submitted,
    /// A majority holds it.
    Accepted,
    /// It returned a value.
    Succeeded,
    /// It raised or timed out.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// Its `queue_timeout` or `deadline` passed.
    Expired,
    /// Its runners or nodes died too often: it is not tried again.
    Quarantined,
    /// The cluster does not know it any more.
    Lost,
    /// It was refused.
    Rejected,
}

impl Phase {
    /// The word people read.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Submitted => "submitted",
            Phase::Accepted => "accepted",
            Phase::Succeeded => "succeeded",
            Phase::Failed => "failed",
            Phase::Cancelled => "cancelled",
            Phase::Expired => "expired",
            Phase::Quarantined => "quarantined",
            Phase::Lost => "lost",
            Phase::Rejected => "rejected",
        }
    }
}

impl Settled {
    fn phase(&self) -> Phase {
        match self {
            Settled::Outcome { outcome: Outcome::Value(_), .. } => Phase::Succeeded,
            Settled::Outcome { outcome: Outcome::Failure(_) | Outcome::TimedOut(_), .. } => {
                Phase::Failed
            }
            Settled::Outcome { outcome: Outcome::Cancelled, .. } => Phase::Cancelled,
            Settled::Outcome {
                outcome: Outcome::NeverStarted(_) | Outcome::PastDeadline(_),
                ..
            } => Phase::Expired,
            Settled::Outcome { outcome: Outcome::Lost(_), .. } => Phase::Quarantined,
            Settled::Failed(Error::TaskNotFound { .. }) => Phase::Lost,
            Settled::Refused { .. } | Settled::Failed(_) => Phase::Rejected,
        }
    }
}

/// Who is told when a handle settles.
enum Watcher {
    Call(Box<dyn FnOnce() + Send>),
    Queue(Slot),
}

#[derive(Default)]
struct Watchers {
    /// Threads inside `wait`, so that settling without one costs no system call.
    threads: u32,
    list: Vec<Watcher>,
}

/// A task's outcome to come.
pub struct Handle {
    id: TaskId,
    joined: OnceLock<TaskId>,
    accepted: AtomicU8,
    settled: OnceLock<Settled>,
    progress: Mutex<Option<Box<Progress>>>,
    watchers: Mutex<Watchers>,
    ready: Condvar,
}

impl Handle {
    pub(super) fn new(id: TaskId) -> Self {
        Handle {
            id,
            joined: OnceLock::new(),
            accepted: AtomicU8::new(0),
            settled: OnceLock::new(),
            progress: Mutex::default(),
            watchers: Mutex::default(),
            ready: Condvar::new(),
        }
    }

    /// The task's id.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// The id under which the cluster knows it: another one, if it joined a task by its key.
    pub fn task(&self) -> TaskId {
        self.joined.get().copied().unwrap_or(self.id)
    }

    pub(super) fn join(&self, existing: TaskId) {
        // A second word says the same.
        let _ = self.joined.set(existing);
    }

    /// Where the task is.
    pub fn phase(&self) -> Phase {
        match self.settled.get() {
            Some(settled) => settled.phase(),
            None if self.accepted.load(Ordering::Acquire) != 0 => Phase::Accepted,
            None => Phase::Submitted,
        }
    }

    /// How far its attempt was when it last said so.
    pub fn progress(&self) -> Option<Progress> {
        lock(&self.progress).as_deref().cloned()
    }

    pub(super) fn note_progress(&self, progress: Progress) {
        *lock(&self.progress) = Some(Box::new(progress));
    }

    /// The final word, once there is one.
    pub fn settled(&self) -> Option<&Settled> {
        self.settled.get()
    }

    /// Blocks this thread for at most `at_most`; true once settled.
    pub fn wait(&self, at_most: Duration) -> bool {
        if self.settled.get().is_some() {
            return true;
        }
        let mut watchers = lock(&self.watchers);
        watchers.threads += 1;
        let (mut watchers, _) = self
            .ready
            .wait_timeout_while(watchers, at_most, |_| self.settled.get().is_none())
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        watchers.threads -= 1;
        self.settled.get().is_some()
    }

    /// Calls `f` when the handle settles: at once if it has, else on the thread that settles it (keep it short).
    pub fn on_settled(&self, f: impl FnOnce() + Send + 'static) -> Result<()> {
        match self.watch(|| Watcher::Call(Box::new(f))) {
            Ok(None) => Ok(()),
            Ok(Some(watcher)) => {
                notify(watcher);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn enqueue_on_settled(&self, slot: Slot) -> Result<()> {
        if let Some(watcher) = self.watch(|| Watcher::Queue(slot))? {
            notify(watcher);
        }
        Ok(())
    }

    /// Registers what `make` gives, or returns it when the handle is settled already.
    fn watch(&self, make: impl FnOnce() -> Watcher) -> Result<Option<Watcher>> {
        let mut watchers = lock(&self.watchers);
        if self.settled.get().is_some() {
            drop(watchers);
            return Ok(Some(make()));
        }
        // Queues that were dropped leave dead slots behind; sweep them before they add up.
        let len = watchers.list.len();
        if len >= 16 && len.is_power_of_two() {
            watchers.list.retain(|w| !matches!(w, Watcher::Queue(slot) if slot.is_dead()));
        }
        if watchers.list.len() >= MAX_WATCHERS {
            return Err(Error::config(
                "callbacks",
                format!("task {} has {MAX_WATCHERS} already; wait for it once instead", self.id),
            ));
        }
        watchers.list.push(make());
        Ok(None)
    }

    pub(super) fn accept(&self) {
        self.accepted.store(1, Ordering::Release);
    }

    /// Settles; false if it was settled before (the first word stays).
    pub(super) fn settle(&self, settled: Settled) -> bool {
        let list = {
            let mut watchers = lock(&self.watchers);
            if self.settled.set(settled).is_err() {
                return false;
            }
            if watchers.threads > 0 {
                self.ready.notify_all();
            }
            std::mem::take(&mut watchers.list)
        };
        list.into_iter().for_each(notify);
        true
    }
}

fn notify(watcher: Watcher) {
    match watcher {
        Watcher::Call(f) => f(),
        Watcher::Queue(slot) => slot.fill(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    fn cancelled() -> Settled {
        let (outcome, output) = (Outcome::Cancelled, Bytes::new());
        Settled::Outcome { outcome, attempts: 1, node: NodeId(7), output }
    }

    #[test]
    fn the_first_word_stays() {
        let handle = Handle::new(TaskId(1));
        assert_eq!(handle.phase(), Phase::Submitted);
        handle.accept();
        assert_eq!(handle.phase(), Phase::Accepted);
        assert!(handle.settle(cancelled()));
        assert!(!handle.settle(Settled::Failed(Error::Stopped { what: "client".into() })));
        assert_eq!(handle.phase(), Phase::Cancelled);
    }

    #[test]
    fn callbacks_run_once_whether_early_or_late() {
        let handle = Handle::new(TaskId(1));
        let calls = Arc::new(AtomicU32::new(0));
        for early in [true, false] {
            let counter = calls.clone();
            if !early {
                handle.settle(cancelled());
            }
            handle
                .on_settled(move || {
                    counter.fetch_add(1, Ordering::SeqCst);
                })
                .unwrap();
            assert_eq!(calls.load(Ordering::SeqCst), if early { 0 } else { 2 });
        }
    }

    #[test]
    fn a_waiting_thread_is_woken() {
        let handle = Arc::new(Handle::new(TaskId(1)));
        let waiter = std::thread::spawn({
            let handle = handle.clone();
            move || handle.wait(Duration::from_secs(60))
        });
        handle.settle(cancelled());
        assert!(waiter.join().unwrap());
        assert!(!Handle::new(TaskId(2)).wait(Duration::from_millis(1)));
    }
}
