//! Which change of the voters is safe (guarantees G15), and who is no voter at all. Decided here, done by the node.
//!
//! A change commits only if a majority of the old voters and a majority of the new ones hold it. One that the voters
//! within reach could not commit, or would not survive, is refused before it enters the log.

use crate::core::ids::{LogIndex, NodeId, Term};
use std::collections::{BTreeMap, BTreeSet};

/// Voters a group may have: more make every commit slower and hardly anything safer.
pub const MAX_VOTERS: usize = 7;

/// A voter as far as a change of the group goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seat {
    /// Its name, for people; unique.
    pub name: String,
    /// Where it listens.
    pub address: String,
}

/// The voters as the leader sees them.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Who leads.
    pub leader: NodeId,
    /// The voters.
    pub voters: BTreeMap<NodeId, Seat>,
    /// Those that answered within the last second, the leader included.
    pub reachable: BTreeSet<NodeId>,
}

/// A change that may be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The voters afterwards.
    pub voters: BTreeSet<NodeId>,
    /// Leadership must move first: the leader is among those that go.
    pub hand_over: bool,
    /// What works but is probably not intended.
    pub warning: Option<String>,
}

/// Why a change is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is nobody left to vote.
    #[error("{name} is the last voter; add another voter first, or end the cluster")]
    LastVoter {
        /// Whom it is about.
        name: String,
    },
    /// The rest could not decide anything.
    #[error(
        "{reachable} of the {voters} voters there would be are reachable, need {}; bring voters back or remove \
         unreachable ones first", voters / 2 + 1
    )]
    NoMajorityAfter {
        /// Voters within reach afterwards.
        reachable: usize,
        /// Voters afterwards.
        voters: usize,
    },
    /// The present voters cannot decide it.
    #[error("{reachable} of {voters} voters reachable, need {} to change the group", voters / 2 + 1)]
    NoMajorityNow {
        /// Voters within reach.
        reachable: usize,
        /// Voters.
        voters: usize,
    },
    /// There are too many.
    #[error(
        "{name} would be voter {voters} of at most {MAX_VOTERS}; let it join as a worker, or remove a voter first"
    )]
    TooMany {
        /// Whom it is about.
        name: String,
        /// Voters there would be.
        voters: usize,
    },
}

impl Group {
    /// `node` wants to vote. It takes the seat of a voter that was at its address before it (two processes cannot share
    /// one) or had its name (no second node is admitted under the name of one that lives). `None`: it votes already.
    pub fn plan_seat(&self, node: NodeId, seat: &Seat) -> Result<Option<Plan>, Refusal> {
        if self.voters.contains_key(&node) {
            return Ok(None);
        }
        let successor = |(_, known): &(&NodeId, &Seat)| {
            known.address == seat.address || known.name == seat.name
        };
        let old = self.voters.iter().find(successor).map(|(old, _)| *old);
        let mut voters: BTreeSet<NodeId> = self.voters.keys().copied().collect();
        if let Some(old) = old {
            voters.remove(&old);
        }
        voters.insert(node);
        if voters.len() > MAX_VOTERS {
            let (name, voters) = (seat.name.clone(), voters.len());
            return Err(Refusal::TooMany { name, voters });
        }
        // It is caught up before it counts, so it is within reach then.
        let mut reachable = self.reachable.clone();
        reachable.insert(node);
        self.plan(voters, &reachable).map(Some)
    }

    /// `node` shall vote no more. `None`: it does not vote.
    pub fn plan_unseat(&self, node: NodeId) -> Result<Option<Plan>, Refusal> {
        let Some(seat) = self.voters.get(&node) else { return Ok(None) };
        let voters: BTreeSet<NodeId> =
            self.voters.keys().copied().filter(|voter| *voter != node).collect();
        if voters.is_empty() {
            return Err(Refusal::LastVoter { name: seat.name.clone() });
        }
        self.plan(voters, &self.reachable).map(Some)
    }

    fn plan(
        &self,
        voters: BTreeSet<NodeId>,
        reachable: &BTreeSet<NodeId>,
    ) -> Result<Plan, Refusal> {
        let now = self.voters.keys().filter(|voter| self.reachable.contains(voter)).count();
        if now < self.voters.len() / 2 + 1 {
            return Err(Refusal::NoMajorityNow { reachable: now, voters: self.voters.len() });
        }
        let after = voters.intersection(reachable).count();
        if after < voters.len() / 2 + 1 {
            return Err(Refusal::NoMajorityAfter { reachable: after, voters: voters.len() });
        }
        let warning = voters.len().is_multiple_of(2).then(|| {
            let (even, odd) = (voters.len(), voters.len() - 1);
            format!("{even} voters are even: they survive no more failures than {odd} would")
        });
        Ok(Plan { hand_over: !voters.contains(&self.leader), voters, warning })
    }
}

/// Whether a candidate must not be heard: it is no voter by this node's log, and its own log is no newer than that, so
/// it cannot know of a group in which it would be one.
pub fn is_stranger(
    candidate: NodeId,
    its_log: (Term, LogIndex),
    voters: &[NodeId],
    my_log: (Term, LogIndex),
) -> bool {
    !voters.is_empty() && !voters.contains(&candidate) && its_log <= my_log
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(n: u64) -> Seat {
        Seat { name: format!("n{n}"), address: format!("h:{n}") }
    }

    fn ids(of: &[u64]) -> BTreeSet<NodeId> {
        of.iter().copied().map(NodeId).collect()
    }

    /// Voters 1..=`voters`, led by 1.
    fn group(voters: u64, reachable: &[u64]) -> Group {
        let voters = (1..=voters).map(|n| (NodeId(n), seat(n))).collect();
        Group { leader: NodeId(1), voters, reachable: ids(reachable) }
    }

    fn check_unseat(voters: u64, reachable: &[u64], node: u64, expected: Result<&[u64], &str>) {
        let plan = group(voters, reachable).plan_unseat(NodeId(node));
        match (plan, expected) {
            (Ok(Some(plan)), Ok(left)) => assert_eq!(plan.voters, ids(left)),
            (Err(refusal), Err(words)) => {
                assert!(refusal.to_string().contains(words), "{refusal}");
            }
            (plan, expected) => panic!("{voters} {reachable:?} - {node}: {plan:?}, {expected:?}"),
        }
    }

    #[test]
    fn the_last_voter_and_the_reachable_majority_stay() {
        check_unseat(1, &[1], 1, Err("last voter"));
        check_unseat(2, &[1, 2], 2, Ok(&[1]));
        // The dead one may go, a living one may not.
        check_unseat(3, &[1, 2], 3, Ok(&[1, 2]));
        check_unseat(3, &[1, 2], 2, Err("1 of the 2 voters there would be"));
        check_unseat(5, &[1, 2, 3], 3, Err("2 of the 4 voters there would be"));
        check_unseat(5, &[1, 2, 3], 5, Ok(&[1, 2, 3, 4]));
        // Without a majority nothing can be decided, not even what would help.
        check_unseat(3, &[1], 3, Err("1 of 3 voters reachable, need 2"));
    }

    #[test]
    fn a_leader_that_is_removed_hands_over_first_and_even_groups_are_warned_about() {
        let group = group(5, &[1, 2, 3, 4, 5]);
        let plan = group.plan_unseat(NodeId(1)).unwrap().unwrap();
        assert!(plan.hand_over && plan.warning.unwrap().contains("4 voters are even"));
        let other = group.plan_unseat(NodeId(2)).unwrap().unwrap();
        assert!(!other.hand_over);
        assert_eq!(group.plan_unseat(NodeId(9)), Ok(None));
    }

    #[test]
    fn a_newcomer_takes_the_seat_of_whom_it_succeeds() {
        let group = group(3, &[1, 2]);
        let new = NodeId(9);
        let voters = |s: &Seat| group.plan_seat(new, s).unwrap().unwrap().voters;
        assert_eq!(voters(&seat(9)), ids(&[1, 2, 3, 9]));
        assert_eq!(voters(&Seat { address: "h:3".into(), ..seat(9) }), ids(&[1, 2, 9]));
        assert_eq!(voters(&Seat { address: "h:2".into(), ..seat(9) }), ids(&[1, 3, 9]));
        // Its port was taken meanwhile: the same name elsewhere.
        assert_eq!(voters(&Seat { name: "n3".into(), ..seat(9) }), ids(&[1, 2, 9]));
        assert_eq!(group.plan_seat(NodeId(2), &seat(2)), Ok(None));
    }

    #[test]
    fn no_more_than_seven_vote_and_none_is_added_without_a_majority() {
        let full = group(7, &[1, 2, 3, 4, 5, 6, 7]);
        let refusal = full.plan_seat(NodeId(9), &seat(9)).unwrap_err();
        assert!(refusal.to_string().contains("voter 8 of at most 7"), "{refusal}");
        assert!(full.plan_seat(NodeId(9), &Seat { address: "h:7".into(), ..seat(9) }).is_ok());
        let lost = group(5, &[1, 2]);
        let refusal = lost.plan_seat(NodeId(9), &seat(9)).unwrap_err();
        assert_eq!(refusal, Refusal::NoMajorityNow { reachable: 2, voters: 5 });
    }

    #[test]
    fn a_stranger_is_one_that_cannot_know_better() {
        let voters = [NodeId(1), NodeId(2)];
        for (candidate, log, expected) in [
            (1, (3, 10), false),
            (9, (3, 10), true),
            (9, (2, 99), true),
            // It may have been given a seat in an entry that is missing here.
            (9, (3, 11), false),
        ] {
            assert_eq!(is_stranger(NodeId(candidate), log, &voters, (3, 10)), expected);
        }
        assert!(!is_stranger(NodeId(9), (0, 0), &[], (0, 0)), "it knows no group yet");
    }
}
