//! G5, of tasks: what a client was told is accepted is in every later committed state until its outcome is known.

use super::{Fact, Promise, TaskFact};
use crate::core::ids::{LogIndex, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Accepted tasks, and where they entered the log.
#[derive(Default)]
pub struct AcceptedTasks {
    entered: BTreeMap<TaskId, LogIndex>,
    told: BTreeSet<TaskId>,
}

impl Promise for AcceptedTasks {
    fn name(&self) -> &'static str {
        "G5"
    }

    fn look(&mut self, _: Duration, fact: &Fact) -> Option<String> {
        let Fact::Task(fact) = fact else { return None };
        match fact {
            TaskFact::Entered { index, task, .. } => {
                self.entered.entry(*task).or_insert(*index);
                None
            }
            TaskFact::Told { task, .. } => {
                self.told.insert(*task);
                None
            }
            // A majority holds it, so at least the leader that says so has applied it.
            TaskFact::Accepted { task, .. } => (!self.entered.contains_key(task))
                .then(|| format!("{task} was accepted, and no node has it in its log")),
            TaskFact::Missing { node, index, tasks } => {
                let lost = |task: &&TaskId| {
                    self.entered.get(task).is_some_and(|entered| entered <= index)
                        && !self.told.contains(task)
                };
                let lost = tasks.iter().find(lost)?;
                Some(format!("{lost} was accepted and is not in {node}'s state of {index}"))
            }
            _ => None,
        }
    }
}
