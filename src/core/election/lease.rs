//! Who may call itself the leader: one whom a quorum answered lately; and whom the others may call so.
//!
//! This is advice for dispatching and for people, never exclusivity (guarantees G3): a process can freeze between the
//! look and the deed, and two leases may overlap. What is done late is refused by the log.

use crate::core::Moment;
use crate::core::ids::{NodeId, Term};
use std::collections::BTreeMap;
use std::time::Duration;

/// A voter heard longer ago than this does not count as reachable.
pub const REACHABLE_FOR: Duration = Duration::from_secs(1);
/// Voters remembered; more than any sensible group has.
const MAX_CONTACTS: usize = 64;

/// Whether a leader of so many `voters` may dispatch: a quorum answered what it sent at `last_quorum_ack` or later, and
/// that is no longer ago than the lease. A lone voter is its own quorum.
pub fn may_dispatch(
    now: Moment,
    last_quorum_ack: Option<Moment>,
    lease: Duration,
    voters: usize,
) -> bool {
    voters == 1 || (voters > 1 && last_quorum_ack.is_some_and(|at| now < at.after(lease)))
}

/// What the leader of a term last said about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its term.
    pub term: Term,
    /// It had its quorum's lease.
    pub leased: bool,
    /// How many voters answered it within the last second, itself included.
    pub reachable: u32,
}

/// What a voter that does not lead knows of the others.
#[derive(Clone, Debug, Default)]
pub struct Contacts {
    told: Option<Told>,
    heard: BTreeMap<NodeId, Moment>,
}

impl Contacts {
    /// The leader spoke of itself.
    pub fn on_told(&mut self, told: Told) {
        if self.told.is_none_or(|before| before.term <= told.term) {
            self.told = Some(told);
        }
    }

    /// `node` answered a question of this one.
    pub fn on_answer(&mut self, now: Moment, node: NodeId) {
        if self.heard.len() < MAX_CONTACTS || self.heard.contains_key(&node) {
            self.heard.insert(node, now);
        }
    }

    /// Whether the leader of `term`, which is heard, may be called so: it has not said that it lost its quorum.
    pub fn is_leased(&self, term: Term) -> bool {
        self.told.is_none_or(|told| told.term != term || told.leased)
    }

    /// How many of the `voters` are within reach: as the `heard` leader of `term` counts them, without one as many as
    /// answered this node's polls of late, itself included. At least the two that hear each other, if they do.
    pub fn reachable(
        &self,
        now: Moment,
        me: NodeId,
        heard: Option<Term>,
        voters: &[NodeId],
        fresh: Duration,
    ) -> usize {
        if let Some(term) = heard {
            let told = self.told.filter(|told| told.term == term);
            return told.map_or(2, |told| told.reachable as usize).min(voters.len());
        }
        let fresh = fresh.max(REACHABLE_FOR);
        let there = |node: &&NodeId| {
            **node == me || self.heard.get(node).is_some_and(|at| now.since(*at) <= fresh)
        };
        voters.iter().filter(there).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const ME: NodeId = NodeId(1);

    fn at(ms: u64) -> Moment {
        Moment(1_000_000).after(Duration::from_millis(ms))
    }

    #[test]
    fn a_leader_may_dispatch_while_its_quorum_answered_within_the_lease() {
        for (acked, now, voters, expected) in [
            (Some(0), 999, 3, true),
            (Some(0), 1_000, 3, false),
            (None, 0, 3, false),
            (None, 0, 1, true),
            (Some(0), 5_000, 1, true),
            // No voter at all: this node is not even in the group.
            (Some(0), 0, 0, false),
        ] {
            let acked = acked.map(at);
            assert_eq!(
                may_dispatch(at(now), acked, S, voters),
                expected,
                "{acked:?} {now} {voters}"
            );
        }
    }

    #[test]
    fn a_leader_that_lost_its_quorum_is_not_called_one() {
        let mut contacts = Contacts::default();
        assert!(contacts.is_leased(3));
        contacts.on_told(Told { term: 3, leased: false, reachable: 2 });
        assert!(!contacts.is_leased(3) && contacts.is_leased(4));
        contacts.on_told(Told { term: 2, leased: true, reachable: 5 });
        assert!(!contacts.is_leased(3));
        contacts.on_told(Told { term: 3, leased: true, reachable: 3 });
        assert!(contacts.is_leased(3));
    }

    #[test]
    fn followers_count_with_their_leader_and_the_leaderless_for_themselves() {
        let voters: Vec<NodeId> = (1..=5).map(NodeId).collect();
        let mut contacts = Contacts::default();
        let count = |c: &Contacts, ms, heard| c.reachable(at(ms), ME, heard, &voters, S);
        assert_eq!(count(&contacts, 0, Some(3)), 2);
        assert_eq!(count(&contacts, 0, None), 1);
        contacts.on_told(Told { term: 3, leased: true, reachable: 4 });
        assert_eq!(count(&contacts, 0, Some(3)), 4);
        assert_eq!(count(&contacts, 0, Some(4)), 2);
        contacts.on_answer(at(0), NodeId(2));
        contacts.on_answer(at(500), NodeId(9));
        assert_eq!(count(&contacts, 1_000, None), 2);
        assert_eq!(count(&contacts, 1_001, None), 1);
    }
}
