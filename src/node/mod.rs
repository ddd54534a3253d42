//! **Acts.** Sockets, clocks, processes and openraft; performs what the core decides.
//!
//! ```text
//!            ┌────────────── one runtime per node ───────────────┐
//!  clients ─▶│ transport/  ─Input─▶ driver ─effects─▶ links      │─▶ other nodes
//!  peers   ─▶│ (gRPC)               (core)            sessions   │─▶ clients
//!            │     └─▶ consensus/ (openraft + elector)  hands ───│─▶ runners
//!            └───────────────────────────────────────────────────┘
//! ```

pub mod client;
pub mod clock;
pub mod consensus;
pub mod driver;
pub mod execution;
pub mod history;
pub mod links;
pub mod membership;
pub mod proposals;
pub mod proto;
pub mod sampler;
pub mod sessions;
pub mod shared;
pub mod shutdown;
pub mod transport;
pub mod upstream;

pub use membership::Entry;

use crate::config::Config;
use crate::core::boundary::Event;
use crate::core::cluster::command::{Batch, Function, FunctionSource, Member};
use crate::core::election::score::{Ewma, classic_score, score};
use crate::core::ids::{NodeId, Term};
use crate::core::load::Position;
use crate::core::record::{Record, RecordKind};
use crate::error::{Error, Result};
use clock::Clock;
use consensus::{Consensus, ConsensusOptions};
use driver::{Input, TaskLoop, TaskLoopOptions};
use execution::{Pool, PoolOptions};
use futures::future::BoxFuture;
use history::History;
use sampler::LoadSource;
use shared::Shared;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use transport::grpc_peers::GrpcPeers;

/// Threads that serve one node.
const THREADS: usize = 2;
/// How much nicer runners are than their node.
const RUNNER_NICE: i32 = 5;

/// What a node is made of.
pub struct NodeOptions {
    /// For people; unique in the cluster.
    pub name: String,
    /// `host:port`; port 0 takes a free one.
    pub listen: String,
    /// Where it stands.
    pub position: Position,
    /// How many callbacks it runs at once.
    pub slots: u32,
    /// Whether pickled functions and payloads may run here.
    pub allow_pickle: bool,
    /// What it says about its resources; `None`: it measures.
    pub load: Option<LoadSource>,
    /// The knobs.
    pub config: Config,
    /// May hold a voter's seat; a node that may not needs no log.
    pub may_vote: bool,
    /// The command that starts a runner.
    pub runner_argv: Vec<String>,
    /// What the runner's environment has besides this process' own.
    pub runner_env: Vec<(String, String)>,
}

/// A running node.
pub struct Node {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    runtime: Mutex<Option<Runtime>>,
}

impl Node {
    /// Starts a node that listens and belongs to no cluster yet.
    pub async fn bind(options: NodeOptions) -> Result<Arc<Self>> {
        options.config.validate()?;
        transport::wire::check_name("name", &options.name)
            .map_err(|problem| Error::config("name", problem))?;
        if options.slots == 0 || options.slots > 4_096 {
            let problem = format!("{} is out of bounds; it must lie in [1, 4096]", options.slots);
            return Err(Error::config("slots", problem));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name(format!("hustings-{}", options.name))
            .enable_all()
            .build()
            .map_err(|e| Error::Runner { problem: format!("no threads: {e}") })?;
        let started = runtime.spawn(start(options)).await;
        match started {
            Ok(Ok((shared, pool))) => {
                Ok(Arc::new(Node { shared, pool, runtime: Mutex::new(Some(runtime)) }))
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
            client::check_address(address)?;
        }
        if self.shared.consensus.is_none() && (!entry.founders.is_empty() || entry.join.is_empty())
        {
            let problem = "this node was made a worker; a founder must be able to vote".to_owned();
            return Err(Error::InvalidPeers { problem });
        }
        self.spawn(membership::enter(self.shared.clone(), entry))
    }

    /// Waits until the leader has admitted this node.
    pub async fn wait_ready(&self, timeout: Duration) -> Result<()> {
        let ready = async {
            loop {
                if self.shared.connected.load(Ordering::Acquire) {
                    return Ok(());
                }
                if let Some(error) = self.shared.standing().fatal.clone() {
                    return Err(error);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let what = format!("node {} to be admitted by a leader", self.shared.me.name);
        tokio::time::timeout(timeout, ready)
            .await
            .unwrap_or(Err(Error::WaitTimeout { what, waited: timeout }))
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
        self.abort();
        drained
    }

    /// Ends at once, without a goodbye, as a crash would; its runners are killed.
    pub fn abort(&self) {
        self.pool.abort();
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
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

    /// This node's rows after `seq`, oldest first; bounded per call.
    pub fn records_after(&self, seq: u64) -> Vec<proto::Record> {
        let (rows, _) = self.shared.history.after(seq, history::MAX_READ);
        rows.iter().map(|row| transport::status::record_out(row)).collect()
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.shared.me.address
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

impl Drop for Node {
    fn drop(&mut self) {
        self.abort();
    }
}

/// Everything that runs inside the node's own runtime.
async fn start(options: NodeOptions) -> Result<(Arc<Shared>, Arc<Pool>)> {
    let clock = Clock::start();
    let listener = transport::server::bind(&options.listen).await?;
    let me = member_of(&options, &listener)?;
    let config = Arc::new(options.config);
    let history = Arc::new(History::new(me.id, &me.name, config.limits.events));
    let (inputs, heard) = mpsc::unbounded_channel();
    let peers = Arc::new(GrpcPeers::new(me.id, config.limits.message_bytes as usize));
    let consensus = match options.may_vote {
        true => Some(start_consensus(&me, &config, clock, &history, &inputs, &peers).await?),
        false => None,
    };
    let pool = start_pool(
        &config,
        &inputs,
        options.slots,
        options.allow_pickle,
        options.runner_argv,
        options.runner_env,
    );
    let shared = Arc::new(Shared::new(
        me.clone(),
        config.clone(),
        options.allow_pickle,
        clock,
        history.clone(),
        inputs.clone(),
        consensus.clone(),
        peers,
    ));
    let task_loop = TaskLoop::new(
        TaskLoopOptions {
            seed: me.id.0,
            me,
            config,
            clock,
            history: history.clone(),
            state: consensus.as_ref().map_or_else(Arc::default, |c| c.state()),
            commit: consensus.map(|c| Arc::new(Committer::start(c)) as Arc<dyn proposals::Commit>),
            hands: pool.clone(),
            allow_pickle: options.allow_pickle,
        },
        inputs,
    );
    tokio::spawn(task_loop.run(heard));
    tokio::spawn(transport::server::serve(shared.clone(), listener));
    tokio::spawn(membership::follow_leadership(shared.clone()));
    let source = options.load.unwrap_or_else(|| LoadSource::measured(Duration::ZERO));
    tokio::spawn(measure(shared.clone(), source));
    history.push(Record::new(RecordKind::NodeStarted));
    Ok((shared, pool))
}

fn member_of(options: &NodeOptions, listener: &TcpListener) -> Result<Member> {
    let address = listener
        .local_addr()
        .map_err(|e| Error::Bind { address: options.listen.clone(), reason: e.to_string() })?
        .to_string();
    Ok(Member {
        // 0 means "whoever listens there" in an envelope.
        id: NodeId(consensus::runtime::random_u64().max(1)),
        name: options.name.clone(),
        address,
        slots: options.slots,
        position: options.position,
        voter: options.may_vote,
        pid: std::process::id(),
    })
}

async fn start_consensus(
    me: &Member,
    config: &Arc<Config>,
    clock: Clock,
    history: &Arc<History>,
    inputs: &mpsc::UnboundedSender<Input>,
    peers: &Arc<GrpcPeers>,
) -> Result<Arc<Consensus>> {
    let (applied, mut changes) = mpsc::unbounded_channel();
    let inputs = inputs.clone();
    tokio::spawn(async move {
        while let Some((index, changes)) = changes.recv().await {
            let _ = inputs.send(Input::Core(Event::Applied { index, changes }));
        }
    });
    let rows = history.clone();
    Consensus::start(ConsensusOptions {
        me: me.id,
        address: me.address.clone(),
        config: config.clone(),
        clock,
        peers: peers.clone(),
        records: Arc::new(move |record| {
            rows.push(record);
        }),
        applied,
    })
    .await
}

fn start_pool(
    config: &Config,
    inputs: &mpsc::UnboundedSender<Input>,
    slots: u32,
    allow_pickle: bool,
    argv: Vec<String>,
    env: Vec<(String, String)>,
) -> Arc<Pool> {
    let (ended, mut ends) = mpsc::unbounded_channel::<execution::AttemptEnded>();
    let inputs = inputs.clone();
    tokio::spawn(async move {
        while let Some(end) = ends.recv().await {
            let execution::AttemptEnded { task, token, report, duration } = end;
            let _ = inputs.send(Input::Core(Event::AttemptEnded { task, token, report, duration }));
        }
    });
    Pool::start(
        PoolOptions {
            slots: slots as usize,
            argv,
            env,
            allow_pickle,
            payload_limit: config.limits.payload_bytes as usize,
            nice: RUNNER_NICE,
        },
        ended,
    )
}

/// Proposes batches one after the other, so that they enter the log in order, and answers when each is applied.
struct Committer(mpsc::UnboundedSender<(Term, Batch, oneshot::Sender<bool>)>);

impl Committer {
    /// What waits here is bounded by the entries `Proposals` lets be on their way.
    fn start(consensus: Arc<Consensus>) -> Self {
        let (batches, mut waiting) =
            mpsc::unbounded_channel::<(Term, Batch, oneshot::Sender<bool>)>();
        tokio::spawn(async move {
            while let Some((term, batch, answer)) = waiting.recv().await {
                let proposal = consensus.propose(term, batch).await;
                tokio::spawn(async move {
                    let _ = answer.send(proposal.await.is_ok());
                });
            }
        });
        Committer(batches)
    }
}

impl proposals::Commit for Committer {
    fn commit(&self, term: Term, batch: Batch) -> BoxFuture<'static, bool> {
        let (answer, answered) = oneshot::channel();
        let _ = self.0.send((term, batch, answer));
        Box::pin(async move { answered.await.unwrap_or(false) })
    }
}

impl driver::Hands for Pool {
    fn run(&self, assignment: crate::core::boundary::Assignment, function: Arc<Function>) {
        Pool::run(self, assignment, function);
    }

    fn kill(&self, task: crate::core::ids::TaskId, token: crate::core::ids::Token) {
        Pool::kill(self, task, token);
    }
}

/// Samples, scores, smooths and publishes, a few times a second, never on an RPC's path.
async fn measure(shared: Arc<Shared>, mut source: LoadSource) {
    let mut smoothed = Ewma::new(shared.config.election.score_tau);
    loop {
        let now = shared.clock.now();
        let load = source.sample(now.since(crate::core::Moment(1_000_000)));
        let weights = &shared.config.score;
        let sampled = match weights.classic {
            true => classic_score(
                &load,
                consensus::runtime::random_range(0..=2_000) as f64 / 1_000.0 - 1.0,
            ),
            false => score(&load, weights),
        };
        let score = smoothed.update(now, sampled);
        shared.tell(Input::Measured(load, score));
        if let Some(consensus) = &shared.consensus {
            consensus.set_score(score, load);
        }
        tokio::time::sleep(shared.config.election.score_period).await;
    }
}
