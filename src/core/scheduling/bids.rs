//! Idle nodes that asked for work in vain: whoever comes to have some within their reach is asked for it at once, not
//! when they ask again.
//!
//! A node that changes is looked at once, for a few of those that wait around it: what this costs is bounded for each
//! task, however many wait.

use super::leader::Leader;
use super::reach::Cell;
use super::stealing::StealRefusal;
use crate::core::Moment;
use crate::core::cluster::state::ClusterState;
use crate::core::ids::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a call for work holds; idle nodes call again sooner than that.
const HOLDS: Duration = Duration::from_millis(500);
/// So many of those that wait are tried for one node that has more to give.
const TRIES: usize = 4;
/// So many are looked at, in each cell of the plane, for those in reach.
const LOOKS: usize = 16;

/// One call for work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bid {
    pub(super) free_slots: u32,
    pub(super) cpu_available: f64,
    until: Moment,
}

impl Bid {
    pub(super) fn new(now: Moment, free_slots: u32, cpu_available: f64) -> Self {
        Bid { free_slots, cpu_available, until: now.after(HOLDS) }
    }
}

/// All of them, at most one of each node.
#[derive(Debug, Default)]
pub(super) struct Bids {
    by_node: BTreeMap<NodeId, (Bid, Cell, u64)>,
    /// Where they stand; those that were not tried for longest come first.
    by_cell: BTreeMap<Cell, BTreeSet<(u64, NodeId)>>,
    turns: u64,
}

impl Bids {
    pub(super) fn note(&mut self, node: NodeId, cell: Cell, bid: Bid) {
        self.forget(node);
        self.turns += 1;
        self.by_node.insert(node, (bid, cell, self.turns));
        self.by_cell.entry(cell).or_default().insert((self.turns, node));
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        let Some((_, cell, turn)) = self.by_node.remove(&node) else { return };
        if let Some(there) = self.by_cell.get_mut(&cell) {
            there.remove(&(turn, node));
            if there.is_empty() {
                self.by_cell.remove(&cell);
            }
        }
    }

    /// What that node asked for, if it still holds.
    fn of(&self, now: Moment, node: NodeId) -> Option<Bid> {
        self.by_node.get(&node).map(|(bid, _, _)| *bid).filter(|bid| bid.until > now)
    }

    /// The first in `cell`, if it has not called for long.
    fn outdated(&self, now: Moment, cell: Cell) -> Option<NodeId> {
        let (_, node) = self.by_cell.get(&cell)?.first()?;
        self.of(now, *node).is_none().then_some(*node)
    }

    /// Some of those in `cells` that `may` be served; they will be the last ones the next time.
    fn next_around(
        &mut self,
        now: Moment,
        cells: &[Cell],
        may: impl Fn(NodeId) -> bool,
    ) -> Vec<(NodeId, Bid)> {
        for cell in cells {
            while let Some(node) = self.outdated(now, *cell) {
                self.forget(node);
            }
        }
        let here = cells.iter().filter_map(|cell| self.by_cell.get(cell));
        let looks = here.flat_map(|there| there.iter().take(LOOKS));
        let mut turns: Vec<(u64, NodeId)> = looks.filter(|(_, node)| may(*node)).copied().collect();
        turns.sort_unstable();
        let mut next = Vec::with_capacity(TRIES);
        for (_, node) in turns.into_iter().take(TRIES) {
            if let Some((bid, cell, _)) = self.by_node.get(&node).copied() {
                self.note(node, cell, bid);
                next.push((node, bid));
            }
        }
        next
    }
}

impl Leader {
    /// A call for work is remembered, unless thieves shall wait between two calls.
    pub(super) fn note_bid(&mut self, now: Moment, thief: NodeId, free: u32, cpu_available: f64) {
        if !self.config.steal.cooldown.is_zero() {
            return;
        }
        if let Some(post) = self.roster.get(&thief) {
            let cell = self.reach.cell(post.member.position);
            self.bids.note(thief, cell, Bid::new(now, free, cpu_available));
        }
    }

    /// Whoever has more work to give than before is asked for some of it, if somebody waits for it.
    pub(super) fn serve_bids(&mut self, now: Moment, state: &ClusterState) {
        for victim in self.pools.take_enriched() {
            if self.bids.by_node.is_empty() {
                return;
            }
            let Some(post) = self.roster.get(&victim) else { continue };
            let cells = self.reach.cells_around(self.reach.cell(post.member.position));
            let (roster, reach, thefts) = (&self.roster, &self.reach, &self.thefts);
            let may = |thief: NodeId| {
                let near = roster.get(&thief).map(|thief| &thief.member);
                let near = near.is_some_and(|thief| reach.may_steal(&post.member, thief));
                near && !thefts.is_served(now, thief)
            };
            for (thief, bid) in self.bids.next_around(now, &cells, may) {
                let market = self.market(state);
                let found = market.offer(victim, thief, bid.free_slots, bid.cpu_available);
                if let Ok(steal) = found {
                    self.begin_theft(now, thief, steal);
                }
            }
        }
    }

    /// What a thief was to get had been started: it gets something else, if there is anything.
    pub(super) fn serve_again(&mut self, now: Moment, state: &ClusterState, thief: NodeId) {
        let Some(bid) = self.bids.of(now, thief).filter(|_| !self.thefts.is_served(now, thief))
        else {
            return;
        };
        self.follow_nodes();
        let found = self.plan_theft(state, thief, bid.free_slots, bid.cpu_available);
        if let Ok(steal) = found {
            self.begin_theft(now, thief, steal);
        }
    }
}

impl StealRefusal {
    /// It may be otherwise once another node has more work.
    pub(super) fn may_pass(self) -> bool {
        matches!(
            self,
            StealRefusal::NoVictim
                | StealRefusal::OutOfReach
                | StealRefusal::NeedsUnmet
                | StealRefusal::StolenTooOften
                | StealRefusal::NoProfit
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment(ms * 1_000)
    }

    #[test]
    fn those_around_are_tried_in_turn_and_nobody_else() {
        let mut bids = Bids::default();
        for node in 1..=6 {
            bids.note(NodeId(node), (0, 0), Bid::new(at(0), 1, 1.0));
        }
        bids.note(NodeId(9), (5, 5), Bid::new(at(0), 1, 1.0));
        let mut next = || -> Vec<u64> {
            let next = bids.next_around(at(1), &[(0, 0), (0, 1)], |_| true);
            next.into_iter().map(|(node, _)| node.0).collect()
        };
        assert_eq!(next(), [1, 2, 3, 4]);
        assert_eq!(next(), [5, 6, 1, 2]);
        bids.forget(NodeId(3));
        let next: Vec<_> = bids
            .next_around(at(1), &[(0, 0)], |node| node.0 != 5)
            .into_iter()
            .map(|(node, _)| node.0)
            .collect();
        assert_eq!(next, [4, 6, 1, 2]);
    }

    #[test]
    fn a_call_holds_for_a_while_and_the_newest_counts() {
        let mut bids = Bids::default();
        bids.note(NodeId(1), (0, 0), Bid::new(at(0), 1, 1.0));
        bids.note(NodeId(1), (1, 0), Bid::new(at(100), 2, 1.0));
        assert!(bids.next_around(at(101), &[(0, 0)], |_| true).is_empty());
        assert_eq!(bids.of(at(599), NodeId(1)).map(|bid| bid.free_slots), Some(2));
        assert!(bids.of(at(600), NodeId(1)).is_none());
        assert!(bids.next_around(at(600), &[(1, 0)], |_| true).is_empty());
        assert!(bids.by_cell.is_empty() && bids.by_node.is_empty());
    }
}
