//! G1: at most one leader in a term, and at most one vote of each voter in it.

use super::{Fact, Promise};
use crate::core::ids::{NodeId, Term};
use std::collections::BTreeMap;
use std::time::Duration;

/// Votes and leaders by term.
#[derive(Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(Term, NodeId), NodeId>,
}

impl Promise for ElectionSafety {
    fn name(&self) -> &'static str {
        "G1"
    }

    fn look(&mut self, _: Duration, fact: &Fact) -> Option<String> {
        match *fact {
            Fact::Led { node, term } => {
                let first = *self.leaders.entry(term).or_insert(node);
                (first != node).then(|| format!("term {term} has two leaders: {first} and {node}"))
            }
            Fact::Voted { voter, term, candidate, .. } => {
                let first = *self.votes.entry((term, voter)).or_insert(candidate);
                let twice = first != candidate;
                twice.then(|| format!("{voter} votes twice in term {term}: {first}, {candidate}"))
            }
            _ => None,
        }
    }
}
