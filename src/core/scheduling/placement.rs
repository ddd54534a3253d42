//! Who gets a waiting task: five policies behind one trait, pure, and blind to how many nodes there are.
//!
//! `window` and `lpt` bind late: a task stays with the leader until a node has a place for it. `random` and `p2c` push:
//! the queues stand at the nodes, where thieves find them. What a task needs is no preference: no policy sees a node
//! that does not meet it.

use super::durations::Durations;
use super::holdings::Charge;
use super::pools::{Pool, Pools, draw};
use super::roster::{Post, Roster};
use crate::config::Placement;
use crate::core::chance::Chance;
use crate::core::ids::NodeId;

/// A window holds work for so long, so that short tasks stream.
const WINDOW_US: u64 = 5_000;
/// Draws of a push policy before it takes the node that wants work most.
const DRAWS: usize = 8;
/// Nodes that are looked at for a task with needs, of each kind of offer.
const LOOKS: usize = 64;

/// What a policy chooses from, for one task.
pub struct Candidates<'a> {
    roster: &'a Roster,
    durations: &'a Durations,
    charge: &'a Charge,
    /// Nodes that meet the task's needs, by what they offer.
    pools: Vec<&'a Pool>,
    node_queue: u64,
}

/// A way to place tasks. It sees nodes that are eligible, in reach, and meet the task's needs, and no others.
pub trait Policy {
    /// The node that shall run the task; `None`: it waits.
    fn choose(&self, from: &Candidates<'_>, chance: &mut Chance) -> Option<NodeId>;

    /// Whether that node, which meets the task's needs, could be chosen now.
    fn takes(&self, from: &Candidates<'_>, post: &Post) -> bool;

    /// Whether tasks that are expected to take longest go first.
    fn longest_first(&self) -> bool {
        false
    }
}

struct Window;
struct Random;
struct TwoChoices;
struct Longest;
struct LongestPushed;

/// The policy of that name, as things are: `unreached`, some node is out of the leader's reach.
pub fn policy(placement: Placement, unreached: bool) -> &'static dyn Policy {
    match placement {
        // A window starves nodes that only thieves can bring work to.
        Placement::Auto if unreached => &LongestPushed,
        Placement::Auto | Placement::Lpt => &Longest,
        Placement::Window => &Window,
        Placement::Random => &Random,
        Placement::P2c => &TwoChoices,
    }
}

impl Policy for Window {
    fn choose(&self, from: &Candidates<'_>, _: &mut Chance) -> Option<NodeId> {
        from.with_a_place()
    }

    fn takes(&self, from: &Candidates<'_>, post: &Post) -> bool {
        from.fits(post) && from.has_place(post)
    }
}

impl Policy for Longest {
    fn choose(&self, from: &Candidates<'_>, _: &mut Chance) -> Option<NodeId> {
        from.with_a_place()
    }

    fn takes(&self, from: &Candidates<'_>, post: &Post) -> bool {
        from.fits(post) && from.has_place(post)
    }

    fn longest_first(&self) -> bool {
        true
    }
}

impl Policy for Random {
    fn choose(&self, from: &Candidates<'_>, chance: &mut Chance) -> Option<NodeId> {
        from.drawn(chance)
    }

    fn takes(&self, from: &Candidates<'_>, post: &Post) -> bool {
        from.fits(post) && from.has_room(post)
    }
}

impl Policy for TwoChoices {
    /// The power of two choices (Mitzenmacher, IEEE TPDS 12(10), 2001).
    fn choose(&self, from: &Candidates<'_>, chance: &mut Chance) -> Option<NodeId> {
        let (one, other) = (from.drawn(chance)?, from.drawn(chance)?);
        let sooner = from.finish_us(other) < from.finish_us(one);
        Some(if sooner { other } else { one })
    }

    fn takes(&self, from: &Candidates<'_>, post: &Post) -> bool {
        from.fits(post) && from.has_room(post)
    }
}

impl Policy for LongestPushed {
    fn choose(&self, from: &Candidates<'_>, chance: &mut Chance) -> Option<NodeId> {
        TwoChoices.choose(from, chance)
    }

    fn takes(&self, from: &Candidates<'_>, post: &Post) -> bool {
        from.fits(post) && from.has_room(post)
    }

    fn longest_first(&self) -> bool {
        true
    }
}

impl<'a> Candidates<'a> {
    /// The nodes for a task of that charge.
    pub fn new(
        roster: &'a Roster,
        pools: &'a Pools,
        durations: &'a Durations,
        charge: &'a Charge,
        node_queue: u64,
    ) -> Self {
        let pools = match &charge.needs {
            None => vec![pools.all()],
            Some(needs) => pools.meeting(needs),
        };
        Candidates { roster, durations, charge, pools, node_queue }
    }

    /// No node could run it, however idle.
    pub fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }

    /// The node that wants work most and has a place for this task in its window.
    fn with_a_place(&self) -> Option<NodeId> {
        let looks = if self.charge.needs.is_some() { LOOKS } else { 1 };
        let first = |pool: &&Pool| {
            let mut fitting = pool.by_want().take(looks).filter_map(|node| self.roster.get(&node));
            fitting.find(|post| self.fits(post) && self.has_place(post))
        };
        let found = self.pools.iter().filter_map(first);
        found.min_by_key(|post| (post.backlog_us(self.durations), post.member.id)).map(id)
    }

    /// Nodes with idle slots for it, those that want work most first; a bounded look.
    pub fn idle(&self) -> impl Iterator<Item = &Post> + '_ {
        let first = self.pools.iter().flat_map(|pool| pool.by_want().take(LOOKS));
        let posts = first.filter_map(|node| self.roster.get(&node));
        let takes = self.charge.slots();
        posts.filter(move |post| post.holds.slots() + takes <= post.slots() && self.fits(post))
    }

    /// A random node with room in its queue.
    fn drawn(&self, chance: &mut Chance) -> Option<NodeId> {
        for _ in 0..DRAWS {
            let node = draw(&self.pools, chance)?;
            if self.charge.needs.is_none() || self.roster.get(&node).is_some_and(|p| self.fits(p)) {
                return Some(node);
            }
        }
        let room = |post: &&Post| self.fits(post) && self.has_room(post);
        let all = self.pools.iter().flat_map(|pool| pool.by_want().take(LOOKS));
        all.filter_map(|node| self.roster.get(&node)).find(room).map(id)
    }

    /// When that node would have finished the task, in microseconds from now.
    fn finish_us(&self, node: NodeId) -> u64 {
        let Some(post) = self.roster.get(&node) else { return u64::MAX };
        let own = post.time_us(self.durations.expected_us(self.charge.kind));
        post.backlog_us(self.durations).saturating_add(own)
    }

    /// What it takes is not taken by others there.
    fn fits(&self, post: &Post) -> bool {
        let needs = self.charge.needs.as_ref();
        needs.is_none_or(|needs| needs.fits(&post.member, post.holds.taken()))
    }

    /// Its queue is not full.
    fn has_room(&self, post: &Post) -> bool {
        (post.burden() as u64) < self.node_queue
    }

    /// An idle slot; one task more than slots; or work for 5 ms.
    fn has_place(&self, post: &Post) -> bool {
        let (busy, slots) = (post.holds.slots(), post.slots());
        if busy <= slots {
            return self.has_room(post);
        }
        let known_us = self.durations.known_us(self.charge.kind);
        let streams = |own_us: u64| {
            let after_us = post.holds.work_us(self.durations).saturating_add(own_us);
            post.time_us(after_us / slots) <= WINDOW_US
        };
        self.has_room(post) && known_us.is_some_and(streams)
    }
}

fn id(post: &Post) -> NodeId {
    post.member.id
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
