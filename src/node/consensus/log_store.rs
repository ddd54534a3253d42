//! The log, in memory for reading and, where there is a data directory, on disk before anything is confirmed.

use super::replica::let_go;
use super::types::{Entry, LogId, TypeConfig, Vote};
use crate::core::cluster::command::{Command, TaskSpec};
use crate::node::storage::{Journal, Recovered};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend, RaftLogReader};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of entries that travel in one append at most, if there is more than one.
pub const MAX_APPEND_BYTES: u64 = 1 << 20;

/// An entry, and its size, which only a walk over all its commands tells.
#[derive(Debug)]
struct Held {
    entry: Entry,
    size: u64,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<u64, Held>,
    bytes: u64,
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
}

impl Inner {
    fn insert(&mut self, entry: Entry) {
        let size = size_of_entry(&entry);
        self.bytes += size;
        self.entries.insert(entry.log_id.index(), Held { entry, size });
    }

    fn forget(&mut self, gone: &BTreeMap<u64, Held>) {
        let bytes: u64 = gone.values().map(|held| held.size).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// What an entry takes of memory: what it says, and the room of its commands.
pub fn size_of_entry(entry: &Entry) -> u64 {
    let room = |command: &Command| match command {
        Command::Submit { .. } => size_of::<Command>() + size_of::<TaskSpec>(),
        _ => size_of::<Command>(),
    };
    match &entry.payload {
        EntryPayload::Normal(batch) => {
            (batch.size() + batch.commands.iter().map(room).sum::<usize>()) as u64
        }
        EntryPayload::Blank | EntryPayload::Membership(_) => 64,
    }
}

/// The log; clones share it. Its size is bounded by the snapshots, which let what they cover be purged.
#[derive(Clone, Debug, Default)]
pub struct LogStore {
    inner: Arc<Mutex<Inner>>,
    journal: Option<Journal>,
}

impl LogStore {
    /// The log that was found on disk; what is added goes to `journal`.
    pub fn recovered(found: Recovered, journal: Journal) -> Self {
        let Recovered { entries, vote, committed, purged } = found;
        let mut inner = Inner { vote, committed, purged, ..Inner::default() };
        entries.into_iter().for_each(|entry| inner.insert(entry));
        LogStore { inner: Arc::new(Mutex::new(inner)), journal: Some(journal) }
    }

    /// Bytes it holds.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// The last entry to purge, so that at most `kept` bytes remain; `None` if that is so already.
    pub fn purge_point(&self, kept: u64) -> Option<u64> {
        let inner = self.lock();
        let mut bytes = inner.bytes;
        let mut point = None;
        for (index, held) in &inner.entries {
            if bytes <= kept {
                break;
            }
            bytes = bytes.saturating_sub(held.size);
            point = Some(*index);
        }
        point
    }

    /// The entry at `index`, if it is held.
    pub fn entry(&self, index: u64) -> Option<Entry> {
        self.lock().entries.get(&index).map(|held| held.entry.clone())
    }

    /// The vote as it is kept.
    pub fn vote(&self) -> Option<Vote> {
        self.lock().vote
    }

    /// Loses the vote, as a disk would that never flushed it. Only a simulation that plants this bug calls it.
    pub fn forget_vote(&self) {
        self.lock().vote = None;
    }

    /// Takes the last entry for whole although only a part of it was written, as a log would that checks nothing. Only
    /// a simulation that plants this bug calls it.
    pub fn tear_tail(&self) {
        let mut inner = self.lock();
        let last = inner.entries.last_entry();
        if let Some(EntryPayload::Normal(batch)) = last.map(|e| &mut e.into_mut().entry.payload) {
            batch.commands.pop();
        }
    }

    // Every change is complete before anything can panic.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, io::Error>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        Ok(self.lock().entries.range(range).map(|(_, held)| held.entry.clone()).collect())
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
        for held in inner.entries.range(start..end).map(|(_, held)| held) {
            bytes += held.size;
            if bytes > MAX_APPEND_BYTES && !entries.is_empty() {
                break;
            }
            entries.push(held.entry.clone());
        }
        Ok(entries)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let inner = self.lock();
        let last = inner.entries.last_key_value().map(|(_, held)| held.entry.log_id);
        Ok(LogState { last_purged_log_id: inner.purged, last_log_id: last.or(inner.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        if let Some(journal) = &self.journal {
            journal.save_vote(*vote).await?;
        }
        self.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.lock().committed = committed;
        match (&self.journal, committed) {
            (Some(journal), Some(committed)) => journal.save_committed(committed),
            _ => Ok(()),
        }
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
        let Some(journal) = &self.journal else {
            let mut inner = self.lock();
            entries.into_iter().for_each(|entry| inner.insert(entry));
            drop(inner);
            flushed.io_completed(Ok(()));
            return Ok(());
        };
        let entries: Vec<Entry> = entries.into_iter().collect();
        {
            let mut inner = self.lock();
            entries.iter().for_each(|entry| inner.insert(entry.clone()));
        }
        journal.append(entries, flushed)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let first_gone = last.map_or(0, |id| id.index() + 1);
        {
            let mut inner = self.lock();
            let gone = inner.entries.split_off(&first_gone);
            inner.forget(&gone);
        }
        match &self.journal {
            Some(journal) => journal.truncate(first_gone).await,
            None => Ok(()),
        }
    }

    async fn purge(&mut self, last: LogId) -> Result<(), io::Error> {
        let gone = {
            let mut inner = self.lock();
            inner.purged = Some(last);
            let kept = inner.entries.split_off(&(last.index() + 1));
            let gone = std::mem::replace(&mut inner.entries, kept);
            inner.forget(&gone);
            gone
        };
        let_go(gone);
        self.journal.as_ref().map_or(Ok(()), |journal| journal.purge(last))
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

    impl StoreBuilder<TypeConfig, LogStore, StateMachine> for Builder {
        async fn build(&self) -> Result<((), LogStore, StateMachine), StorageError<TypeConfig>> {
            Ok(((), LogStore::default(), StateMachine::detached()))
        }
    }

    #[tokio::test]
    async fn passes_the_librarys_own_suite() {
        Suite::test_all(Builder).await.unwrap();
    }

    #[tokio::test]
    async fn an_append_is_bounded_by_bytes_but_never_empty() {
        let mut log = LogStore::default();
        let leader = openraft::impls::leader_id_std::LeaderId::<u64, u64>::new(1, 1);
        let blob = FunctionSource::Pickled(vec![0; MAX_APPEND_BYTES as usize * 2 / 3].into());
        let command = Command::Register(Arc::new(Function::new("f".into(), blob)));
        for index in 0..4 {
            let id = LogId::new(leader.to_committed(), index);
            let batch = Batch { at_ms: 0, commands: vec![command.clone(); 1 + index as usize % 2] };
            log.lock().insert(Entry::new_normal(id, batch));
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
