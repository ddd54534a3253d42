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
use std::ops::Bound;
use std::time::Duration;

/// How long a call for work holds; idle nodes call again sooner than that.
const HOLDS: Duration = Duration::from_millis(500);
/// So many of those that wait are tried for one node that has more to give.
const TRIES: usize = 4;
/// So many are looked at, in each cell of the plane, for those in reach.
const LOOKS: usize = 16;
/// When some of those are tried again for whom nothing was worth its cost: what runs at a victim may come to take
/// longer than it should have.
const TRY_AGAIN: Duration = Duration::from_millis(4);

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
    /// There was something for them, but it was not worth its cost.
    hesitant: BTreeSet<NodeId>,
    /// The last of them that was tried again.
    tried: NodeId,
    try_at: Option<Moment>,
}

impl Bids {
    pub(super) fn note(&mut self, node: NodeId, cell: Cell, bid: Bid) {
        self.unseat(node);
        self.turns += 1;
        self.by_node.insert(node, (bid, cell, self.turns));
        self.by_cell.entry(cell).or_default().insert((self.turns, node));
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        self.unseat(node);
        self.hesitant.remove(&node);
    }

    /// That node could be given nothing.
    pub(super) fn note_refusal(&mut self, now: Moment, node: NodeId, why: StealRefusal) {
        if !why.may_pass() {
            self.forget(node);
        } else if why == StealRefusal::NoProfit && self.of(now, node).is_some() {
            self.hesitant.insert(node);
            self.try_at.get_or_insert(now.after(TRY_AGAIN));
        }
    }

    /// When some are to be tried again.
    pub(super) fn next(&self) -> Option<Moment> {
        self.try_at
    }

    /// Some of those that are to be tried again, in turn.
    fn next_hesitant(&mut self, now: Moment) -> Vec<NodeId> {
        if self.try_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let after = (Bound::Excluded(self.tried), Bound::Unbounded);
        let rest = self.hesitant.range(after).chain(self.hesitant.range(..=self.tried));
        let next: Vec<NodeId> = rest.take(TRIES).copied().collect();
        self.tried = next.last().copied().unwrap_or(self.tried);
        self.hesitant.retain(|node| !next.contains(node));
        self.try_at = (!self.hesitant.is_empty()).then(|| now.after(TRY_AGAIN));
        next
    }

    fn unseat(&mut self, node: NodeId) {
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
                break;
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
                let market = self.market(now, state);
                match market.offer(victim, thief, bid.free_slots, bid.cpu_available) {
                    Ok(steal) => self.begin_theft(now, thief, steal),
                    Err(StealRefusal::NoProfit) => {
                        self.bids.note_refusal(now, thief, StealRefusal::NoProfit);
                    }
                    Err(_) => {}
                }
            }
        }
        for thief in self.bids.next_hesitant(now) {
            self.serve_again(now, state, thief);
        }
    }

    /// What a thief was to get had been started, or was not worth its cost: it gets something else, if there is any.
    pub(super) fn serve_again(&mut self, now: Moment, state: &ClusterState, thief: NodeId) {
        let Some(bid) = self.bids.of(now, thief).filter(|_| !self.thefts.is_served(now, thief))
        else {
            return;
        };
        self.follow_nodes();
        match self.plan_theft(now, state, thief, bid.free_slots, bid.cpu_available) {
            Ok(steal) => self.begin_theft(now, thief, steal),
            Err(why) => self.bids.note_refusal(now, thief, why),
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
    fn those_who_hesitate_are_tried_in_turn_and_again_only_if_they_still_do() {
        let mut bids = Bids::default();
        let hesitate = |bids: &mut Bids, now, nodes: &[u64]| {
            let all = nodes.iter().map(|node| NodeId(*node));
            all.for_each(|node| bids.note_refusal(now, node, StealRefusal::NoProfit));
        };
        (1..=6).for_each(|node| bids.note(NodeId(node), (0, 0), Bid::new(at(0), 1, 1.0)));
        hesitate(&mut bids, at(0), &[1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(bids.next(), Some(at(4)));
        let next = |bids: &mut Bids, now| -> Vec<u64> {
            bids.next_hesitant(now).into_iter().map(|node| node.0).collect()
        };
        assert!(next(&mut bids, at(3)).is_empty());
        assert_eq!(next(&mut bids, at(4)), [1, 2, 3, 4]);
        hesitate(&mut bids, at(4), &[2]);
        bids.forget(NodeId(6));
        assert_eq!(next(&mut bids, at(8)), [5, 2], "the seventh never called");
        assert_eq!((bids.next(), next(&mut bids, at(99)).len()), (None, 0));
        bids.note_refusal(at(99), NodeId(5), StealRefusal::CpuFloor);
        assert!(bids.of(at(99), NodeId(5)).is_none());
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
