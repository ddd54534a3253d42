//! G3: a leader dispatches only while a majority answered it within the lease.

use super::{Fact, Promise};
use crate::core::ids::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// When each voter last answered each leader.
pub struct Lease {
    lease: Duration,
    groups: Vec<BTreeSet<NodeId>>,
    answered: BTreeMap<(NodeId, NodeId), Duration>,
}

impl Lease {
    /// The group begins with `voters`.
    pub fn new(lease: Duration, voters: BTreeSet<NodeId>) -> Self {
        Lease { lease, groups: vec![voters], answered: BTreeMap::new() }
    }

    fn holds(&self, at: Duration, leader: NodeId, voters: &BTreeSet<NodeId>) -> bool {
        let fresh = |voter: &&NodeId| {
            let answered = self.answered.get(&(leader, **voter));
            **voter == leader || answered.is_some_and(|then| at.saturating_sub(*then) <= self.lease)
        };
        voters.iter().filter(fresh).count() > voters.len() / 2
    }
}

impl Promise for Lease {
    fn name(&self) -> &'static str {
        "G3"
    }

    fn look(&mut self, at: Duration, fact: &Fact) -> Option<String> {
        match fact {
            Fact::Answered { leader, voter } => {
                self.answered.insert((*leader, *voter), at);
                None
            }
            Fact::Grouped { voters, .. } => {
                self.groups.extend(voters.iter().cloned());
                self.groups.dedup();
                None
            }
            Fact::Dispatched { node, term } => {
                let held = self.groups.iter().rev().any(|voters| self.holds(at, *node, voters));
                let lease = self.lease;
                (!held).then(|| {
                    format!("{node} dispatches in term {term}; no majority answered for {lease:?}")
                })
            }
            _ => None,
        }
    }
}
