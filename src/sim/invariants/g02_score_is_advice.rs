//! G2: no score wins a vote against an older log, and none makes a majority smaller.

use super::{Fact, Promise};
use crate::core::ids::{LogIndex, NodeId, Term};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Who voted for whom, and who may.
pub struct ScoreIsAdvice {
    groups: BTreeMap<LogIndex, Vec<BTreeSet<NodeId>>>,
    votes: BTreeMap<(Term, NodeId), BTreeSet<NodeId>>,
}

impl ScoreIsAdvice {
    /// The group begins with `voters`.
    pub fn new(voters: BTreeSet<NodeId>) -> Self {
        ScoreIsAdvice { groups: BTreeMap::from([(0, vec![voters])]), votes: BTreeMap::new() }
    }

    /// Whether `votes` are a majority of some group that was ever in the log: a candidate may not know the newest.
    fn suffice(&self, votes: &BTreeSet<NodeId>) -> bool {
        let majority =
            |voters: &BTreeSet<NodeId>| voters.intersection(votes).count() > voters.len() / 2;
        self.groups.values().any(|sets| sets.iter().all(majority))
    }
}

impl Promise for ScoreIsAdvice {
    fn name(&self) -> &'static str {
        "G2"
    }

    fn look(&mut self, _: Duration, fact: &Fact) -> Option<String> {
        match fact {
            Fact::Grouped { index, voters, .. } => {
                self.groups.insert(*index, voters.clone());
                None
            }
            Fact::Voted { voter, term, candidate, logs } => {
                self.votes.entry((*term, *candidate)).or_default().insert(*voter);
                let (theirs, mine) = (*logs)?;
                let older = theirs < mine;
                older.then(|| {
                    format!("{voter} with its log at {mine:?} votes for {candidate} at {theirs:?}")
                })
            }
            Fact::Led { node, term } => {
                let mut votes = self.votes.get(&(*term, *node)).cloned().unwrap_or_default();
                votes.insert(*node);
                let few = !self.suffice(&votes);
                few.then(|| format!("{node} leads term {term} with {} votes", votes.len()))
            }
            _ => None,
        }
    }
}
