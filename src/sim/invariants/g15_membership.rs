//! G15: from one group of voters to the next, no two majorities can miss each other.

use super::{Fact, Promise};
use crate::core::ids::{LogIndex, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The groups in log order.
pub struct Membership {
    groups: BTreeMap<LogIndex, Vec<BTreeSet<NodeId>>>,
}

impl Membership {
    /// The group begins with `voters`.
    pub fn new(voters: BTreeSet<NodeId>) -> Self {
        Membership { groups: BTreeMap::from([(0, vec![voters])]) }
    }
}

/// Whether every majority of `a` has a voter in every majority of `b`.
fn overlap(a: &BTreeSet<NodeId>, b: &BTreeSet<NodeId>) -> bool {
    let (majority_a, majority_b) = (a.len() / 2 + 1, b.len() / 2 + 1);
    let all = a.union(b).count();
    let shared = a.intersection(b).count();
    // Two majorities that avoid each other as far as they can: first the voters of one group alone, then the shared.
    let shared_a = majority_a.saturating_sub(a.len() - shared);
    let shared_b = majority_b.saturating_sub(b.len() - shared);
    all > 0 && shared_a + shared_b > shared
}

/// Whether a majority of all of `old` must meet a majority of all of `new`.
fn meet(old: &[BTreeSet<NodeId>], new: &[BTreeSet<NodeId>]) -> bool {
    old.iter().any(|a| new.iter().any(|b| overlap(a, b)))
}

impl Promise for Membership {
    fn name(&self) -> &'static str {
        "G15"
    }

    fn look(&mut self, _: Duration, fact: &Fact) -> Option<String> {
        let Fact::Grouped { node, index, voters } = fact else { return None };
        if voters.iter().any(BTreeSet::is_empty) {
            return Some(format!("{node} applies a group without voters at {index}"));
        }
        if let Some(known) = self.groups.get(index)
            && known != voters
        {
            return Some(format!("{node} applies another group at {index}: {voters:?}"));
        }
        let (_, before) = self.groups.range(..index).next_back()?;
        let apart = !meet(before, voters);
        let problem =
            apart.then(|| format!("majorities may miss each other: {before:?} {voters:?}"));
        self.groups.insert(*index, voters.clone());
        problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(of: &[u64]) -> BTreeSet<NodeId> {
        of.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn groups_that_differ_by_one_overlap_and_others_need_a_joint_step() {
        assert!(overlap(&set(&[1, 2, 3]), &set(&[1, 2, 3, 4])));
        assert!(overlap(&set(&[1, 2, 3]), &set(&[2, 3])));
        assert!(!overlap(&set(&[1, 2, 3]), &set(&[2, 3, 4])), "1, 2 against 3, 4");
        assert!(!overlap(&set(&[1, 2, 3]), &set(&[3, 4, 5])));
        let (old, new) = (set(&[1, 2, 3]), set(&[2, 3, 4]));
        let joint = [old.clone(), new.clone()];
        assert!(meet(&[old], &joint) && meet(&joint, &[new]));
    }
}
