//! The simulated world: its nodes, its time, its wires, and everything that was seen.

use super::bugs::Bug;
use super::chronicle::{Chronicle, Reign};
use super::diary::Diary;
use super::disk::ImaginedDisk;
use super::invariants::{Fact, Observer, TaskFact, Violation};
use super::places::Place;
use super::total_queue::Kind;
use crate::core::ids::{NodeId, TaskId, Term, Token};
use crate::core::record::{Record, RecordKind};
use crate::node::clock::{Clock, START};
use crate::node::consensus::runtime::random_range;
use crate::node::consensus::{Consensus, Stores};
use crate::node::faults::Switchboard;
use crate::node::storage::Storage;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Tokio's timers count whole milliseconds; stretched by this, a simulation sees tenths of one.
pub const STRETCH: u32 = 10;
/// Rows one run keeps at most; past that it counts what it drops.
pub const MAX_ROWS: usize = 4_000_000;

/// One incarnation of a node, as long as it runs.
#[derive(Debug, Default)]
pub struct Life {
    ended: AtomicBool,
    frozen: AtomicBool,
    changed: Notify,
}

impl Life {
    /// It was killed.
    pub fn has_ended(&self) -> bool {
        self.ended.load(SeqCst)
    }

    /// It is stopped, for now.
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(SeqCst)
    }

    pub(super) fn end(&self) {
        self.ended.store(true, SeqCst);
        self.changed.notify_waiters();
    }

    pub(super) fn set_frozen(&self, frozen: bool) {
        self.frozen.store(frozen, SeqCst);
        self.changed.notify_waiters();
    }

    /// Waits until it is not frozen; false if it ended first.
    pub async fn awake(&self) -> bool {
        loop {
            let changed = self.changed.notified();
            if self.has_ended() {
                return false;
            }
            if !self.is_frozen() {
                return true;
            }
            changed.await;
        }
    }

    /// Waits for its end.
    pub async fn over(&self) {
        loop {
            let changed = self.changed.notified();
            if self.has_ended() {
                return;
            }
            changed.await;
        }
    }
}

/// A node's place in the world; whoever holds it now.
#[derive(Clone)]
pub struct Post {
    /// Its present id.
    pub id: NodeId,
    /// Its present life.
    pub life: Arc<Life>,
    /// Its part in the group.
    pub consensus: Arc<Consensus>,
    /// Its own clock, which may run wrong.
    pub clock: Clock,
    /// Log, vote and snapshots, which outlive it.
    pub stores: Stores,
    /// The disk they are on, and what reads and writes there; `None`: they are in a memory that never fails.
    pub disk: Option<(ImaginedDisk, Arc<Storage>)>,
}

/// One row of history in virtual time.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Microseconds since the start of the run.
    pub at_us: u64,
    /// Who wrote it.
    pub node: NodeId,
    /// Its name.
    pub name: Arc<str>,
    /// What happened.
    pub record: Record,
}

#[derive(Default)]
struct Seen {
    rows: Vec<Row>,
    dropped: u64,
    trace: u64,
    messages: u64,
}

/// Everything the nodes of one run share; real nodes share nothing of it.
pub struct World {
    /// True time, by which faults are made and figures taken.
    pub clock: Clock,
    /// What the wires suffer.
    pub board: Switchboard,
    /// The bug that was planted, if any.
    pub bug: Option<Bug>,
    /// Least and greatest time a message takes one way.
    pub latency: (Duration, Duration),
    posts: Mutex<BTreeMap<Arc<str>, Post>>,
    places: Mutex<BTreeMap<Arc<str>, Place>>,
    diary: Mutex<Diary>,
    numbers: AtomicU64,
    seen: Mutex<Seen>,
    observer: Mutex<Observer>,
    chronicle: Mutex<Chronicle>,
}

// Plain maps and vectors: whole after any panic, which ends the run anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// A world without nodes, at time zero.
    pub fn new(latency: (Duration, Duration), bug: Option<Bug>, observer: Observer) -> Self {
        World {
            clock: Clock::imagined(STRETCH),
            board: Switchboard::default(),
            bug,
            latency,
            posts: Mutex::default(),
            places: Mutex::default(),
            diary: Mutex::default(),
            numbers: AtomicU64::new(0),
            seen: Mutex::default(),
            observer: Mutex::new(observer),
            chronicle: Mutex::default(),
        }
    }

    /// Virtual time since the start.
    pub fn elapsed(&self) -> Duration {
        self.clock.now().since(START)
    }

    /// The post called `name`.
    pub fn post(&self, name: &str) -> Option<Post> {
        lock(&self.posts).get(name).cloned()
    }

    /// All posts, by name.
    pub fn posts(&self) -> Vec<(Arc<str>, Post)> {
        lock(&self.posts).iter().map(|(name, post)| (name.clone(), post.clone())).collect()
    }

    /// The posts whose holders live, frozen ones included.
    pub fn living(&self) -> Vec<(Arc<str>, Post)> {
        let mut posts = self.posts();
        posts.retain(|(_, post)| !post.life.has_ended());
        posts
    }

    /// Id, life and clock of the node called `name`, whatever it does.
    pub fn soul(&self, name: &str) -> Option<(NodeId, Arc<Life>, Clock)> {
        if let Some(post) = self.post(name) {
            return Some((post.id, post.life, post.clock));
        }
        self.place(name).map(|place| (place.member.id, place.life, place.clock))
    }

    /// The names of all nodes, voters first.
    pub fn names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = lock(&self.posts).keys().cloned().collect();
        let posts = lock(&self.posts);
        names.extend(lock(&self.places).keys().filter(|name| !posts.contains_key(*name)).cloned());
        names
    }

    /// The task half of the node called `name`.
    pub fn place(&self, name: &str) -> Option<Place> {
        lock(&self.places).get(name).cloned()
    }

    /// The task half of whoever has `id` now.
    pub fn place_of(&self, id: NodeId) -> Option<Place> {
        lock(&self.places).values().find(|place| place.member.id == id).cloned()
    }

    /// All task halves, by name.
    pub fn places(&self) -> Vec<Place> {
        lock(&self.places).values().cloned().collect()
    }

    pub(super) fn take_place(&self, name: &Arc<str>, place: Place) {
        lock(&self.places).insert(name.clone(), place);
    }

    /// A number nobody had before.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, SeqCst) + 1
    }

    /// How long the next message takes, one way.
    pub fn draw_latency(&self) -> Duration {
        let (least, most) = self.latency;
        Duration::from_micros(random_range(least.as_micros() as u64..=most.as_micros() as u64))
    }

    /// The node called `who` saw something of a task.
    pub fn tell(&self, kind: Kind, task: TaskId, who: &Arc<str>, token: Option<Token>) {
        let at = self.elapsed();
        lock(&self.diary).node_saw(at, kind, task, who, token);
    }

    /// Writes in, or reads, what clients and nodes saw of tasks.
    pub fn diary<T>(&self, look: impl FnOnce(&mut Diary) -> T) -> T {
        look(&mut lock(&self.diary))
    }

    /// Whoever has `id` now.
    pub fn holder(&self, id: NodeId) -> Option<Post> {
        lock(&self.posts).values().find(|post| post.id == id).cloned()
    }

    /// The name of the post that `id` holds.
    pub fn name_of(&self, id: NodeId) -> Arc<str> {
        if let Some((name, _)) = lock(&self.posts).iter().find(|(_, post)| post.id == id) {
            return name.clone();
        }
        let places = lock(&self.places);
        let found = places.iter().find(|(_, place)| place.member.id == id);
        found.map_or_else(|| Arc::from(""), |(name, _)| name.clone())
    }

    pub(super) fn take_post(&self, name: &Arc<str>, post: Post) {
        lock(&self.posts).insert(name.clone(), post);
    }

    /// Lets go of all nodes; they hold the world and the world holds them.
    pub(super) fn clear(&self) {
        lock(&self.posts).clear();
        lock(&self.places).clear();
    }

    /// `node` wrote a row of history.
    pub fn record(&self, node: NodeId, name: &Arc<str>, record: Record) {
        let at_us = self.elapsed().as_micros() as u64;
        if record.kind == RecordKind::BecameLeader {
            self.note(Fact::Led { node, term: record.term });
        }
        if matches!(record.kind, RecordKind::HandoverStarted | RecordKind::Fault) {
            self.note(Fact::Disturbed);
        }
        if matches!(record.kind, RecordKind::NodeStarted | RecordKind::Fault) {
            self.note(Fact::Task(TaskFact::Faulted));
        }
        lock(&self.chronicle).on_record(self, node, &record);
        let mut seen = lock(&self.seen);
        if seen.rows.len() < MAX_ROWS {
            seen.rows.push(Row { at_us, node, name: name.clone(), record });
        } else {
            seen.dropped += 1;
        }
    }

    /// A fault was made or mended.
    pub fn record_fault(&self, writer: NodeId, subject: NodeId, detail: &str, value: f64) {
        let record = Record::new(RecordKind::Fault).subject(subject).value(value).detail(detail);
        self.record(writer, &self.name_of(writer), record);
    }

    /// A message arrived: part of the trace, which two runs of one seed share to the last bit.
    pub fn trace(&self, kind: u8, from: NodeId, to: NodeId, bytes: &[u8]) {
        let at = self.elapsed().as_micros() as u64;
        let mut seen = lock(&self.seen);
        let mut head = [0; 25];
        head[0] = kind;
        head[1..9].copy_from_slice(&at.to_le_bytes());
        head[9..17].copy_from_slice(&from.to_bytes());
        head[17..25].copy_from_slice(&to.to_bytes());
        let with_head = xxh3_64_with_seed(&head, seen.trace);
        seen.trace = xxh3_64_with_seed(bytes, with_head);
        seen.messages += 1;
    }

    /// Tells the invariants what was seen.
    pub fn note(&self, fact: Fact) {
        let at = self.elapsed();
        lock(&self.observer).note(at, &fact);
    }

    /// The first write of `term` was acknowledged.
    pub(super) fn accepted(&self, term: Term) {
        lock(&self.chronicle).on_accepted(self.elapsed(), term);
    }

    /// Who led when, and how that changed.
    pub(super) fn take_reigns(&self) -> Vec<Reign> {
        lock(&self.chronicle).take_reigns()
    }

    /// A promise was broken that is judged at the end.
    pub(super) fn broken(&self, promise: &'static str, problem: String) {
        let at = self.elapsed();
        lock(&self.observer).broken(promise, at, problem);
    }

    /// Looks at the invariants' notes.
    pub fn observed<T>(&self, look: impl FnOnce(&Observer) -> T) -> T {
        look(&lock(&self.observer))
    }

    /// Everything seen: rows, rows dropped, the trace's digest, messages, broken invariants.
    pub(super) fn take_seen(&self) -> (Vec<Row>, u64, u64, u64, Vec<Violation>) {
        let seen = std::mem::take(&mut *lock(&self.seen));
        let violations = lock(&self.observer).take_violations();
        (seen.rows, seen.dropped, seen.trace, seen.messages, violations)
    }
}
