//! The clients of a simulated cluster: they write, read, and see who dispatches; and they write down what they were told.

use super::bugs::Bug;
use super::invariants::Fact;
use super::nodes::digest;
use super::world::{Post, World};
use crate::core::cluster::command::{Batch, Command};
use crate::core::election::RaftRole;
use crate::core::ids::{LogIndex, NodeId, TaskId};
use crate::node::consensus::runtime::random_range;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// How long a client waits for one answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often leaders dispatch, if they may.
const DISPATCH_EVERY: Duration = Duration::from_millis(25);
/// How far a wall clock is set back or forth, and after how many looks on average, where trusting it is the bug.
const WALL_STEP: Duration = Duration::from_secs(3_600);
const WALL_STEP_ONE_IN: u64 = 80;

/// What the clients know together.
#[derive(Default)]
pub struct Ledger {
    asked: AtomicU64,
    acknowledged: AtomicU64,
    known: AtomicU64,
    last_at_us: AtomicU64,
    last_term: AtomicU64,
}

impl Ledger {
    /// Writes that were sent.
    pub fn asked(&self) -> u64 {
        self.asked.load(SeqCst)
    }

    /// Writes that were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(SeqCst)
    }

    /// The highest index that was acknowledged.
    pub fn known(&self) -> LogIndex {
        self.known.load(SeqCst)
    }

    fn acknowledge(&self, world: &World, index: LogIndex, content: u64, term: u64) {
        self.acknowledged.fetch_add(1, SeqCst);
        self.known.fetch_max(index, SeqCst);
        self.last_at_us.store(world.elapsed().as_micros() as u64, SeqCst);
        if self.last_term.fetch_max(term, SeqCst) < term {
            world.accepted(term);
        }
        world.note(Fact::Acknowledged { index, content });
    }
}

/// Writes `rate` times a second, each time through every node that takes itself for a ready leader.
pub(super) async fn write(world: Arc<World>, ledger: Arc<Ledger>, rate: f64) {
    if rate <= 0.0 {
        return;
    }
    let every = Duration::from_secs_f64(1.0 / rate);
    loop {
        world.clock.sleep(every).await;
        for (_, post) in ready(&world) {
            tokio::spawn(write_once(world.clone(), ledger.clone(), post));
        }
    }
}

fn ready(world: &World) -> Vec<(Arc<str>, Post)> {
    let mut posts = world.living();
    posts.retain(|(_, post)| !post.life.is_frozen() && post.consensus.view().ready);
    posts
}

/// One write; resolves to whether it was acknowledged.
pub(super) async fn write_once(world: Arc<World>, ledger: Arc<Ledger>, post: Post) -> bool {
    let number = ledger.asked.fetch_add(1, SeqCst) + 1;
    let command = Command::Cancel { task: TaskId(number.into()) };
    let batch = Batch { at_ms: world.elapsed().as_millis() as u64, commands: vec![command] };
    let content = digest(&batch);
    let term = post.consensus.view().term;
    let proposal = post.consensus.propose(term, batch).await;
    if world.bug == Some(Bug::AckBeforeCommit) {
        let (_, last) = post.consensus.view().last_log;
        ledger.acknowledge(&world, last, content, term);
        return true;
    }
    let patience = world.clock.stretch(PATIENCE);
    match tokio::time::timeout(patience, proposal).await {
        Ok(Ok(index)) if post.life.awake().await => {
            ledger.acknowledge(&world, index, content, term);
            true
        }
        // Nobody knows: it may be in the log all the same.
        _ => false,
    }
}

/// Reads `rate` times a second from a node drawn by chance.
pub(super) async fn read(world: Arc<World>, ledger: Arc<Ledger>, rate: f64) {
    if rate <= 0.0 {
        return;
    }
    let every = Duration::from_secs_f64(1.0 / rate);
    loop {
        world.clock.sleep(every).await;
        let posts = world.living();
        let last = posts.len().saturating_sub(1) as u64;
        let drawn = posts.into_iter().nth(random_range(0..=last) as usize);
        if let Some((_, post)) = drawn {
            tokio::spawn(read_once(world.clone(), ledger.clone(), post));
        }
    }
}

async fn read_once(world: Arc<World>, ledger: Arc<Ledger>, post: Post) {
    let known = ledger.known();
    let node = post.id;
    if world.bug == Some(Bug::StaleRead) {
        world.note(Fact::Read { node, known, seen: post.consensus.applied().1 });
        return;
    }
    let patience = world.clock.stretch(PATIENCE);
    let read = tokio::time::timeout(patience, post.consensus.read_barrier()).await;
    if let Ok(Ok(seen)) = read
        && post.life.awake().await
    {
        world.note(Fact::Read { node, known, seen });
    }
}

/// A wall clock that is set back and forth by an hour now and then, and the lease that trusts it.
#[derive(Default)]
struct WallLease {
    set_back: bool,
    answered_at: Duration,
}

impl WallLease {
    /// The moment on this wall clock.
    fn now(&mut self, world: &World) -> Duration {
        if random_range(0..=WALL_STEP_ONE_IN) == 0 {
            self.set_back = !self.set_back;
        }
        world.elapsed() + if self.set_back { Duration::ZERO } else { WALL_STEP }
    }

    /// Whether the lease lasts by this clock; `answered`: it lasts by the right one.
    fn lasts(&mut self, world: &World, lease: Duration, answered: bool) -> bool {
        let now = self.now(world);
        if answered {
            self.answered_at = now;
        }
        now.saturating_sub(self.answered_at) < lease
    }
}

/// Watches who would dispatch, and keeps elections excused while something is wrong.
pub(super) async fn dispatch(world: Arc<World>, lease: Duration) {
    let mut wall_leases: BTreeMap<NodeId, WallLease> = BTreeMap::new();
    loop {
        world.clock.sleep(DISPATCH_EVERY).await;
        let posts = world.posts();
        let ill = |post: &Post| post.life.has_ended() || post.life.is_frozen();
        if !world.board.faults().is_empty() || posts.iter().any(|(_, post)| ill(post)) {
            world.note(Fact::Disturbed);
        }
        for (_, post) in posts.into_iter().filter(|(_, post)| !ill(post)) {
            let view = post.consensus.view();
            let leads = view.role == RaftRole::Leader;
            let may = match world.bug {
                Some(Bug::DispatchOnServerState) => leads,
                Some(Bug::LeaseOnWallClock) => {
                    let wall = wall_leases.entry(post.id).or_default();
                    wall.lasts(&world, lease, view.ready) && leads
                }
                _ => view.ready,
            };
            if may {
                world.note(Fact::Dispatched { node: post.id, term: view.term });
            }
        }
    }
}
