//! The log in memory, behind openraft's storage traits; a durable one takes its place behind the same traits.

use super::types::{Entry, LogId, TypeConfig, Vote};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend, RaftLogReader};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of entries that travel in one append at most, if there is more than one.
pub const MAX_APPEND_BYTES: usize = 1 << 20;

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<u64, Entry>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
}

/// The log; clones share it. Its size is bounded by the snapshot policy, which purges what a snapshot covers.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    inner: Arc<Mutex<Inner>>,
}

impl MemoryLog {
    /// The entry at `index`, if it is held.
    pub fn entry(&self, index: u64) -> Option<Entry> {
        self.lock().entries.get(&index).cloned()
    }

    /// The vote as it is kept.
    pub fn vote(&self) -> Option<Vote> {
        self.lock().vote
    }

    /// Loses the vote, as a disk would that never flushed it. Only a simulation that plants this bug calls it.
    pub fn forget_vote(&self) {
        self.lock().vote = None;
    }

    // Every change is one map operation; a panic elsewhere cannot leave it half done.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLogReader<TypeConfig> for MemoryLog {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, io::Error>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        Ok(self.lock().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.lock().vote)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let inner = self.lock();
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in inner.entries.range(start..end).map(|(_, entry)| entry) {
            if let EntryPayload::Normal(batch) = &entry.payload {
                bytes += batch.size();
            }
            if bytes > MAX_APPEND_BYTES && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }
}

impl RaftLogStorage<TypeConfig> for MemoryLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let inner = self.lock();
        let last = inner.entries.last_key_value().map(|(_, entry)| entry.log_id);
        Ok(LogState { last_purged_log_id: inner.purged, last_log_id: last.or(inner.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.lock().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        flushed: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.lock().entries.extend(entries.into_iter().map(|entry| (entry.log_id.index(), entry)));
        flushed.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let first_gone = last.map_or(0, |id| id.index() + 1);
        self.lock().entries.split_off(&first_gone);
        Ok(())
    }

    async fn purge(&mut self, last: LogId) -> Result<(), io::Error> {
        let mut inner = self.lock();
        inner.purged = Some(last);
        inner.entries = inner.entries.split_off(&(last.index() + 1));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::cluster::command::{Batch, Command, Function, FunctionSource};
    use crate::node::consensus::state_machine::StateMachine;
    use openraft::StorageError;
    use openraft::entry::RaftEntry;
    use openraft::testing::log::{StoreBuilder, Suite};
    use openraft::vote::RaftLeaderId;

    struct Builder;

    impl StoreBuilder<TypeConfig, MemoryLog, StateMachine> for Builder {
        async fn build(&self) -> Result<((), MemoryLog, StateMachine), StorageError<TypeConfig>> {
            Ok(((), MemoryLog::default(), StateMachine::detached()))
        }
    }

    #[tokio::test]
    async fn passes_the_librarys_own_suite() {
        Suite::test_all(Builder).await.unwrap();
    }

    #[tokio::test]
    async fn an_append_is_bounded_by_bytes_but_never_empty() {
        let mut log = MemoryLog::default();
        let leader = openraft::impls::leader_id_std::LeaderId::<u64, u64>::new(1, 1);
        let blob = FunctionSource::Pickled(vec![0; MAX_APPEND_BYTES * 2 / 3].into());
        let command = Command::Register(Arc::new(Function::new("f".into(), blob)));
        for index in 0..4 {
            let id = LogId::new(leader.to_committed(), index);
            let batch = Batch { at_ms: 0, commands: vec![command.clone(); 1 + index as usize % 2] };
            log.lock().entries.insert(index, Entry::new_normal(id, batch));
        }
        let mut counts = Vec::new();
        let mut next = 0;
        while next < 4 {
            let part = log.limited_get_log_entries(next, 4).await.unwrap();
            counts.push(part.len());
            next += part.len() as u64;
        }
        assert_eq!(counts, [1, 1, 1, 1]);
    }
}
