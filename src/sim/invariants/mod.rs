//! What must never happen, one file per promise; each looks at every fact as it becomes one.
//!
//! The facts come from outside the nodes: from the wires, the logs and the clients of the simulated world.

mod g01_election_safety;
mod g02_score_is_advice;
mod g03_lease;
mod g04_log_safety;
mod g05_accepted_tasks;
mod g05_acknowledged;
mod g06_idempotent;
mod g07_one_outcome;
mod g08_fencing;
mod g09_starts;
mod g10_bounds;
mod g14_reads;
mod g15_membership;
mod g16_calm;
mod task_facts;

pub use task_facts::TaskFact;

use crate::config::Config;
use crate::core::ids::{LogIndex, NodeId, Term};
use std::collections::BTreeSet;
use std::time::Duration;

/// Broken promises one run writes down; one is enough to fail it.
const MAX_VIOLATIONS: usize = 100;

/// Something that is so, whatever any node believes.
#[derive(Clone, Debug)]
pub enum Fact {
    /// `node` began to lead `term`.
    Led {
        /// Who.
        node: NodeId,
        /// Which term.
        term: Term,
    },
    /// `voter` gave its vote of `term` to `candidate`; to itself when it began to campaign.
    Voted {
        /// Whose vote.
        voter: NodeId,
        /// In which term.
        term: Term,
        /// For whom.
        candidate: NodeId,
        /// The ends of the candidate's and the voter's logs, where a request was granted.
        logs: Option<((Term, LogIndex), (Term, LogIndex))>,
    },
    /// `voter`'s answer to an append reached `leader`.
    Answered {
        /// Who asked.
        leader: NodeId,
        /// Who answered.
        voter: NodeId,
    },
    /// `node` applied the entry at `index`.
    Applied {
        /// Who.
        node: NodeId,
        /// Which life of it: counts from 0 at every start.
        life: u64,
        /// Where in the log.
        index: LogIndex,
        /// The entry's term and the digest of its content.
        entry: (Term, u64),
    },
    /// The group that `node` applied: its voters from `index` on; two sets while the change is joint.
    Grouped {
        /// Who.
        node: NodeId,
        /// The entry that says so.
        index: LogIndex,
        /// The voters, one set or two.
        voters: Vec<BTreeSet<NodeId>>,
    },
    /// A client was told that its write is in the log.
    Acknowledged {
        /// Where.
        index: LogIndex,
        /// The digest of what it wrote.
        content: u64,
    },
    /// `node` dispatched work because it takes itself for the leader.
    Dispatched {
        /// Who.
        node: NodeId,
        /// In which term.
        term: Term,
    },
    /// A linearizable read began when the client knew of `known` and saw the state up to `seen`.
    Read {
        /// Who served it.
        node: NodeId,
        /// The last index acknowledged before the read began.
        known: LogIndex,
        /// The last index the read reflects.
        seen: LogIndex,
    },
    /// `node` started, perhaps without what it had.
    Started {
        /// Who.
        node: NodeId,
    },
    /// In the life of a task.
    Task(TaskFact),
    /// A fault was made or mended; until the next quiet time elections are nobody's fault.
    Disturbed,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// Which promise (`G1` ...).
    pub promise: &'static str,
    /// When, in virtual time.
    pub at: Duration,
    /// What was seen.
    pub problem: String,
}

/// One promise.
trait Promise: Send {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Looks at a fact; says what is wrong with it, if anything.
    fn look(&mut self, at: Duration, fact: &Fact) -> Option<String>;
}

/// All promises, and what they have seen.
pub struct Observer {
    promises: Vec<Box<dyn Promise>>,
    violations: Vec<Violation>,
    facts: u64,
}

impl Observer {
    /// An observer of a group that begins with `voters`.
    pub fn new(config: &Config, voters: BTreeSet<NodeId>) -> Self {
        let promises: Vec<Box<dyn Promise>> = vec![
            Box::<g01_election_safety::ElectionSafety>::default(),
            Box::new(g02_score_is_advice::ScoreIsAdvice::new(voters.clone())),
            Box::new(g03_lease::Lease::new(config.election.lease, voters.clone())),
            Box::<g04_log_safety::LogSafety>::default(),
            Box::<g05_acknowledged::Acknowledged>::default(),
            Box::<g05_accepted_tasks::AcceptedTasks>::default(),
            Box::<g06_idempotent::Idempotent>::default(),
            Box::<g07_one_outcome::OneOutcome>::default(),
            Box::<g08_fencing::Fencing>::default(),
            Box::<g09_starts::Starts>::default(),
            Box::new(g10_bounds::Bounds::new(config.limits.clone())),
            Box::<g14_reads::Reads>::default(),
            Box::new(g15_membership::Membership::new(voters)),
            Box::<g16_calm::Calm>::default(),
        ];
        Observer { promises, violations: Vec::new(), facts: 0 }
    }

    /// A fact became one.
    pub fn note(&mut self, at: Duration, fact: &Fact) {
        self.facts += 1;
        for promise in &mut self.promises {
            if let Some(problem) = promise.look(at, fact) {
                let promise = promise.name();
                if self.violations.len() < MAX_VIOLATIONS {
                    self.violations.push(Violation { promise, at, problem });
                }
            }
        }
    }

    /// A promise that is judged at the end, not by a fact, was broken.
    pub fn broken(&mut self, promise: &'static str, at: Duration, problem: String) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(Violation { promise, at, problem });
        }
    }

    /// How many facts were looked at.
    pub fn facts(&self) -> u64 {
        self.facts
    }

    /// Whether something was broken.
    pub fn is_broken(&self) -> bool {
        !self.violations.is_empty()
    }

    pub(super) fn take_violations(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }
}
