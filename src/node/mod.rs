//! **Acts.** Sockets, clocks, processes and openraft; performs what the core decides.
//!
//! ```text
//!            ┌────────────── one runtime per node ───────────────┐
//!  clients ─▶│ transport/  ─Input─▶ driver ─effects─▶ links      │─▶ other nodes
//!  peers   ─▶│ (gRPC)               (core)            sessions   │─▶ clients
//!            │     └─▶ consensus/ (openraft + elector)  hands ───│─▶ runners
//!            └───────────────────────────────────────────────────┘
//! ```

mod assembly;
mod batching;
pub mod blobs;
pub mod client;
pub mod clock;
pub mod committer;
pub mod consensus;
pub mod departure;
pub mod driver;
mod errands;
pub mod execution;
pub mod faults;
pub mod following;
pub mod history;
pub mod http;
pub mod log_events;
pub mod log_filter;
pub mod logbook;
pub mod membership;
pub mod metrics;
mod options;
pub mod proposals;
pub mod proto;
pub mod reign;
pub mod relocation;
pub mod sampler;
pub mod security;
pub mod shared;
pub mod shutdown;
pub mod spans;
pub mod standstill;
pub mod storage;
pub mod transport;

pub use membership::Entry;
pub use options::{ClientDoor, Enrolment, NodeOptions};

use crate::core::cluster::command::{Function, FunctionSource};
use crate::core::cluster::needs;
use crate::core::ids::NodeId;
use crate::core::record::{Record, RecordKind};
use crate::error::{Error, Result};
use execution::Pool;
use shared::Shared;
use standstill::Standstill;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Threads that serve one node at most.
const MAX_THREADS: usize = 2;

/// Threads that serve one node. Where there is no core for a second one, two would only wake each other.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2).clamp(1, MAX_THREADS)
}

/// A running node.
pub struct Node {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    served: http::Served,
    runtime: Mutex<Option<Runtime>>,
    failure: OnceLock<Error>,
    on_failure: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    still: Mutex<Option<Standstill>>,
}

impl Node {
    /// Starts a node that listens and belongs to no cluster yet.
    pub async fn bind(options: NodeOptions) -> Result<Arc<Self>> {
        options.config.validate()?;
        transport::wire::check_name("name", &options.name)
            .map_err(|problem| Error::config("name", problem))?;
        check_offer(&options)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads())
            .thread_name(format!("hustings-{}", options.name))
            .enable_all()
            .build()
            .map_err(|e| Error::Runner { problem: format!("no threads: {e}") })?;
        let started = runtime.spawn(assembly::start(options)).await;
        match started {
            Ok(Ok((shared, pool, served))) => {
                let handle = runtime.handle().clone();
                let node = Arc::new(Node {
                    shared,
                    pool,
                    served,
                    runtime: Mutex::new(Some(runtime)),
                    still: Mutex::default(),
                    failure: OnceLock::new(),
                    on_failure: Mutex::default(),
                });
                handle.spawn(end_when_broken(Arc::downgrade(&node), node.shared.clone()));
                Ok(node)
            }
            Ok(Err(error)) => {
                runtime.shutdown_background();
                Err(error)
            }
            Err(join) => {
                runtime.shutdown_background();
                Err(Error::Consensus { problem: join.to_string() })
            }
        }
    }

    /// Founds or joins a cluster in the background; [`Node::wait_ready`] tells how it went.
    pub fn enter(&self, mut entry: Entry) -> Result<()> {
        entry.founders.sort();
        entry.founders.dedup();
        let me = &self.shared.me.address;
        if !entry.founders.is_empty() && !entry.founders.contains(me) {
            let problem =
                format!("the founders' list [{}] lacks this node, {me}", entry.founders.join(", "));
            return Err(Error::InvalidPeers { problem });
        }
        for address in entry.founders.iter().chain(&entry.join) {
            client::address::check(address)?;
        }
        let votes = !entry.founders.is_empty() || entry.join.is_empty() || entry.voter;
        if self.shared.consensus.is_none() && votes {
            let problem = "this node was made a worker (may_vote=False), it cannot vote".to_owned();
            return Err(Error::InvalidPeers { problem });
        }
        self.shared.seated.store(votes, Ordering::Release);
        self.spawn(membership::enter(self.shared.clone(), entry))
    }

    /// Waits until the leader has admitted this node.
    pub async fn wait_ready(&self, timeout: Duration) -> Result<()> {
        let ready = async {
            loop {
                if self.shared.connected.load(Ordering::Acquire) {
                    return Ok(());
                }
                let fatal = self.shared.standing().fatal.clone();
                if let Some(error) = self.failure.get().cloned().or(fatal) {
                    return Err(error);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(timeout, ready).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let trouble = self.shared.standing().trouble.clone();
                let last = if trouble.is_empty() { trouble } else { format!("; last: {trouble}") };
                let what = format!("node {} to be admitted by a leader{last}", self.shared.me.name);
                Err(Error::WaitTimeout { what, waited: timeout })
            }
        }
    }

    /// Makes a function known here; the cluster hears of it when this node joins (again).
    pub fn register(&self, name: String, source: FunctionSource) -> Result<()> {
        transport::wire::check_name("name", &name).map_err(|p| Error::config("name", p))?;
        let limits = &self.shared.config.limits;
        if source.size() as u64 > limits.function_bytes {
            return Err(Error::PayloadTooLarge {
                what: format!("function {name:?}"),
                size: source.size(),
                limit: limits.function_bytes as usize,
                knob: "limits.function_bytes",
            });
        }
        let function = Arc::new(Function::new(name.clone(), source));
        let mut functions = self.shared.functions.lock().unwrap_or_else(PoisonError::into_inner);
        functions.insert(name, function);
        Ok(())
    }

    /// Refuses new work, hands over and back, finishes up to `grace`, ends. True if nothing was cut off.
    pub async fn stop(&self, grace: Duration) -> bool {
        if self.runtime.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return true;
        }
        self.shared.stopping.store(true, Ordering::Release);
        let shared = self.shared.clone();
        let drained = match self.handle() {
            Some(handle) => {
                let draining = handle.spawn(async move { shutdown::drain(&shared, grace).await });
                draining.await.unwrap_or(false)
            }
            None => true,
        };
        self.shared.record(Record::new(RecordKind::NodeStopped));
        if let Some(consensus) = &self.shared.consensus {
            consensus.shutdown().await;
        }
        if let Some(storage) = &self.shared.storage {
            storage.close().await;
        }
        self.abort();
        drained
    }

    /// Ends at once, without a goodbye, as a crash would; its runners are killed. With a data directory it waits for
    /// the sync that is under way.
    pub fn abort(&self) {
        self.pool.abort();
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
        if let Some(storage) = &self.shared.storage {
            storage.halt();
        }
        // Only now: a node that is ended while it stands still says nothing any more.
        self.resume();
    }

    /// Why it ended by itself: its disk or its Raft failed, or another process has its id.
    pub fn failure(&self) -> Option<&Error> {
        self.failure.get()
    }

    /// Calls `told` when it ends by itself; at once if it has already.
    pub fn on_failure(&self, told: impl FnOnce() + Send + 'static) {
        let mut waiting = self.on_failure.lock().unwrap_or_else(PoisonError::into_inner);
        if self.failure.get().is_none() {
            *waiting = Some(Box::new(told));
            return;
        }
        drop(waiting);
        told();
    }

    fn fail(&self, error: Error) {
        let told = {
            let mut waiting = self.on_failure.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = self.failure.set(error);
            waiting.take()
        };
        self.abort();
        if let Some(told) = told {
            told();
        }
    }

    /// Stops all of it, runners excepted, as SIGSTOP stops a process; frozen twice is frozen once. Blocks for a moment.
    pub fn freeze(&self) -> Result<()> {
        let handle = self.handle().ok_or_else(|| self.stopped())?;
        let mut still = self.still.lock().unwrap_or_else(PoisonError::into_inner);
        if still.is_none() {
            let begun = Standstill::begin(&handle, handle.metrics().num_workers());
            let problem = format!("node {} did not come to a halt; freeze it again", self.name());
            *still = Some(begun.ok_or(Error::Runner { problem })?);
        }
        Ok(())
    }

    /// Lets a frozen node go on.
    pub fn resume(&self) {
        self.still.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Hands leadership and unstarted work over and finishes running work; the node stays up, idle.
    pub async fn drain(&self, timeout: Duration) -> Result<bool> {
        let shared = self.shared.clone();
        let Some(handle) = self.handle() else { return Err(self.stopped()) };
        let drained = handle.spawn(async move { shutdown::drain(&shared, timeout).await });
        drained.await.map_err(|_| self.stopped())
    }

    /// This node's own view.
    pub async fn status(&self) -> Result<proto::StatusResponse> {
        if self.handle().is_none() {
            return Err(self.stopped());
        }
        transport::status::of(&self.shared).await.map_err(|_| self.stopped())
    }

    /// Tasks as this node knows them, at most `limit`, in one state or all.
    pub async fn tasks(
        &self,
        state: Option<proto::TaskState>,
        limit: usize,
    ) -> Result<proto::ListTasksResponse> {
        let filter = state.unwrap_or(proto::TaskState::Unspecified);
        self.shared.ask(move |l| transport::status::tasks(l, filter, &[], limit)).await
    }

    /// This node's rows after `seq`, oldest first; bounded per call.
    pub fn records_after(&self, seq: u64) -> Vec<proto::Record> {
        let (rows, _) = self.shared.history.after(seq, history::MAX_READ);
        rows.iter().map(|row| transport::status::record_out(row)).collect()
    }

    /// Whether its log says who the voters are; after `bind` that means that it came back with its data.
    pub fn is_founded(&self) -> bool {
        self.shared.consensus.as_ref().is_some_and(|consensus| consensus.is_founded())
    }

    /// Where the other nodes reach it.
    pub fn address(&self) -> &str {
        &self.shared.me.address
    }

    /// Where clients reach it.
    pub fn client_address(&self) -> &str {
        self.shared.me.address_for_clients()
    }

    /// Where it can be looked at.
    pub fn served(&self) -> &http::Served {
        &self.served
    }

    /// Its id.
    pub fn id(&self) -> NodeId {
        self.shared.me.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.me.name
    }

    /// Whether it was stopped or aborted.
    pub fn is_stopped(&self) -> bool {
        self.handle().is_none()
    }

    fn stopped(&self) -> Error {
        if let Some(error) = self.failure.get() {
            return error.clone();
        }
        Error::Stopped { what: format!("node {}", self.shared.me.name) }
    }

    fn handle(&self) -> Option<tokio::runtime::Handle> {
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        runtime.as_ref().map(|runtime| runtime.handle().clone())
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let handle = self.handle().ok_or_else(|| self.stopped())?;
        handle.spawn(task);
        Ok(())
    }
}

/// What it says of itself must be possible.
fn check_offer(options: &NodeOptions) -> Result<()> {
    let checked = [
        ("slots", needs::check_slots(options.slots)),
        ("labels", needs::check_labels(&options.labels)),
        ("resources", needs::check_resources(&options.resources)),
        ("position", transport::wire_needs::check_position(options.position)),
    ];
    for (field, checked) in checked {
        checked.map_err(|problem| {
            // The field stands before its problem already.
            let problem =
                problem.strip_prefix(&format!("{field}: ")).unwrap_or(&problem).to_owned();
            Error::config(field, problem)
        })?;
    }
    Ok(())
}

/// A node whose storage cannot be trusted ends, and one whose Raft has: it votes and confirms no more, and its sockets
/// close (guarantee G13).
async fn end_when_broken(node: Weak<Node>, shared: Arc<Shared>) {
    let storage = async {
        match &shared.storage {
            Some(storage) => storage.health().wait().await,
            None => std::future::pending().await,
        }
    };
    let raft = async {
        match &shared.consensus {
            Some(consensus) => consensus.ended().await,
            None => std::future::pending().await,
        }
    };
    let error = tokio::select! {
        biased;
        error = storage => error,
        error = raft => {
            // Raft ends because its stores failed: then they say better why.
            shared.storage.as_ref().and_then(|s| s.health().failure().cloned()).unwrap_or(error)
        }
    };
    if shared.stopping.load(Ordering::Acquire) || shared.removed.load(Ordering::Acquire) {
        return;
    }
    if shared.storage.as_ref().is_some_and(|storage| storage.health().failure().is_some()) {
        shared.record(Record::new(RecordKind::StorageFailed).detail(error.to_string()));
    }
    if let Some(node) = node.upgrade() {
        node.fail(error);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.abort();
    }
}
