//! Applies committed entries to the replicated state, in log order, and tells the task loop what changed.

use super::log_store::size_of_entry;
use super::replica::{Replica, aside, let_go};
use super::snapshots::{SnapshotData, Snapshots};
use super::types::{Applied, Entry, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};
use crate::core::boundary::Change;
use crate::core::cluster::command::Batch;
use crate::core::cluster::state::ClusterState;
use crate::core::ids::{LogIndex, Term};
use crate::error::{Error, Result};
use futures::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

/// What all voters agree on: the only thing `apply` writes to.
pub trait ReplicatedState: Clone + Default + Send + 'static {
    /// Applies one entry and says what changed. The same entries in the same order give the same state everywhere.
    fn apply(&mut self, index: LogIndex, batch: &Batch) -> Vec<Change>;
    /// All of it, for a snapshot.
    fn encode(&self) -> Vec<u8>;
    /// The inverse of `encode`.
    fn decode(encoded: &mut dyn Read) -> Result<Self, String>;
}

/// The state this product replicates.
pub type State = ClusterState;

impl ReplicatedState for ClusterState {
    fn apply(&mut self, index: LogIndex, batch: &Batch) -> Vec<Change> {
        ClusterState::apply(self, index, batch)
    }

    fn encode(&self) -> Vec<u8> {
        ClusterState::encode(self)
    }

    fn decode(encoded: &mut dyn Read) -> Result<Self, String> {
        ClusterState::decode(encoded)
    }
}

/// How far the state has come; shared with the election loop.
#[derive(Debug, Default)]
pub struct Progress {
    applied: Mutex<(Term, LogIndex)>,
    /// Rung when the term of the last applied entry changes.
    pub new_term: Notify,
    grown_entries: AtomicU64,
    grown_bytes: AtomicU64,
    /// Rung when entries were applied: the log may have grown beyond its bound.
    pub applied_more: Notify,
    /// Rung when a snapshot was made: what it covers may go.
    pub kept: Notify,
}

impl Progress {
    /// (term, index) of the last applied entry.
    pub fn applied(&self) -> (Term, LogIndex) {
        *self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries applied since the last snapshot was taken, and their bytes.
    pub fn grown(&self) -> (u64, u64) {
        (self.grown_entries.load(Ordering::Relaxed), self.grown_bytes.load(Ordering::Relaxed))
    }

    fn grow(&self, bytes: u64) {
        self.grown_entries.fetch_add(1, Ordering::Relaxed);
        self.grown_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.applied_more.notify_one();
    }

    fn restart_growth(&self) {
        self.grown_entries.store(0, Ordering::Relaxed);
        self.grown_bytes.store(0, Ordering::Relaxed);
    }

    fn advance(&self, to: (Term, LogIndex)) {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let new_term = applied.0 != to.0;
        *applied = to;
        if new_term {
            self.new_term.notify_one();
        }
    }
}

#[derive(Debug, Default)]
struct Covered {
    last: Option<LogId>,
    membership: StoredMembership,
}

/// openraft's view of the state; clones share it.
#[derive(Clone)]
pub struct StateMachine {
    state: Replica,
    covered: Arc<Mutex<Covered>>,
    snapshots: Snapshots,
    progress: Arc<Progress>,
    applied: UnboundedSender<(LogIndex, Vec<Change>)>,
}

impl StateMachine {
    /// One that begins where the last of `snapshots` ended. `applied` is bounded upstream, by the proposals in flight.
    pub fn new(
        applied: UnboundedSender<(LogIndex, Vec<Change>)>,
        snapshots: Snapshots,
    ) -> Result<Self> {
        let machine = StateMachine {
            state: Replica::default(),
            covered: Arc::default(),
            snapshots,
            progress: Arc::default(),
            applied,
        };
        if let Some((meta, data)) = machine.snapshots.last() {
            let state = data.decode_now(|encoded| State::decode(encoded));
            let problem = |error: io::Error| Error::Consensus { problem: error.to_string() };
            machine.restore(&meta, state.map_err(problem)?);
        }
        Ok(machine)
    }

    /// One that tells nobody.
    #[cfg(test)]
    pub fn detached() -> Self {
        let applied = tokio::sync::mpsc::unbounded_channel().0;
        StateMachine::new(applied, Snapshots::default()).unwrap()
    }

    /// The replicated state, for reading.
    pub fn state(&self) -> Replica {
        self.state.clone()
    }

    /// How far it has come.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    fn restore(&self, meta: &SnapshotMeta, state: State) {
        let replaced = std::mem::replace(&mut *self.state.lock(), state);
        let_go(replaced);
        let mut covered = lock(&self.covered);
        covered.last = meta.last_log_id;
        covered.membership = meta.last_membership.clone();
        drop(covered);
        self.progress.advance(super::types::position(meta.last_log_id.as_ref()));
    }

    fn apply_entry(&self, entry: Entry) -> LogIndex {
        let id = entry.log_id;
        self.progress.grow(size_of_entry(&entry));
        let changes = match entry.payload {
            EntryPayload::Blank => Vec::new(),
            EntryPayload::Normal(batch) => self.state.lock().apply(id.index(), &batch),
            EntryPayload::Membership(membership) => {
                lock(&self.covered).membership = StoredMembership::new(Some(id), membership);
                Vec::new()
            }
        };
        lock(&self.covered).last = Some(id);
        // Nobody listens once the node stops; the entry is applied all the same.
        let _ = self.applied.send((id.index(), changes));
        self.progress.advance(super::types::position(Some(&id)));
        id.index()
    }
}

// A panic inside `apply` stops Raft on this node; readers may still look at what it left.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A snapshot about to be made: what it covers and the state as it was then, taken together.
pub struct SnapshotBuilder {
    machine: StateMachine,
    meta: SnapshotMeta,
    state: State,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        // Encoding may take long; the log is applied further meanwhile.
        let (meta, state) = (self.meta.clone(), std::mem::take(&mut self.state));
        let encoded = aside(|| state.encode());
        let_go(state);
        let snapshot = self.machine.snapshots.keep_encoded(meta.clone(), encoded).await?;
        self.machine.progress.kept.notify_one();
        Ok(Snapshot { meta, snapshot })
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let covered = lock(&self.covered);
        Ok((covered.last, covered.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let index = self.apply_entry(entry);
            if let Some(responder) = responder {
                responder.send(Applied { index });
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        // openraft applies nothing until this returns, so cover and state belong together.
        let state = aside(|| self.state.lock().clone());
        self.progress.restart_growth();
        let covered = lock(&self.covered);
        let meta =
            SnapshotMeta { last_log_id: covered.last, last_membership: covered.membership.clone() };
        SnapshotBuilder { machine: self.clone(), meta, state }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        data: SnapshotData,
    ) -> Result<(), io::Error> {
        let state = data.decode(|encoded| State::decode(encoded)).await?;
        self.snapshots.keep(meta.clone(), data).await?;
        self.progress.restart_growth();
        let index = super::types::position(meta.last_log_id.as_ref()).1;
        let _ = self.applied.send((index, Vec::new()));
        self.restore(meta, state);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.snapshots.last().map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}
