//! **Imagines.** The same core and the same consensus, under virtual time and over wires of memory.
//!
//! ```text
//!   one thread, paused tokio time, one seed
//!     script, failures ──▶ director ──▶ nodes (core + openraft) ◀──messages──▶ network ──▶ switchboard of faults
//!     workload ── writes, reads ──▶ nodes        every fact ──▶ invariants, at once       rows of history ──▶ Run
//! ```
//!
//! The same seed gives the same run to the last message, in any process on the same machine: all randomness is seeded,
//! all waiting is virtual, and nothing runs beside. What is not simulated: gRPC, Python, and what tasks compute.

mod audit;
pub mod bugs;
pub mod chronicle;
pub mod clients;
pub mod diary;
pub mod disk;
mod ending;
pub mod failures;
pub mod invariants;
mod lines;
pub mod loads;
pub mod network;
mod nodes;
pub mod places;
mod runners;
pub mod script;
pub mod shop;
mod tampering;
pub mod total_queue;
pub mod unsynced;
pub mod work;
pub mod workload;
pub mod world;

use crate::config::Config;
use crate::core::chance::Chance;
use crate::core::election::membership::MAX_VOTERS;
use crate::core::ids::{LogIndex, NodeId};
use crate::core::record::RecordKind;
use crate::error::{Error, Result};
use crate::node::consensus::runtime;
use bugs::Bug;
use chronicle::Reign;
use clients::{Client, Crowd};
use diary::{Diary, TaskRow};
use failures::Failures;
use invariants::{Observer, Violation};
use loads::Loads;
use nodes::Nodes;
use script::{Director, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use total_queue::Verdict;
use work::Work;
use workload::Ledger;
use world::{Row, World};

/// The longest run.
pub const MAX_DURATION: Duration = Duration::from_secs(366 * 86_400);
/// How often a healed cluster is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What to imagine.
#[derive(Debug)]
pub struct Spec {
    /// Voters, 1 to [`MAX_VOTERS`].
    pub nodes: usize,
    /// What every draw follows from.
    pub seed: u64,
    /// How long, in virtual time.
    pub duration: Duration,
    /// The knobs of every node.
    pub config: Config,
    /// One per node, or none: then every node measures the same.
    pub loads: Vec<Loads>,
    /// Least and greatest time of a message, one way.
    pub latency: (Duration, Duration),
    /// Writes per second.
    pub writes: f64,
    /// Linearizable reads per second.
    pub reads: f64,
    /// What happens when.
    pub script: Vec<Step>,
    /// What happens by chance, to every node.
    pub failures: Option<Failures>,
    /// Nodes that do not vote and only work; with tasks.
    pub workers: usize,
    /// What clients ask for; `None`: nodes hold elections and a log, and no tasks.
    pub work: Option<Work>,
    /// Nodes that come back find their log again; otherwise they come under a new id.
    pub disk: bool,
    /// Voters keep log, vote and snapshots through the product's own storage, on imagined disks that can fail.
    pub storage: bool,
    /// Mend everything at the end and require that the cluster serves again.
    pub heal: bool,
    /// A rule that is broken on purpose.
    pub bug: Option<Bug>,
    /// End the run at the first broken promise.
    pub stop_at_violation: bool,
}

impl Default for Spec {
    fn default() -> Self {
        Spec {
            nodes: 5,
            seed: 0,
            duration: Duration::from_secs(60),
            config: Config::default(),
            loads: Vec::new(),
            latency: (Duration::from_micros(200), Duration::from_micros(600)),
            writes: 20.0,
            reads: 0.0,
            script: Vec::new(),
            failures: None,
            workers: 0,
            work: None,
            disk: true,
            storage: false,
            heal: true,
            bug: None,
            stop_at_violation: false,
        }
    }
}

/// What was imagined.
#[derive(Debug, Default)]
pub struct Run {
    /// Rows of history, in order of virtual time.
    pub rows: Vec<Row>,
    /// Rows that did not fit.
    pub dropped: u64,
    /// Reigns, in order.
    pub reigns: Vec<Reign>,
    /// Broken promises.
    pub violations: Vec<Violation>,
    /// Facts that were held against the promises.
    pub facts: u64,
    /// A digest of every message with its time: the same for the same seed.
    pub trace: u64,
    /// Messages that arrived.
    pub messages: u64,
    /// Writes that were sent and that were acknowledged.
    pub writes: (u64, u64),
    /// When writes were acknowledged, and where in the log they are; at most [`workload::MAX_TOLD`].
    pub acknowledged: Vec<(Duration, LogIndex)>,
    /// Who held which id.
    pub names: BTreeMap<NodeId, Arc<str>>,
    /// Faults that were made or mended, by kind.
    pub faults: BTreeMap<String, u64>,
    /// How long it took, in virtual time.
    pub duration: Duration,
    /// How long a healed cluster needed until it served; `None` if it was not asked to, or did not.
    pub healed: Option<Duration>,
    /// How long it took from then until everything accepted had its outcome; `None` if it never came to that.
    pub drained: Option<Duration>,
    /// What clients and nodes saw of tasks, in order.
    pub task_rows: Vec<TaskRow>,
    /// What the checker says of that.
    pub verdict: Verdict,
}

impl Spec {
    fn check(&self) -> Result<()> {
        self.config.validate()?;
        let bound = |field: &str, problem: String| Err(Error::config(field, problem));
        if self.nodes == 0 || self.nodes > MAX_VOTERS {
            let problem = format!(
                "{} is out of bounds; a simulation has 1 to {MAX_VOTERS} nodes, all of them voters",
                self.nodes
            );
            return bound("nodes", problem);
        }
        if !self.loads.is_empty() && self.loads.len() != self.nodes {
            let problem =
                format!("{} for {} nodes; give one per node", self.loads.len(), self.nodes);
            return bound("loads", problem);
        }
        if self.duration.is_zero() || self.duration > MAX_DURATION {
            let problem =
                format!("{:?} is out of bounds; it must lie in (0, 1 year]", self.duration);
            return bound("seconds", problem);
        }
        if self.latency.0 > self.latency.1 || self.latency.1 > Duration::from_secs(10) {
            let problem = format!("{:?}: least and greatest, at most 10 s", self.latency);
            return bound("latency_s", problem);
        }
        for (field, rate) in [("writes_per_s", self.writes), ("reads_per_s", self.reads)] {
            if !(0.0..=10_000.0).contains(&rate) {
                let problem = format!("{rate} is out of bounds; it must lie in [0, 10000]");
                return bound(field, problem);
            }
        }
        self.work.as_ref().map_or(Ok(()), Work::check)?;
        if self.workers > work::MAX_WORKERS || (self.workers > 0 && self.work.is_none()) {
            let problem = format!(
                "{} is out of bounds; it must lie in [0, {}], and without tasks it must be 0",
                self.workers,
                work::MAX_WORKERS
            );
            return bound("workers", problem);
        }
        let failures = self.failures.as_ref();
        if failures.is_some_and(|f| f.mtbf.is_zero() || f.mttr.is_zero() || f.kinds.is_empty()) {
            let problem = "mtbf and mttr must be positive and at least one kind must be given";
            return bound("failures", problem.to_owned());
        }
        if failures.is_some_and(|f| !self.storage && f.kinds.iter().any(|k| k.needs_disk())) {
            let problem = "disks fail only where there are some; imagine them";
            return bound("failures.kinds", problem.to_owned());
        }
        Ok(())
    }
}

/// Runs `spec` to its end. Blocks this thread, which must not be one of a tokio runtime; a long run may take minutes.
pub fn simulate(spec: Spec) -> Result<Run> {
    spec.check()?;
    let _seeded = runtime::seed(spec.seed);
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|e| Error::Consensus { problem: format!("no runtime: {e}") })?;
    tokio.block_on(imagine(spec))
}

async fn imagine(spec: Spec) -> Result<Run> {
    let names: Vec<Arc<str>> = (1..=spec.nodes).map(|n| Arc::from(format!("n{n}"))).collect();
    let voters: BTreeSet<NodeId> = (1..=spec.nodes as u64).map(NodeId).collect();
    let observer = Observer::new(&spec.config, voters);
    let world = Arc::new(World::new(spec.latency, spec.bug, observer));
    let config = Arc::new(spec.config);
    let loads: BTreeMap<Arc<str>, Loads> = names.iter().cloned().zip(spec.loads).collect();
    let nodes = Nodes::new(
        world.clone(),
        config.clone(),
        (spec.disk, spec.storage),
        spec.work.clone(),
        loads,
    );
    nodes.found(&names).await?;
    let workers: Vec<Arc<str>> = (1..=spec.workers).map(|n| Arc::from(format!("w{n}"))).collect();
    workers.iter().for_each(|name| nodes.hire(name));
    let crowd = Arc::new(Crowd::default());
    for number in 0..spec.work.as_ref().map_or(0, |work| work.clients) {
        let work = spec.work.clone().unwrap_or_default();
        let chance = Chance::seeded(spec.seed ^ (number as u64 + 1).rotate_left(32));
        let client = Client::new(world.clone(), crowd.clone(), work, number, chance);
        tokio::spawn(client.run());
    }
    if spec.work.is_some() {
        tokio::spawn(audit::run(world.clone()));
    }
    let (ledger, director) = (Arc::new(Ledger::default()), Director { nodes });
    let lease = config.election.lease;
    tokio::spawn(workload::write(world.clone(), ledger.clone(), spec.writes));
    tokio::spawn(workload::read(world.clone(), ledger.clone(), spec.reads));
    tokio::spawn(workload::dispatch(world.clone(), lease));
    let mut playing = vec![tokio::spawn(director.clone().play(spec.script))];
    for name in names.iter().chain(&workers) {
        if let Some(failures) = spec.failures.clone() {
            let failing = director.clone().fail_by_chance(name.clone(), failures, spec.duration);
            playing.push(tokio::spawn(failing));
        }
    }
    wait(&world, spec.duration, spec.stop_at_violation).await;
    for task in playing {
        task.abort();
    }
    let (mut healed, mut drained) = (None, None);
    if spec.heal && !(spec.stop_at_violation && world.observed(Observer::is_broken)) {
        director.mend_all().await;
        healed = ending::serve_again(&world, &ledger, config.election.suspicion_max).await;
        if spec.work.is_some() && healed.is_some() {
            drained = ending::drain(&world, &crowd).await;
        }
    }
    let run = Run { healed, drained, ..Run::default() };
    Ok(close(&world, &ledger, run).await)
}

/// Virtual time passes.
async fn wait(world: &World, until: Duration, stop_at_violation: bool) {
    if !stop_at_violation {
        return world.clock.sleep(until.saturating_sub(world.elapsed())).await;
    }
    while world.elapsed() < until && !world.observed(Observer::is_broken) {
        world.clock.sleep(LOOK_EVERY).await;
    }
}

async fn close(world: &Arc<World>, ledger: &Ledger, run: Run) -> Run {
    let duration = world.elapsed();
    let verdict = world.diary(|diary| diary.judge(run.drained.is_some()));
    for finding in &verdict.findings {
        world.broken("G7", finding.to_string());
    }
    let task_rows = world.diary(Diary::take_rows);
    world.places().iter().for_each(|place| place.life.end());
    for (_, post) in world.posts() {
        post.life.end();
        post.consensus.shutdown().await;
    }
    world.clear();
    let facts = world.observed(Observer::facts);
    let (rows, dropped, trace, messages, violations) = world.take_seen();
    let reigns = world.take_reigns();
    let writes = (ledger.asked(), ledger.acknowledged());
    let mut names = BTreeMap::new();
    let mut faults = BTreeMap::new();
    for row in &rows {
        names.entry(row.node).or_insert_with(|| row.name.clone());
        if row.record.kind == RecordKind::Fault {
            let kind = row.record.detail.split(':').next().unwrap_or_default();
            *faults.entry(kind.to_owned()).or_default() += 1;
        }
    }
    Run {
        rows,
        dropped,
        reigns,
        violations,
        facts,
        trace,
        messages,
        writes,
        acknowledged: ledger.take_told(),
        names,
        faults,
        duration,
        task_rows,
        verdict,
        ..run
    }
}
