//! What a node's tasks share: who it is, which cluster it belongs to, where the leader is.

use super::blobs::BlobStore;
use super::clock::Clock;
use super::consensus::Consensus;
use super::consensus::runtime::random_u64;
use super::consensus::view::Acks;
use super::driver::{Input, TaskLoop};
use super::execution::streams::Streams;
use super::history::History;
use super::spans::SpanQueue;
use super::storage::Storage;
use super::transport::access::Speakers;
use super::transport::dialling::Dialler;
use super::transport::gate::Gate;
use super::transport::grpc_peers::GrpcPeers;
use super::transport::lives::Life;
use super::transport::wire;
use crate::config::Config;
use crate::core::cluster::command::{Function, Member};
use crate::core::ids::{ClusterId, NodeId};
use crate::core::record::Record;
use crate::error::{Error, Result};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

/// Kibibytes of submissions that may be on their way to the task loop; beyond, clients' streams are not read.
pub const INTAKE_KIB: usize = 64 << 10;

/// How soon a leader that lacks its quorum's lease looks for it again at the latest, while somebody waits.
const LEASE_LOOK: Duration = Duration::from_millis(5);
/// How soon somebody who waits for a leader looks again, rung or not.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The version of `proto/hustings/v1`, and of the entries and snapshots that travel in it, this node speaks.
pub const PROTOCOL: u32 = 3;

/// A member's first words on meeting, and what it has been told.
#[derive(Default)]
pub struct Standing {
    /// The cluster this node belongs to.
    pub cluster: Option<ClusterId>,
    /// The founders' addresses this node was given, sorted.
    pub founders: Vec<String>,
    /// Founders met so far, by address.
    pub met: BTreeMap<String, Member>,
    /// Where the leader was last seen.
    pub leader: Option<Whereabouts>,
    /// What went wrong last on the way to being ready, for people.
    pub trouble: String,
    /// Why this node can never be ready.
    pub fatal: Option<Error>,
}

/// Where the leader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// Its term.
    pub term: u64,
    /// Who.
    pub node: NodeId,
    /// Where it listens.
    pub address: String,
}

/// How many calls of other nodes were refused, by reason; each is one that could have done harm.
#[derive(Debug, Default)]
pub struct Refusals {
    /// They came from another cluster, or from none.
    pub wrong_cluster: AtomicU64,
    /// They meant another node.
    pub wrong_node: AtomicU64,
    /// Polls and votes of nodes that are no voters here.
    pub strangers: AtomicU64,
}

/// Shared by all tasks of a node.
pub struct Shared {
    /// This node.
    pub me: Member,
    /// The knobs.
    pub config: Arc<Config>,
    /// Whether pickled functions and payloads are allowed here.
    pub allow_pickle: bool,
    /// The clock.
    pub clock: Clock,
    /// Rows of history.
    pub history: Arc<History>,
    /// The way into the task loop.
    pub inputs: mpsc::UnboundedSender<Input>,
    /// Raft, on nodes that vote or want to.
    pub consensus: Option<Arc<Consensus>>,
    /// The way to other voters.
    pub peers: Arc<GrpcPeers>,
    /// How connections are opened.
    pub dialler: Dialler,
    /// Under which certificate each node speaks.
    pub speakers: Speakers,
    /// What words between this node and others suffer.
    pub gate: Gate,
    /// Fault calls are taken.
    pub allow_faults: bool,
    /// Functions this node brings along, by name.
    pub functions: Mutex<BTreeMap<String, Arc<Function>>>,
    /// Room for submissions on their way to the task loop.
    pub intake: Arc<Semaphore>,
    /// This node leads and has its quorum's lease.
    pub leads: AtomicBool,
    /// The leader's AssignTask stream is open.
    pub connected: AtomicBool,
    /// Rings when the last such stream has ended.
    pub parted: Notify,
    /// This node votes, or asks for a voter's seat.
    pub seated: AtomicBool,
    /// This node is leaving: its score is 0.
    pub draining: AtomicBool,
    /// It will end: no client is let in any more.
    pub stopping: AtomicBool,
    /// Submissions are refused, also on streams that are open.
    pub refusing: AtomicBool,
    /// This node was removed from its cluster.
    pub removed: AtomicBool,
    /// Calls of other nodes that were refused.
    pub refusals: Refusals,
    /// Client streams open.
    pub streams: AtomicUsize,
    /// Rings when the leader's whereabouts change.
    pub moved: Notify,
    /// The data directory, if there is one.
    pub storage: Option<Arc<Storage>>,
    /// The large arguments and results it holds, as a voter.
    pub blobs: Arc<BlobStore>,
    /// What its runners' generators yield.
    pub streams_of_items: Arc<Streams>,
    /// Spans on their way to a collector, if somebody wants them.
    pub spans: OnceLock<Arc<SpanQueue>>,
    /// This start, to tell it from another process with the same id.
    pub life: Life,
    standing: Mutex<Standing>,
    next_stream: AtomicU64,
}

impl Shared {
    /// A node that belongs to no cluster yet.
    #[allow(clippy::too_many_arguments, reason = "a plain record of its parts")]
    pub fn new(
        me: Member,
        config: Arc<Config>,
        allow_pickle: bool,
        clock: Clock,
        history: Arc<History>,
        inputs: mpsc::UnboundedSender<Input>,
        consensus: Option<Arc<Consensus>>,
        peers: Arc<GrpcPeers>,
        dialler: Dialler,
        gate: Gate,
        allow_faults: bool,
        storage: Option<Arc<Storage>>,
        blobs: Arc<BlobStore>,
        streams_of_items: Arc<Streams>,
    ) -> Self {
        let life = Life { incarnation: me.incarnation, number: random_u64().max(1) };
        peers.set_life(life);
        Shared {
            storage,
            blobs,
            streams_of_items,
            spans: OnceLock::new(),
            life,
            me,
            config,
            allow_pickle,
            clock,
            history,
            inputs,
            consensus,
            peers,
            dialler,
            speakers: Speakers::default(),
            gate,
            allow_faults,
            functions: Mutex::default(),
            intake: Arc::new(Semaphore::new(INTAKE_KIB)),
            leads: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            parted: Notify::new(),
            seated: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            refusals: Refusals::default(),
            streams: AtomicUsize::new(0),
            moved: Notify::new(),
            standing: Mutex::default(),
            next_stream: AtomicU64::new(1),
        }
    }

    /// This node, as it introduces itself.
    pub fn member(&self) -> Member {
        Member { voter: self.seated.load(Ordering::Acquire), ..self.me.clone() }
    }

    /// What is known of the cluster.
    pub fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that tells streams apart.
    pub fn number_stream(&self) -> u64 {
        self.next_stream.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether this node leads, with its quorum's lease as of this very moment.
    pub fn leads(&self) -> bool {
        self.leads.load(Ordering::Acquire)
            && self.consensus.as_ref().is_some_and(|consensus| consensus.may_dispatch())
    }

    /// The cluster's id on the wire, empty until it is known.
    pub fn cluster_bytes(&self) -> Bytes {
        self.standing().cluster.map_or_else(Bytes::new, |id| wire::id_bytes(id.to_bytes()))
    }

    /// This node must not go on: another process has its id.
    pub fn give_way(&self, error: Error) {
        if let Some(storage) = &self.storage {
            storage.take_back_start();
            storage.health().fail(error.clone());
        }
        self.standing().fatal = Some(error);
    }

    /// This node belongs to `cluster` from now on.
    pub fn belong(&self, cluster: ClusterId) {
        if let Some(storage) = &self.storage {
            // A node whose disk fails stops by itself: see `Node::bind`.
            let _ = storage.belong(cluster);
        }
        self.standing().cluster = Some(cluster);
        let bytes = wire::id_bytes(cluster.to_bytes());
        self.peers.set_cluster(cluster);
        self.look(move |task_loop| task_loop.cluster_id = bytes);
    }

    /// The leader was seen. An older term never overwrites a newer one.
    pub fn saw_leader(&self, seen: Whereabouts) {
        let mut standing = self.standing();
        if standing.leader.as_ref().is_none_or(|known| known.term <= seen.term) {
            standing.leader = Some(seen);
            drop(standing);
            self.moved.notify_waiters();
        }
    }

    /// Where the leader is, by the newest term this node knows.
    pub fn leader(&self) -> Option<Whereabouts> {
        self.standing().leader.clone()
    }

    /// Sends to the task loop; after a stop nobody listens, and that is all right.
    pub fn tell(&self, input: Input) {
        let _ = self.inputs.send(input);
    }

    /// Runs `look` in the task loop, between two steps.
    pub fn look(&self, look: impl FnOnce(&mut TaskLoop) + Send + 'static) {
        self.tell(Input::Look(Box::new(look)));
    }

    /// Runs `look` in the task loop and returns what it saw.
    pub async fn ask<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut TaskLoop) -> T + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.look(move |task_loop| {
            let _ = answer.send(look(task_loop));
        });
        answered.await.map_err(|_| Error::Stopped { what: format!("node {}", self.me.name) })
    }

    /// Writes a row of history.
    pub fn record(&self, record: Record) {
        self.history.push(record);
    }

    /// Waits until this node leads, or hears a leader of a term after `term`; at most `patience`.
    pub async fn wait_newer_leader(&self, term: u64, patience: Duration) {
        let newer = async {
            let mut acks = self.acks();
            loop {
                let mut moved = pin!(self.moved.notified());
                // Registered before the look, so that no move in between is missed.
                moved.as_mut().enable();
                let elsewhere =
                    self.leader().is_some_and(|l| l.term > term && l.node != self.me.id);
                if self.leads() || elsewhere {
                    return;
                }
                self.await_news(moved, &mut acks).await;
            }
        };
        let _ = tokio::time::timeout(patience, newer).await;
    }

    fn acks(&self) -> Option<Acks> {
        self.consensus.as_ref().map(|consensus| consensus.acks())
    }

    /// Waits for `moved`; a leader that lacks only its quorum's lease also for that.
    async fn await_news(&self, moved: Pin<&mut Notified<'_>>, acks: &mut Option<Acks>) {
        match acks.as_mut().filter(|_| self.leads.load(Ordering::Acquire)) {
            Some(acks) => {
                let acked = pin!(async {
                    if !acks.wait().await {
                        // Consensus has ended, and will say nothing more: that is no news.
                        std::future::pending::<()>().await;
                    }
                });
                let either = futures::future::select(moved, acked);
                let _ = tokio::time::timeout(LEASE_LOOK, either).await;
            }
            None => moved.await,
        }
    }

    /// Waits until somebody leads, at most `patience`; `None`: nobody is known to.
    pub async fn wait_leader(&self, patience: Duration) -> Option<Whereabouts> {
        let waiting = async {
            let mut acks = self.acks();
            loop {
                let mut moved = pin!(self.moved.notified());
                moved.as_mut().enable();
                if self.leads() {
                    let address = self.me.address.clone();
                    return Whereabouts { term: 0, node: self.me.id, address };
                }
                if let Some(leader) = self.leader().filter(|leader| leader.node != self.me.id) {
                    return leader;
                }
                // A lost wake-up costs one round, not a hang.
                let _ = tokio::time::timeout(LOOK_AGAIN, self.await_news(moved, &mut acks)).await;
            }
        };
        tokio::time::timeout(patience, waiting).await.ok()
    }
}
