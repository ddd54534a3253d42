//! Seeded changes to a log, a model of what they lead to, and what was confirmed of them.

use super::fake_disk::FakeDisk;
use hustings::core::chance::Chance;
use hustings::core::cluster::command::{Batch, Command};
use hustings::core::ids::TaskId;
use hustings::error::Result;
use hustings::node::consensus::Stores;
use hustings::node::consensus::log_store::LogStore;
use hustings::node::consensus::snapshots::Snapshots;
use hustings::node::consensus::types::{Entry, LogId, SnapshotMeta, TypeConfig, Vote};
use hustings::node::storage::Storage;
use openraft::RaftLogReader;
use openraft::entry::RaftEntry;
use openraft::impls::leader_id_std::LeaderId;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::vote::RaftLeaderId;
use std::sync::Arc;

/// What a log holds, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    pub entries: Vec<Entry>,
    pub vote: Option<Vote>,
    pub purged: Option<LogId>,
}

/// Opens the disk as a node would.
pub fn open(disk: &FakeDisk) -> Result<(Arc<Storage>, Stores)> {
    Storage::open(Arc::new(disk.clone()))
}

/// What `log` holds.
pub async fn state(log: &mut LogStore) -> State {
    State {
        entries: log.try_get_log_entries(..).await.unwrap(),
        vote: log.read_vote().await.unwrap(),
        purged: log.get_log_state().await.unwrap().last_purged_log_id,
    }
}

pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId::<u64, u64>::new(term, 1).to_committed(), index)
}

pub fn entry(term: u64, index: u64, commands: usize) -> Entry {
    let command = |i| Command::Cancel { task: TaskId(u128::from(index) << 64 | i as u128) };
    let commands = (0..commands).map(command).collect();
    Entry::new_normal(log_id(term, index), Batch { at_ms: index, commands })
}

type Flushed =
    <<TypeConfig as openraft::RaftTypeConfig>::AsyncRuntime as openraft_rt::AsyncRuntime>::Oneshot;
type Receiver = <Flushed as openraft_rt::Oneshot>::Receiver<std::io::Result<()>>;

/// A run of changes.
pub struct Workload {
    log: LogStore,
    snapshots: Snapshots,
    chance: Chance,
    term: u64,
    /// The state after each change, the first before any.
    pub states: Vec<State>,
    /// The last state that is known to be durable.
    pub confirmed: usize,
    waiting: Vec<(usize, Receiver)>,
    /// Something was confirmed after an error was seen.
    pub confirmed_after_error: bool,
    failed: bool,
}

impl Workload {
    pub async fn on(stores: Stores, seed: u64) -> Self {
        let Stores { mut log, snapshots } = stores;
        let states = vec![state(&mut log).await];
        Workload {
            log,
            snapshots,
            chance: Chance::seeded(seed),
            term: 1,
            states,
            confirmed: 0,
            waiting: Vec::new(),
            confirmed_after_error: false,
            failed: false,
        }
    }

    /// Performs `count` changes, or as many as the disk lets it; ends when all are answered.
    pub async fn run(&mut self, count: usize) {
        for _ in 0..count {
            let performed = self.step().await;
            // What was confirmed before the error is heard of now.
            self.collect().await;
            self.failed |= performed.is_err();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        self.collect().await;
    }

    fn now(&self) -> &State {
        &self.states[self.states.len() - 1]
    }

    fn next_index(&self) -> u64 {
        let purged = self.now().purged.map_or(0, |id| id.index() + 1);
        self.now().entries.last().map_or(purged, |entry| entry.log_id.index() + 1)
    }

    async fn step(&mut self) -> std::io::Result<()> {
        let mut after = self.now().clone();
        let next = self.next_index();
        let first = next - after.entries.len() as u64;
        match self.chance.below(8) {
            0 => {
                self.term += 1;
                let vote = Vote::new(self.term, 1);
                after.vote = Some(vote);
                self.states.push(after);
                self.log.save_vote(&vote).await?;
                self.confirm(self.states.len() - 1);
            }
            1 if after.entries.len() > 2 => {
                after.entries.truncate(after.entries.len() - 1 - self.chance.below(2));
                let last = after.entries.last().map(|entry| entry.log_id);
                self.states.push(after);
                self.log.truncate_after(last).await?;
                self.confirm(self.states.len() - 1);
            }
            2 if after.entries.len() > 3 => {
                let upto = first + self.chance.below(after.entries.len() - 1) as u64;
                let gone = (upto + 1 - first) as usize;
                let purged = after.entries.drain(..gone).next_back().unwrap().log_id;
                let meta = SnapshotMeta { last_log_id: Some(purged), ..SnapshotMeta::default() };
                let content = format!("everything up to {upto}").into_bytes();
                self.snapshots.keep_encoded(meta, content).await?;
                after.purged = Some(purged);
                self.states.push(after);
                self.log.purge(purged).await?;
            }
            _ => {
                let count = 1 + self.chance.below(3) as u64;
                let size = self.chance.below(40);
                let entries: Vec<Entry> =
                    (next..next + count).map(|index| entry(self.term, index, size)).collect();
                after.entries.extend(entries.clone());
                self.states.push(after);
                let (flushed, receiver) = TypeConfig::oneshot();
                self.waiting.push((self.states.len() - 1, receiver));
                let committed = self.now().purged;
                self.log.save_committed(committed).await?;
                self.log.append(entries, IOFlushed::signal(flushed)).await?;
                // Sometimes several changes wait for one transaction.
                if self.chance.below(2) == 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                }
            }
        }
        Ok(())
    }

    async fn collect(&mut self) {
        for (state, mut receiver) in std::mem::take(&mut self.waiting) {
            match receiver.try_recv() {
                Ok(Ok(())) => self.confirm(state),
                Ok(Err(_)) => self.failed = true,
                Err(_) => self.waiting.push((state, receiver)),
            }
        }
    }

    fn confirm(&mut self, state: usize) {
        self.confirmed = self.confirmed.max(state);
        self.confirmed_after_error |= self.failed;
    }

    /// Panics unless `found` is a state at or after the last confirmed one.
    pub fn check(&self, found: &State, about: &str) {
        let place = self.states.iter().skip(self.confirmed).position(|state| state == found);
        assert!(
            place.is_some(),
            "{about}: confirmed {} of {}, found {found:#?}",
            self.confirmed,
            self.states.len() - 1
        );
    }
}
