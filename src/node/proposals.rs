//! The way into the log: what is queued shares an entry; a few entries are on their way at once; no timer.

use super::batching::is_enough;
use super::driver::Input;
use crate::core::boundary::Event;
use crate::core::cluster::command::{Batch, Command};
use crate::core::ids::Term;
use futures::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Commands in one entry.
pub const PER_ENTRY: usize = 256;
/// Bytes in one entry.
const ENTRY_BYTES: usize = 1 << 20;
/// Entries on their way at once: while they are, the queue grows and the next entry is larger.
pub const ENTRIES_IN_FLIGHT: usize = 8;

/// How often a quorum is asked whether this node leads, and the pause in between.
const CONFIRMATIONS: u32 = 20;
const CONFIRM_AGAIN: Duration = Duration::from_millis(50);

/// Puts a batch into the log, if this node still leads `term`. Calls made in order enter in order.
pub trait Commit: Send + Sync {
    /// The future resolves to true once the batch is committed and applied here, to false if it is not known to be.
    fn commit(&self, term: Term, batch: Batch) -> BoxFuture<'static, bool>;

    /// Resolves to true once a quorum has confirmed, after this call, that this node leads, and what was committed by
    /// then is applied here; to false if no quorum did in time.
    fn confirm(&self) -> BoxFuture<'static, bool>;

    /// Whether this node, which leads, has its quorum's lease at this very moment.
    fn may_dispatch(&self) -> bool {
        true
    }
}

/// Commands that wait for their entry.
pub struct Proposals {
    commit: Option<Arc<dyn Commit>>,
    inputs: mpsc::UnboundedSender<Input>,
    queue: VecDeque<Command>,
    in_flight: Arc<AtomicUsize>,
    /// Commands in those entries.
    outstanding: Arc<AtomicUsize>,
}

impl Proposals {
    /// A queue; on nodes without a log (`None`) every proposal fails.
    pub fn new(commit: Option<Arc<dyn Commit>>, inputs: mpsc::UnboundedSender<Input>) -> Self {
        Proposals {
            commit,
            inputs,
            queue: VecDeque::new(),
            in_flight: Arc::default(),
            outstanding: Arc::default(),
        }
    }

    /// Whether this node, which leads, may act as the leader at this very moment.
    pub fn may_dispatch(&self) -> bool {
        self.commit.as_ref().is_none_or(|commit| commit.may_dispatch())
    }

    /// Feeds `then` to the loop once a quorum has confirmed that this node leads. If none does, nothing follows:
    /// whoever asked is cut off with this reign and asks the next leader.
    pub fn confirm(&self, then: Event) {
        let Some(commit) = self.commit.clone() else { return };
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            for _ in 0..CONFIRMATIONS {
                if commit.confirm().await {
                    let _ = inputs.send(Input::Core(then));
                    return;
                }
                tokio::time::sleep(CONFIRM_AGAIN).await;
            }
        });
    }

    /// Adds commands.
    pub fn push(&mut self, commands: Vec<Command>) {
        self.queue.extend(commands);
    }

    /// Forgets what has not left: this node leads no more. Clients and nodes ask the next leader.
    pub fn clear(&mut self) {
        self.queue.clear();
    }

    /// Sends what may leave, stamped with the clock of the log.
    pub fn flush(&mut self, term: Term, at_ms: u64) {
        while self.may_leave() {
            let commands = self.next_entry();
            let Some(commit) = &self.commit else {
                let _ = self.inputs.send(Input::Core(Event::ProposalFailed { commands }));
                continue;
            };
            let batch = Batch { at_ms, commands };
            let kept = batch.commands.clone();
            let count = kept.len();
            self.outstanding.fetch_add(count, Ordering::AcqRel);
            let outstanding = self.outstanding.clone();
            let outcome = commit.commit(term, batch);
            self.in_flight.fetch_add(1, Ordering::AcqRel);
            let (in_flight, inputs) = (self.in_flight.clone(), self.inputs.clone());
            tokio::spawn(async move {
                let committed = outcome.await;
                in_flight.fetch_sub(1, Ordering::AcqRel);
                outstanding.fetch_sub(count, Ordering::AcqRel);
                // Either way the loop wakes up and may send the next entry.
                let commands = if committed { Vec::new() } else { kept };
                let _ = inputs.send(Input::Core(Event::ProposalFailed { commands }));
            });
        }
    }

    fn may_leave(&self) -> bool {
        !self.queue.is_empty()
            && self.in_flight.load(Ordering::Acquire) < ENTRIES_IN_FLIGHT
            && is_enough(self.queue.len(), self.outstanding.load(Ordering::Acquire))
    }

    fn next_entry(&mut self) -> Vec<Command> {
        let mut commands = Vec::with_capacity(self.queue.len().min(PER_ENTRY));
        let mut bytes = 0;
        while let Some(command) = self.queue.front() {
            bytes += command.size();
            if commands.len() == PER_ENTRY || (bytes > ENTRY_BYTES && !commands.is_empty()) {
                break;
            }
            commands.extend(self.queue.pop_front());
        }
        commands
    }
}
