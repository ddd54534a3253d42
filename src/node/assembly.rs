//! Puts a node together inside its own runtime: listener, consensus, runners, task loop, sampler.

use super::blobs::hands::BlobHands;
use super::blobs::{self, BlobStore};
use super::client::address;
use super::clock::Clock;
use super::committer::Committer;
use super::consensus::runtime::{random_jitter, random_u64};
use super::consensus::{Consensus, ConsensusOptions, Replica, Stores};
use super::driver::{Input, TaskLoop, TaskLoopOptions};
use super::execution::seat::Threads;
use super::execution::streams::StreamLimits;
use super::execution::{AttemptEnded, Pool, PoolOptions};
use super::history::History;
use super::http::{Listeners, Served};
use super::sampler::{LoadSource, TasksCpu};
use super::security::Tls;
use super::shared::Shared;
use super::spans::{self, SpanQueue, collector::Collector};
use super::storage::disk::Disk;
use super::storage::{Identity, Storage};
use super::transport::access::Entrance;
use super::transport::dialling::Dialler;
use super::transport::enrolment_service::Desk;
use super::transport::faulty_peers::FaultyPeers;
use super::transport::gate::Gate;
use super::transport::grpc_peers::GrpcPeers;
use super::transport::lines::GrpcLines;
use super::{NodeOptions, proposals, reign, transport};
use crate::config::{Config, Limits};
use crate::core::boundary::Event;
use crate::core::cluster::command::Member;
use crate::core::election::score::Scorer;
use crate::core::ids::NodeId;
use crate::core::record::{Record, RecordKind};
use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// How much nicer runners are than their node.
const RUNNER_NICE: i32 = 5;

/// A runner's command line, what is added to its environment, and who has threads in this process.
type Interpreters = (Vec<String>, Vec<(String, String)>, Option<Arc<dyn Threads>>);

/// Everything that runs inside the node's own runtime.
pub(super) async fn start(options: NodeOptions) -> Result<(Arc<Shared>, Arc<Pool>, Served)> {
    let clock = Clock::start();
    let doors = Doors::open(&options).await?;
    let (storage, stores) = open_storage(options.disk.clone()).await?;
    let me = member_of(&options, &doors, storage.as_ref().map(|s| s.identity()));
    let config = Arc::new(options.config);
    let history = Arc::new(History::new(me.id, &me.name, config.limits.events));
    let (inputs, heard) = mpsc::unbounded_channel();
    let bytes = transport::peer_message_bytes(&config.limits);
    let dialler = Dialler::new(doors.tls.clone());
    let peers = Arc::new(GrpcPeers::new(me.id, bytes, dialler.clone()));
    let gate = Gate::new(me.id, Arc::default());
    let behind = Arc::new(FaultyPeers::new(peers.clone(), gate.clone()));
    let mut consensus = None;
    if options.may_vote {
        let started = start_consensus(&me, &config, &clock, &history, &inputs, behind, stores);
        consensus = Some(started.await?);
    }
    let python = (options.runner_argv, options.runner_env, options.threads);
    let (pool, ends) = start_pool(&config, &me, options.allow_pickle, python);
    let shared = Arc::new(Shared::new(
        me.clone(),
        config.clone(),
        options.allow_pickle,
        clock.clone(),
        history.clone(),
        inputs.clone(),
        consensus.clone(),
        peers,
        dialler.clone(),
        gate.clone(),
        options.allow_faults,
        storage.clone(),
        Arc::new(BlobStore::open(storage.clone(), &config.limits)?),
        pool.streams(),
    ));
    let hands = BlobHands::start(shared.clone(), pool.clone(), ends);
    let mut task_loop = TaskLoop::new(
        TaskLoopOptions {
            seed: me.id.0,
            me,
            config,
            clock,
            history: history.clone(),
            state: consensus.as_ref().map_or_else(Replica::default, |c| c.state()),
            commit: consensus.map(|c| Arc::new(Committer::start(c)) as Arc<dyn proposals::Commit>),
            hands,
            lines: Arc::new(GrpcLines::new(gate, bytes, dialler)),
            allow_pickle: options.allow_pickle,
        },
        inputs,
    );
    doors.watch(&mut task_loop, &shared);
    storage.and_then(|storage| storage.identity().cluster).inspect(|c| shared.belong(*c));
    tokio::spawn(task_loop.run(heard));
    let served = doors.serve(&shared);
    spawn_upkeep(&shared, options.load, &pool);
    history.push(Record::new(RecordKind::NodeStarted));
    Ok((shared, pool, served))
}

/// Where others come in.
struct Doors {
    tls: Option<Arc<Tls>>,
    listener: TcpListener,
    /// Where others reach it.
    address: String,
    /// Clients' own listener, and where they reach it.
    clients: Option<(TcpListener, String)>,
    desk: Option<Desk>,
    looks: Listeners,
    /// Where spans go out.
    spans: Option<Arc<SpanQueue>>,
}

impl Doors {
    async fn open(options: &NodeOptions) -> Result<Doors> {
        let tls = match &options.tls {
            Some(folder) => Some(Tls::open_for_node(folder, &options.name)?),
            None => None,
        };
        let place = (options.listen.as_str(), options.advertise.as_deref());
        let (listener, address) = open(place, "advertise", &tls).await?;
        let clients = match &options.clients {
            Some(door) => {
                let place = (door.listen.as_str(), door.advertise.as_deref());
                Some(open(place, "advertise_clients", &tls).await?)
            }
            None => None,
        };
        let desk = transport::enrolment_service::open(options.enrolment.clone(), &tls).await?;
        let looks = Listeners::bind(&options.endpoints, tls.is_some()).await?;
        let spans = spans::open(options.otlp.as_deref(), &options.name)?;
        Ok(Doors { tls, listener, address, clients, desk, looks, spans })
    }

    /// Has the task loop count and follow tasks, as far as somebody wants to know.
    fn watch(&self, task_loop: &mut TaskLoop, shared: &Shared) {
        task_loop.tally = self.looks.wants_metrics().then(Box::default);
        if let Some(queue) = &self.spans {
            let queue = shared.spans.get_or_init(|| queue.clone()).clone();
            task_loop.spans = Some(Box::new(Collector::new(queue)));
        }
    }

    fn serve(self, shared: &Arc<Shared>) -> Served {
        let served = self.looks.served();
        self.looks.serve(shared);
        let serve = |listener, entrance| {
            let serving =
                transport::server::serve(shared.clone(), listener, self.tls.clone(), entrance);
            tokio::spawn(serving);
        };
        match self.clients {
            Some((listener, address)) => {
                serve(self.listener, Entrance::Nodes { clients: address.into() });
                serve(listener, Entrance::Clients { nodes: self.address.into() });
            }
            None => serve(self.listener, Entrance::Common),
        }
        if let Some(desk) = self.desk {
            tokio::spawn(desk.serve());
        }
        served
    }
}

/// Listens at `listen`; where others reach it is `advertised`, what `field` says, and the certificate must name it.
async fn open(
    (listen, advertised): (&str, Option<&str>),
    field: &str,
    tls: &Option<Arc<Tls>>,
) -> Result<(TcpListener, String)> {
    let advertised = advertised.map(address::check_one).transpose()?;
    let bound = transport::server::bind(listen, tls.is_some(), advertised.is_some(), Some(field));
    let listener = bound.await?;
    let here = listener
        .local_addr()
        .map_err(|e| Error::Bind { address: listen.to_owned(), reason: e.to_string() })?;
    let address = advertised.unwrap_or_else(|| here.to_string());
    if let Some(tls) = tls {
        tls.check_host(address::host(&address))?;
    }
    Ok((listener, address))
}

/// The data directory and what was found in it; without one, empty stores in memory.
async fn open_storage(disk: Option<Arc<dyn Disk>>) -> Result<(Option<Arc<Storage>>, Stores)> {
    let Some(disk) = disk else { return Ok((None, Stores::default())) };
    let opening = tokio::task::spawn_blocking(move || Storage::open(disk));
    let opened = opening.await.map_err(|e| Error::Consensus { problem: e.to_string() })?;
    opened.map(|(storage, stores)| (Some(storage), stores))
}

fn member_of(options: &NodeOptions, doors: &Doors, identity: Option<Identity>) -> Member {
    Member {
        // 0 means "whoever listens there" in an envelope.
        id: identity.map_or_else(|| NodeId(random_u64().max(1)), |identity| identity.node),
        incarnation: identity.map_or(0, |identity| identity.incarnation),
        name: options.name.clone(),
        address: doors.address.clone(),
        client_address: doors.clients.as_ref().map(|(_, at)| at.clone()).unwrap_or_default(),
        slots: options.slots,
        position: options.position,
        voter: false,
        pid: std::process::id(),
        labels: options.labels.clone(),
        resources: options.resources.clone(),
    }
}

async fn start_consensus(
    me: &Member,
    config: &Arc<Config>,
    clock: &Clock,
    history: &Arc<History>,
    inputs: &mpsc::UnboundedSender<Input>,
    peers: Arc<FaultyPeers<GrpcPeers>>,
    stores: Stores,
) -> Result<Arc<Consensus>> {
    let (applied, mut changes) = mpsc::unbounded_channel();
    let inputs = inputs.clone();
    tokio::spawn(async move {
        while let Some((index, changes)) = changes.recv().await {
            let _ = inputs.send(Input::Core(Event::Applied { index, changes }));
        }
    });
    let rows = history.clone();
    Consensus::start_asleep(ConsensusOptions {
        me: me.id,
        address: me.address.clone(),
        config: config.clone(),
        clock: clock.clone(),
        peers,
        stores,
        records: Arc::new(move |record| {
            rows.push(record);
        }),
        applied,
    })
    .await
}

fn start_pool(
    config: &Config,
    me: &Member,
    allow_pickle: bool,
    (argv, mut env, threads): Interpreters,
) -> (Arc<Pool>, mpsc::UnboundedReceiver<AttemptEnded>) {
    env.push(("HUSTINGS_NODE_NAME".to_owned(), me.name.clone()));
    let (ended, ends) = mpsc::unbounded_channel();
    let pool = Pool::start(
        PoolOptions {
            slots: me.slots as usize,
            argv,
            env,
            allow_pickle,
            payload_limit: config.limits.blob_bytes as usize,
            nice: RUNNER_NICE,
            node: me.name.as_str().into(),
            output_limit: config.limits.task_output_bytes as usize,
            stream: stream_limits(&config.limits),
            threads,
        },
        ended,
    );
    (pool, ends)
}

/// An item travels in a message, and from a runner as a result does.
fn stream_limits(limits: &Limits) -> StreamLimits {
    let bytes = limits.stream_bytes.min(limits.message_bytes / 2).min(limits.blob_bytes);
    let (items, bytes) = (limits.stream_items as usize, bytes as usize);
    StreamLimits { items, bytes, idle: limits.stream_idle }
}

/// What a node does all the time, besides its two loops.
fn spawn_upkeep(shared: &Arc<Shared>, load: Option<LoadSource>, pool: &Arc<Pool>) {
    tokio::spawn(reign::follow_leadership(shared.clone()));
    tokio::spawn(blobs::keep(shared.clone()));
    let source = load.unwrap_or_else(|| LoadSource::measured(Duration::ZERO, false));
    tokio::spawn(measure(shared.clone(), source, pool.clone()));
}

/// Samples, scores, smooths and publishes, a few times a second, never on an RPC's path.
async fn measure(shared: Arc<Shared>, mut source: LoadSource, pool: Arc<Pool>) {
    let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
    let (mut tasks, mut threads) = (TasksCpu::default(), TasksCpu::of_threads());
    let mut scorer = Scorer::new(&shared.config.score, shared.config.election.score_tau);
    loop {
        let now = shared.clock.now();
        let uptime = now.since(super::clock::START);
        let in_threads = threads.cores(uptime, &pool.threads());
        source.set_of_tasks(in_threads);
        let mut load = source.sample(uptime);
        // A load that was given says all there is to say.
        if !load.synthetic {
            let of_tasks = tasks.cores(uptime, &pool.processes()) + in_threads;
            load.tasks_cpu = (of_tasks / cores).min(1.0);
        }
        let smooth = scorer.update(now, &load, random_jitter());
        let score = if shared.draining.load(Ordering::Acquire) { 0.0 } else { smooth };
        shared.tell(Input::Measured(load, score));
        if let Some(consensus) = &shared.consensus {
            consensus.set_score(score, load);
        }
        tokio::time::sleep(shared.config.election.score_period).await;
    }
}
