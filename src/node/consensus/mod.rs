//! Raft at our door: openraft holds the log and counts the votes, our elector decides who asks for them and when.
//!
//! ```text
//!   propose ──▶ log_store ──network──▶ the other voters' server.rs ──▶ state_machine ──▶ (index, changes)
//!   elector.rs: core::election under a mutex ──▶ polls, campaigns, handovers, tables, tethers
//! ```
//!
//! [`Consensus::shutdown`] must be called: its tasks keep it alive until then.

mod compaction;
mod elector;
pub mod log_store;
mod membership;
pub mod network;
mod replica;
pub mod runtime;
mod server;
pub mod snapshots;
pub mod state_machine;
mod times;
pub mod types;
pub mod view;
pub mod watch;

pub use replica::Replica;
pub use state_machine::{ReplicatedState, State};
pub use types::Voter;
pub use view::View;

use crate::config::Config;
use crate::core::boundary::Change;
use crate::core::cluster::command::Batch;
use crate::core::election::Elector;
use crate::core::election::ranking::RankEntry;
use crate::core::ids::{LogIndex, NodeId, Term, Token};
use crate::core::load::Load;
use crate::core::record::Record;
use crate::error::{Error, Result};
use crate::node::clock::Clock;
use crate::node::transport::peers::Peers;
use elector::InFlight;
use log_store::LogStore;
use network::Network;
use openraft::SnapshotPolicy;
use openraft::impls::{ProgressResponder, leader_id_std};
use openraft::vote::RaftLeaderId;
use snapshots::Snapshots;
use state_machine::{Progress, StateMachine};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use times::Times;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use types::{Raft, TypeConfig};

/// One in so many entries is kept behind a snapshot, for voters that lag a little.
const KEPT_BEHIND_SNAPSHOT: u64 = 10;
/// Entries dropped from the log at once.
const PURGE_BATCH: u64 = 1_024;
/// Entries in one append at most; bytes are bounded by the log store.
const MAX_ENTRIES: u64 = 4_096;

/// What a node's consensus needs.
pub struct ConsensusOptions {
    /// Who this is.
    pub me: NodeId,
    /// Where it listens.
    pub address: String,
    /// Every knob.
    pub config: Arc<Config>,
    /// The node's clock.
    pub clock: Clock,
    /// The way to the other voters.
    pub peers: Arc<dyn Peers>,
    /// Log, vote and snapshot: empty ones in memory, or what [`crate::node::storage`] found on disk.
    pub stores: Stores,
    /// Takes rows of history; must not block.
    pub records: Arc<dyn Fn(Record) + Send + Sync>,
    /// Takes what was applied, in log order; bounded upstream by the proposals in flight.
    pub applied: UnboundedSender<(LogIndex, Vec<Change>)>,
}

/// What outlives a node that is started again with its old id; clones are the same stores. By default they are in
/// memory and live as long as the process.
#[derive(Clone, Debug, Default)]
pub struct Stores {
    /// Entries, vote, and how far the log was committed and cut.
    pub log: LogStore,
    /// The last snapshot.
    pub snapshots: Snapshots,
}

/// One node's part in the Raft group.
pub struct Consensus {
    me: NodeId,
    address: String,
    config: Arc<Config>,
    clock: Clock,
    peers: Arc<dyn Peers>,
    records: Arc<dyn Fn(Record) + Send + Sync>,
    raft: Raft,
    elector: Mutex<Elector>,
    load: Mutex<Load>,
    state: Replica,
    progress: Arc<Progress>,
    stores: Stores,
    awake: AtomicBool,
    views: watch::Sender<View>,
    wake: Notify,
    news: Arc<Notify>,
    in_flight: InFlight,
    times: Times,
    changing: tokio::sync::Mutex<()>,
    stopping: AtomicBool,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// The proposal did not enter the log, or nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not in the log: {reason}")]
pub struct NotInLog {
    /// Why.
    pub reason: String,
}

/// A proposal on its way; resolves once it is applied here, or lost.
pub struct Proposal(
    Result<tokio::sync::oneshot::Receiver<openraft::raft::ClientWriteResult<TypeConfig>>, NotInLog>,
);

impl Future for Proposal {
    type Output = Result<LogIndex, NotInLog>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let receiver = match &mut self.0 {
            Ok(receiver) => receiver,
            Err(lost) => return Poll::Ready(Err(lost.clone())),
        };
        Pin::new(receiver).poll(context).map(|answer| match answer {
            Ok(Ok(written)) => Ok(written.data.index),
            Ok(Err(refused)) => Err(NotInLog { reason: refused.to_string() }),
            Err(_) => Err(NotInLog { reason: "consensus stopped".into() }),
        })
    }
}

fn lost(reason: impl Into<String>) -> Proposal {
    Proposal(Err(NotInLog { reason: reason.into() }))
}

impl Consensus {
    /// Starts this node's part; it waits to be founded, or to be added by a leader, or goes on where its stores end.
    pub async fn start(options: ConsensusOptions) -> Result<Arc<Self>> {
        let consensus = Consensus::start_asleep(options).await?;
        consensus.rouse();
        Ok(consensus)
    }

    /// The same, but it accuses nobody and never campaigns before [`Consensus::rouse`].
    pub async fn start_asleep(options: ConsensusOptions) -> Result<Arc<Self>> {
        let settings = settings(&options.config, &options.clock)?;
        let machine = StateMachine::new(options.applied, options.stores.snapshots.clone())?;
        let (state, progress) = (machine.state(), machine.progress());
        let news = Arc::new(Notify::new());
        let network = Network::new(options.peers.clone(), options.clock.clone(), news.clone());
        let log = options.stores.log.clone();
        let raft = Raft::new(options.me.0, Arc::new(settings), network, log, machine)
            .await
            .map_err(stopped)?;
        // Its metrics are empty until its loop runs; an answer from there means that they tell what the stores hold.
        raft.with_raft_state(|_| ()).await.map_err(stopped)?;
        let elector = Elector::new(options.me, &options.config, runtime::random_u64());
        let (views, _) = watch::channel(View::default());
        let consensus = Arc::new(Consensus {
            me: options.me,
            address: options.address,
            config: options.config,
            clock: options.clock,
            peers: options.peers,
            records: options.records,
            raft,
            elector: Mutex::new(elector),
            load: Mutex::default(),
            state,
            progress,
            stores: options.stores,
            awake: AtomicBool::new(false),
            views,
            wake: Notify::new(),
            news,
            in_flight: InFlight::default(),
            times: Times::default(),
            changing: tokio::sync::Mutex::new(()),
            stopping: AtomicBool::new(false),
            tasks: Mutex::default(),
        });
        consensus.keep(tokio::spawn(consensus.clone().bound_log()));
        Ok(consensus)
    }

    /// From now on it takes part in elections.
    pub fn rouse(self: &Arc<Self>) {
        if self.awake.swap(true, SeqCst) {
            return;
        }
        self.keep(tokio::spawn(self.clone().run_elector()));
        if !self.config.election.plain {
            self.keep(tokio::spawn(self.clone().run_heart()));
        }
    }

    /// Whether its log says who the voters are: then there is nothing to found.
    pub fn is_founded(&self) -> bool {
        !self.voters().is_empty()
    }

    /// Puts `batch` into the log if this node leads `term`. Awaiting this call only queues it, so that batches
    /// proposed one after the other enter the log in that order; await the [`Proposal`] for what became of it.
    pub async fn propose(&self, term: Term, batch: Batch) -> Proposal {
        let (count, size) = (batch.commands.len(), batch.size());
        let limit = self.config.limits.message_bytes as usize;
        if count > Token::MAX_PER_ENTRY || size > limit {
            return lost(format!(
                "a batch of {count} commands and {size} bytes; an entry holds at most {} commands and {limit} bytes \
                 (limits.message_bytes): propose it in parts",
                Token::MAX_PER_ENTRY
            ));
        }
        let (responder, receiver) = ProgressResponder::complete_only();
        let leader = leader_id_std::LeaderId::<u64, u64>::new(term, self.me.0).to_committed();
        match self.raft.write(batch).with_leader(leader).responder(responder).await {
            Ok(()) => Proposal(Ok(receiver)),
            Err(fatal) => lost(fatal.to_string()),
        }
    }

    /// The replicated state, for reading.
    pub fn state(&self) -> Replica {
        self.state.clone()
    }

    /// (term, index) of the last entry applied here.
    pub fn applied(&self) -> (Term, LogIndex) {
        self.progress.applied()
    }

    /// This node measured itself: `score` is the smoothed one.
    pub fn set_score(&self, score: f64, load: Load) {
        let news = self.elector().set_score(score);
        if news {
            self.news.notify_one();
        }
        *self.load.lock().unwrap_or_else(PoisonError::into_inner) = load;
    }

    /// This node's score, as last measured.
    pub fn own_score(&self) -> f64 {
        self.elector().own_score()
    }

    /// The agreed table, best first; empty before the first leader.
    pub fn table(&self) -> Vec<RankEntry> {
        self.elector().ranking().rows().to_vec()
    }

    /// This node would accuse the leader now.
    pub fn suspects(&self) -> bool {
        let now = self.clock.now();
        self.elector().suspects(now)
    }

    /// Waits until Raft ends, and says why: it was shut down, its stores failed, or it met a contradiction.
    pub async fn ended(&self) -> Error {
        let mut metrics = self.raft.server_metrics();
        while metrics.wait().await {}
        let state = self.raft.metrics().value().running_state.clone();
        state.map_or_else(stopped, |()| stopped("it ended without a word"))
    }

    /// Makes the election loop look again now: something it cannot see has changed, such as its clock.
    pub fn nudge(&self) {
        self.wake.notify_one();
    }

    /// Stops; other voters see an end of its streams.
    pub async fn shutdown(&self) {
        self.stopping.store(true, SeqCst);
        let tasks = std::mem::take(&mut *self.tasks());
        for task in tasks {
            task.abort();
        }
        self.in_flight.abort_tethers();
        // The error says that its task panicked: it is stopped then as well.
        let _ = self.raft.shutdown().await;
    }

    fn keep(&self, task: JoinHandle<()>) {
        let mut tasks = self.tasks();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The elector's methods do not panic half-way through a change that matters.
    fn elector(&self) -> MutexGuard<'_, Elector> {
        self.elector.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The library's settings (design section 3): it keeps time and log; elections are ours.
fn settings(config: &Config, clock: &Clock) -> Result<openraft::Config> {
    let ms = |d: Duration| (clock.stretch(d).as_millis() as u64).max(1);
    let election = &config.election;
    let (heartbeat, lease) = (ms(election.heartbeat), ms(election.lease));
    // Plain Raft needs a spread of timeouts: the library's usual one, half of the lease.
    let patience = if election.plain { lease / 2 } else { heartbeat * 5 };
    let entries = config.limits.log_entries;
    let settings = openraft::Config {
        cluster_name: "hustings".into(),
        heartbeat_interval: heartbeat,
        // Also the time limit of RequestVote and TransferLeader.
        election_timeout_min: patience.min(lease.saturating_sub(1)),
        election_timeout_max: lease,
        enable_elect: election.plain,
        // Its clock looks five times per heartbeat, on followers too. Ours beats on the leader alone.
        enable_tick: election.plain,
        enable_pre_vote: Some(false),
        enable_leader_restore: Some(false),
        quorum_loss_probe_interval: Some(lease * 2),
        // All nodes would take theirs at the same entry; see compaction.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: entries / KEPT_BEHIND_SNAPSHOT,
        purge_batch_size: PURGE_BATCH,
        max_payload_entries: MAX_ENTRIES,
        ..Default::default()
    };
    settings.validate().map_err(|e| Error::config("election", e.to_string()))
}

fn stopped(error: impl std::fmt::Display) -> Error {
    Error::Consensus { problem: error.to_string() }
}

/// The members as the library wants them.
fn voters_of(
    members: &BTreeMap<NodeId, crate::core::cluster::command::Member>,
) -> BTreeMap<u64, Voter> {
    let voter = |member: &crate::core::cluster::command::Member| Voter {
        address: member.address.clone(),
        name: member.name.clone(),
    };
    members.iter().map(|(id, member)| (id.0, voter(member))).collect()
}
