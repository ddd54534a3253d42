//! The clients of a simulated cluster: they write, read, see who dispatches, and note what they were told.

use super::bugs::Bug;
use super::invariants::Fact;
use super::nodes::digest;
use super::world::{Post, World};
use crate::core::cluster::command::{Batch, Command};
use crate::core::election::RaftRole;
use crate::core::ids::{LogIndex, NodeId, TaskId};
use crate::node::consensus::runtime::random_range;
use crate::node::consensus::types::Entry;
use crate::node::faults::LinkFault;
use openraft::EntryPayload;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a client waits for one answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Acknowledged writes one run remembers.
pub const MAX_TOLD: usize = 1_000_000;
/// How often leaders dispatch, if they may.
const DISPATCH_EVERY: Duration = Duration::from_millis(25);
/// How an early acknowledgement looks for its entry.
const EARLY_LOOKS: u32 = 20;
const EARLY_LOOK: Duration = Duration::from_micros(100);
const EARLY_ENTRIES: u64 = 20;
/// How far a wall clock is set back or forth, and after how many looks on average, where trusting it is the bug.
const WALL_STEP: Duration = Duration::from_secs(3_600);
const WALL_STEP_ONE_IN: u64 = 80;

/// What the clients know together.
#[derive(Default)]
pub struct Ledger {
    asked: AtomicU64,
    acknowledged: AtomicU64,
    known: AtomicU64,
    last_term: AtomicU64,
    told: Mutex<Vec<(Duration, LogIndex)>>,
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

    /// When writes were acknowledged, and where.
    pub(super) fn take_told(&self) -> Vec<(Duration, LogIndex)> {
        std::mem::take(&mut *self.told())
    }

    // A vector of plain values: whole after any panic.
    fn told(&self) -> MutexGuard<'_, Vec<(Duration, LogIndex)>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acknowledge(&self, world: &World, index: LogIndex, content: u64, term: u64) {
        self.acknowledged.fetch_add(1, SeqCst);
        self.known.fetch_max(index, SeqCst);
        let mut told = self.told();
        if told.len() < MAX_TOLD {
            told.push((world.elapsed(), index));
        }
        drop(told);
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
        return acknowledge_early(&world, &ledger, &post, content, term).await;
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

/// Acknowledges what the leader has written down, whoever else has.
async fn acknowledge_early(
    world: &World,
    ledger: &Ledger,
    post: &Post,
    content: u64,
    term: u64,
) -> bool {
    for _ in 0..EARLY_LOOKS {
        let (_, last) = post.consensus.view().last_log;
        for index in last.saturating_sub(EARLY_ENTRIES)..=last {
            let entry = post.stores.log.entry(index);
            let mine = |entry: Entry| match entry.payload {
                EntryPayload::Normal(batch) => digest(&batch) == content,
                _ => false,
            };
            if entry.is_some_and(mine) && !post.life.has_ended() {
                ledger.acknowledge(world, index, content, term);
                return true;
            }
        }
        world.clock.sleep(EARLY_LOOK).await;
    }
    false
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
    let confirmed = tokio::time::timeout(patience, post.consensus.confirm()).await;
    let seen = post.consensus.applied().1;
    if let Ok(Ok(())) = confirmed
        && post.life.awake().await
    {
        world.note(Fact::Read { node, known, seen });
    }
}

/// Somebody leads whose wires to a majority are whole, and nothing is wrong with any of them.
fn is_sound(world: &World, posts: &[(Arc<str>, Post)]) -> bool {
    let well =
        |post: &Post| !post.life.has_ended() && !post.life.is_frozen() && !post.clock.is_wrong();
    let whole = |a: NodeId, b: NodeId| {
        let fault = |from, to| world.board.fault(from, to) != LinkFault::default();
        !fault(a, b) && !fault(b, a)
    };
    posts.iter().filter(|(_, post)| well(post) && post.consensus.view().ready).any(|(_, leader)| {
        let near = |post: &Post| post.id == leader.id || whole(leader.id, post.id);
        let voters = leader.consensus.voters();
        let company = posts
            .iter()
            .filter(|(_, post)| voters.contains_key(&post.id) && well(post) && near(post));
        company.count() > voters.len() / 2
    })
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
        if !is_sound(&world, &posts) {
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
            // The lease is counted on the node's own clock: it promises nothing where that runs wrong.
            if may && !post.clock.is_wrong() {
                world.note(Fact::Dispatched { node: post.id, term: view.term });
            }
        }
    }
}
