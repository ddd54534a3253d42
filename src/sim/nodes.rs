//! Starts, kills, freezes and restarts simulated nodes; the parts of a node are the product's own.

use super::bugs::Bug;
use super::disk::{Down, ImaginedDisk};
use super::invariants::{Fact, TaskFact};
use super::loads::{Loads, measure};
use super::network::{Wire, address_of};
use super::places::{Place, Tenant};
use super::work::{Work, content, word};
use super::world::{Life, Post, World};
use crate::config::Config;
use crate::core::boundary::{Change, Event};
use crate::core::cluster::command::{AssignCause, Member};
use crate::core::ids::{LogIndex, NodeId};
use crate::core::record::{Record, RecordKind};
use crate::error::{Error, Result};
use crate::node::consensus::network::encode;
use crate::node::consensus::runtime::random_u64;
use crate::node::consensus::{Consensus, ConsensusOptions, Stores};
use crate::node::driver::Input;
use crate::node::storage::Storage;
use openraft::EntryPayload;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use xxhash_rust::xxh3::xxh3_64;

/// How often a node without a seat asks for one.
const JOIN_EVERY: Duration = Duration::from_millis(200);
/// Ids of voters that lost theirs begin here, and those of workers there.
const NEWCOMERS: u64 = 1_000;
const WORKERS: u64 = 1_000_000_000;

/// Where a node finds what it must not lose.
enum Home {
    Memory(Stores),
    Disk(ImaginedDisk),
}

/// Makes nodes for one world.
#[derive(Clone)]
pub struct Nodes {
    pub(super) world: Arc<World>,
    config: Arc<Config>,
    /// A node that comes back finds its log again (`disk`), or comes under a new id and takes its old seat.
    disk: bool,
    /// Log, vote and snapshots are on imagined disks, through the product's own storage.
    storage: bool,
    /// What clients ask for; `None`: nodes hold elections and a log, and no tasks.
    work: Option<Work>,
    loads: Arc<Mutex<BTreeMap<Arc<str>, Loads>>>,
    lives: Arc<Mutex<u64>>,
}

impl Nodes {
    /// A maker of nodes; `loads` by name.
    pub fn new(
        world: Arc<World>,
        config: Arc<Config>,
        (disk, storage): (bool, bool),
        work: Option<Work>,
        loads: BTreeMap<Arc<str>, Loads>,
    ) -> Self {
        let loads = Arc::new(Mutex::new(loads));
        Nodes { world, config, disk, storage, work, loads, lives: Arc::default() }
    }

    /// Starts `names` as the founding voters of one group, under the ids 1, 2, 3 and so on.
    pub async fn found(&self, names: &[Arc<str>]) -> Result<()> {
        let members: BTreeMap<NodeId, Member> =
            (1..).map(NodeId).zip(names).map(|(id, name)| (id, member(id, name))).collect();
        for (id, name) in members.keys().zip(names) {
            self.start(name, *id, self.new_home()).await?;
        }
        for (_, post) in self.world.posts() {
            post.consensus.found(members.clone()).await?;
        }
        Ok(())
    }

    /// Where a node without a past keeps what it must not lose.
    fn new_home(&self) -> Home {
        match self.storage {
            true => Home::Disk(ImaginedDisk::new(self.world.bug == Some(Bug::SyncForgets))),
            false => Home::Memory(Stores::default()),
        }
    }

    async fn start(&self, name: &Arc<str>, id: NodeId, home: Home) -> Result<()> {
        let world = self.world.clone();
        let (stores, disk) = match home {
            Home::Memory(stores) => (stores, None),
            Home::Disk(disk) => {
                let (storage, stores) = Storage::open(Arc::new(disk.clone()))?;
                (stores, Some((disk, storage)))
            }
        };
        let life = Arc::new(Life::default());
        let clock = world.clock.twin();
        let (applied, changes) = unbounded_channel();
        let (told, teller, writer) = (world.clone(), name.clone(), life.clone());
        let consensus = Consensus::start(ConsensusOptions {
            me: id,
            address: address_of(name),
            config: self.config.clone(),
            clock: clock.clone(),
            peers: Arc::new(Wire::new(world.clone(), id, life.clone())),
            stores: stores.clone(),
            records: Arc::new(move |record| {
                // What a process writes while it dies, nobody reads.
                if !writer.has_ended() {
                    told.record(id, &teller, record);
                }
            }),
            applied,
        })
        .await?;
        let number = self.next_life();
        let post = Post { id, life: life.clone(), consensus, clock, stores, disk };
        tokio::spawn(self.clone().end_with_disk(name.clone(), post.clone()));
        world.take_post(name, post.clone());
        world.note(Fact::Started { node: id });
        world.record(id, name, Record::new(RecordKind::NodeStarted));
        let place = self.work.as_ref().map(|work| {
            let (name, clock) = (name.clone(), post.clock.clone());
            let consensus = Some(post.consensus.clone());
            let tenant = Tenant { id, name, incarnation: number, life, clock, consensus };
            Place::open(&world, &self.config, work, tenant)
        });
        tokio::spawn(watch_applied(world, name.clone(), post.clone(), place, number, changes));
        self.measure(name, post);
        Ok(())
    }

    /// Starts a node that does not vote, under an id of its own.
    pub fn hire(&self, name: &Arc<str>) {
        let Some(work) = &self.work else { return };
        let incarnation = self.next_life();
        let (id, clock) = (NodeId(WORKERS + incarnation), self.world.clock.twin());
        let (life, name) = (Arc::default(), name.clone());
        let tenant = Tenant { id, name: name.clone(), incarnation, life, clock, consensus: None };
        Place::open(&self.world, &self.config, work, tenant);
        self.world.record(id, &name, Record::new(RecordKind::NodeStarted));
    }

    fn next_life(&self) -> u64 {
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        *lives += 1;
        *lives
    }

    fn measure(&self, name: &Arc<str>, post: Post) {
        let (loads, name) = (self.loads.clone(), name.clone());
        let mine = loads.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        let (config, life) = (self.config.clone(), post.life.clone());
        tokio::spawn(async move {
            let Some(mine) = mine else { return };
            let ended = || life.has_ended();
            let back = measure(mine, config, post.clock, post.consensus, ended).await;
            // The next life of the node goes on measuring where this one ended.
            loads.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_insert(back);
        });
    }

    /// Ends a node without a goodbye.
    pub async fn kill(&self, name: &str) -> bool {
        let Some((id, life, _)) = self.world.soul(name).filter(|(_, life, _)| !life.has_ended())
        else {
            return false;
        };
        life.end();
        self.world.record_fault(id, id, "killed", 0.0);
        if let Some(post) = self.world.post(name) {
            if let Some((_, storage)) = &post.disk {
                storage.halt();
            }
            post.consensus.shutdown().await;
        }
        true
    }

    /// Ends a node, and what its disk had not synced may be gone or torn; drawn from `seed`.
    pub async fn cut_power(&self, name: &str, seed: u64) -> bool {
        if !self.kill(name).await {
            return false;
        }
        if let Some(mut post) = self.world.post(name)
            && let Some((disk, storage)) = post.disk
        {
            post.disk = Some((disk.reopened(Down::Power(seed)), storage));
            self.world.take_post(&Arc::from(name), post);
        }
        true
    }

    /// The disk of a voter, where voters have some.
    pub fn disk(&self, name: &str) -> Option<(NodeId, ImaginedDisk)> {
        let post = self.world.post(name)?;
        post.disk.map(|(disk, _)| (post.id, disk))
    }

    /// A node whose disk fails ends, as a real one does; what it had not synced may be gone.
    async fn end_with_disk(self, name: Arc<str>, post: Post) {
        let Some((_, storage)) = &post.disk else { return };
        tokio::select! {
            biased;
            () = post.life.over() => {}
            _ = storage.health().wait() => {
                self.world.record_fault(post.id, post.id, "disk failed", 0.0);
                self.cut_power(&name, random_u64()).await;
            }
        }
    }

    /// Starts a dead node again.
    pub async fn restart(&self, name: &str) -> Result<bool> {
        if self.world.soul(name).is_none_or(|(_, life, _)| !life.has_ended()) {
            return Ok(false);
        }
        let name: Arc<str> = Arc::from(name);
        let Some(post) = self.world.post(&name) else {
            self.hire(&name);
            return Ok(true);
        };
        let kept = match (super::bugs::surviving(self.world.bug, &post), &post.disk) {
            (Some((id, stores)), _) => Some((id, Home::Memory(stores))),
            (None, Some((disk, _))) => Some((post.id, Home::Disk(disk.reopened(Down::Process)))),
            (None, None) => self.disk.then(|| (post.id, Home::Memory(post.stores.clone()))),
        };
        let newcomer = || (NodeId(NEWCOMERS + self.next_life()), self.new_home());
        let (mut id, home) = kept.unwrap_or_else(newcomer);
        self.world.record_fault(id, id, "restarted", 0.0);
        let full = post.disk.as_ref().is_some_and(|(disk, _)| disk.is_full());
        match self.start(&name, id, home).await {
            // It does not start on what is not whole: its operator gives it an empty disk and another id.
            Err(Error::CorruptLog { .. } | Error::Storage { .. }) if !full => {
                self.world.record_fault(id, id, "refused to start", 0.0);
                let (new, home) = newcomer();
                id = new;
                self.start(&name, id, home).await?;
            }
            other => other?,
        }
        if id != post.id {
            tokio::spawn(take_seat(self.world.clone(), name, id));
        }
        Ok(true)
    }

    /// Asks whoever leads to take the voter's seat of `name`, or to give it one.
    pub fn change_seat(&self, name: &str, seated: bool) {
        let Some(post) = self.world.post(name) else { return };
        let leads = |(_, post): &(Arc<str>, Post)| post.consensus.view().ready;
        for (_, leader) in self.world.living().into_iter().filter(leads) {
            let (id, member) = (post.id, member(post.id, name));
            tokio::spawn(async move {
                // A refusal is an answer; whether the group is sound afterwards is for the promises.
                let _ = match seated {
                    true => leader.consensus.seat(member).await,
                    false => leader.consensus.unseat(id).await,
                };
            });
        }
    }

    /// Stops a node; its words are held, not lost.
    pub fn freeze(&self, name: &str) -> bool {
        let Some((id, life, clock)) = self.world.soul(name) else { return false };
        if life.has_ended() || life.is_frozen() {
            return false;
        }
        life.set_frozen(true);
        clock.freeze();
        self.world.record_fault(id, id, "frozen", 0.0);
        true
    }

    /// Lets a frozen node go on.
    pub fn resume(&self, name: &str) -> bool {
        let Some((id, life, clock)) = self.world.soul(name).filter(|(_, life, _)| life.is_frozen())
        else {
            return false;
        };
        clock.resume();
        life.set_frozen(false);
        self.nudge(name);
        self.world.record_fault(id, id, "resumed", 0.0);
        true
    }

    /// A node's clock has changed: whoever sleeps by it must look again.
    pub fn nudge(&self, name: &str) {
        if let Some(post) = self.world.post(name) {
            post.consensus.nudge();
        }
        if let Some(place) = self.world.place(name) {
            place.tell(Input::Core(Event::TimerFired));
        }
    }
}

fn member(id: NodeId, name: &str) -> Member {
    let (name, address) = (name.to_owned(), address_of(name));
    Member { id, name, address, voter: true, ..Member::default() }
}

/// A node that came back empty is given its old seat by whoever leads, as soon as somebody does. It may die before that
/// and come back as who it is now: it still lacks the seat.
async fn take_seat(world: Arc<World>, name: Arc<str>, new: NodeId) {
    loop {
        world.clock.sleep(JOIN_EVERY).await;
        let Some(post) = world.post(&name).filter(|post| post.id == new) else { return };
        if post.life.has_ended() {
            continue;
        }
        let living = world.living();
        let leader = living.iter().find(|(_, post)| post.consensus.view().ready);
        let Some((_, leader)) = leader else { continue };
        if leader.consensus.voters().contains_key(&new) {
            return;
        }
        // Refused or lost: asked again in the next round.
        let _ = leader.consensus.seat(member(new, &name)).await;
    }
}

/// What an entry or a batch is known by.
pub(super) fn digest<T: serde::Serialize>(content: &T) -> u64 {
    encode(content).map_or(0, |bytes| xxh3_64(&bytes))
}

/// Tells what an entry did to tasks.
fn note_changes(world: &World, name: &Arc<str>, node: NodeId, index: LogIndex, changes: &[Change]) {
    let at = world.elapsed();
    let news = world.diary(|diary| diary.begin_entry(name, index));
    for change in changes {
        let fact = match change {
            Change::Submitted { spec } => {
                TaskFact::Entered { node, index, task: spec.id, content: content(spec) }
            }
            Change::Assigned { spec, token, cause, .. } => {
                let copy = *cause == AssignCause::Copied;
                TaskFact::Assigned { index, task: spec.id, token: *token, copy }
            }
            Change::Narrowed { spec, token, .. } => {
                TaskFact::Narrowed { index, task: spec.id, token: *token }
            }
            Change::Finished { finished, .. } => {
                let (task, outcome) = (finished.task, Arc::from(word(&finished.outcome)));
                if news {
                    world.diary(|diary| diary.outcome(at, task, name, false, &outcome));
                }
                TaskFact::Finished { node, index, task, outcome }
            }
            _ => continue,
        };
        world.note(Fact::Task(fact));
    }
}

/// Tells the invariants what one life of a node applies.
async fn watch_applied(
    world: Arc<World>,
    name: Arc<str>,
    post: Post,
    place: Option<Place>,
    life: u64,
    mut changes: UnboundedReceiver<(LogIndex, Vec<Change>)>,
) {
    while let Some((index, changes)) = changes.recv().await {
        if post.life.has_ended() {
            return;
        }
        if let Some(place) = &place {
            note_changes(&world, &name, post.id, index, &changes);
            place.tell(Input::Core(Event::Applied { index, changes }));
        }
        // What came by snapshot, or was cut already, is not looked at.
        let Some(entry) = post.stores.log.entry(index) else { continue };
        let term = entry.log_id.committed_leader_id().term;
        let content = match &entry.payload {
            EntryPayload::Normal(batch) => digest(batch),
            other => digest(other),
        };
        if let EntryPayload::Membership(membership) = &entry.payload {
            let voters: Vec<BTreeSet<NodeId>> = membership
                .get_joint_config()
                .iter()
                .map(|set| set.iter().copied().map(NodeId).collect())
                .collect();
            world.note(Fact::Grouped { node: post.id, index, voters });
        }
        world.note(Fact::Applied { node: post.id, life, index, entry: (term, content) });
    }
}
