//! What the leader knows of each node: its session, what it holds, how fast it is, when it was last heard.

use super::durations::{Durations, Speed};
use super::holdings::Holdings;
use super::row::Row;
use crate::core::Moment;
use crate::core::boundary::NodeStatus;
use crate::core::cluster::command::Member;
use crate::core::ids::{NodeId, TaskId};
use std::collections::BTreeMap;

/// One member in the leader's eyes.
#[derive(Clone, Debug)]
pub struct Post {
    /// Who.
    pub member: Member,
    /// Its inventory has arrived; it may be given work.
    pub open: bool,
    /// When it last said anything.
    pub heard: Moment,
    /// Its last status.
    pub status: NodeStatus,
    /// Live attempts, and those on their way.
    pub holds: Holdings,
    /// Asked back, not yet answered: the thief, if it is a steal.
    pub revoking: BTreeMap<TaskId, Option<NodeId>>,
    /// How fast it is beside the others.
    pub speed: Speed,
    /// How many steps the leader is away, none longer than its reach; `None`: out of reach.
    pub hops: Option<u32>,
    /// It has been given up; its removal is proposed.
    pub lost: bool,
    /// It is in the list of those that changed.
    touched: bool,
}

impl Post {
    /// A member that was just heard of.
    pub fn new(member: Member, now: Moment) -> Self {
        Post {
            member,
            open: false,
            heard: now,
            status: NodeStatus::default(),
            holds: Holdings::default(),
            revoking: BTreeMap::new(),
            speed: Speed::default(),
            hops: None,
            lost: false,
            touched: false,
        }
    }

    /// It can be talked to.
    pub fn answers(&self) -> bool {
        self.open && !self.lost
    }

    /// It may be given new work.
    pub fn eligible(&self) -> bool {
        self.answers() && !self.status.draining
    }

    /// How many tasks it holds or will hold.
    pub fn burden(&self) -> usize {
        self.holds.count()
    }

    /// Its slots.
    pub fn slots(&self) -> u64 {
        u64::from(self.member.slots.max(1))
    }

    /// How long one of its slots is busy with what it holds, in microseconds.
    pub fn backlog_us(&self, durations: &Durations) -> u64 {
        self.time_us(self.holds.work_us(durations) / self.slots())
    }

    /// The same as things are now, not as they were when it last said something.
    pub fn backlog_by(&self, now: Moment, durations: &Durations) -> u64 {
        let work_us = self.holds.work_by(now, durations, self.speed.ratio());
        self.time_us(work_us / self.slots())
    }

    /// It reported an end: where slots are all that tasks take, the next one has begun there, which is returned.
    pub fn note_end(&mut self, now: Moment) -> Option<TaskId> {
        if self.holds.taken().is_empty() { self.holds.begin_next(now) } else { None }
    }

    /// How long it takes over what a node of usual speed does in `work_us`.
    pub fn time_us(&self, work_us: u64) -> u64 {
        (work_us as f64 / self.speed.ratio()) as u64
    }

    /// Assignments that are not running and not asked back, as far as the leader knows.
    pub fn queued(&self) -> usize {
        let others = self.running() + self.revoking.len() + self.holds.leaving();
        self.holds.len().saturating_sub(others)
    }

    /// How many run: what it said last may be over. Where slots are all that tasks take, all slots are in use.
    fn running(&self) -> usize {
        let known = self.status.running.len();
        if !self.holds.taken().is_empty() {
            return known;
        }
        let all = self.holds.count() as u64 * self.slots();
        let fill = all.checked_div(self.holds.slots()).unwrap_or(0) as usize;
        known.max(fill.min(self.holds.len()))
    }

    /// The log took a task from it.
    pub fn let_go(&mut self, task: TaskId) {
        self.holds.let_go(task);
        self.status.running.retain(|running| *running != task);
    }
}

/// All members. Whoever is changed is remembered, so that what is derived from it can follow.
#[derive(Debug, Default)]
pub struct Roster {
    posts: Row<NodeId, Box<Post>>,
    touched: Vec<NodeId>,
}

impl Roster {
    /// The member of that id.
    pub fn get(&self, node: &NodeId) -> Option<&Post> {
        self.posts.get(*node).map(|post| &**post)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, node: &NodeId) -> Option<&mut Post> {
        let post = self.posts.get_mut(*node)?;
        if !std::mem::replace(&mut post.touched, true) {
            self.touched.push(*node);
        }
        Some(post)
    }

    /// A new member, or a new idea of one.
    pub fn insert(&mut self, post: Post) {
        let node = post.member.id;
        self.touched.push(node);
        self.posts.insert(node, Box::new(Post { touched: true, ..post }));
    }

    /// It is no member any more.
    pub fn remove(&mut self, node: &NodeId) -> Option<Post> {
        self.touched.push(*node);
        self.posts.remove(*node).map(|post| *post)
    }

    /// Whether it is a member.
    pub fn contains_key(&self, node: &NodeId) -> bool {
        self.posts.contains(*node)
    }

    /// All of them, by id.
    pub fn values(&self) -> impl Iterator<Item = &Post> {
        self.posts.iter().map(|(_, post)| &**post)
    }

    /// Their ids.
    pub fn keys(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.posts.iter().map(|(node, _)| node)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.posts.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.posts.is_empty()
    }

    /// Somebody changed since it was last asked who.
    pub fn has_changed(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Who changed since it was last asked; also those that are gone.
    pub fn take_changed(&mut self) -> Vec<NodeId> {
        let changed = std::mem::take(&mut self.touched);
        for node in &changed {
            if let Some(post) = self.posts.get_mut(*node) {
                post.touched = false;
            }
        }
        changed
    }

    /// How far each is from the leader has changed.
    pub fn set_hops(&mut self, hops: impl Fn(&Post) -> Option<u32>) {
        for (node, post) in self.posts.iter_mut() {
            let found = hops(post);
            if found != post.hops {
                post.hops = found;
                if !std::mem::replace(&mut post.touched, true) {
                    self.touched.push(node);
                }
            }
        }
    }
}

#[cfg(test)]
impl std::ops::Index<&NodeId> for Roster {
    type Output = Post;

    fn index(&self, node: &NodeId) -> &Post {
        self.get(node).unwrap()
    }
}
